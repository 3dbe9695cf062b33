"""Storage interfaces of delivery: outbox, inbox, accounts and figures. Times are ISO 8601 text, UTC, `Z`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from holdfast.base.clock_step import ClockStep
from holdfast.delivery.content import Content
from holdfast.delivery.message import MessageState, StatusUpdate
from holdfast.delivery.page import Page
from holdfast.delivery.rate_limits import Allowance, ContactStatus

INTERACTIVE, BULK = 0, 1
"""Priorities: bulk messages are sent when no interactive message waits, at a rate of their own."""
_TYPING_MS_PER_CHARACTER, _LEAST_TYPING_MS, _MAX_TYPING_MS = 40, 600, 4000


def disappearing(content: Content, timer_s: int | None) -> Content:
    """The content of a message to a chat whose messages disappear after `timer_s` seconds, as it is stored."""
    rest = {name: value for name, value in content.items() if name != "disappearingS"}
    return {**rest, "disappearingS": timer_s} if timer_s else rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A message as it is accepted, with the WhatsApp id that every attempt to send it uses."""

    id: str
    whatsapp_id: str
    company: str
    recipient: str
    """Digits."""
    chat: str
    """JID."""
    content: Content
    idempotency_key: str | None
    request_hash: str | None
    """Hash of a request with an idempotency key: the same key with another request is a conflict."""
    kind: str = "text"
    """The kind of its content."""
    priority: int = INTERACTIVE
    expires_at: str | None = None
    """After this time it is not sent, unless it may have been sent already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One outbound message with its current state."""

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
    kind: str = "text"
    priority: int = INTERACTIVE
    expires_at: str | None = None
    held_code: str | None = None
    """The code of the lock with which WhatsApp refused it for a time (`delivery.rate_limits`)."""
    held_until: str | None = None
    is_to_new_contact: bool = False
    """It is queued for a contact that is not known: locks and the daily limit apply."""
    retry_at: str | None = None
    """When the last attempt failed temporarily; it is retried."""
    retry_code: str | None = None
    retry_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message that is committed as `sending` and may be given to the engine."""

    seq: int
    """Orders the messages of a chat by acceptance."""
    id: str
    whatsapp_id: str
    chat: str
    content: Content
    attempts: int
    accepted_at: str
    is_bulk: bool = False
    contact: ContactStatus = ContactStatus.KNOWN
    made: str | None = None
    """What the engine made of the content at an earlier attempt, base64."""
    retry_code: str | None = None
    retry_count: int = 0
    """Attempts in a row that failed with `retry_code`."""
    crash_score: int = 0
    """Grows with each engine host or link that ended while the message was in flight (`delivery.message`)."""

    @property
    def has_media(self) -> bool:
        return any(isinstance(part, dict) and "media" in part for part in self.content.values())

    @property
    def is_slow(self) -> bool:
        """Whether the engine may need long to make a frame of it."""
        return self.has_media or bool(self.content.get("typing")) or "audience" in self.content

    @property
    def typing_ms(self) -> int:
        """How long the recipient is shown "typing", at the first attempt."""
        if not self.content.get("typing") or self.attempts > 1:
            return 0
        text = self.content.get("text")
        characters = len(text) if isinstance(text, str) else 0
        return min(max(characters * _TYPING_MS_PER_CHARACTER, _LEAST_TYPING_MS), _MAX_TYPING_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The result of one look at the queue."""

    messages: Sequence[Outgoing]
    has_more: bool
    """Other messages are waiting: not due yet, not allowed now, or behind others of their chats."""
    is_limited: bool
    """As many were taken as a limit allows: others may be due and allowed soon."""
    next_at: str | None
    """When the next waiting chat becomes due."""
    suspect_waits: bool
    """A message that may end links is due; it is sent alone, when nothing else is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The result of accepting a draft."""

    message: Message
    """The message as it was accepted."""
    is_new: bool
    """False: an earlier request with its idempotency key created it."""
    has_begun: bool
    """It is committed as `sending`, so the caller may give it to the engine."""
    timer_s: int | None = None
    """After how many seconds messages of the chat disappear."""

    def outgoing(self, draft: Draft) -> Outgoing:
        """The message for the engine; only where `has_begun`."""
        return Outgoing(
            seq=self.message.seq,
            id=draft.id,
            whatsapp_id=draft.whatsapp_id,
            chat=self.message.chat,
            content=disappearing(draft.content, self.timer_s),
            attempts=1,
            accepted_at=self.message.accepted_at,
            is_bulk=draft.priority >= BULK,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a company may send: WhatsApp's restrictions, the operator's limits, and its first contacts."""

    pacing: Content | None = None
    """What the operator set for this company; None: the defaults."""
    reach_out_until: str | None = None
    """WhatsApp accepts no messages to new contacts until then."""
    tight_until: str | None = None
    """After a temporary ban, fewer messages are sent until then."""
    quota_until: str | None = None
    """WhatsApp's quota of new chats is used up until then."""
    first_contacts: Sequence[str] = ()
    """When people were written to for the first time, within the last 24 hours, oldest first."""
    approached: Sequence[str] = ()
    """Chats that are not known, with a first message that must be sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageChange:
    """A status update of one message."""

    whatsapp_id: str
    update: StatusUpdate
    at: str
    error_code: str | None = None
    error: str | None = None
    makes_known: bool = False
    """From now on the chat is known."""
    chat: str | None = None
    """For a receipt: the chat that it came from. It counts only for messages to that chat, under any of its names."""
    is_forced: bool = False
    """With `StatusUpdate.CANCELLED`: also when the message may already have been sent."""
    member: str | None = None
    """For a receipt in a group: the member whose device sent it."""
    members: int | None = None
    """To how many members the message was sent, once that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberReceipt:
    """What one member of a group has confirmed about a message."""

    member: str
    """JID."""
    delivered_at: str | None
    read_at: str | None
    played_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """An attempt failed temporarily: the message, and its chat with it, waits until `next_at`."""

    whatsapp_id: str
    at: str
    next_at: str | None
    """None: its due time does not change."""
    code: str | None = None
    """Code of WhatsApp's or the engine's refusal; None without an answer, when the outcome is unknown."""
    message: str | None = None
    held_code: str | None = None
    """The code of WhatsApp's lock that holds it until `next_at`."""
    crash_score: int | None = None
    """The new score of a message that was in flight when a host or a link ended."""


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
    sender_name: str | None = None
    """The name that the sender set."""
    sender_lid: str | None = None
    """JID that hides the sender's number."""
    group_subject: str | None = None
    """None also for a group whose subject is not known yet."""
    content: Content | None = None
    """Content besides the text, as in `InboundMessage`."""
    target: str | None = None
    """WhatsApp id of the message that this one edits, revokes or reacts to."""
    media: Content | None = None
    """`{mimetype, sizeBytes?, filename?, seconds?, voice?}`."""
    completed_at: str | None = None
    """When a message that could not be decrypted at first was decrypted."""
    origin: str | None = None
    """`history`: the phone sent it afterwards, as a part of its history. None: it came when it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Messages of a company that are not sent yet."""

    waiting: int = 0
    oldest_at: str | None = None
    late_since: str | None = None
    """When the oldest message was accepted that neither WhatsApp nor bulk pacing holds back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryTally:
    """Messages accepted within a time; cancelled and expired ones are left out."""

    accepted: int = 0
    taken: int = 0
    """WhatsApp acked them, or they are known to have arrived."""
    arrived: int = 0
    """They reached a phone. A phone that is switched off gets them later."""


class Figures(Protocol):
    """Counts over the outbox."""

    async def backlogs(self, company: str | None = None) -> Mapping[str, Backlog]:
        """The backlog of each company that has one, or of one company."""

    async def tally(self, company: str, *, since: str, until: str) -> DeliveryTally:
        """Counts of messages accepted at or after `since` that are settled, or were accepted before `until`."""


class Outbox(Protocol):
    """Durable outbound messages. Every method returns when its change is on disk."""

    async def receipts(self, message: Message) -> list[MemberReceipt]:
        """The receipts of the members of a group; none for a message to a person."""

    async def accept(self, draft: Draft, *, begin: bool = False) -> Accepted:
        """Store a new message, or find the one that an earlier request with its idempotency key created.

        With `begin` it is committed as `sending` at once where nothing waits in its chat, the recipient is known and
        the session is this process's own. Raises `Conflict` when the key was used for another request, `NotFound`
        when the company is unknown.
        """

    async def take(
        self,
        company: str,
        allowance: Allowance,
        *,
        exclude: Collection[str],
        alone: bool = False,
        updates: Sequence[MessageChange | Deferral] = (),
    ) -> Taken:
        """Apply `updates`, then commit as `sending` what is due and allowed; none of `exclude` (WhatsApp ids).

        Interactive messages come before bulk. A suspect (`crash_score`) is never taken together with others: it is
        taken only if `allowance.suspects` is true, `exclude` is empty, and either nothing else is due or `alone` is
        set. All is one transaction. Raises `LeaseLost` when another process owns the session; the updates are stored
        anyway.
        """

    async def take_made_due(
        self,
        company: str,
        allowance: Allowance,
        *,
        exclude: Collection[str],
        updates: Sequence[MessageChange | Deferral],
    ) -> Taken | None:
        """Apply `updates`, and `take` if one of them made another message due; None if none did.

        For a sender that knows that nothing else is due: most updates then cost no look at the queue.
        """

    async def apply_updates(self, company: str, changes: Sequence[MessageChange | Deferral]) -> list[Message]:
        """Apply status updates; returns the messages whose state changed. Unknown ids are ignored."""

    async def reschedule_held(self, company: str, *, code: str, until: str | None) -> None:
        """Change the end of the lock that holds these messages; None: it was lifted, and they are due now."""

    async def make_due(self, company: str) -> None:
        """Make every waiting chat due now, for example after the wall clock was set."""

    async def move_expiries(self, company: str, step: ClockStep) -> None:
        """The wall clock was set: messages accepted before expire as many seconds from now as they did before."""

    async def expire(self, company: str, *, at: str) -> list[Message]:
        """Mark messages that have expired by then and were certainly not sent, the first hundred; returns them."""

    async def next_expiry(self, company: str) -> str | None:
        """When the next message that was certainly not sent expires."""

    async def cancel(self, message_id: str, *, force: bool = False) -> Message:
        """Cancel a message that was not sent; with `force` also one that may have been sent but was never acked.

        Raises `NotFound` and `Conflict`.
        """

    async def message(self, message_id: str) -> Message | None: ...

    async def messages(
        self, company: str, *, state: MessageState | None, after: int, limit: int, chat: str | None = None
    ) -> list[Message]:
        """Messages in a state, or in a chat (JID), or all, ordered by `seq`, after `after`."""

    async def sent_content(self, company: str, whatsapp_id: str, *, chat: str) -> tuple[Content | None, str | None]:
        """The content of a message to that chat, and what the engine made of it; None for each that is unknown."""


class Accounts(Protocol):
    """What each company may send.

    Nothing is stored for a removed company: WhatsApp's restrictions are dropped, and settings raise `NotFound`.
    """

    async def account(self, company: str, *, since: str) -> Account:
        """The account, with its first contacts since then."""

    async def set_lock(self, company: str, *, code: str, until: str | None) -> None:
        """WhatsApp's lock on messages to new contacts: `REACH_OUT_LOCK` or `NEW_CHAT_QUOTA`; None lifts it."""

    async def set_tight(self, company: str, *, until: str) -> None: ...

    async def set_pacing(self, company: str, pacing: Content | None) -> None: ...

    async def set_tenant_pacing(self, company: str, pacing: Content) -> None:
        """Replace the figures of the tenant; those of the operator stay as they are at this moment."""


class MediaFiles(Protocol):
    """Writes media of messages to files for an engine."""

    async def content_for_engine(self, content: Content) -> Content:
        """The same content, with the path of a file in place of each stored medium."""

    async def path(self, media_id: str) -> Path:
        """The path of a file with a stored medium. Raises `HoldfastError` when it is no longer stored."""


class Inbox(Protocol):
    """Durable inbound messages."""

    async def received(self, company: str, *, after: int, limit: int, chat: str | None = None) -> Page[Received]:
        """Messages of a chat (JID), or all, ordered by `seq`, after `after`."""

    async def find(self, inbox_id: str) -> Received | None: ...
