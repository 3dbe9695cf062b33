"""A phone's inbox: decrypted messages, with later edits and deletions applied."""

from __future__ import annotations

import msgspec

from wasim.wire.content import Content

MAX_TEXT_CHARS = 65_536
"""Longer texts are truncated to this many characters."""


class MediaAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """The media of a message, and the key to decrypt it."""

    kind: str
    mimetype: str
    length: int
    sha256: bytes
    key: bytes
    direct_path: str
    filename: str | None = None
    seconds: int | None = None
    voice: bool = False
    gif: bool = False


class PhoneLocation(msgspec.Struct, frozen=True, kw_only=True):
    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None


class ContactCard(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    vcard: str


class PhonePoll(msgspec.Struct, frozen=True, kw_only=True):
    options: tuple[str, ...]
    selectable: int
    """How many options a person may choose; 0: any number."""
    secret: bytes
    """The secret from which the keys of votes are derived."""


class PhoneMessage(msgspec.Struct, kw_only=True):
    """A message in a phone's inbox, by its id."""

    id: str
    sender: str
    """The sender's phone number."""
    author: str
    """The author's address in the stanza, without device."""
    reply_to: str
    """The address that receipts are sent to."""
    participant: str | None = None
    """In a group: the author's device."""
    first_at: float
    text: str | None = None
    kind: str = "unknown"
    count: int = 0
    """How many times it arrived and was decrypted."""
    undecryptable: int = 0
    """How many times it arrived and could not be decrypted."""
    read: bool = False
    target: str | None = None
    """The message that it edits, deletes or reacts to."""
    emoji: str | None = None
    quoted: str | None = None
    mentions: tuple[str, ...] = ()
    disappears_after_s: int | None = None
    media: MediaAttachment | None = None
    location: PhoneLocation | None = None
    contact: ContactCard | None = None
    poll: PhonePoll | None = None
    chosen: tuple[str, ...] | None = None
    """The options for which it votes; None: it is no vote, or it can't be decrypted."""
    edited: str | None = None
    """The content with which its author replaced it."""
    deleted: bool = False
    """Its author deleted it."""


def fill(phone_message: PhoneMessage, content: Content) -> None:
    """Set the fields of the message from its decrypted content."""
    inner = content.inner
    phone_message.kind = content.kind
    phone_message.text = None if content.text is None else content.text[:MAX_TEXT_CHARS]
    if content.context is not None:
        phone_message.quoted, phone_message.mentions = content.context.stanza_id, content.context.mentioned
        phone_message.disappears_after_s = content.context.expiration
    if inner.reaction is not None:
        phone_message.emoji = inner.reaction.emoji or ""
    phone_message.target = _target(inner)
    phone_message.media = media_of(content)
    if inner.location is not None:
        place = inner.location
        phone_message.location = PhoneLocation(
            latitude=place.latitude or 0.0, longitude=place.longitude or 0.0, name=place.name, address=place.address
        )
    if inner.contact is not None:
        phone_message.contact = ContactCard(name=inner.contact.name or "", vcard=inner.contact.vcard or "")
    phone_message.poll = poll_of(content)


def poll_of(content: Content) -> PhonePoll | None:
    """The poll of a message; None when there is none, or nobody could vote in it."""
    poll, secret = content.poll, content.secret
    if poll is None or not secret:
        return None
    return PhonePoll(options=poll.names, selectable=poll.selectable or 0, secret=secret)


def _target(inner: Content) -> str | None:
    reference = inner.reaction or inner.protocol or inner.vote
    return reference.key.id if reference is not None and reference.key is not None else None


def media_of(content: Content) -> MediaAttachment | None:
    """The media of a message; None when there is none, or its description is incomplete."""
    media = content.media
    if media is None or not media.key or not media.direct_path or not media.sha256:
        return None
    return MediaAttachment(
        kind=content.kind,
        mimetype=media.mimetype or "application/octet-stream",
        length=media.length or 0,
        sha256=media.sha256,
        key=media.key,
        direct_path=media.direct_path,
        filename=media.filename,
        seconds=media.seconds,
        voice=bool(media.voice),
        gif=bool(media.gif),
    )


def apply(phone_message: PhoneMessage, to: PhoneMessage) -> bool:
    """Apply an edit or a deletion to an older message of the same author. Returns whether anything changed."""
    if to.sender != phone_message.sender:
        return False
    match phone_message.kind:
        case "edit":
            to.edited = phone_message.text
        case "delete":
            to.deleted = True
        case _:
            return False
    return True
