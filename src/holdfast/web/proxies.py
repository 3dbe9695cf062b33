"""Holdfast's own requests through a proxy, and what went wrong with it, in words. The proxy looks names up."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio.v2 import Proxy

from holdfast.base.errors import HoldfastError
from holdfast.base.proxy_urls import proxy_place

PROXY_ERRORS = (ProxyConnectionError, ProxyError, ProxyTimeoutError)
_LOGIN_REFUSED = 407
_LOGIN_WORDS = ("authentication", "no acceptable")


class ProxyTrouble(HoldfastError):
    """A proxy that can't be used."""

    code = "proxy"


def connector(proxy_url: str) -> ProxyConnector:
    """For an `aiohttp.ClientSession` all of whose requests go through the proxy."""
    return ProxyConnector(**_options(proxy_url))


async def probe(proxy_url: str, host: str, port: int, *, within_s: float) -> None:
    """Open a connection to `host` through the proxy, and close it. Raises `ProxyTrouble`."""
    try:
        stream = await Proxy(**_options(proxy_url)).connect(host, port, timeout=within_s)
    except (*PROXY_ERRORS, OSError) as error:
        raise failure(proxy_url, error) from error
    await stream.close()


def failure(proxy_url: str, error: Exception) -> ProxyTrouble:
    """Says what is wrong, and never the password."""
    place = proxy_place(proxy_url)
    if isinstance(error, ProxyError) and not isinstance(error, (ProxyConnectionError, ProxyTimeoutError)):
        refuses = error.error_code == _LOGIN_REFUSED or any(word in str(error).lower() for word in _LOGIN_WORDS)
        if refuses:
            return ProxyTrouble(f"the proxy {place} does not accept the user name and password in its address")
        return ProxyTrouble(f"the proxy {place} would not or could not connect to WhatsApp: {error}")
    return ProxyTrouble(f"the proxy {place} could not be reached: {str(error) or type(error).__name__}")


def _options(proxy_url: str) -> dict[str, Any]:
    parts = urlsplit(proxy_url)
    return {
        "proxy_type": ProxyType.SOCKS5 if parts.scheme == "socks5" else ProxyType.HTTP,
        "host": parts.hostname,
        "port": parts.port,
        "username": unquote(parts.username or "") or None,
        "password": unquote(parts.password or "") or None,
        "rdns": True,
        "proxy_ssl": ssl.create_default_context() if parts.scheme == "https" else None,
    }
