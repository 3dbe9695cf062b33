"""Chats as people see them: an overview of all chats, and one timeline of both directions for each.

Outbox and inbox number their messages independently. A timeline merges the two by time, each in its own order: the
outbox by acceptance, the inbox by the time that WhatsApp gives a message.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from holdfast.base.errors import BadInput
from holdfast.delivery.content import Content
from holdfast.delivery.recipient import STATUS
from holdfast.delivery.stores import Message, Received

FOLDED = frozenset({"reaction", "edit", "revoke", "delete"})
"""Types of messages that change another one. A timeline shows the result at that other message."""
QUIET = FOLDED | {"pin", "keep", "poll_vote", "event_response"}
"""Types of messages that are not counted as unread, and are never the last message of a chat."""
MARKED_UNREAD = -1
"""The count of unread messages in a chat that a person marked as unread."""
MAX_UNREAD = 100
"""Messages for which one request sends read receipts."""

_ON_ARRIVAL = timedelta(seconds=5)
"""An inbound message stored this soon after it was sent is placed by its arrival: WhatsApp only gives whole seconds."""


class ChatKind(StrEnum):
    PERSON = "person"
    GROUP = "group"
    CHANNEL = "channel"
    STATUS = "status"
    BROADCAST = "broadcast"


_KINDS = {
    "g.us": ChatKind.GROUP,
    "newsletter": ChatKind.CHANNEL,
    "broadcast": ChatKind.BROADCAST,
}


def chat_kind(chat: str) -> ChatKind:
    """The kind of a chat by its JID."""
    if chat == STATUS:
        return ChatKind.STATUS
    return _KINDS.get(chat.rpartition("@")[2], ChatKind.PERSON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What is known of the name of a person or group."""

    saved: str | None = None
    """As the phone's address book has it."""
    push: str | None = None
    """As the person set it in WhatsApp."""
    business: str | None = None
    subject: str | None = None
    """Of a group."""
    username: str | None = None
    number: str | None = None

    def shown(self, chat: str) -> str:
        """The name to show. Without any name it is the number, the username, or the id."""
        known = self.saved or self.push or self.business or self.subject or self.username
        return known or (f"+{self.number}" if self.number else shown_id(chat))


def shown_id(chat: str) -> str:
    """A chat without a name: the phone number of a person, or else the id without its server."""
    user, _, server = chat.partition("@")
    return f"+{user}" if server == "s.whatsapp.net" else user


@dataclass(frozen=True, slots=True, kw_only=True)
class SentEntry:
    """An outbound message with its content."""

    message: Message
    content: Content


