"""Storage interfaces for media, and for finding the message that another one refers to."""

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
    """`{mimetype, sizeBytes?, filename?, seconds?, voice?}`; None: the message has no medium."""
    keys: str | None
    """What the engine needs to fetch it."""
    media_id: str | None
    """Its id in the store, if it was downloaded before and is still there."""


class MediaStore(Protocol):
    """Media in pieces, so that a large one neither delays other writes nor needs memory."""

    async def begin(self, media: StoredMedia) -> None:
        """Start a medium of which nothing is stored yet; size and hash are unknown."""

    async def add(self, media_id: str, n: int, piece: bytes) -> None: ...

    async def finish(self, media: StoredMedia) -> None:
        """All pieces are stored: from now on the medium can be found."""

    async def discard(self, media_id: str) -> None: ...

    async def find(self, media_id: str) -> StoredMedia | None: ...

    async def take(self, company: str, media_id: str) -> StoredMedia | None:
        """A medium of this company for a message; it is kept for another day at least."""

    async def piece(self, media_id: str, n: int) -> bytes | None:
        """Piece `n`; None after the last one."""

    async def copy(self, media_id: str, file: Path) -> bool:
        """Write it to a file; False when it is not there."""

    async def sweep(self, *, unused_since: str, settled_since: str) -> int:
        """Remove what was stored before `unused_since` and no message needs: one that is still to be sent, or was
        accepted, sent or received after `settled_since`. Returns how many."""


class InboundMediaStore(Protocol):
    """Media of inbound messages."""

    async def inbound(self, inbox_id: str) -> InboundMedia | None: ...

    async def keep(self, inbox_id: str, media_id: str) -> None:
        """The medium was downloaded and is stored under that id."""


class References(Protocol):
    async def find(self, company: str, message_id: str, *, chat: str | None) -> Referred | None:
        """A message by an id of ours, or by WhatsApp's id in that chat."""

    async def replayed(self, company: str, key: str) -> tuple[str, str | None] | None:
        """The id of the message that an idempotency key made, and the hash of its request."""
