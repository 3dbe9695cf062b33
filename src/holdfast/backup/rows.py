"""The rows of a whole database, out of one kind and into another.

It must never leave out a table that holds something of people's: what is not in a backup is named here with its reason.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, LargeBinary, Table, delete, func, insert, select, text
from sqlalchemy.sql.sqltypes import Integer

from holdfast.store.tables import leases, metadata

NOT_KEPT = frozenset({leases.name})
"""Leases: who runs which session at this moment."""

KEPT: tuple[Table, ...] = tuple(table for table in metadata.sorted_tables if table.name not in NOT_KEPT)
"""In an order in which they can be filled."""

_AT_ONCE = 500
_LARGE_AT_ONCE = 8
"""Rows in memory at a time; the chunks of media are large."""


def read(connection: Connection, table: Table) -> Iterator[Sequence[Any]]:
    """All rows, streamed."""
    most = _LARGE_AT_ONCE if table.name == "media_chunks" else _AT_ONCE
    yield from connection.execute(select(table), execution_options={"yield_per": most})


def write(connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Add rows; bytes may be base64, as they stand in a backup."""
    coded = [isinstance(table.c[name].type, LargeBinary) for name in columns]
    most = _LARGE_AT_ONCE if table.name == "media_chunks" else _AT_ONCE
    rows = iter(rows)
    while batch := list(itertools.islice(rows, most)):
        values = [[_value(each, is_bytes=is_bytes) for each, is_bytes in zip(row, coded, strict=True)] for row in batch]
        connection.execute(insert(table), [dict(zip(columns, row, strict=True)) for row in values])


def _value(value: Any, *, is_bytes: bool) -> Any:
    return base64.b64decode(value) if is_bytes and isinstance(value, str) else value


def empty(connection: Connection) -> None:
    """Remove everything that a backup would bring."""
    for table in reversed(KEPT):
        connection.execute(delete(table))


def count_on(connection: Connection) -> None:
    """Let numbers that PostgreSQL draws begin after those that were written; SQLite sees to it by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in KEPT:
        column = next((each for each in table.primary_key if each.name == "seq"), None)
        if column is None or not isinstance(column.type, (Integer, BigInteger)):
            continue
        most = select(func.coalesce(func.max(column), 0)).scalar_subquery()
        sequence = connection.scalar(text("SELECT pg_get_serial_sequence(:table, 'seq')"), {"table": table.name})
        drawn = connection.scalar(text(f"SELECT last_value FROM {sequence}"))  # noqa: S608 – PostgreSQL's own answer
        connection.execute(select(func.setval(sequence, func.greatest(most, drawn))))
