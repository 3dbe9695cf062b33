"""Storage interfaces for media, and for finding the message that another message refers to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from holdfast.delivery.content import Content, Referred, StoredMedia


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMedia:
    """What is known about an inbound medium."""

    inbox_id: str
    company: str
    description: Content | None
    """`{mimetype, sizeBytes?, filename?, seconds?, voice?}`. None if the message has no medium."""
    keys: str | None
    """The keys with which the engine downloads the medium."""
    message: Content
    """Which message it belongs to: `{id, chat, fromMe, sender, senderLid}`."""
    media_id: str | None
    """The id of the medium in the store, if it was downloaded and is still stored."""


class MediaStore(Protocol):
    """Stores media in pieces, so that a large medium neither delays other writes nor has to fit in memory."""

    async def begin(self, media: StoredMedia) -> None:
        """Create a medium whose pieces follow. Its size and hash are not known yet."""

    async def add(self, media_id: str, n: int, piece: bytes) -> None: ...

    async def finish(self, media: StoredMedia) -> None:
        """Record that all pieces are stored. From now on the medium can be found."""

    async def discard(self, media_id: str) -> None: ...

    async def find(self, media_id: str) -> StoredMedia | None: ...

    async def take(self, company: str, media_id: str) -> StoredMedia | None:
        """A medium of this company for use in a message. The store keeps it for at least another day."""

    async def piece(self, media_id: str, n: int) -> bytes | None:
        """Piece number `n`; None after the last piece."""

    async def copy(self, media_id: str, file: Path) -> bool:
        """Write the medium to a file. Returns False when it is not stored."""

    async def sweep(self, *, unused_since: str, settled_since: str) -> int:
        """Remove media that were stored before `unused_since` and that no message needs. Returns how many.

        A message needs its medium while it is still to be sent, or when it was accepted, sent or received after
        `settled_since`.
        """


class InboundMediaStore(Protocol):
    """Stores which medium belongs to an inbound message."""

    async def inbound(self, inbox_id: str) -> InboundMedia | None: ...

    async def links_revoked_at(self, inbox_id: str) -> str | None:
        """When the URLs of media of the message's company were last revoked; None: never."""

    async def revoke_links(self, company: str, *, at: str) -> None:
        """URLs of media of this company that were given until `at` are no longer valid."""

    async def keep(self, inbox_id: str, media_id: str) -> None:
        """Record that the media file of an inbound message was downloaded and is stored under `media_id`."""


class References(Protocol):
    async def find(self, company: str, message_id: str, *, chat: str | None) -> Referred | None:
        """A message by its Holdfast id, or by its WhatsApp id in that chat; with the canonical id of its chat."""

    async def canonical(self, company: str, chat: str) -> str:
        """The canonical id of a chat."""

    async def saved_contacts(self, company: str, *, limit: int) -> list[str]:
        """The JIDs of people who are saved in the phone's address book."""

    async def replayed(self, company: str, key: str) -> tuple[str, str | None] | None:
        """The id of the message that was created under an idempotency key, and the hash of its request."""
