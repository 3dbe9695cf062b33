"""Removes a company with all its rows, in small transactions, so that writes of other companies hardly wait."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, select, tuple_

from holdfast.base.clock import Clock
from holdfast.base.errors import NotFound
from holdfast.store import search_index
from holdfast.store.api_keys import withdraw_company
from holdfast.store.company_locks import lock_company
from holdfast.store.database import Database
from holdfast.store.events import write_recorded
from holdfast.store.tables import (
    credentials,
    events,
    media,
    media_chunks,
    metadata,
    quarantine,
    sessions,
    webhook_deliveries,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

Key = tuple[Any, ...]
"""Values of a table's primary key without the company."""

_PART_S = 0.005
"""How long the statements of one part should take: the writes of others wait for them."""
_MIN_AT_ONCE, MAX_AT_ONCE = 5, 500
"""Rows of one part."""
_MEDIA_AT_ONCE = 4
_LOGGED_EVERY = 50_000
_OTHERWISE = {media, events, webhook_deliveries, quarantine}
"""Tables that are not removed by their key: those with rows in other tables, and one with a few rows of a company."""


def _parts_of(table: Table) -> Sequence[Column[Any]]:
    """The columns that tell the rows of one company apart; an index has the company and then these."""
    return [column for column in table.primary_key if column.name != "company_id"]


_BY_KEY = [
    table
    for table in reversed(metadata.sorted_tables)
    if "company_id" in table.c and table not in _OTHERWISE and _parts_of(table)
]


async def clear_in_parts(
    database: Database, company: str, *, clock: Clock, check: Callable[[Connection], None] = lambda _: None
) -> None:
    """Remove every row of the company, including credentials and history. Raises `NotFound`.

    API keys that were created for it no longer name it, so that they can't create it again.

    The session row is removed last: when the process ends before that, the session is stopped and has no device, and
    clearing it again removes the rest.

    check: runs in each transaction before anything is removed.
    """
    await database.read(lambda connection: _refuse_unknown(connection, company))
    its_media = select(media.c.id).where(media.c.company_id == company)
    ids = await database.read(lambda connection: list(connection.scalars(its_media)))

    async def write(work: Callable[[Connection], T]) -> tuple[T, float]:
        """Also returns the seconds that it took."""

        def measured(connection: Connection) -> tuple[T, float]:
            began_at = clock.monotonic()
            check(connection)
            return work(connection), clock.monotonic() - began_at

        result, took_s = await database.write(measured)
        await clock.sleep(took_s)  # for the writes of others that waited
        return result, took_s

    await write(functools.partial(_clear_access, company=company))
    for start in range(0, len(ids), _MEDIA_AT_ONCE):
        await write(functools.partial(_clear_media, ids=ids[start : start + _MEDIA_AT_ONCE]))
    removed = 0
    others: Sequence[Callable[..., list[Key]]] = [functools.partial(_clear_part, table=table) for table in _BY_KEY]
    for remove_part in (_clear_events, *others):
        size = PartSize()
        keys: list[Key] = [()]
        while keys:
            part = functools.partial(remove_part, company=company, after=keys[-1], limit=size.rows)
            keys, took_s = await write(part)
            size.adapt(took_s)
            if removed // _LOGGED_EVERY < (removed := removed + len(keys)) // _LOGGED_EVERY:
                log.info("Clearing company %s: %d rows removed", company, removed)
    await write(functools.partial(_clear_rest, company=company))


@dataclass(slots=True)
class PartSize:
    """As many rows as can be removed within `_PART_S`, which differs by table and disk."""

    rows: int = 20

    def adapt(self, took_s: float) -> None:
        """`took_s`: how long removing so many rows took."""
        change = min(max(_PART_S / max(took_s, _PART_S / 2), 0.5), 2)
        self.rows = min(max(round(self.rows * change), _MIN_AT_ONCE), MAX_AT_ONCE)


def remove(connection: Connection, company: str) -> None:
    """Remove the company in one transaction, in a database that nobody else uses; the company may be unknown."""
    _clear_rest(connection, company=company)


def _clear_access(connection: Connection, *, company: str) -> None:
    """Credentials are removed before Signal keys: a device with a part of its keys must never connect."""
    withdraw_company(connection, company)
    connection.execute(delete(credentials).where(credentials.c.company_id == company))


def _clear_part(connection: Connection, *, company: str, table: Table, after: Key, limit: int) -> list[Key]:
    """Remove the next rows of a table; returns their keys."""
    keys = _next_keys(connection, table, company, after=after, limit=limit)
    if keys:
        # A range, not a list of keys: for keys of several columns SQLite would read all rows of the company.
        until = tuple_(*_parts_of(table)) <= tuple_(*keys[-1])
        connection.execute(delete(table).where(table.c.company_id == company, *_follows(table, after), until))
    if table in search_index.INDEXED:
        search_index.merge(connection, table, changed=len(keys))
    return keys


def _clear_events(connection: Connection, *, company: str, after: Key, limit: int) -> list[Key]:
    """As `_clear_part`, with their webhook deliveries. The lock keeps others from starting deliveries of them."""
    write_recorded(connection)
    keys = _next_keys(connection, events, company, after=after, limit=limit)
    numbers = [seq for (seq,) in keys]
    connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.event_seq.in_(numbers)))
    connection.execute(delete(events).where(events.c.seq.in_(numbers)))
    return keys


def _next_keys(connection: Connection, table: Table, company: str, *, after: Key, limit: int) -> list[Key]:
    """The keys of the company's next rows after a key.

    Searching from the start again would read all entries of the index whose rows were removed: PostgreSQL keeps them
    until a vacuum.
    """
    key = _parts_of(table)
    page = select(*key).where(table.c.company_id == company, *_follows(table, after)).order_by(*key).limit(limit)
    return [tuple(row) for row in connection.execute(page)]


def _follows(table: Table, after: Key) -> Sequence[ColumnElement[bool]]:
    return [tuple_(*_parts_of(table)) > tuple_(*after)] if after else []


def _clear_media(connection: Connection, *, ids: Sequence[str]) -> None:
    """The number of `ids` must be small: one medium may have a hundred megabytes."""
    connection.execute(delete(media_chunks).where(media_chunks.c.media_id.in_(ids)))
    connection.execute(delete(media).where(media.c.id.in_(ids)))


def _clear_rest(connection: Connection, *, company: str) -> None:
    """Also what was added meanwhile. The lock keeps other processes from accepting messages for it at the same time."""
    lock_company(connection, company)
    write_recorded(connection)
    its_media = select(media.c.id).where(media.c.company_id == company)
    connection.execute(delete(media_chunks).where(media_chunks.c.media_id.in_(its_media)))
    for table in reversed(metadata.sorted_tables):
        if "company_id" in table.c:
            connection.execute(delete(table).where(table.c.company_id == company))


def _refuse_unknown(connection: Connection, company: str) -> None:
    if connection.scalar(select(sessions.c.company_id).where(sessions.c.company_id == company)) is None:
        raise NotFound(f'company "{company}" is unknown: `holdfast sessions` lists the known ones', field="company")
