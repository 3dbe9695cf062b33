"""What can be said in a message: the kinds of content, what each may hold, and the JSON that is stored and given to the
engine.

A part is what a caller asks for. `check` refuses what WhatsApp would not take, before anything is fetched or stored;
`make` turns it into content once the medium is stored and the message that it refers to is found.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from holdfast.base.errors import BadInput
from holdfast.delivery.message import MessageState
from holdfast.delivery.recipient import parse_recipient, phone_number

Content = dict[str, object]

LONGEST_TEXT = 65_536
"""Characters; WhatsApp's own apps stop there."""
LONGEST_CAPTION = 1024
"""Characters (source: WhatsApp's Cloud API reference)."""
LONGEST_NAME = 256
LONGEST_VCARD = 65_536
MOST_MENTIONS = 1024
"""As many as a group has members (source: WhatsApp's help)."""
EDIT_WITHIN = timedelta(minutes=15)
DELETE_WITHIN = timedelta(hours=60)
"""Phones leave later ones undone (source: WhatsApp's help, "about 2 days")."""


class Kind(StrEnum):
    """By these names, in requests and in stored content."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    STICKER = "sticker"
    LOCATION = "location"
    CONTACT = "contact"
    REACTION = "reaction"
    EDIT = "edit"
    DELETE = "delete"


CAN_REPLY = frozenset(Kind) - {Kind.REACTION, Kind.EDIT, Kind.DELETE}
"""Kinds that can answer a message, and mention people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPart:
    """Exactly one of `url`, `base64` and `media` says where it is."""

    kind: Kind
    url: str | None = None
    base64: str | None = None
    media: str | None = None
    """Id of a medium that was stored before."""
    mimetype: str | None = None
    caption: str | None = None
    filename: str | None = None
    voice: bool = False
    gif: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationPart:
    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactPart:
    """With a number, or with a vCard of the caller's own."""

    name: str
    phone_number: str | None = None
    vcard: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionPart:
    message_id: str
    emoji: str
    """Empty: the reaction is taken back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditPart:
    message_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePart:
    message_id: str


Part = TextPart | MediaPart | LocationPart | ContactPart | ReactionPart | EditPart | DeletePart
_KINDS = {
    TextPart: Kind.TEXT,
    LocationPart: Kind.LOCATION,
    ContactPart: Kind.CONTACT,
    ReactionPart: Kind.REACTION,
    EditPart: Kind.EDIT,
    DeletePart: Kind.DELETE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Referred:
    """A message in the outbox or the inbox that another one refers to."""

    whatsapp_id: str
    chat: str
    from_me: bool
    sender: str | None
    """JID; None: this account, whose JID is not known yet."""
    kind: str
    text: str | None
    state: MessageState | None
    """None: it came in."""
    sent_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMedia:
    """A medium in the store."""

    id: str
    company: str
    mimetype: str
    filename: str | None
    size_bytes: int
    sha256: str
    """Hex."""


def kind_of(part: Part) -> Kind:
    return part.kind if isinstance(part, MediaPart) else _KINDS[type(part)]


# Checks.


def check(part: Part) -> None:
    """Raises `BadInput`, naming the field, for what no WhatsApp message can hold."""
    match part:
        case TextPart(text=text):
            _check_text(text, field="text")
        case MediaPart():
            _check_media(part)
        case LocationPart():
            _check_location(part)
        case ContactPart():
            _check_contact(part)
        case ReactionPart(emoji=emoji):
            _check_emoji(emoji)
        case EditPart(text=text):
            _check_text(text, field="edit.text")
        case DeletePart():
            pass  # its message is looked at when it is found


def _check_text(text: str, *, field: str) -> None:
    if not text.strip():
        raise BadInput(f"{field} is empty: give at least one character that is not a space", field=field)
    if len(text) > LONGEST_TEXT:
        raise BadInput(
            f"{field} has {len(text)} characters: WhatsApp takes up to {LONGEST_TEXT}, send it in parts", field=field
        )


def _check_length(text: str | None, most: int, *, field: str) -> None:
    if text is not None and len(text) > most:
        raise BadInput(f"{field} has {len(text)} characters: give at most {most}", field=field)


def _check_media(part: MediaPart) -> None:
    sources = {"url": part.url, "base64": part.base64, "media": part.media}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        what = f"has {' and '.join(given)}" if given else "says not where it is"
        raise BadInput(f"{part.kind} {what}: give one of url, base64 and media", field=part.kind)
    _check_length(part.caption, LONGEST_CAPTION, field=f"{part.kind}.caption")
    check_filename(part.filename, field=f"{part.kind}.filename")


def check_filename(name: str | None, *, field: str) -> None:
    """Raises `BadInput` for what phones could not save a file as."""
    _check_length(name, LONGEST_NAME, field=field)
    if name is not None and re.search(r"[/\\\x00-\x1f\x7f]", name):
        raise BadInput(f'{field} "{name[:80]}" is no name of a file: leave out slashes and line ends', field=field)


def _check_location(part: LocationPart) -> None:
    for name, value, most in (("latitude", part.latitude, 90), ("longitude", part.longitude, 180)):
        if not math.isfinite(value) or abs(value) > most:
            raise BadInput(
                f"location.{name} is {value:g}: give degrees from -{most} to {most}", field=f"location.{name}"
            )
    _check_length(part.name, LONGEST_NAME, field="location.name")
    _check_length(part.address, LONGEST_CAPTION, field="location.address")


def _check_contact(part: ContactPart) -> None:
    if not part.name.strip():
        raise BadInput("contact.name is empty: give the name to be shown", field="contact.name")
    _check_length(part.name, LONGEST_NAME, field="contact.name")
    if (part.phone_number is None) == (part.vcard is None):
        what = "has no number" if part.vcard is None else "has phoneNumber and vcard"
        raise BadInput(f"contact {what}: give one of phoneNumber and vcard", field="contact")
    if part.phone_number is not None:
        phone_number(part.phone_number, field="contact.phoneNumber")
    if part.vcard is not None:
        _check_vcard(part.vcard)


def _check_vcard(vcard: str) -> None:
    _check_length(vcard, LONGEST_VCARD, field="contact.vcard")
    text = vcard.strip().upper()
    if not (text.startswith("BEGIN:VCARD") and text.endswith("END:VCARD")):
        raise BadInput(
            f'contact.vcard "{vcard[:40]}" is no vCard: it begins with BEGIN:VCARD and ends with END:VCARD, '
            "or give phoneNumber instead",
            field="contact.vcard",
        )


_PICTURE = (
    r"[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934\u2935\u2b05-\u2b55"
    r"\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
)
_ONE = rf"{_PICTURE}[\ufe0f\U0001f3fb-\U0001f3ff]*[\U000e0020-\U000e007f]*"
_EMOJI = re.compile(rf"[0-9#*]\ufe0f?\u20e3|[\U0001f1e6-\U0001f1ff]{{2}}|{_ONE}(\u200d{_ONE})*")
"""One emoji as people see it (source: Unicode, UTS #51): a keycap, a flag, or pictures with skin and joiners."""


def _check_emoji(emoji: str) -> None:
    if emoji and not _EMOJI.fullmatch(emoji):
        raise BadInput(
            f'reaction.emoji "{emoji[:20]}" is not one emoji: give exactly one, or "" to take the reaction back',
            field="reaction.emoji",
        )


def mentioned(mentions: list[str]) -> list[str]:
    """JIDs of people by number or JID. Raises `BadInput`."""
    if len(mentions) > MOST_MENTIONS:
        raise BadInput(f"mentions has {len(mentions)} people: give at most {MOST_MENTIONS}", field="mentions")
    jids = [parse_recipient(text, field=f"mentions.{n}")[1] for n, text in enumerate(mentions)]
    for n, jid in enumerate(jids):
        if jid.endswith("@g.us"):
            field = f"mentions.{n}"
            raise BadInput(f'{field} "{jid}" is a group: people alone can be mentioned', field=field)
    return list(dict.fromkeys(jids))


# The message that another one refers to.


def check_target(part: Part, target: Referred, *, field: str, now: datetime) -> None:
    """Raises `BadInput` when phones would not do to that message what is asked."""
    if target.state in {MessageState.FAILED, MessageState.EXPIRED, MessageState.CANCELLED}:
        raise BadInput(f"{field} names a message that is {target.state}: nobody has it", field=field)
    match part:
        case EditPart():
            if target.kind != Kind.TEXT:
                raise BadInput(f"{field} names a message of type {target.kind}: only texts can be edited", field=field)
            _check_own(target, "edited", EDIT_WITHIN, "15 minutes", field=field, now=now)
        case DeletePart():
            _check_own(target, "deleted for everyone", DELETE_WITHIN, "60 hours", field=field, now=now)


def _check_own(target: Referred, what: str, within: timedelta, shown: str, *, field: str, now: datetime) -> None:
    if not target.from_me:
        raise BadInput(f"{field} names a message of somebody else: only own ones can be {what}", field=field)
    if target.sent_at is not None and now - datetime.fromisoformat(target.sent_at) > within:
        raise BadInput(
            f"{field} names a message sent at {target.sent_at}: phones let one be {what} within {shown}", field=field
        )


# Content.


def make(part: Part, *, media: StoredMedia | None = None, target: Referred | None = None) -> Content:
    """The content of a part that was checked. Media parts need their medium, those about a message that message."""
    match part:
        case TextPart(text=text):
            return {"text": text}
        case MediaPart() if media is not None:
            return {part.kind.value: _medium(part, media)}
        case LocationPart():
            return {"location": _without_none(_fields(part))}
        case ContactPart():
            return {"contact": {"name": part.name, "vcard": part.vcard or _vcard(part)}}
        case ReactionPart(emoji=emoji) if target is not None:
            named = {"whatsappId": target.whatsapp_id, "fromMe": target.from_me, "sender": target.sender}
            return {"reaction": {"emoji": emoji, **_without_none(named)}}
        case EditPart(text=text) if target is not None:
            return {"edit": {"whatsappId": target.whatsapp_id, "text": text}}
        case DeletePart() if target is not None:
            return {"delete": {"whatsappId": target.whatsapp_id}}
    raise AssertionError(f"{type(part).__name__} came without its medium or its message")


def reply_to(target: Referred) -> Content:
    """What an answer tells of the message that it answers."""
    named = {
        "whatsappId": target.whatsapp_id,
        "fromMe": target.from_me,
        "sender": target.sender,
        "text": target.text or None,
    }
    return {"replyTo": _without_none(named)}


def _fields(part: LocationPart) -> Content:
    return {"latitude": part.latitude, "longitude": part.longitude, "name": part.name, "address": part.address}


def _medium(part: MediaPart, media: StoredMedia) -> Content:
    flags = {name: True for name, is_set in (("voice", part.voice), ("gif", part.gif)) if is_set}
    named: Content = {"media": media.id, "mimetype": media.mimetype, "caption": part.caption or None}
    if part.kind is Kind.DOCUMENT:
        named["filename"] = part.filename or media.filename
    return _without_none(named) | flags


def _vcard(part: ContactPart) -> str:
    number = phone_number(part.phone_number or "", field="contact.phoneNumber")
    name = re.sub(r"([\\,;])", r"\\\1", part.name).replace("\r", "").replace("\n", "\\n")
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"FN:{name}", f"TEL;type=CELL;waid={number}:+{number}", "END:VCARD"]
    return "\n".join(lines)


def _without_none(fields: Content) -> Content:
    return {name: value for name, value in fields.items() if value is not None}
