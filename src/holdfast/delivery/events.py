"""Events about messages, for webhook receivers and readers of event streams.

The body of an event is the message as the API shows it at that time. Bodies contain message texts and phone numbers, so
they must never be logged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from holdfast.base.ascii_json import ascii_json
from holdfast.delivery.media import shown_media
from holdfast.delivery.message import MessageState
from holdfast.delivery.page import Page
from holdfast.delivery.stores import BULK, Message, Received

Body = Mapping[str, object]

ACCEPTED = "message.accepted"
RECEIVED = "message.received"
COMPLETED = "message.completed"
SESSION = "session.state"
OPERATION = "operation.updated"
CALL_RECEIVED = "call.received"
CALL_ENDED = "call.ended"
GROUP_UPDATED = "group.updated"
PRESENCE = "presence.updated"
RECEIPT = "message.receipt"
GAP = "gap"
"""Sent only in event streams: some events after the reader's last one have been deleted."""

_STATES_WITH_EVENT = (
    MessageState.SENT,
    MessageState.DELIVERED,
    MessageState.READ,
    MessageState.PLAYED,
    MessageState.FAILED,
    MessageState.EXPIRED,
    MessageState.CANCELLED,
)
_SEPARATORS = str.maketrans("", "", "-:T")
"""Characters between the digits of a time."""
TYPES = (RECEIVED, COMPLETED, ACCEPTED, *(f"message.{state}" for state in _STATES_WITH_EVENT), SESSION, OPERATION)
TYPES += (CALL_RECEIVED, CALL_ENDED, GROUP_UPDATED, PRESENCE, RECEIPT)
"""All types of events that are stored."""
ON_REQUEST = frozenset([ACCEPTED, PRESENCE, RECEIPT])
"""Only for webhooks that name them: the caller got `message.accepted` in the response, of the others there may be
many."""
DEFAULT_TYPES = frozenset(TYPES) - ON_REQUEST
"""The default event types of a webhook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. `seq` orders the events of all companies as they became visible."""

    seq: int
    id: str
    company: str
    type: str
    chat: str
    """The JID of the chat; empty for an event without a chat."""
    at: str
    body: str
    """The object as the API shows it, in JSON."""

    @property
    def payload(self) -> str:
        """The JSON that receivers and readers get: always the same bytes for the same event."""
        head = ascii_json({"type": self.type, "timestamp": self.at})
        return f'{head[:-1]},"data":{self.body}}}'


class NewEventsFlag(Protocol):
    """A flag that is set when this process has added events, for example an `asyncio.Event`."""

    async def wait(self) -> object: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...


class Events(Protocol):
    """Durable events, which are stored for some days."""

    @property
    def poll_interval_s(self) -> float | None:
        """Polling interval for events of other processes, which can't set a flag here. None if there are none."""

    async def after(self, seq: int, *, companies: Collection[str] | None, limit: int) -> Page[Event]:
        """Events with a greater `seq`, in order, of these companies. None for all companies."""

    async def first_since(self, at: str) -> int:
        """The `seq` of the oldest event at or after this time; one more than the newest `seq` if there is none."""

    async def newest(self) -> int:
        """The `seq` of the newest event; 0 before the first event."""

    async def pruned(self) -> int:
        """The `seq` of the newest deleted event."""

    async def prune(self, *, before: str, now: str) -> None:
        """Delete older events, except those that a webhook still needs.

        Events of the future, from a time when the clock was wrong, are passed over.
        """

    def listening(
        self, *, companies: Collection[str] | None = None, for_deliveries: bool = False
    ) -> AbstractContextManager[NewEventsFlag]:
        """A flag for the duration of a block. It is set for new events of these companies (None: of all companies), or,
        with `for_deliveries`, when there may be webhooks to deliver."""


def event_id(company: str, type_: str, at: str, body: str) -> str:
    """A deterministic id: the same event always gets the same id, and different events get different ids.

    It begins with the second of the event, so that new rows are neighbours in the index of ids.
    """
    digest = hashlib.sha256(f"{company}\n{type_}\n{at}\n{body}".encode()).hexdigest()
    return f"evt_{at[:19].translate(_SEPARATORS)}{digest[:16]}"


def message_body(message: Message) -> dict[str, object]:
    """An outbound message as the API shows it, without holds: an event reports a change of state, which ends a hold."""
    return {
        "id": message.id,
        "whatsappId": message.whatsapp_id,
        "companyId": message.company,
        "to": message.recipient,
        "chat": message.chat,
        "type": message.kind,
        "state": message.state.value,
        "attempts": message.attempts,
        "priority": "bulk" if message.priority >= BULK else "interactive",
        "acceptedAt": message.accepted_at,
        "expiresAt": message.expires_at,
        "sentAt": message.sent_at,
        "deliveredAt": message.delivered_at,
        "readAt": message.read_at,
        "playedAt": message.played_at,
        "error": None if message.error_code is None else {"code": message.error_code, "message": message.error},
    }


def received_body(received: Received, *, media_url: str | None = None) -> dict[str, object]:
    """An inbound message as the inbox shows it; `media_url` is the signed URL of its medium."""
    media = None if received.media is None else shown_media(received.media, url=media_url)
    content = dict(received.content or {})
    lifted = {name: content.pop(name, None) for name in ("selected", "poll", "raw")}
    return {
        "id": received.id,
        "companyId": received.company,
        "chat": received.chat,
        "sender": received.sender,
        "senderName": received.sender_name,
        "senderLid": received.sender_lid,
        "groupSubject": received.group_subject,
        "whatsappId": received.whatsapp_id,
        "type": received.type,
        "text": received.text,
        "content": content or None,
        **lifted,
        "target": received.target,
        "media": media,
        "fromMe": received.from_me,
        "sentAt": received.sent_at,
        "storedAt": received.stored_at,
        "origin": received.origin or "live",
        "completedAt": received.completed_at,
    }


def message_type(message: Message) -> str:
    """The type of the event for the current state of an outbound message."""
    return ACCEPTED if message.state is MessageState.QUEUED else f"message.{message.state}"
