"""The kinds of messages that can be sent, one class each.

In Python, a new kind is defined only here (see "A message kind" in CONTRIBUTING.md).
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta

from holdfast.base.errors import BadInput
from holdfast.delivery.content import (
    LONGEST_CAPTION,
    LONGEST_NAME,
    Content,
    MediaBody,
    MediaKind,
    MessageBody,
    Referred,
    ReferringBody,
    StoredMedia,
    check_length,
    check_text,
)
from holdfast.delivery.media import check_voice
from holdfast.delivery.recipient import phone_number

LONGEST_VCARD = 65_536
LONGEST_QUESTION = 255
LONGEST_OPTION = 100
MAX_OPTIONS = 12
"""Limits of polls (source: WhatsApp's own apps)."""
EDIT_WITHIN = timedelta(minutes=15)
DELETE_WITHIN = timedelta(hours=60)
"""Phones ignore a deletion that comes later (source: WhatsApp's help, "about 2 days")."""


class Text(MessageBody, frozen=True, kw_only=True):
    """A plain text. In requests it has no object of its own: `{"text": "hello"}`."""

    kind = "text"
    is_for_channels = True
    is_for_status = True

    text: str

    def check(self) -> None:
        check_text(self.text, field="text")


Caption = Annotated[str | None, Meta(description="caption, up to 1024 characters")]


class Image(MediaBody, frozen=True, kw_only=True):
    """JPEG or PNG, up to 16 MB."""

    kind = MediaKind.IMAGE
    is_for_status = True

    caption: Caption = None


class Video(MediaBody, frozen=True, kw_only=True):
    """MP4 (H.264, AAC) or 3GP, up to 16 MB."""

    kind = MediaKind.VIDEO
    is_for_status = True

    caption: Caption = None
    gif: Annotated[bool | None, Meta(description="plays automatically in a loop, without sound")] = None


class Audio(MediaBody, frozen=True, kw_only=True):
    """Ogg (Opus), MP3, M4A, AAC or AMR, up to 16 MB."""

    kind = MediaKind.AUDIO

    voice: Annotated[bool | None, Meta(description="a voice note; it must be Ogg with Opus")] = None

    def check_medium(self, media: StoredMedia) -> None:
        if self.voice:
            check_voice(media.mimetype, field=self.kind)


class Document(MediaBody, frozen=True, kw_only=True):
    """Any file, up to 100 MB, or to what HOLDFAST_MEDIA_MAX_MB allows."""

    kind = MediaKind.DOCUMENT
    named = True

    caption: Caption = None


class Sticker(MediaBody, frozen=True, kw_only=True):
    """WebP, 512 × 512, up to 1 MB."""

    kind = MediaKind.STICKER
    can_mention = False


class Location(MessageBody, frozen=True, kw_only=True):
    """A place on the map."""

    kind = "location"

    latitude: Annotated[float, Meta(description="degrees, -90 to 90")]
    longitude: Annotated[float, Meta(description="degrees, -180 to 180")]
    name: str | None = None
    address: str | None = None

    def check(self) -> None:
        for name, value, limit in (("latitude", self.latitude, 90), ("longitude", self.longitude, 180)):
            if not math.isfinite(value) or abs(value) > limit:
                raise BadInput(
                    f"location.{name} is {value:g}: give degrees from -{limit} to {limit}", field=f"location.{name}"
                )
        check_length(self.name, LONGEST_NAME, field="location.name")
        check_length(self.address, LONGEST_CAPTION, field="location.address")


class Contact(MessageBody, frozen=True, kw_only=True):
    """A card with a person's name and number, or with a vCard of the caller's own."""

    kind = "contact"
    one_of = ("phoneNumber", "vcard")

    name: Annotated[str, Meta(description="the name that is shown")]
    phone_number: Annotated[str | None, Meta(description="7 to 15 digits with country code")] = None
    vcard: Annotated[str | None, Meta(description="a whole vCard instead of a number")] = None

    def check(self) -> None:
        if not self.name.strip():
            raise BadInput("contact.name is empty: give the name to show", field="contact.name")
        check_length(self.name, LONGEST_NAME, field="contact.name")
        super().check()
        if self.phone_number is not None:
            phone_number(self.phone_number, field="contact.phoneNumber")
        if self.vcard is not None:
            self._check_vcard(self.vcard)

    def stored(self) -> Content:
        return {"name": self.name, "vcard": self.vcard or self._vcard()}

    @staticmethod
    def _check_vcard(vcard: str) -> None:
        check_length(vcard, LONGEST_VCARD, field="contact.vcard")
        text = vcard.strip().upper()
        if not (text.startswith("BEGIN:VCARD") and text.endswith("END:VCARD")):
            raise BadInput(
                f'contact.vcard "{vcard[:40]}" is not a valid vCard: it must begin with BEGIN:VCARD and end '
                "with END:VCARD; or give phoneNumber instead",
                field="contact.vcard",
            )

    def _vcard(self) -> str:
        number = phone_number(self.phone_number or "", field="contact.phoneNumber")
        name = re.sub(r"([\\,;])", r"\\\1", self.name).replace("\r", "").replace("\n", "\\n")
        lines = ["BEGIN:VCARD", "VERSION:3.0", f"FN:{name}", f"TEL;type=CELL;waid={number}:+{number}", "END:VCARD"]
        return "\n".join(lines)


_PICTURE = (
    r"[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934\u2935\u2b05-\u2b55"
    r"\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
)
_ONE = rf"{_PICTURE}[\ufe0f\U0001f3fb-\U0001f3ff]*[\U000e0020-\U000e007f]*"
_EMOJI = re.compile(rf"[0-9#*]\ufe0f?\u20e3|[\U0001f1e6-\U0001f1ff]{{2}}|{_ONE}(\u200d{_ONE})*")
"""One emoji as displayed (source: Unicode, UTS #51): a keycap, a flag, or pictographs with skin tones and joiners."""


class Poll(MessageBody, frozen=True, kw_only=True):
    """A question with options to choose from. Votes come in as messages of type `poll_vote`."""

    kind = "poll"

    text: Annotated[str, Meta(description="the question, up to 255 characters")]
    options: Annotated[
        Annotated[list[str], Meta(max_length=MAX_OPTIONS)],
        Meta(description="2 to 12 different ones, up to 100 characters each"),
    ]
    selectable: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_OPTIONS)] | None,
        Meta(description="how many options a person may choose; default: any number"),
    ] = None

    def check(self) -> None:
        check_text(self.text, field="poll.text")
        check_length(self.text, LONGEST_QUESTION, field="poll.text")
        if not 2 <= len(self.options) <= MAX_OPTIONS:
            raise BadInput(
                f"poll.options has {len(self.options)} options: give 2 to {MAX_OPTIONS}", field="poll.options"
            )
        for n, option in enumerate(self.options):
            self._check_option(n, option)
        if self.selectable is not None and self.selectable > len(self.options):
            raise BadInput(
                f"poll.selectable is {self.selectable}, but there are {len(self.options)} options: give at most that "
                "number, or leave it out",
                field="poll.selectable",
            )

    def _check_option(self, n: int, option: str) -> None:
        field = f"poll.options.{n}"
        check_text(option, field=field)
        check_length(option, LONGEST_OPTION, field=field)
        if option.strip() in (earlier.strip() for earlier in self.options[:n]):
            raise BadInput(f'{field} "{option}" is given twice: phones could not tell the two apart', field=field)


