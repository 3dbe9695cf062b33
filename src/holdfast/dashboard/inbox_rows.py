"""Inbound messages as the inbox page shows them: sender, chat, text, details and file."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from holdfast.dashboard.inbox_details import details, empty_note, note_beside
from holdfast.dashboard.ports import MediaAddresses
from holdfast.delivery.content import Content, shown_text
from holdfast.delivery.stores import Received

_KB, _MB = 1000, 1_000_000
_TEXT_SHOWN = 2000
"""Characters of a text; the API has the whole text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRow:
    """One message. Texts are not escaped; the template does that."""

    id: str
    stored_at: str
    sender: str
    sender_name: str | None
    from_own_phone: bool
    group: str | None
    """Subject of the group, or its id while the subject is not known; None outside groups."""
    text: str
    note: str | None
    """Shown in place of a text where there is none."""
    details: str | None
    """What the message says besides its text."""
    file: str | None
    """Name or type, and size, of the attached file."""
    file_url: str | None
    type: str


def inbox_row(received: Received, media: MediaAddresses) -> InboxRow:
    """`media` gives the URLs of files. Only their path is used, because the browser may use another host name."""
    text = shown_text(received.content or {}, text=received.text)
    shown = details(received)
    note = note_beside(shown, empty_note(received.content or {}, received.type), received.type)
    return InboxRow(
        id=received.id,
        stored_at=received.stored_at,
        sender=person(received.sender),
        sender_name=received.sender_name,
        from_own_phone=received.from_me,
        group=_group(received),
        text=shortened(text or ""),
        note=None if text or received.media else note,
        details=shown,
        file=None if received.media is None else file_label(received.media),
        file_url=media_path(media.url(received)),
        type=received.type.replace("_", " "),
    )


def shortened(text: str) -> str:
    """A text of at most a few thousand characters; the API has the whole text."""
    return text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]} … ({len(text)} characters in all)"


def person(jid: str) -> str:
    """`+962790000001` for a phone number, or the hidden id (LID) of a person whose number is not known."""
    user, _, server = jid.partition("@")
    user = user.partition(":")[0]
    return f"+{user}" if server in {"s.whatsapp.net", "c.us"} and user.isdigit() else user if server == "lid" else jid


def _group(received: Received) -> str | None:
    if received.group_subject:
        return received.group_subject
    return received.chat if received.chat.endswith(("@g.us", "@broadcast", "@newsletter")) else None


def file_label(media: Content) -> str:
    """Name or kind of a file, with its duration and size."""
    name = media.get("filename") or _kind_of_file(media)
    size = media.get("sizeBytes")
    seconds = media.get("seconds")
    parts = [str(name)]
    if isinstance(seconds, int | float) and seconds:
        parts.append(f"{seconds:.0f} s")
    if isinstance(size, int):
        parts.append(f"{size / _MB:.1f} MB" if size >= _MB else f"{max(size // _KB, 1)} KB")
    return ", ".join(parts)


def _kind_of_file(media: Content) -> str:
    """`Voice message`, `Image (PNG)`, or the type where people have no word for it."""
    mimetype = str(media.get("mimetype") or "").partition(";")[0].strip().lower()
    group, _, subtype = mimetype.partition("/")
    if group == "audio":
        return "Voice message" if media.get("voice") else "Audio"
    if group in {"image", "video"}:
        return f"{group.capitalize()} ({subtype.removeprefix('x-').upper()})"
    return mimetype or "File"


def media_path(url: str | None) -> str | None:
    """The path of a URL: the browser may use another host name."""
    if url is None:
        return None
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"
