"""Counts what companies have stored, for quotas."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select

from holdfast.delivery.usage import OutboxUsage
from holdfast.store.database import Database
from holdfast.store.tables import IS_OPEN, media, outbox

_OUTBOX = select(func.count(), func.coalesce(func.sum(func.length(outbox.c.content)), 0)).where(
    outbox.c.company_id == bindparam("company"), IS_OPEN
)
"""The states are literals: with bound values no planner uses the partial index."""
_MEDIA = select(func.coalesce(func.sum(media.c.size_bytes), 0)).where(media.c.company_id == bindparam("company"))


class UsageRows:
    """Implements `holdfast.delivery.usage.Usage`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def outbox(self, company: str) -> OutboxUsage:
        def work(connection: Connection) -> OutboxUsage:
            messages, size = connection.execute(_OUTBOX, {"company": company}).one()
            return OutboxUsage(messages=messages, bytes=int(size))

        return await self._database.read(work)

    async def media_bytes(self, company: str) -> int:
        return await self._database.read(lambda connection: int(connection.scalar(_MEDIA, {"company": company}) or 0))
