"""Where alerts go: Apprise URLs. They hold passwords and tokens, so nothing but their scheme is ever shown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.base.errors import Misconfigured

SETTING = "HOLDFAST_ALERT_URLS"

_SEPARATOR = re.compile(r"\s+|,+(?=\s|$|[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
"""A comma separates only in front of the next URL: it may stand within one."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,19})://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAddress:
    """One address, shown as `address 2 (slack)`."""

    position: int
    """In the setting, from 1."""
    url: str = field(repr=False)

    @property
    def scheme(self) -> str | None:
        found = _SCHEME.match(self.url)
        return found[1].lower() if found else None

    @property
    def fingerprint(self) -> str:
        """Tells addresses apart in stored rows without telling what they are."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"address {self.position} ({self.scheme or 'no URL'})"


def read_addresses(text: str, *, refusal: Callable[[str], str | None]) -> tuple[AlertAddress, ...]:
    """The addresses in the setting, each once. `refusal` says why a URL can't be used, without showing it.

    Raises `Misconfigured`, which names the setting and the position, not the secret.
    """
    urls = [url for url in _SEPARATOR.split(text) if url]
    addresses: dict[str, AlertAddress] = {}
    for position, url in enumerate(urls, 1):
        addresses.setdefault(url, AlertAddress(position=position, url=url))
    for address in addresses.values():
        why = "it has no scheme like mailto:// or slack://" if address.scheme is None else refusal(address.url)
        if why is not None:
            raise Misconfigured(
                f"{SETTING}: {address} of {len(urls)} can't be used: {why}. "
                "Addresses are Apprise URLs, separated by spaces or commas",
                field=SETTING,
            )
    return tuple(addresses.values())
