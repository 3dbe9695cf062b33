"""Removes a company with all its rows, in small transactions, so that writes of other companies hardly wait."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, select, tuple_

from holdfast.base.errors import NotFound
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

_AT_ONCE = 100
_MEDIA_AT_ONCE = 4
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
    database: Database, company: str, *, check: Callable[[Connection], None] = lambda _: None
) -> None:
    """Remove every row of the company, including credentials and history. Raises `NotFound`.

    API keys that were created for it no longer name it, so that they can't create it again.

    The session row is removed last: when the process ends before that, the session is stopped and has no device, and
    clearing it again removes the rest.

    check: runs in each transaction before anything is removed.
    """

    async def write(work: Callable[[Connection], bool]) -> bool:
        def checked(connection: Connection) -> bool:
            check(connection)
            return work(connection)

        return await database.write(checked)

    await database.read(lambda connection: _refuse_unknown(connection, company))
    its_media = select(media.c.id).where(media.c.company_id == company)
    ids = await database.read(lambda connection: list(connection.scalars(its_media)))
    parts: list[Callable[[Connection], bool]] = [
        functools.partial(_clear_access, company=company),
        functools.partial(_clear_events, company=company),
        *(
            functools.partial(_clear_media, ids=ids[start : start + _MEDIA_AT_ONCE])
            for start in range(0, len(ids), _MEDIA_AT_ONCE)
        ),
        *(functools.partial(_clear_part, company=company, table=table) for table in _BY_KEY),
        functools.partial(_clear_rest, company=company),
    ]
    for part in parts:
        while await write(part):
            pass


def remove(connection: Connection, company: str) -> None:
    """Remove the company in one transaction, in a database that nobody else uses; the company may be unknown."""
    _clear_rest(connection, company=company)


def _clear_access(connection: Connection, *, company: str) -> bool:
    """Credentials are removed before Signal keys: a device with a part of its keys must never connect."""
    withdraw_company(connection, company)
    connection.execute(delete(credentials).where(credentials.c.company_id == company))
    return False


def _clear_part(connection: Connection, *, company: str, table: Table) -> bool:
    """Remove some rows of a table; returns whether there were any."""
    mine, key = table.c.company_id == company, _parts_of(table)
    rows = [tuple(row) for row in connection.execute(select(*key).where(mine).order_by(*key).limit(_AT_ONCE))]
    if rows:
        which = key[0].in_([row[0] for row in rows]) if len(key) == 1 else tuple_(*key).in_(rows)
        connection.execute(delete(table).where(mine, which))
    return bool(rows)


def _clear_events(connection: Connection, *, company: str) -> bool:
    """Remove the oldest events and their webhook deliveries. The lock keeps others from starting deliveries of them."""
    write_recorded(connection)
    part = select(events.c.seq).where(events.c.company_id == company).order_by(events.c.seq).limit(_AT_ONCE)
    numbers = list(connection.scalars(part))
    connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.event_seq.in_(numbers)))
    connection.execute(delete(events).where(events.c.seq.in_(numbers)))
    return bool(numbers)


def _clear_media(connection: Connection, *, ids: Sequence[str]) -> bool:
    """The number of `ids` must be small: one medium may have a hundred megabytes."""
    connection.execute(delete(media_chunks).where(media_chunks.c.media_id.in_(ids)))
    connection.execute(delete(media).where(media.c.id.in_(ids)))
    return False


def _clear_rest(connection: Connection, *, company: str) -> bool:
    """Also what was added meanwhile. The lock keeps other processes from accepting messages for it at the same time."""
    lock_company(connection, company)
    write_recorded(connection)
    its_media = select(media.c.id).where(media.c.company_id == company)
    connection.execute(delete(media_chunks).where(media_chunks.c.media_id.in_(its_media)))
    for table in reversed(metadata.sorted_tables):
        if "company_id" in table.c:
            connection.execute(delete(table).where(table.c.company_id == company))
    return False


def _refuse_unknown(connection: Connection, company: str) -> None:
    if connection.scalar(select(sessions.c.company_id).where(sessions.c.company_id == company)) is None:
        raise NotFound(f'company "{company}" is unknown: `holdfast sessions` lists the known ones', field="company")
