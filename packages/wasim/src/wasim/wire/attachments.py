"""Media, locations and contacts in a message, and references to other messages; field numbers as in WAProto.

The five kinds of media have the same fields under different numbers.
"""

# ruff: noqa: RUF009 – a field specification is immutable

from __future__ import annotations

from dataclasses import dataclass

from wasim.wire.protobuf import optional, repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKey:
    """Identifies a message, from the view of the sender of this reference."""

    remote_jid: str | None = optional(1, "string")
    from_me: int | None = optional(2, "uint")
    id: str | None = optional(3, "string")
    participant: str | None = optional(4, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextInfo:
    """The quoted message, and the mentioned people."""

    stanza_id: str | None = optional(1, "string")
    participant: str | None = optional(2, "string")
    quoted: bytes | None = optional(3, "bytes")
    """The quoted `Message`."""
    mentioned: tuple[str, ...] = repeated(15, "string")
    expiration: int | None = optional(25, "uint")
    """After how many seconds the message disappears."""
    timer_set_at: int | None = optional(26, "uint")
    """When the chat's timer was set, in Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """The fields of every kind of media, whatever their numbers."""

    url: str | None = None
    mimetype: str | None = None
    sha256: bytes | None = None
    length: int | None = None
    key: bytes | None = None
    encrypted_sha256: bytes | None = None
    direct_path: str | None = None
    key_timestamp: int | None = None
    context: ContextInfo | None = None
    caption: str | None = None
    filename: str | None = None
    seconds: int | None = None
    voice: int | None = None
    gif: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Media):
    url: str | None = optional(1, "string")
    mimetype: str | None = optional(2, "string")
    caption: str | None = optional(3, "string")
    sha256: bytes | None = optional(4, "bytes")
    length: int | None = optional(5, "uint")
    key: bytes | None = optional(8, "bytes")
    encrypted_sha256: bytes | None = optional(9, "bytes")
    direct_path: str | None = optional(11, "string")
    key_timestamp: int | None = optional(12, "uint")
    context: ContextInfo | None = optional(17, lambda: ContextInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Video(Media):
    url: str | None = optional(1, "string")
    mimetype: str | None = optional(2, "string")
    sha256: bytes | None = optional(3, "bytes")
    length: int | None = optional(4, "uint")
    seconds: int | None = optional(5, "uint")
    key: bytes | None = optional(6, "bytes")
    caption: str | None = optional(7, "string")
    gif: int | None = optional(8, "uint")
    encrypted_sha256: bytes | None = optional(11, "bytes")
    direct_path: str | None = optional(13, "string")
    key_timestamp: int | None = optional(14, "uint")
    context: ContextInfo | None = optional(17, lambda: ContextInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Media):
    url: str | None = optional(1, "string")
    mimetype: str | None = optional(2, "string")
    sha256: bytes | None = optional(3, "bytes")
    length: int | None = optional(4, "uint")
    seconds: int | None = optional(5, "uint")
    voice: int | None = optional(6, "uint")
    key: bytes | None = optional(7, "bytes")
    encrypted_sha256: bytes | None = optional(8, "bytes")
    direct_path: str | None = optional(9, "string")
    key_timestamp: int | None = optional(10, "uint")
    context: ContextInfo | None = optional(17, lambda: ContextInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document(Media):
    url: str | None = optional(1, "string")
    mimetype: str | None = optional(2, "string")
    sha256: bytes | None = optional(4, "bytes")
    length: int | None = optional(5, "uint")
    key: bytes | None = optional(7, "bytes")
    filename: str | None = optional(8, "string")
    encrypted_sha256: bytes | None = optional(9, "bytes")
    direct_path: str | None = optional(10, "string")
    key_timestamp: int | None = optional(11, "uint")
    context: ContextInfo | None = optional(17, lambda: ContextInfo)
    caption: str | None = optional(20, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sticker(Media):
    url: str | None = optional(1, "string")
    sha256: bytes | None = optional(2, "bytes")
    encrypted_sha256: bytes | None = optional(3, "bytes")
    key: bytes | None = optional(4, "bytes")
    mimetype: str | None = optional(5, "string")
    direct_path: str | None = optional(8, "string")
    length: int | None = optional(9, "uint")
    key_timestamp: int | None = optional(10, "uint")
    context: ContextInfo | None = optional(17, lambda: ContextInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    latitude: float | None = optional(1, "double")
    longitude: float | None = optional(2, "double")
    name: str | None = optional(3, "string")
    address: str | None = optional(4, "string")
    context: ContextInfo | None = optional(17, lambda: ContextInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    name: str | None = optional(1, "string")
    vcard: str | None = optional(16, "string")
    context: ContextInfo | None = optional(17, lambda: ContextInfo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    key: MessageKey | None = optional(1, lambda: MessageKey)
    emoji: str | None = optional(2, "string")
    """Empty: the reaction was removed."""
    timestamp_ms: int | None = optional(4, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSenderKey:
    """SenderKeyDistributionMessage in a `Message`: the key for the sender's messages to a group."""

    group: str | None = optional(1, "string")
    message: bytes | None = optional(2, "bytes")
