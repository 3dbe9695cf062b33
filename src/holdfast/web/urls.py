"""URLs that users gave: checked, and kept byte for byte."""

from __future__ import annotations

import contextlib
import re
from ipaddress import IPv4Address
from urllib.parse import quote, urlsplit

from yarl import URL

from holdfast.base.errors import BadInput

LONGEST_URL = 2048
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_ENDS_WITH_NUMBER = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.?$", re.IGNORECASE)
"""The last label is a number, so the host is an IPv4 address, in some spelling (WHATWG URL Standard)."""


def checked_url(url: str, *, field: str | None = None) -> URL:
    """Parse and validate an HTTP URL. Raises `BadInput` with `field`."""
    name = field or "the address"
    try:
        address = _as_given(url)
        host, _ = address.host, address.port
    except (ValueError, IndexError) as error:  # IndexError: yarl's for brackets in the user name and no host
        raise BadInput(f"{name} is not a URL: give one like https://example.com/file", field=field) from error
    is_http = address.scheme in {"http", "https"}
    if is_http and not host:
        raise BadInput(f"{name} names no host: give one like https://example.com/file", field=field)
    if not is_http:
        what = f'begins with "{address.scheme[:20]}:"' if address.scheme else "does not begin with http:// or https://"
        raise BadInput(f"{name} {what}: give one like https://example.com/file", field=field)
    if not _can_be_requested(address.raw_host or ""):
        raise BadInput(
            f'{name} has the host "{(host or "")[:80]}", which is neither a name nor an IP address of four decimal '
            "numbers: give one like https://example.com/file",
            field=field,
        )
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in url.strip()):
        raise BadInput(f"{name} holds a line end or another control character: leave it out", field=field)
    if len(url) > LONGEST_URL:
        raise BadInput(f"{name} has {len(url)} characters: give at most {LONGEST_URL}", field=field)
    return address


def _can_be_requested(host: str) -> bool:
    """Whether programs agree on what the host is. They don't for `127.1`, `0x7f.0.0.1` and `%31.0.0.1`."""
    if ":" in host:
        return True
    if _ENDS_WITH_NUMBER.search(host):
        with contextlib.suppress(ValueError):
            return str(IPv4Address(host)) == host
        return False
    return "%" not in host


def _as_given(url: str) -> URL:
    """Encode only characters that a URL can't contain: spaces and non-ASCII characters."""
    raw = quote(url.strip(), safe=_PRINTABLE, errors="surrogateescape")
    split = urlsplit(url.strip())
    if split.netloc.isascii():
        return URL(raw, encoded=True)
    origin = URL(f"{split.scheme}://{split.netloc}")  # which encodes the name of the host for DNS
    behind = quote(split._replace(scheme="", netloc="").geturl(), safe=_PRINTABLE, errors="surrogateescape")
    return URL(f"{origin.scheme}://{origin.raw_authority}{behind}", encoded=True)


def place(url: URL | str) -> str:
    """The part of a URL that is not secret: `https://example.com:8443`."""
    return str(URL(url).origin())