class Reaction(ReferringBody, frozen=True, kw_only=True):
    """An emoji on a message."""

    kind = "reaction"

    emoji: Annotated[str, Meta(description="one emoji; empty removes the reaction")]

    def check(self) -> None:
        if self.emoji and not _EMOJI.fullmatch(self.emoji):
            raise BadInput(
                f'reaction.emoji "{self.emoji[:20]}" is not one emoji: give exactly one, or "" to remove the reaction '
                "back",
                field="reaction.emoji",
            )

    def stored_with(self, target: Referred) -> Content:
        sender: Content = {} if target.sender is None else {"sender": target.sender}
        return {**ReferringBody.stored_with(self, target), "fromMe": target.from_me, **sender}


class Edit(ReferringBody, frozen=True, kw_only=True):
    """Edits one of the company's own texts, within 15 minutes."""

    kind = "edit"

    text: str

    def check(self) -> None:
        check_text(self.text, field="edit.text")

    def check_target(self, target: Referred, *, field: str, now: datetime) -> None:
        if target.kind != Text.kind:
            raise BadInput(f"{field} names a message of type {target.kind}: only texts can be edited", field=field)
        _check_own(target, "edited", EDIT_WITHIN, "15 minutes", field=field, now=now)


class Delete(ReferringBody, frozen=True, kw_only=True):
    """Deletes one of the company's own messages for everyone, within 60 hours."""

    kind = "delete"

    def check_target(self, target: Referred, *, field: str, now: datetime) -> None:
        _check_own(target, "deleted for everyone", DELETE_WITHIN, "60 hours", field=field, now=now)


def _check_own(target: Referred, what: str, within: timedelta, shown: str, *, field: str, now: datetime) -> None:
    if not target.from_me:
        raise BadInput(f"{field} names a message that somebody else sent: only own messages can be {what}", field=field)
    if target.sent_at is not None and now - datetime.fromisoformat(target.sent_at) > within:
        raise BadInput(
            f"{field} names a message sent at {target.sent_at}: phones let one be {what} within {shown}", field=field
        )


KINDS: dict[str, type[MessageBody]] = {
    str(each.kind): each
    for each in (Text, Image, Video, Audio, Document, Sticker, Location, Contact, Poll, Reaction, Edit, Delete)
}
"""All kinds by name, in the order in which the documentation lists them."""
