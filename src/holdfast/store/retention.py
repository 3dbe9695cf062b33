"""Removes old rows in short transactions, in the order of the primary key, which grows with time.

No other table refers to these rows: known contacts are in `chats`, the content of webhooks is in `events`, and both are
kept. An idempotency key is removed with its message.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import Column, ColumnElement, Connection, delete, func, select, tuple_

from holdfast.delivery.message import OPEN
from holdfast.delivery.retention import Batch, RetainedRows
from holdfast.store import search_index
from holdfast.store.compact import refresh_statistics, release_free_pages
from holdfast.store.database import Database
from holdfast.store.tables import inbox, member_receipts, operations, outbox, quarantine, transitions

_AT_ONCE = 100
_PARTS_RELEASED = 100
"""Free space to return to the disk each hour, in megabytes."""
_NEWER = transitions.alias("newer")
_AGE: Mapping[RetainedRows, Column[str]] = MappingProxyType({
    RetainedRows.MESSAGES: outbox.c.accepted_at,
    RetainedRows.INBOX: inbox.c.stored_at,
    RetainedRows.OPERATIONS: operations.c.accepted_at,
    RetainedRows.TIMELINE: transitions.c.at,
    RetainedRows.QUARANTINE: quarantine.c.at,
})  # fmt: skip


class RetentionRows:
    """Implements `holdfast.delivery.retention.Retention`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remove_batch(self, retained: RetainedRows, *, before: str, now: str, after: int) -> Batch:
        return await self._database.write(
            lambda connection: _remove(connection, retained, before=before, now=now, after=after)
        )

    async def reclaim_space(self) -> None:
        await release_free_pages(self._database, max_parts=_PARTS_RELEASED)
        await refresh_statistics(self._database)


def _remove(connection: Connection, retained: RetainedRows, *, before: str, now: str, after: int) -> Batch:
    age = _AGE[retained]
    table = age.table
    page = select(table.c.seq, age).where(table.c.seq > after).order_by(table.c.seq).limit(_AT_ONCE)
    rows = connection.execute(page).all()
    if not rows or all(before <= at <= now for _, at in rows):
        return Batch(removed=0, continue_after=None)
    last, newest_at = rows[-1]
    old = (table.c.seq > after, table.c.seq <= last, age < before, *_may_be_removed(retained, before))
    if retained is RetainedRows.MESSAGES:
        gone = select(outbox.c.company_id, outbox.c.id).where(*old)
        named = tuple_(member_receipts.c.company_id, member_receipts.c.message_id)
        connection.execute(delete(member_receipts).where(named.in_(gone)))
    removed = connection.execute(delete(table).where(*old)).rowcount
    if table in search_index.INDEXED:
        search_index.merge(connection, table, changed=removed)
    is_last = len(rows) < _AT_ONCE or before <= newest_at <= now
    return Batch(removed=removed, continue_after=None if is_last else last)


def _may_be_removed(retained: RetainedRows, before: str) -> tuple[ColumnElement[bool], ...]:
    if retained is RetainedRows.MESSAGES:
        # The age of a message is the time since its last known change: it may have waited long, or been read late.
        times = outbox.c["sent_at", "delivered_at", "read_at", "played_at", "expires_at"]
        return (
            outbox.c.state.not_in([state.value for state in OPEN]),
            *(func.coalesce(time, "") < before for time in times),
        )
    if retained is RetainedRows.OPERATIONS:
        return (func.coalesce(operations.c.settled_at, before) < before,)
    if retained is RetainedRows.TIMELINE:
        is_newer = (_NEWER.c.company_id == transitions.c.company_id) & (_NEWER.c.seq > transitions.c.seq)
        return (select(_NEWER.c.seq).where(is_newer).exists(),)
    return ()
