"""Searches of outbox and inbox for display, newest first. No decision depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from holdfast.delivery.message import MessageState
from holdfast.delivery.stores import DeliveryTally, Received


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRow:
    """An outbound message as it is shown."""

    seq: int
    id: str
    whatsapp_id: str
    recipient: str
    state: MessageState
    kind: str
    text: str | None
    """Its text or caption, or the name of its file, place or contact."""
    attempts: int
    accepted_at: str
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    error: str | None
    held_code: str | None
    held_until: str | None
    is_to_new_contact: bool = False
    """Whether a queued message is the first one to its recipient."""


class Lookup(Protocol):
    async def sent_messages(
        self, company: str, *, words: str, state: MessageState | None, before: int | None, limit: int
    ) -> list[OutboundRow]:
        """Outbound messages with `seq` below `before`.

        words: the beginning of a message's id or WhatsApp id, digits of the recipient's number, or beginnings of words
            in its text, caption or names, in any order; empty: all.
        """

    async def sent_message(self, company: str, message_id: str) -> OutboundRow | None: ...

    async def inbound(self, company: str, *, words: str, before: int | None, limit: int) -> list[Received]:
        """Inbound messages with `seq` below `before`.

        words: the beginning of the id or WhatsApp id, digits of the sender's or the chat's number, or beginnings of
            words in the text, the caption, the file's name or the sender's name, in any order; empty: all.
        """

    async def tallies(self, *, since: str, until: str) -> Mapping[str, DeliveryTally]:
        """By company: counts of messages accepted at or after `since` that are settled, or were accepted before
        `until`."""
