"""Chats and their messages as pages show them. Values in messages may have any type; templates escape all texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote

from holdfast.dashboard.inbox_details import details, empty_note, note_beside
from holdfast.dashboard.inbox_rows import file_label, media_path, person, shortened
from holdfast.dashboard.ports import MediaAddresses
from holdfast.delivery.chats import Chat, ChatKind, Entry, SentEntry, TimelineMessage
from holdfast.delivery.content import Content, shown_text
from holdfast.session.contacts import KnownContact

_SNIPPET = 90
_QUOTED = 160
_HUES = 6
_PICTURES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
_DELETED = "This message was deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatView:
    """One row of the list, and the head of an open chat."""

    chat: str
    path: str
    """The chat in a URL."""
    name: str
    number: str | None
    """Shown beside a name."""
    initials: str
    hue: int
    is_group: bool
    last_at: str | None
    snippet: str
    state: str | None
    """What became of the last message, if the company sent it."""
    unread: int
    is_marked_unread: bool
    is_pinned: bool
    is_muted: bool
    is_archived: bool


def chat_view(chat: Chat) -> ChatView:
    snippet, state = ("", None) if chat.last is None else _snippet(chat.last)
    number = person(chat.chat)
    return ChatView(
        chat=chat.chat,
        path=quote(chat.chat, safe="@"),
        name=chat.name,
        number=None if number == chat.name or chat.kind is not ChatKind.PERSON else number,
        initials=_initials(chat.name),
        hue=hue(chat.chat),
        is_group=chat.kind is ChatKind.GROUP,
        last_at=chat.last_at,
        snippet=snippet,
        state=state,
        unread=max(chat.unread, 0),
        is_marked_unread=chat.unread < 0,
        is_pinned=chat.pinned_at is not None,
        is_muted=chat.muted_until is not None,
        is_archived=chat.is_archived,
    )


def hue(chat: str) -> int:
    """The colour of a chat's initials: always the same one."""
    return sha256(chat.encode()).digest()[0] % _HUES


def _initials(name: str) -> str:
    words = [word for word in name.replace("+", " ").split() if word[0].isalpha()]
    return "".join(word[0] for word in words[:2]).upper() or "#"


def _snippet(entry: Entry) -> tuple[str, str | None]:
    text = _text(entry) or _note(entry) or ""
    line = " ".join(text[: _SNIPPET * 2].split())[:_SNIPPET]
    message = entry.message
    if isinstance(message, SentEntry):
        return line, message.message.state.value.capitalize()
    if message.from_me:
        return line, "Sent"
    is_group = message.chat.endswith("@g.us")
    return (f"{message.sender_name or person(message.sender)}: {line}" if is_group else line), None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    id: str
    at: str
    is_sent: bool
    """The account sent it, here or on another device."""
    sender: str | None
    """In groups."""
    quoted: str | None
    """The text of the message that this one answers."""
    text: str
    note: str | None
    """Shown in place of a text where there is none."""
    details: str | None
    file: str | None
    file_url: str | None
    is_picture: bool
    state: str | None
    error: str | None
    is_edited: bool
    is_deleted: bool
    reactions: Sequence[tuple[str, int]]


def message_view(entry: Entry, *, files: str, media: MediaAddresses) -> MessageView:
    """`files` is the path of the company's own files; `media` gives the URLs of inbound ones."""
    message = entry.message
    is_deleted = entry.deleted_at is not None
    file, file_url, mimetype = (None, None, None) if is_deleted else _file(message, files, media)
    text = "" if is_deleted else _text(entry) or ""
    shown = None if is_deleted or isinstance(message, SentEntry) else details(message)
    return MessageView(
        id=message.message.id if isinstance(message, SentEntry) else message.id,
        at=entry.at,
        is_sent=isinstance(message, SentEntry) or message.from_me,
        sender=_sender(message),
        quoted=None if is_deleted else _quoted(message),
        text=shortened(text),
        note=None if text or file else _note_beside(shown, entry),
        details=shown,
        file=file,
        file_url=file_url,
        is_picture=mimetype in _PICTURES,
        state=message.message.state.value.capitalize() if isinstance(message, SentEntry) else None,
        error=message.message.error if isinstance(message, SentEntry) else None,
        is_edited=entry.edited_at is not None and not is_deleted,
        is_deleted=is_deleted,
        reactions=tuple(Counter(each.emoji[:20] for each in entry.reactions).items())[:8],
    )


def _text(entry: Entry) -> str | None:
    if entry.deleted_at is not None:
        return None
    if entry.edited_at is not None:
        return entry.edited_text
    message = entry.message
    return shown_text(_content(message), text=None if isinstance(message, SentEntry) else message.text)


def _content(message: TimelineMessage) -> Content:
    if not isinstance(message, SentEntry):
        return message.content or {}
    kind = message.message.kind
    body = message.content.get(kind)
    caption_only = isinstance(body, Mapping) and "media" in body
    return {kind: {"caption": body.get("caption")}} if caption_only and isinstance(body, Mapping) else message.content


def _note(entry: Entry) -> str:
    if entry.deleted_at is not None:
        return _DELETED
    message = entry.message
    if isinstance(message, SentEntry):
        return f"({message.message.kind})"
    return f"({message.type})" if message.media else empty_note(message.content or {}, message.type)


def _note_beside(shown: str | None, entry: Entry) -> str | None:
    """The note of a message whose details are `shown`."""
    message = entry.message
    return _note(entry) if isinstance(message, SentEntry) else note_beside(shown, _note(entry), message.type)


def _sender(message: TimelineMessage) -> str | None:
    if isinstance(message, SentEntry) or message.from_me or not message.chat.endswith("@g.us"):
        return None
    return message.sender_name or person(message.sender)


def _quoted(message: TimelineMessage) -> str | None:
    answered = message.content.get("replyTo") if message.content else None
    if not isinstance(answered, Mapping):
        return None
    text = answered.get("text")
    return text[:_QUOTED] if isinstance(text, str) and text else "a message"


def _file(message: TimelineMessage, files: str, media: MediaAddresses) -> tuple[str | None, str | None, str | None]:
    """Label, URL and type of the attached file."""
    if isinstance(message, SentEntry):
        body = message.content.get(message.message.kind)
        if not isinstance(body, Mapping) or not isinstance(body.get("media"), str):
            return None, None, None
        described: Content = {name: body.get(name) for name in ("filename", "mimetype")}
        url = f"{files}/{quote(str(body['media']), safe='')}"
        return file_label(described), url, str(body.get("mimetype"))
    if message.media is None:
        return None, None, None
    return file_label(message.media), media_path(media.url(message)), str(message.media.get("mimetype"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonView:
    """A person or group in a list."""

    path: str
    """The chat in a URL."""
    name: str
    number: str | None
    """Shown beside a name."""
    initials: str
    hue: int


def person_view(jid: str, name: str | None) -> PersonView:
    known = name or person(jid)
    number = person(jid)
    is_person = jid.endswith("@s.whatsapp.net")
    return PersonView(
        path=quote(jid, safe="@"),
        name=known,
        number=number if is_person and number != known else None,
        initials=_initials(known),
        hue=hue(jid),
    )


def name_of(contact: KnownContact) -> str | None:
    """The name of a person; None when only the number or an id is known."""
    return contact.saved_name or contact.push_name or contact.business_name or contact.username