TimelineMessage = SentEntry | Received


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenReaction:
    sender: str | None
    """The JID of the person; None: this account, while its own JID is not known."""
    sender_name: str | None
    from_me: bool
    emoji: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message of either direction in a timeline."""

    message: TimelineMessage
    at: str
    """Orders the timeline."""
    edited_at: str | None = None
    edited_text: str | None = None
    deleted_at: str | None = None
    reactions: Sequence[GivenReaction] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A chat in the overview."""

    chat: str
    names: Names
    last_at: str | None
    last: Entry | None
    """None: without a message, or it was removed after the retention period."""
    unread: int
    """`MARKED_UNREAD`: no message is unread, but a person marked the chat as unread."""
    pinned_at: str | None
    is_archived: bool
    muted_until: str | None
    disappearing_s: int | None = None
    """After how many seconds new messages of a chat with one person disappear; None: they stay."""

    @property
    def kind(self) -> ChatKind:
        return chat_kind(self.chat)

    @property
    def name(self) -> str:
        return self.names.shown(self.chat)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCursor:
    """Where a page of the overview ends: the next one has chats with older messages."""

    last_at: str
    chat: str

    def __str__(self) -> str:
        return f"{self.last_at}~{self.chat}"

    @classmethod
    def parse(cls, text: str) -> ChatCursor:
        """Raises `BadInput`."""
        at, _, chat = text.partition("~")
        if _TIME.fullmatch(at) is None or not chat or len(chat) > _LONGEST_CHAT:
            raise _no_cursor(text)
        return cls(last_at=at, chat=chat)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatsPage:
    """A part of the overview."""

    chats: Sequence[Chat]
    next: ChatCursor | None
    """Where the next page starts; None: there are no more chats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineCursor:
    """A place between two messages of a timeline, by what is above it: everything at or after these is newer."""

    sent: int
    """`seq` in the outbox."""
    received_at: str
    received: int
    """Time and `seq` in the inbox."""

    def __str__(self) -> str:
        return f"{self.sent}~{self.received_at}~{self.received}"

    @classmethod
    def parse(cls, text: str) -> TimelineCursor:
        """Raises `BadInput`."""
        found = _PLACE.fullmatch(text)
        if found is None:
            raise _no_cursor(text)
        return cls(sent=int(found["sent"]), received_at=found["at"], received=int(found["received"]))


_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}Z")
_PLACE = re.compile(rf"(?P<sent>[0-9]{{1,18}})~(?P<at>|{_TIME.pattern})~(?P<received>[0-9]{{1,18}})")
_LONGEST_CHAT = 200
END = TimelineCursor(sent=10**18 - 1, received_at="9999-12-31T23:59:59.999Z", received=10**18 - 1)
"""The newest end of every timeline."""
_BEGINNING = TimelineCursor(sent=0, received_at="", received=0)


def _no_cursor(text: str) -> BadInput:
    return BadInput(
        f'"{text[:60]}" is not a position in this list: give `next` or `previous` of another page', field="after"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineSlice:
    """One page of a timeline, newest message first."""

    messages: Sequence[TimelineMessage]
    older: TimelineCursor | None
    """Where the next older page begins; None at the beginning of the chat."""
    newer: TimelineCursor
    """Where newer messages are, or will be, found."""
    has_newer: bool = False


def timeline_at(message: TimelineMessage) -> str:
    """The time that orders a message among those of the other direction."""
    if isinstance(message, SentEntry):
        return message.message.accepted_at
    delay = datetime.fromisoformat(message.stored_at) - datetime.fromisoformat(message.sent_at)
    return message.stored_at if delay <= _ON_ARRIVAL else message.sent_at


def older_page(
    sent: Sequence[SentEntry], received: Sequence[Received], *, before: TimelineCursor, limit: int
) -> TimelineSlice:
    """Merge the newest messages before a cursor, each direction newest first; up to one more than `limit` of each."""
    taken = _merge(sent, received, newest_first=True)
    shown = taken[:limit]
    newest_sent, newest_received = sent[0] if sent else None, received[0] if received else None
    ground = _BEGINNING if before == END else before
    return TimelineSlice(
        messages=shown,
        older=_below(shown, before) if len(taken) > limit else None,
        newer=_above([each for each in (newest_sent, newest_received) if each is not None], ground),
    )


def newer_page(
    sent: Sequence[SentEntry], received: Sequence[Received], *, after: TimelineCursor, limit: int
) -> TimelineSlice:
    """Merge the messages from a cursor on, each direction oldest first."""
    taken = _merge(sent, received, newest_first=False)
    shown = taken[:limit]
    return TimelineSlice(messages=shown[::-1], older=after, newer=_above(shown, after), has_newer=len(taken) > limit)


def _merge(sent: Sequence[SentEntry], received: Sequence[Received], *, newest_first: bool) -> list[TimelineMessage]:
    """Each direction keeps its order. At the same time, the received message is the older one."""
    merged: list[TimelineMessage] = []
    mine, theirs = list(sent)[::-1], list(received)[::-1]
    while mine and theirs:
        sent_is_newer = timeline_at(mine[-1]) >= timeline_at(theirs[-1])
        merged.append((mine if sent_is_newer is newest_first else theirs).pop())
    return merged + mine[::-1] + theirs[::-1]


def _below(shown: Sequence[TimelineMessage], before: TimelineCursor) -> TimelineCursor:
    sent, received = before.sent, (before.received_at, before.received)
    for each in shown:
        if isinstance(each, SentEntry):
            sent = each.message.seq
        else:
            received = (each.sent_at, each.seq)
    return TimelineCursor(sent=sent, received_at=received[0], received=received[1])


def _above(shown: Sequence[TimelineMessage], after: TimelineCursor) -> TimelineCursor:
    sent, received = after.sent, (after.received_at, after.received)
    for each in shown:
        if isinstance(each, SentEntry):
            sent = max(sent, each.message.seq + 1)
        else:
            received = max(received, (each.sent_at, each.seq + 1))
    return TimelineCursor(sent=sent, received_at=received[0], received=received[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A reaction, edit or deletion."""

    target: str
    """WhatsApp id of the message that it changes."""
    type: str
    """One of `FOLDED`."""
    sender: str | None
    sender_name: str | None
    from_me: bool
    at: str
    text: str | None = None
    """The new text, or the emoji."""


