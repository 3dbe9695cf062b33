"""The body of a request to send a message: exactly one kind of content, and what goes with it.

Fields that are null are as good as left out, for many programs write all fields they know.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from holdfast.api.schemas import Shape, Text
from holdfast.base.errors import BadInput
from holdfast.delivery.content import (
    MOST_MENTIONS,
    ContactPart,
    DeletePart,
    EditPart,
    Kind,
    LocationPart,
    MediaPart,
    Part,
    ReactionPart,
    TextPart,
)
from holdfast.delivery.ports import BULK, INTERACTIVE
from holdfast.runtime.composer import Wish

LONGEST_EXPIRY_S = 30 * 24 * 3600
_LONGEST_ID = 128
_PRIORITIES = {"interactive": INTERACTIVE, "bulk": BULK}


def _one_of(*choices: dict[str, str]) -> list[dict[str, Any]]:
    """JSON Schema of "exactly one of these, with what goes with it": `{field: type}` for each choice."""
    return [
        {"required": list(choice), "properties": {name: {"type": type_} for name, type_ in choice.items()}}
        for choice in choices
    ]


def _described(choices: list[Any]) -> ConfigDict:
    return ConfigDict(**Shape.model_config, json_schema_extra={"oneOf": choices})


class MediaWish(Shape):
    model_config = _described(_one_of({"url": "string"}, {"base64": "string"}, {"media": "string"}))
    kind: ClassVar[Kind]

    url: Annotated[
        Text | None,
        Field(description="where Holdfast fetches it, when the message is accepted; http or https, no private address"),
    ] = None
    base64: Annotated[
        Text | None, Field(description="the file itself, up to 16 MB; better store larger ones with POST …/media")
    ] = None
    media: Annotated[Text | None, Field(description="id of a medium that was stored with POST …/media")] = None
    mimetype: Annotated[
        Text | None, Field(description="else the type that its address gives or its first bytes tell", max_length=200)
    ] = None

    def part(self) -> MediaPart:
        options = self.model_dump(exclude={"url", "base64", "media", "mimetype"}, exclude_none=True)
        return MediaPart(
            kind=self.kind, url=self.url, base64=self.base64, media=self.media, mimetype=self.mimetype, **options
        )


_Caption = Annotated[Text | None, Field(description="text below it, up to 1024 characters")]


class ImageWish(MediaWish):
    """JPEG or PNG, up to 16 MB."""

    kind = Kind.IMAGE
    caption: _Caption = None


class VideoWish(MediaWish):
    """MP4 (H.264, AAC) or 3GP, up to 16 MB."""

    kind = Kind.VIDEO
    caption: _Caption = None
    gif: Annotated[bool | None, Field(description="plays by itself, over and over, without sound")] = None


class AudioWish(MediaWish):
    """Ogg (Opus), MP3, M4A, AAC or AMR, up to 16 MB."""

    kind = Kind.AUDIO
    voice: Annotated[bool | None, Field(description="a voice note; it must be Ogg with Opus")] = None


class DocumentWish(MediaWish):
    """Any file, up to 100 MB, or to what HOLDFAST_MEDIA_MAX_MB allows."""

    kind = Kind.DOCUMENT
    caption: _Caption = None
    filename: Annotated[Text | None, Field(description="the name that is shown")] = None


class StickerWish(MediaWish):
    """WebP, 512 × 512, up to 1 MB."""

    kind = Kind.STICKER


class LocationWish(Shape):
    latitude: Annotated[float, Field(description="degrees, -90 to 90")]
    longitude: Annotated[float, Field(description="degrees, -180 to 180")]
    name: Text | None = None
    address: Text | None = None

    def part(self) -> LocationPart:
        return LocationPart(**self.model_dump())


class ContactWish(Shape):
    model_config = _described(_one_of({"phoneNumber": "string"}, {"vcard": "string"}))

    name: Annotated[Text, Field(description="the name that is shown")]
    phone_number: Annotated[Text | None, Field(description="7 to 15 digits with country code")] = None
    vcard: Annotated[Text | None, Field(description="a whole vCard instead of a number")] = None

    def part(self) -> ContactPart:
        return ContactPart(**self.model_dump())


_Id = Annotated[
    Text,
    Field(
        min_length=1,
        max_length=_LONGEST_ID,
        description="`id` of a message in outbox or inbox, or together with `to` its `whatsappId`",
    ),
]


class ReactionWish(Shape):
    message_id: _Id
    emoji: Annotated[Text, Field(description="one emoji; empty takes the reaction back")]

    def part(self) -> ReactionPart:
        return ReactionPart(**self.model_dump())


class EditWish(Shape):
    """Of an own text, within 15 minutes."""

    message_id: _Id
    text: Text

    def part(self) -> EditPart:
        return EditPart(**self.model_dump())


class DeleteWish(Shape):
    """Of an own message, for everyone, within 60 hours."""

    message_id: _Id

    def part(self) -> DeletePart:
        return DeletePart(**self.model_dump())


_TO = {"to": "string"}
_KINDS = {kind.value: "string" if kind is Kind.TEXT else "object" for kind in Kind}
_NEEDS_NO_TO = {Kind.REACTION, Kind.EDIT, Kind.DELETE}


class MessageWish(Shape):
    """Exactly one of text, image, video, audio, document, sticker, location, contact, reaction, edit and delete."""

    model_config = _described(
        _one_of(*({name: type_} | ({} if name in _NEEDS_NO_TO else _TO) for name, type_ in _KINDS.items()))
    )

    to: Annotated[
        Text | None,
        Field(
            description="phone number of the recipient, 7 to 15 digits with country code; or a group (…@g.us), or a "
            "hidden id (…@lid). reaction, edit and delete need none when their messageId is an `id`"
        ),
    ] = None
    text: Annotated[Text | None, Field(description="the message, up to 65,536 characters")] = None
    image: ImageWish | None = None
    video: VideoWish | None = None
    audio: AudioWish | None = None
    document: DocumentWish | None = None
    sticker: StickerWish | None = None
    location: LocationWish | None = None
    contact: ContactWish | None = None
    reaction: ReactionWish | None = None
    edit: EditWish | None = None
    delete: DeleteWish | None = None
    mentions: Annotated[
        list[Text] | None,
        Field(max_length=MOST_MENTIONS, description="people by number or JID, whom `@number` in the text names"),
    ] = None
    reply_to: Annotated[_Id | None, Field(description="the message that this one answers")] = None
    expires_in_s: Annotated[
        int | None, Field(ge=1, le=LONGEST_EXPIRY_S, description="not sent when it has not left after so many seconds")
    ] = None
    priority: Annotated[
        Literal["interactive", "bulk"] | None,
        Field(description="interactive unless said otherwise; bulk waits for what is interactive, at its own pace"),
    ] = None
    typing: Annotated[bool | None, Field(description='show the recipient "typing" first')] = None

    def wish(self, *, idempotency_key: str | None) -> Wish:
        """Raises `BadInput` when it has not exactly one kind of content."""
        return Wish(
            to=self.to,
            part=self._part(),
            mentions=tuple(self.mentions or ()),
            reply_to=self.reply_to,
            idempotency_key=idempotency_key,
            priority=_PRIORITIES[self.priority or "interactive"],
            expires_in_s=self.expires_in_s,
            typing=bool(self.typing),
        )

    def _part(self) -> Part:
        given = {name: value for name in _KINDS if (value := getattr(self, name)) is not None}
        if not given:
            raise BadInput(f"the message has no content: give one of {_listed(_KINDS)}", field="body")
        if len(given) > 1:
            raise BadInput(f"the message has {_listed(given, 'and')}: send each by itself", field=list(given)[1])
        (value,) = given.values()
        return TextPart(text=value) if isinstance(value, str) else value.part()


def _listed(names: Any, word: str = "or") -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}"
