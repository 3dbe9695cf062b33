"""WhatsApp addresses: `user[:device]@server`. A user is a phone number (pn) or a hidden id (lid)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

PN = "s.whatsapp.net"
LID = "lid"
GROUP = "g.us"
BROADCAST = "broadcast"
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
