"""The addresses of proxies: what is allowed, and how they are shown without their password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

_SCHEMES = ("http", "https", "socks5")
ALLOWED = "an address such as http://proxy:3128, https://user:password@proxy:443 or socks5://user:password@proxy:1080"
_LONGEST = 2000
_LONGEST_LOGIN = 255
"""Bytes: what SOCKS 5 has room for."""
_PERCENT = re.compile("%[0-9A-Fa-f]{2}")
_HIDDEN = "***"


class BadProxyUrl(ValueError):
    """Not the address of a proxy; the sentence never repeats a password."""


def proxy_url(text: str) -> str:
    """The address as it is used. Raises `BadProxyUrl`.

    `socks5h` is `socks5` here: names are always looked up by the proxy, never on this machine.
    """
    parts = _parts(text)
    if parts.scheme not in {*_SCHEMES, "socks5h"}:
        raise BadProxyUrl(f'a proxy can\'t be reached by "{parts.scheme}": give {ALLOWED}')
    if parts.port is None or not parts.hostname:
        raise BadProxyUrl(f"the proxy's host or port is missing: give {ALLOWED}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise BadProxyUrl(f"a proxy's address ends with its port: give {ALLOWED}")
    return f"{parts.scheme.removesuffix('h') if parts.scheme == 'socks5h' else parts.scheme}://{parts.netloc}"


def redacted(url: str) -> str:
    """The address without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    credentials, _, place = parts.netloc.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{parts.scheme}://{user}:{_HIDDEN}@{place}"


def proxy_address(url: str) -> str:
    """Host and port."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _parts(text: str) -> SplitResult:
    if len(text) > _LONGEST or not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
        raise BadProxyUrl(f"a proxy's address has no spaces and at most {_LONGEST} characters: give {ALLOWED}")
    try:
        parts = urlsplit(text)
        _ = parts.port
        credentials = [unquote(each or "", errors="strict") for each in (parts.username, parts.password)]
    except ValueError as error:
        raise BadProxyUrl(f"the proxy's address can't be read: give {ALLOWED}") from error
    if "%" in _PERCENT.sub("", parts.netloc) or any(len(each.encode()) > _LONGEST_LOGIN for each in credentials):
        raise BadProxyUrl(f"the proxy's user name or password is not percent-encoded, or too long: give {ALLOWED}")
    return parts
