"""Media in the database, in chunks: every process and every backup has them.

Each chunk is a write of its own, so that other writes run in between, and only one chunk is in memory.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, select, update

from holdfast.base.clock import Clock, iso
from holdfast.delivery.content import StoredMedia
from holdfast.delivery.media_stores import InboundMedia
from holdfast.store.connection import insert
from holdfast.store.database import Database
from holdfast.store.tables import (
    HAS_MEDIUM,
    IS_OPEN,
    IS_OPEN_OPERATION,
    IS_SENT_MEDIUM,
    inbox,
    media,
    media_chunks,
    operations,
    outbox,
    sessions,
)

_SHOWN = media.c["id", "company_id", "mimetype", "filename", "size_bytes", "sha256"]
_MEDIA_KINDS = ("image", "video", "audio", "document", "sticker")
_STREAMED = {"yield_per": 500}


class MediaRows:
    """Implements `holdfast.delivery.media_stores.MediaStore` and `InboundMediaStore`."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # Writing.

    async def begin(self, stored: StoredMedia) -> None:
        values = {**_values(stored), "created_at": iso(self._clock.now()), "is_whole": False}
        await self._database.write(lambda connection: _run(connection, insert(connection, media).values(values)))

    async def add(self, media_id: str, n: int, piece: bytes) -> None:
        """Nothing is added to a file that was removed, with its company for example: nobody would remove it again."""
        is_there = select(media.c.id).where(media.c.id == media_id)

        def work(connection: Connection) -> None:
            if connection.scalar(is_there.with_for_update(key_share=True)) is not None:
                connection.execute(insert(connection, media_chunks).values(media_id=media_id, n=n, bytes=piece))

        await self._database.write(work)

    async def finish(self, stored: StoredMedia) -> None:
        statement = update(media).where(media.c.id == stored.id).values(**_values(stored), is_whole=True)
        await self._database.write(lambda connection: _run(connection, statement))

    async def discard(self, media_id: str) -> None:
        await self._database.write(lambda connection: _remove(connection, media_id=media_id))

    # Reading.

    async def find(self, media_id: str) -> StoredMedia | None:
        statement = select(*_SHOWN).where(media.c.id == media_id, media.c.is_whole)
        return await self._database.read(lambda connection: _first(connection, statement))

    async def take(self, company: str, media_id: str) -> StoredMedia | None:
        mine = (media.c.id == media_id, media.c.company_id == company, media.c.is_whole)
        touch = update(media).where(*mine).values(created_at=iso(self._clock.now()))

        def work(connection: Connection) -> StoredMedia | None:
            connection.execute(touch)
            return _first(connection, select(*_SHOWN).where(*mine))

        return await self._database.write(work)

    async def piece(self, media_id: str, n: int) -> bytes | None:
        return await self._database.read(lambda connection: _piece(connection, media_id, n))

    async def copy(self, media_id: str, file: Path) -> bool:
        is_there = select(media.c.id).where(media.c.id == media_id, media.c.is_whole)

        def work(connection: Connection) -> bool:
            if connection.scalar(is_there) is None:
                return False
            with file.open("wb") as out:
                for piece in _pieces(connection, media_id):
                    out.write(piece)
            return True

        return await self._database.read(work)

    # Inbound.

    async def inbound(self, inbox_id: str) -> InboundMedia | None:
        columns = inbox.c[
            "company_id", "media", "media_keys", "media_id", "whatsapp_id", "chat", "from_me", "sender", "sender_lid"
        ]
        statement = select(*columns, media.c.id.label("kept")).where(inbox.c.id == inbox_id)
        joined = inbox.outerjoin(media, (media.c.id == inbox.c.media_id) & media.c.is_whole)

        def work(connection: Connection) -> InboundMedia | None:
            row = connection.execute(statement.select_from(joined)).first()
            if row is None:
                return None
            return InboundMedia(
                inbox_id=inbox_id,
                company=row.company_id,
                description=None if row.media is None else json.loads(row.media),
                keys=row.media_keys,
                message={
                    "id": row.whatsapp_id,
                    "chat": row.chat,
                    "fromMe": row.from_me,
                    "sender": row.sender,
                    "senderLid": row.sender_lid,
                },
                media_id=row.kept,
            )

        return await self._database.read(work)

    async def links_revoked_at(self, inbox_id: str) -> str | None:
        joined = inbox.join(sessions, sessions.c.company_id == inbox.c.company_id)
        statement = select(sessions.c.media_links_revoked_at).select_from(joined).where(inbox.c.id == inbox_id)

        def work(connection: Connection) -> str | None:
            revoked_at: str | None = connection.scalar(statement)
            return revoked_at

        return await self._database.read(work)

    async def revoke_links(self, company: str, *, at: str) -> None:
        statement = update(sessions).where(sessions.c.company_id == company).values(media_links_revoked_at=at)
        await self._database.write(lambda connection: _run(connection, statement))

    async def keep(self, inbox_id: str, media_id: str) -> None:
        statement = update(inbox).where(inbox.c.id == inbox_id).values(media_id=media_id)
        await self._database.write(lambda connection: _run(connection, statement))

    # Sweeping.

    async def sweep(self, *, unused_since: str, settled_since: str) -> int:
        is_old = media.c.created_at < unused_since
        old = select(media.c.id, media.c.company_id).where(is_old)
        companies: dict[str, set[str]] = {}
        for row in await self._rows(old):
            companies.setdefault(row.company_id, set()).add(row.id)
        removed = 0
        for company, ids in companies.items():
            for media_id in sorted(ids - await self._needed(company, settled_since)):
                removed += await self._database.write(functools.partial(_remove, media_id=media_id, condition=is_old))
        return removed

    async def _needed(self, company: str, settled_since: str) -> set[str]:
        """Return the ids of the company's media that messages and operations still need."""
        return (
            await self._needed_outbound(company, settled_since)
            | await self._needed_inbound(company, settled_since)
            | await self._needed_by_operations(company)
        )

    async def _needed_by_operations(self, company: str) -> set[str]:
        statement = select(operations.c.arguments).where(operations.c.company_id == company, IS_OPEN_OPERATION)
        found = [json.loads(row.arguments).get("mediaId") for row in await self._rows(statement)]
        return {media_id for media_id in found if media_id is not None}

    async def _needed_outbound(self, company: str, since: str) -> set[str]:
        """Media of messages that are open, or were accepted or sent recently: each query has its own index."""
        mine = select(outbox.c.content).where(outbox.c.company_id == company)
        statements = (
            mine.where(IS_OPEN, outbox.c.kind.in_(_MEDIA_KINDS)),
            mine.where(outbox.c.accepted_at >= since, outbox.c.kind.in_(_MEDIA_KINDS)),
            mine.where(IS_SENT_MEDIUM, outbox.c.sent_at >= since),
        )

        def work(connection: Connection) -> set[str]:
            contents = (
                content for each in statements for content in connection.scalars(each, execution_options=_STREAMED)
            )
            return {media_id for content in contents for media_id in media_ids(json.loads(content))}

        return await self._database.read(work)

    async def _needed_inbound(self, company: str, since: str) -> set[str]:
        statement = select(inbox.c.media_id).where(
            inbox.c.company_id == company, HAS_MEDIUM, inbox.c.stored_at >= since
        )
        return {row.media_id for row in await self._rows(statement)}

    async def _rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        return await self._database.read(lambda connection: connection.execute(statement).all())


