"""The Apprise URLs that alerts are sent to. They contain passwords and tokens: only their scheme may ever be shown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.base.errors import BadSetting

SETTING = "HOLDFAST_ALERT_URLS"

_SEPARATOR = re.compile(r"\s+|,+(?=\s|$|[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
"""URLs may contain commas, so a comma separates two URLs only if the next one begins behind it."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,19})://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAddress:
    """One Apprise URL, shown to people as `address 2 (slack)`."""

    position: int
    """Its position in the setting, counted from 1."""
    url: str = field(repr=False)

    @property
    def scheme(self) -> str | None:
        found = _SCHEME.match(self.url)
        return found[1].lower() if found else None

    @property
    def fingerprint(self) -> str:
        """Identifies the address in stored rows without revealing it."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"address {self.position} ({self.scheme or 'no URL'})"


def read_addresses(text: str, *, refusal: Callable[[str], str | None]) -> tuple[AlertAddress, ...]:
    """The addresses in the setting, without duplicates.

    `refusal` returns why a URL can't be used, without showing it. Raises `BadSetting`, which names the setting and
    the position of the URL but never the URL.
    """
    urls = [url for url in _SEPARATOR.split(text) if url]
    addresses: dict[str, AlertAddress] = {}
    for position, url in enumerate(urls, 1):
        addresses.setdefault(url, AlertAddress(position=position, url=url))
    for address in addresses.values():
        why = "it has no scheme like mailto:// or slack://" if address.scheme is None else refusal(address.url)
        if why is not None:
            raise BadSetting(
                f"{SETTING}: {address} of {len(urls)} can't be used: {why}. "
                "Addresses are Apprise URLs, separated by spaces or commas",
                field=SETTING,
            )
    return tuple(addresses.values())
