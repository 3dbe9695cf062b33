"""What delivery needs kept: the rows of outbox and inbox, and who keeps them. Times are ISO 8601 text, UTC, `Z`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from holdfast.delivery.chats import Entry
from holdfast.delivery.message import MessageState, News

Content = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A message as it is accepted, with the WhatsApp id that all its sends will carry."""

    id: str
    whatsapp_id: str
    company: str
    recipient: str
    """Digits."""
    chat: str
    """JID."""
    content: Content
    idempotency_key: str | None
    request_hash: str
    """Hash of the caller's body: the same key with another body is a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One outbound message as it stands."""

    seq: int
    id: str
    whatsapp_id: str
    company: str
    recipient: str
    chat: str
    state: MessageState
    attempts: int
    accepted_at: str
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    played_at: str | None
    error_code: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message that is committed as `sending` and may be given to the engine."""

    entry: Entry
    content: Content
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """News of one message."""

    whatsapp_id: str
    news: News
    at: str
    error_code: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One inbound message as it is stored."""

    seq: int
    id: str
    company: str
    chat: str
    sender: str
    whatsapp_id: str
    type: str
    text: str | None
    from_me: bool
    sent_at: str
    stored_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Messages of a company that are still to be sent."""

    waiting: int = 0
    oldest_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Messages accepted within a time; cancelled and expired ones are left out."""

    accepted: int
    taken: int
    """WhatsApp has them."""
    arrived: int
    """They reached a phone."""


class Figures(Protocol):
    """Counts over the outbox."""

    async def backlogs(self) -> Mapping[str, Backlog]:
        """By company, for those that have one."""

    async def tally(self, company: str, *, since: str, until: str) -> Tally:
        """Of messages accepted at or after `since` and before `until`."""


class Outbox(Protocol):
    """Durable outbound messages. Every method returns when its change is on the disk."""

    async def accept(self, draft: Draft) -> Message:
        """Store a new message, or return the one that its idempotency key already made.

        Raises `Conflict` when that key came with another body, `NotFound` when the company is unknown.
        """

    async def open_entries(self, company: str, *, after: int, most: int) -> list[Entry]:
        """Messages still to be sent, oldest first, with `seq` above `after`."""

    async def late_entries(self, company: str, *, up_to: int, most: int) -> list[Entry]:
        """Queued messages with `seq` up to that: among them those that came in after later ones had been seen."""

    async def begin(self, company: str, entries: Sequence[Entry]) -> list[Outgoing]:
        """Commit that these are being sent; those that may no longer be are left out."""

    async def learn(self, company: str, changes: Sequence[Change]) -> list[Message]:
        """Apply news of messages; returns those that it changed, as they now stand. Unknown ids are passed over."""

    async def cancel(self, message_id: str) -> Message:
        """Cancel a message that has not left. Raises `NotFound`, and `Conflict` when it may have left."""

    async def message(self, message_id: str) -> Message | None: ...

    async def messages(self, company: str, *, state: MessageState | None, after: int, most: int) -> list[Message]: ...

    async def sent_content(self, company: str, whatsapp_id: str) -> Content | None: ...


class Inbox(Protocol):
    """Durable inbound messages."""

    async def received(self, company: str, *, after: int, most: int) -> list[Received]: ...