def media_ids(content: dict[str, Any]) -> set[str]:
    """Return the ids of the stored media in a message content."""
    return {str(part["media"]) for part in content.values() if isinstance(part, dict) and "media" in part}


def _values(stored: StoredMedia) -> dict[str, Any]:
    return {
        "id": stored.id,
        "company_id": stored.company,
        "mimetype": stored.mimetype,
        "filename": stored.filename,
        "size_bytes": stored.size_bytes,
        "sha256": stored.sha256,
    }


def _run(connection: Connection, statement: Any) -> None:
    connection.execute(statement)


def _first(connection: Connection, statement: Select[Any]) -> StoredMedia | None:
    row = connection.execute(statement).mappings().first()
    if row is None:
        return None
    values = {str(name): value for name, value in row.items()}
    return StoredMedia(company=values.pop("company_id"), **values)


def _piece(connection: Connection, media_id: str, n: int) -> bytes | None:
    return connection.scalar(
        select(media_chunks.c.bytes).where(media_chunks.c.media_id == media_id, media_chunks.c.n == n)
    )


def _pieces(connection: Connection, media_id: str) -> Iterator[bytes]:
    n = 0
    while (piece := _piece(connection, media_id, n)) is not None:
        yield piece
        n += 1


def _remove(connection: Connection, *, media_id: str, condition: ColumnElement[bool] | None = None) -> int:
    """Remove a medium that meets the condition; returns how many were removed, 0 or 1."""
    statement = delete(media).where(media.c.id == media_id)
    gone = connection.scalar((statement if condition is None else statement.where(condition)).returning(media.c.id))
    if gone is None:
        return 0
    connection.execute(delete(media_chunks).where(media_chunks.c.media_id == media_id))
    return 1
