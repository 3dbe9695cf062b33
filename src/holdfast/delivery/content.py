"""What all kinds of messages have in common: base classes, shared checks, and the stored content.

`holdfast.delivery.kinds` has one class for each kind. A class is the only definition of its kind in Python: its fields
are the fields of the request (and of the OpenAPI schema), `check` rejects content that WhatsApp would not accept, and
`stored` returns the JSON that is stored and passed to the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, cast

import msgspec
from msgspec import Meta

from holdfast.base.errors import BadInput
from holdfast.delivery.filenames import made_for
from holdfast.delivery.message import MessageState
from holdfast.delivery.recipient import parse_recipient

Content = dict[str, object]
"""The content of a message: one kind with its fields, and options such as `replyTo`."""

LONGEST_TEXT = 65_536
"""Characters: the limit of WhatsApp's own apps."""
LONGEST_CAPTION = 1024
"""Characters (source: WhatsApp's Cloud API reference)."""
LONGEST_NAME = 256
MAX_MENTIONS = 1024
"""The maximum number of members of a group (source: WhatsApp's help)."""
LONGEST_MESSAGE_ID = 128

MessageId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_MESSAGE_ID,
        description="`id` of a message in outbox or inbox, or together with `to` its `whatsappId`",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Referred:
    """A message in the outbox or the inbox that another message refers to."""

    whatsapp_id: str
    chat: str
    from_me: bool
    sender: str | None
    """The sender's JID. None means this account, while its JID is not known yet."""
    kind: str
    text: str | None
    state: MessageState | None
    """State of an outbound message. None for an inbound message."""
    sent_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMedia:
    """A stored media file."""

    id: str
    company: str
    mimetype: str
    filename: str | None
    size_bytes: int
    sha256: str
    """SHA-256 of the content, in hexadecimal."""


class MessageBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of one kind of message, as callers give it. A null field is treated as absent."""

    kind: ClassVar[str]
    """The name of the kind in requests, in stored content and for the engine."""
    can_reply: ClassVar[bool] = True
    """Whether a message of this kind can quote another message (`reply_to`)."""
    can_mention: ClassVar[bool] = True
    """Whether a message of this kind can mention people."""
    is_for_channels: ClassVar[bool] = False
    """Whether it can be posted in a channel."""
    is_for_status: ClassVar[bool] = False
    """Whether phones show a message of this kind as a status."""
    one_of: ClassVar[tuple[str, ...]] = ()
    """Exactly one of these fields must be given, by their names in JSON."""

    def check(self) -> None:
        """Raises `BadInput`, naming the field, for content that no WhatsApp message can have."""
        given = [name for name in self.one_of if getattr(self, _attribute(name)) is not None]
        if self.one_of and len(given) != 1:
            *others, last = self.one_of
            names = f"{', '.join(others)} and {last}"
            what = f"{' and '.join(given)}: give exactly one of {names}" if given else f"none of {names}: give one"
            raise BadInput(f"{self.kind} has {what}", field=self.kind)

    def stored(self) -> Content:
        """The fields as they are stored and passed to the engine."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if value is not None}


class ReferringBody(MessageBody, frozen=True, kw_only=True):
    """The body of a message that refers to another one. It needs no `to` when it names the other by Holdfast's id."""

    can_reply = False
    can_mention = False

    message_id: MessageId

    def check_target(self, target: Referred, *, field: str, now: datetime) -> None:
        """Raises `BadInput` when phones would ignore this message for that target."""

    def stored_with(self, target: Referred) -> Content:
        """The fields as they are stored, with those that identify the target message."""
        fields = {name: value for name, value in self.stored().items() if name != "messageId"}
        return {"whatsappId": target.whatsapp_id, **fields}


