"""The content of an encrypted message: WAProto's `Message`, as far as a simulated phone needs it."""

# ruff: noqa: RUF009 – a field specification is immutable

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

from wasim.wire.attachments import (
    Audio,
    Contact,
    ContextInfo,
    Document,
    GroupSenderKey,
    Image,
    Location,
    Media,
    MessageKey,
    Reaction,
    Sticker,
    Video,
)
from wasim.wire.errors import WireError
from wasim.wire.polls import MessageContext, Poll, PollUpdate
from wasim.wire.protobuf import decode, encode, optional, repeated, unknown_fields

REVOKE = 0
HISTORY_SYNC_NOTIFICATION = 5
APP_STATE_SYNC_KEY_SHARE = 6
MESSAGE_EDIT = 14
INITIAL_BOOTSTRAP, FULL, RECENT, PUSH_NAME, ON_DEMAND = 0, 2, 3, 4, 6
_MAX_PAD = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedText:
    text: str | None = optional(1, "string")
    context: ContextInfo | None = optional(17, lambda: ContextInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSent:
    """A copy, for the sender's own devices, of a message to somebody else."""

    destination: str | None = optional(1, "string")
    message: Content | None = optional(2, lambda: Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class FutureProofMessage:
    """The wrapper of disappearing messages and similar ones."""

    message: Content | None = optional(1, lambda: Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySyncNotification:
    sha256: bytes | None = optional(1, "bytes")
    length: int | None = optional(2, "uint")
    key: bytes | None = optional(3, "bytes")
    encrypted_sha256: bytes | None = optional(4, "bytes")
    direct_path: str | None = optional(5, "string")
    sync_type: int | None = optional(6, "uint")
    chunk_order: int | None = optional(7, "uint")
    progress: int | None = optional(9, "uint")
    inline: bytes | None = optional(11, "bytes")
    """The history itself (`HistorySync`), compressed by zlib."""
    request: str | None = optional(12, "string")
    """The id of the message that requested it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebMessage:
    """WebMessageInfo: a message as a history has it."""

    key: MessageKey | None = optional(1, lambda: MessageKey)
    message: Content | None = optional(2, lambda: Content)
    at: int | None = optional(3, "uint")
    push_name: str | None = optional(19, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryMessage:
    message: WebMessage | None = optional(1, lambda: WebMessage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    id: str | None = optional(1, "string")
    messages: tuple[HistoryMessage, ...] = repeated(2, lambda: HistoryMessage)
    expiration: int | None = optional(9, "uint")
    name: str | None = optional(13, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPushName:
    id: str | None = optional(1, "string")
    name: str | None = optional(2, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class LidMapping:
    pn: str | None = optional(1, "string")
    lid: str | None = optional(2, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemandRequest:
    chat: str | None = optional(1, "string")
    oldest_id: str | None = optional(2, "string")
    oldest_from_me: int | None = optional(3, "uint")
    count: int | None = optional(4, "uint")
    oldest_at_ms: int | None = optional(5, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRequest:
    """PeerDataOperationRequestMessage: a linked device requests something from its phone."""

    type: int | None = optional(1, "uint")
    on_demand: OnDemandRequest | None = optional(4, lambda: OnDemandRequest)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySync:
    sync_type: int | None = optional(1, "uint")
    conversations: tuple[Conversation, ...] = repeated(2, lambda: Conversation)
    chunk_order: int | None = optional(5, "uint")
    progress: int | None = optional(6, "uint")
    push_names: tuple[HistoryPushName, ...] = repeated(7, lambda: HistoryPushName)
    mappings: tuple[LidMapping, ...] = repeated(15, lambda: LidMapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncKeyId:
    key_id: bytes | None = optional(1, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncKeyFingerprint:
    raw_id: int | None = optional(1, "uint")
    current_index: int | None = optional(2, "uint")
    device_indexes: tuple[int, ...] = repeated(3, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncKeyData:
    key: bytes | None = optional(1, "bytes")
    fingerprint: SyncKeyFingerprint | None = optional(2, lambda: SyncKeyFingerprint)
    timestamp: int | None = optional(3, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncKey:
    key_id: SyncKeyId | None = optional(1, lambda: SyncKeyId)
    key_data: SyncKeyData | None = optional(2, lambda: SyncKeyData)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncKeyShare:
    keys: tuple[SyncKey, ...] = repeated(1, lambda: SyncKey)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolMessage:
    """Messages between devices of one account, and changes of older messages."""

    key: MessageKey | None = optional(1, lambda: MessageKey)
    """The message that is deleted or edited."""
    type: int | None = optional(2, "uint")
    expiration: int | None = optional(4, "uint")
    """The chat's new timer of disappearing messages, in seconds."""
    history: HistorySyncNotification | None = optional(6, lambda: HistorySyncNotification)
    sync_keys: SyncKeyShare | None = optional(7, lambda: SyncKeyShare)
    edited: Content | None = optional(14, lambda: Content)
    timestamp_ms: int | None = optional(15, "uint")
    peer_request: PeerRequest | None = optional(16, lambda: PeerRequest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Message, as far as a phone reads or writes it.

    A phone shows each kind of message that has a field here: its kind, its caption, and what it quotes and mentions.
    """

    conversation: str | None = optional(1, "string")
    sender_key: GroupSenderKey | None = optional(2, lambda: GroupSenderKey)
    image: Image | None = optional(3, lambda: Image)
    contact: Contact | None = optional(4, lambda: Contact)
    location: Location | None = optional(5, lambda: Location)
    extended_text: ExtendedText | None = optional(6, lambda: ExtendedText)
    document: Document | None = optional(7, lambda: Document)
    audio: Audio | None = optional(8, lambda: Audio)
    video: Video | None = optional(9, lambda: Video)
    protocol: ProtocolMessage | None = optional(12, lambda: ProtocolMessage)
    sticker: Sticker | None = optional(26, lambda: Sticker)
    device_sent: DeviceSent | None = optional(31, lambda: DeviceSent)
    message_context: MessageContext | None = optional(35, lambda: MessageContext)
    ephemeral: FutureProofMessage | None = optional(40, lambda: FutureProofMessage)
    reaction: Reaction | None = optional(46, lambda: Reaction)
    poll_v1: Poll | None = optional(49, lambda: Poll)
    vote: PollUpdate | None = optional(50, lambda: PollUpdate)
    document_with_caption: FutureProofMessage | None = optional(53, lambda: FutureProofMessage)
    edited: FutureProofMessage | None = optional(58, lambda: FutureProofMessage)
    poll_v2: Poll | None = optional(60, lambda: Poll)
    poll_v3: Poll | None = optional(64, lambda: Poll)
    unknown_fields: bytes = unknown_fields()
    """All other fields: a phone keeps them in a resend, and does not show them."""

    @property
    def inner(self) -> Content:
        """The message without the wrapper of a copy for own devices, of a disappearing message, and similar ones."""
        wrapped = self.device_sent or self.ephemeral or self.document_with_caption or self.edited
        return wrapped.message.inner if wrapped is not None and wrapped.message is not None else self

    @property
    def kind_and_content(self) -> tuple[str, object]:
        """The kind of the message, as a phone shows it, and the value of its field; `unknown` and None for a kind that
        has no field here."""
        inner = self.inner
        found = ((kind, getattr(inner, name)) for name, kind in _kinds().items())
        return next((each for each in found if each[1] is not None), ("unknown", None))

    @property
    def kind(self) -> str:
        """`text`, `image`, `reaction`, `edit`, `delete`, `protocol` …; `unknown` for a kind that has no field here."""
        kind, content = self.kind_and_content
        if isinstance(content, ProtocolMessage):
            return {REVOKE: "delete", MESSAGE_EDIT: "edit"}.get(content.type or 0, kind)
        return kind

    @property
    def text(self) -> str | None:
        """The text that a phone shows: the text, the caption, the question of a poll, or the text of an edit."""
        match self.kind_and_content[1]:
            case str(text):
                return text
            case ExtendedText(text=text):
                return text
            case Poll(name=name):
                return name
            case ProtocolMessage(edited=edited):
                return edited.text if edited is not None else None
            case content:
                return getattr(content, "caption", None)

    @property
    def context(self) -> ContextInfo | None:
        """The quoted message, and the mentioned people."""
        return getattr(self.kind_and_content[1], "context", None)

    @property
    def media(self) -> Media | None:
        inner = self.inner
        return inner.image or inner.document or inner.audio or inner.video or inner.sticker

    @property
    def poll(self) -> Poll | None:
        inner = self.inner
        return inner.poll_v3 or inner.poll_v2 or inner.poll_v1

    @property
    def secret(self) -> bytes | None:
        """The secret from which the keys for votes in this poll, and similar answers, are derived."""
        context = self.inner.message_context or self.message_context
        return context.secret if context is not None else None


_NO_KINDS = frozenset({"sender_key", "device_sent", "message_context", "ephemeral", "document_with_caption", "edited"})
"""Fields of `Content` that wrap or accompany a message. Each other field is a kind of message."""
_SHARED_KINDS = {
    "conversation": "text",
    "extended_text": "text",
    "poll_v1": "poll",
    "poll_v2": "poll",
    "poll_v3": "poll",
}
"""Kinds that have several fields. Any other kind has the name of its field."""


@cache
def _kinds() -> dict[str, str]:
    """The kind for each field of `Content` that is one."""
    names = (field.name for field in fields(Content) if "number" in field.metadata)
    return {name: _SHARED_KINDS.get(name, name) for name in names if name not in _NO_KINDS}


def media_content(media: Media) -> Content:
    """The message with this media."""
    match media:
        case Image():
            return Content(image=media)
        case Video():
            return Content(video=media)
        case Audio():
            return Content(audio=media)
        case Document():
            return Content(document=media)
        case Sticker():
            return Content(sticker=media)
    raise ValueError(f"{type(media).__name__} is not a kind of media")


def encode_padded(content: Content, *, pad: int) -> bytes:
    """The plaintext of a message: its bytes and `pad` (1 to 16) bytes of padding."""
    return encode(content) + bytes([pad]) * pad


def decode_padded(plaintext: bytes) -> Content:
    """The message in a plaintext. Raises WireError when its padding is wrong."""
    pad = plaintext[-1] if plaintext else 0
    if not 1 <= pad <= min(_MAX_PAD, len(plaintext)):
        raise WireError("a plaintext without the padding that every message has")
    return decode(Content, plaintext[:-pad])
