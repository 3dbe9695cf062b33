"""WhatsApp addresses: `user[:device]@server`. A user is a phone number (pn) or a hidden id (lid)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

PN = "s.whatsapp.net"
LID = "lid"
GROUP = "g.us"
BROADCAST = "broadcast"
NEWSLETTER = "newsletter"
SERVER = "@s.whatsapp.net"
"""The server itself as `from` or `to` of a stanza: an address without a user."""


class Jid(NamedTuple):
    user: str
    server: str
    device: int = 0

    def __str__(self) -> str:
        return f"{self.user}:{self.device}@{self.server}" if self.device else f"{self.user}@{self.server}"

    @property
    def bare(self) -> Jid:
        """The address without the device: the person, or the chat with them."""
        return Jid(self.user, self.server)


STATUS = Jid("status", BROADCAST)
"""The chat of all status posts."""


_SPELLINGS = (
    (re.compile(r"(55\d\d)9([6-9]\d{7})"), r"\1\2"),  # Brazil, with and without the ninth digit
    (re.compile(r"(55\d\d)([6-9]\d{7})"), r"\g<1>9\2"),
    (re.compile(r"521(\d{10})"), r"52\1"),  # Mexico, with and without the 1 of mobile phones
    (re.compile(r"52(\d{10})"), r"521\1"),
    (re.compile(r"549(\d{10})"), r"54\1"),  # Argentina, with and without the 9 of mobile phones
    (re.compile(r"54(\d{10})"), r"549\1"),
)


def second_spelling(number: str) -> str | None:
    """The other spelling of a phone number that reaches the same phone; None for most numbers."""
    for pattern, other in _SPELLINGS:
        if (found := pattern.fullmatch(number)) is not None:
            return found.expand(other)
    return None


@lru_cache(maxsize=16_384)
def parse_jid(text: str) -> Jid | None:
    """The address in `text`, or None for any other text. `c.us`, the old name, is read as `s.whatsapp.net`."""
    who, at, server = text.partition("@")
    if not at:
        return None
    user, _, device = who.partition(":")
    user = user.partition("_")[0]
    if device and not device.isdecimal():
        return None
    return Jid(user, PN if server == "c.us" else server, int(device or 0))