class MediaKind(StrEnum):
    """The kinds of messages that are files."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    STICKER = "sticker"


class MediaBody(MessageBody, frozen=True, kw_only=True):
    """The body of a message that is a file."""

    kind: ClassVar[MediaKind]
    one_of = ("url", "base64", "media")
    named: ClassVar[bool] = False
    """Whether phones show the recipient a file name."""

    url: Annotated[
        str | None,
        Meta(description="where Holdfast fetches it, when the message is accepted; http or https, no private address"),
    ] = None
    base64: Annotated[
        str | None, Meta(description="the file itself, up to 16 MB; upload larger ones with POST …/media")
    ] = None
    media: Annotated[str | None, Meta(description="id of a file that was stored with POST …/media")] = None
    mimetype: Annotated[
        Annotated[str, Meta(max_length=200)] | None,
        Meta(description="default: the type by URL, file name and first bytes"),
    ] = None
    filename: Annotated[
        str | None, Meta(description="its ending tells the type; only of documents do phones show the name")
    ] = None

    def check(self) -> None:
        super().check()
        check_length(getattr(self, "caption", None), LONGEST_CAPTION, field=f"{self.kind}.caption")
        check_filename(self.filename, field=f"{self.kind}.filename")

    def check_medium(self, media: StoredMedia) -> None:
        """Raises `BadInput` when phones would not display this file as this kind."""

    def stored_with(self, media: StoredMedia) -> Content:
        """The fields as they are stored, with those that describe the stored medium."""
        source = {*self.one_of, "mimetype", "filename"}
        options = {name: value for name, value in self.stored().items() if value and name not in source}
        described: Content = {"media": media.id, "mimetype": media.mimetype}
        filename = (self.filename or media.filename or made_for(media.mimetype)) if self.named else None
        return described | options | ({"filename": filename} if filename is not None else {})


def _attribute(json_name: str) -> str:
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", json_name)


# Checks that several kinds share.


def check_text(text: str, *, field: str) -> None:
    """Raises `BadInput` for a text that is empty or too long."""
    if not text.strip():
        raise BadInput(f"{field} is empty: give at least one character that is not a space", field=field)
    if len(text) > LONGEST_TEXT:
        raise BadInput(
            f"{field} has {len(text)} characters: WhatsApp accepts up to {LONGEST_TEXT}, send it in parts", field=field
        )


def check_length(text: str | None, limit: int, *, field: str) -> None:
    """Raises `BadInput` for a text that is too long."""
    if text is not None and len(text) > limit:
        raise BadInput(f"{field} has {len(text)} characters: give at most {limit}", field=field)


def check_filename(name: str | None, *, field: str) -> None:
    """Raises `BadInput` for file names under which phones could not save a file."""
    check_length(name, LONGEST_NAME, field=field)
    if name is not None and re.search(r"[/\\\x00-\x1f\x7f]", name):
        raise BadInput(f'{field} "{name[:80]}" is not a valid file name: leave out slashes and line ends', field=field)


def mentioned(mentions: list[str]) -> list[str]:
    """The JIDs of the mentioned people, who are given by phone number or JID. Raises `BadInput`."""
    if len(mentions) > MAX_MENTIONS:
        raise BadInput(f"mentions has {len(mentions)} people: give at most {MAX_MENTIONS}", field="mentions")
    return people(mentions, field="mentions")


def people(recipients: list[str], *, field: str) -> list[str]:
    """The JIDs of people who are given by phone number or JID, each once. Raises `BadInput`."""
    jids = [parse_recipient(text, field=f"{field}.{n}")[1] for n, text in enumerate(recipients)]
    for n, jid in enumerate(jids):
        if jid.endswith("@g.us"):
            raise BadInput(f'{field}.{n} "{jid}" is a group: give people only', field=f"{field}.{n}")
    return list(dict.fromkeys(jids))


# The message that another one refers to.


def check_reachable(target: Referred, *, field: str) -> None:
    """Raises `BadInput` for a message that never reached a recipient."""
    if target.state in {MessageState.FAILED, MessageState.EXPIRED, MessageState.CANCELLED}:
        raise BadInput(f"{field} names a message that is {target.state}: it reached nobody", field=field)


def reply_to(target: Referred) -> Content:
    """The part of a reply's stored content that identifies the quoted message."""
    named = {
        "whatsappId": target.whatsapp_id,
        "fromMe": target.from_me,
        "sender": target.sender,
        "text": target.text or None,
    }
    return {"replyTo": {name: value for name, value in named.items() if value is not None}}


# Texts for people.


def text_of(content: Mapping[str, Any]) -> str | None:
    """The text of a stored message: its text, or the caption of its medium.

    All lists, the search and all quotations use this function, so that they show the same text.
    """
    for part in (content, *_bodies(content)):
        for name in ("text", "caption"):
            if isinstance(value := part.get(name), str) and value:
                return value
    return None


_TITLES = ("filename", "name", "address", "emoji", "title")


def shown_text(content: Mapping[str, Any], *, text: str | None = None) -> str | None:
    """The text for a row of a list: the words of a message, or else the name of its file, place or contact."""
    shown = text or text_of(content)
    if shown:
        return shown
    for part in _bodies(content):
        for name in _TITLES:
            if isinstance(title := part.get(name), str) and title:
                return title
        if "latitude" in part and "longitude" in part:
            return f"{part['latitude']}, {part['longitude']}"
    return None


_OPTIONS = frozenset({"replyTo", "mentions", "raw"})


def _bodies(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a stored content that are message bodies."""
    for name, part in content.items():
        if name not in _OPTIONS:
            if isinstance(part, Mapping):
                yield cast("Mapping[str, Any]", part)
            elif isinstance(part, list):
                yield from (each for each in part if isinstance(each, Mapping))
