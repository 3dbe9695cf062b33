"""Requests through a proxy, and error messages about it. The proxy resolves names."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import aiohttp_socks
import python_socks
from aiohttp_socks import ProxyConnector, ProxyType
from python_socks.async_.asyncio.v2 import Proxy

from holdfast.base.errors import HoldfastError
from holdfast.base.proxy_urls import proxy_address

# Each library has classes of its own by the same names.
_REFUSED = (aiohttp_socks.ProxyError, python_socks.ProxyError)
_NOT_REACHED = (
    *(aiohttp_socks.ProxyConnectionError, python_socks.ProxyConnectionError),
    *(aiohttp_socks.ProxyTimeoutError, python_socks.ProxyTimeoutError),
)
PROXY_ERRORS = (*_REFUSED, *_NOT_REACHED, ssl.SSLError)
_LOGIN_REFUSED = 407
_LOGIN_WORDS = ("authentication", "no acceptable")


class ProxyError(HoldfastError):
    """A proxy that can't be used."""

    code = "proxy"


def connector(proxy_url: str) -> ProxyConnector:
    """Connector for an `aiohttp.ClientSession` that sends all its requests through the proxy."""
    return ProxyConnector(**_options(proxy_url))


async def probe(proxy_url: str, host: str, port: int, *, within_s: float) -> None:
    """Open a connection to `host` through the proxy, and close it. Raises `ProxyError`."""
    try:
        stream = await Proxy(**_options(proxy_url)).connect(host, port, timeout=within_s)
    except (*PROXY_ERRORS, OSError) as error:
        raise failure(proxy_url, error) from error
    await stream.close()


def failure(proxy_url: str, error: Exception) -> ProxyError:
    """Describe what failed, without the password."""
    place = proxy_address(proxy_url)
    if isinstance(error, ssl.SSLError):
        secure = f"the proxy {place}" if urlsplit(proxy_url).scheme == "https" else f"WhatsApp behind the proxy {place}"
        return ProxyError(
            f"no TLS connection to {secure} could be made: {error.reason or error}; its certificate must be trusted "
            "by this machine"
        )
    if isinstance(error, _REFUSED) and not isinstance(error, _NOT_REACHED):
        refuses = error.error_code == _LOGIN_REFUSED or any(word in str(error).lower() for word in _LOGIN_WORDS)
        if refuses:
            return ProxyError(f"the proxy {place} does not accept the user name and password in its address")
        return ProxyError(f"the proxy {place} would not or could not connect to WhatsApp: {error}")
    return ProxyError(f"the proxy {place} could not be reached: {str(error) or type(error).__name__}")


def _options(proxy_url: str) -> dict[str, Any]:
    parts = urlsplit(proxy_url)
    return {
        "proxy_type": ProxyType.SOCKS5 if parts.scheme == "socks5" else ProxyType.HTTP,
        "host": parts.hostname,
        "port": parts.port,
        "username": _Utf8.of(parts.username),
        "password": _Utf8.of(parts.password),
        "rdns": True,
        "proxy_ssl": ssl.create_default_context() if parts.scheme == "https" else None,
    }


class _Utf8(str):
    """A part of the credentials that is sent in UTF-8, as the engine sends it.

    python_socks encodes in Latin-1 to HTTP proxies and in ASCII to SOCKS proxies, which fails for other characters.
    Each character here represents one byte, so both encodings, and the length that SOCKS puts in front, are right.
    """

    __slots__ = ()

    @classmethod
    def of(cls, quoted: str | None) -> _Utf8 | None:
        return cls(unquote_to_bytes(quoted).decode("latin-1")) if quoted else None

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        return super().encode("latin-1", errors)
