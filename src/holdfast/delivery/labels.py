"""Labels of WhatsApp Business accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label of a WhatsApp Business account."""

    id: str
    name: str
    color: int | None = None
    """Number in WhatsApp's palette."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """Identifies a message towards the phone."""

    id: str
    """Its WhatsApp id."""
    from_me: bool
    at_s: int
    """Unix seconds."""


class Labels(Protocol):
    """The labels of accounts, as WhatsApp shares them between an account's devices."""

    async def labels(self, company: str) -> list[Label]:
        """The account's labels, by id."""

    async def labels_of(self, company: str, chats: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """The ids of the labels of those of these chats that have any."""

    async def chats_with(self, company: str, label: str, *, after: str, limit: int) -> list[str]:
        """Chats that have this label, by JID, from the first one after `after`."""

    async def oldest_in(self, company: str, chat: str) -> StoredMessage | None:
        """The oldest message of a chat in the inbox, by the time at which it was written."""