def fold(message: TimelineMessage, changes: Collection[Change], *, own: str | None) -> Entry:
    """A message with what its edits, deletion and reactions made of it.

    Only the author of a message can edit it. `own` is the JID of this account.
    """
    edited_at: str | None = None
    edited_text: str | None = None
    deleted_at: str | None = None
    reactions: dict[str | None, GivenReaction] = {}
    for change in sorted(changes, key=lambda each: each.at):
        who = own if change.from_me else change.sender
        if change.type == "reaction":
            reactions.pop(who, None)
            if change.text:
                reactions[who] = GivenReaction(
                    sender=who, sender_name=change.sender_name, from_me=change.from_me, emoji=change.text, at=change.at
                )
        elif change.type == "edit":
            if _is_author(message, change):
                edited_at, edited_text = change.at, change.text
        elif _may_delete(message, change):
            deleted_at = change.at
    return Entry(
        message=message,
        at=timeline_at(message),
        edited_at=edited_at,
        edited_text=edited_text,
        deleted_at=deleted_at,
        reactions=tuple(reactions.values()),
    )


def _is_author(message: TimelineMessage, change: Change) -> bool:
    if isinstance(message, SentEntry) or message.from_me:
        return change.from_me
    return not change.from_me and change.sender == message.sender


def _may_delete(message: TimelineMessage, change: Change) -> bool:
    """In a group an admin may delete everybody's messages, and WhatsApp's server checks that."""
    chat = message.message.chat if isinstance(message, SentEntry) else message.chat
    return chat_kind(chat) is ChatKind.GROUP or _is_author(message, change)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePage:
    """A `TimelineSlice` with reactions, edits and deletions folded into their messages."""

    entries: Sequence[Entry]
    older: TimelineCursor | None
    newer: TimelineCursor
    has_newer: bool


class Chats(Protocol):
    """Reads chats for people, and keeps what was read."""

    async def overview(
        self, company: str, *, after: ChatCursor | None, limit: int, unread: bool = False, words: str = ""
    ) -> ChatsPage:
        """Chats with a message, that with the newest message first.

        unread: only those with unread messages, or marked as unread.
        words: a part of the name or of the number. One page is a search of some thousand chats, so it may have fewer
        than `limit`, or none, although there is a next one.
        """

    async def chat(self, company: str, chat: str) -> Chat | None: ...

    async def names(self, company: str, jids: Sequence[str]) -> Mapping[str, Names]:
        """What is known of the names of these people and groups."""

    async def timeline(
        self,
        company: str,
        chat: str,
        *,
        before: TimelineCursor | None = None,
        after: TimelineCursor | None = None,
        limit: int,
    ) -> TimelinePage:
        """One page of a timeline: before a cursor, from a cursor on, or the newest one."""

    async def unread(self, company: str, chat: str) -> list[Received]:
        """The newest inbound messages that nobody has read, at most `MAX_UNREAD`, oldest first."""

    async def set_read(self, company: str, chat: str, *, up_to: int) -> None:
        """The messages of a chat up to this `seq` are read. An older position changes nothing."""

    async def set_unread(self, company: str, chat: str) -> bool:
        """Mark a chat as unread, unless it has unread messages; False if there is no such chat."""
