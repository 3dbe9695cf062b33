"""What people and phones say inside an encrypted message: WAProto's `Message`, as far as a simulated phone needs it."""

# ruff: noqa: RUF009 – a field specification is immutable

from __future__ import annotations

from dataclasses import dataclass, fields

from wasim.wire.errors import WireError
from wasim.wire.protobuf import decode, encode, optional, repeated

HISTORY_SYNC_NOTIFICATION = 5
APP_STATE_SYNC_KEY_SHARE = 6
INITIAL_BOOTSTRAP = 0
_MAX_PAD = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedText:
    text: str | None = optional(1, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSent:
    """A copy for one's own devices of what went to somebody else."""

    destination: str | None = optional(1, "string")
    message: Content | None = optional(2, lambda: Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """FutureProofMessage: disappearing messages and the like."""

    message: Content | None = optional(1, lambda: Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySyncNotification:
    sync_type: int | None = optional(6, "uint")
    chunk_order: int | None = optional(7, "uint")
    progress: int | None = optional(9, "uint")
    inline: bytes | None = optional(11, "bytes")
    """The history itself (`HistorySync`), compressed by zlib."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySync:
    sync_type: int | None = optional(1, "uint")
    chunk_order: int | None = optional(5, "uint")
    progress: int | None = optional(6, "uint")


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
class ProtocolNote:
    """ProtocolMessage: what devices of one account tell each other."""

    type: int | None = optional(2, "uint")
    history: HistorySyncNotification | None = optional(6, lambda: HistorySyncNotification)
    sync_keys: SyncKeyShare | None = optional(7, lambda: SyncKeyShare)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Message. Kinds whose inside does not matter here are kept as bytes."""

    conversation: str | None = optional(1, "string")
    image: bytes | None = optional(3, "bytes")
    contact: bytes | None = optional(4, "bytes")
    location: bytes | None = optional(5, "bytes")
    extended_text: ExtendedText | None = optional(6, lambda: ExtendedText)
    document: bytes | None = optional(7, "bytes")
    audio: bytes | None = optional(8, "bytes")
    video: bytes | None = optional(9, "bytes")
    protocol: ProtocolNote | None = optional(12, lambda: ProtocolNote)
    sticker: bytes | None = optional(26, "bytes")
    device_sent: DeviceSent | None = optional(31, lambda: DeviceSent)
    ephemeral: Wrapped | None = optional(40, lambda: Wrapped)
    reaction: bytes | None = optional(46, "bytes")

    @property
    def inner(self) -> Content:
        """Without the wrapping of a copy for own devices or of a disappearing message."""
        wrapped = self.device_sent or self.ephemeral
        return wrapped.message.inner if wrapped is not None and wrapped.message is not None else self

    @property
    def text(self) -> str | None:
        """What a person reads."""
        inner = self.inner
        if inner.conversation is not None:
            return inner.conversation
        return inner.extended_text.text if inner.extended_text is not None else None

    @property
    def kind(self) -> str:
        """`text`, `image`, `protocol` …; `unknown` for what is not read here."""
        inner = self.inner
        if inner.text is not None:
            return "text"
        return next((field.name for field in fields(inner) if getattr(inner, field.name) is not None), "unknown")


def seal(content: Content, *, pad: int) -> bytes:
    """The plaintext of a message: its bytes with `pad` (1 to 16) bytes of padding."""
    return encode(content) + bytes([pad]) * pad


def unseal(plaintext: bytes) -> Content:
    """The message in a plaintext. Raises WireError when its padding is wrong."""
    pad = plaintext[-1] if plaintext else 0
    if not 1 <= pad <= min(_MAX_PAD, len(plaintext)):
        raise WireError("a plaintext without the padding that every message has")
    return decode(Content, plaintext[:-pad])
