"""Reads and writes the rows of a whole database, or of one company, on either kind of database.

Every table is in a backup, except those that are named here with the reason. Rows of a backup are untrusted input: each
is checked before it is stored.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, LargeBinary, Select, Table, delete, func, insert, select, text
from sqlalchemy.sql.sqltypes import Integer

from holdfast.backup.errors import RestoreRefused
from holdfast.base.ids import is_company_id
from holdfast.session.state import State
from holdfast.store.tables import (
    events,
    leases,
    media,
    media_chunks,
    metadata,
    nodes,
    sessions,
    webhook_deliveries,
    webhook_endpoints,
)

NOT_KEPT = frozenset({leases.name, nodes.name})
"""Which processes run, and which sessions each of them runs now: this is not backed up."""

KEPT: tuple[Table, ...] = tuple(table for table in metadata.sorted_tables if table.name not in NOT_KEPT)
"""The tables of a backup, in an order that satisfies foreign keys."""

_AT_ONCE = 500
_LARGE_AT_ONCE = 8
"""Number of rows in memory at a time, of tables with large rows such as the chunks of media."""
_LARGEST_SEQ = 2**53
NUMBERED = {table.name: "seq" for table in KEPT if "seq" in table.primary_key.columns} | {
    webhook_deliveries.name: "event_seq"
}
"""The column of each table whose numbers the database assigns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Which rows a backup may have; by default those of any company."""

    company: str | None = None
    """The only company whose rows are allowed."""
    media: Collection[str] = ()
    """Ids of the media whose chunks are allowed; only checked with `company`."""
    shift: Mapping[str, int]
    """What to add to the numbers of each table's rows."""


EVERYTHING = Expected(shift={})


def read(connection: Connection, table: Table, company: str | None = None) -> Iterator[Sequence[Any]]:
    """All rows, or those of one company, streamed."""
    statement = select(table) if company is None else _of_company(table, company)
    limit = _LARGE_AT_ONCE if table.name == "media_chunks" else _AT_ONCE
    if statement is not None:
        yield from connection.execute(statement, execution_options={"yield_per": limit})


def is_of_companies(table: Table) -> bool:
    """Whether each of its rows belongs to a company."""
    return "company_id" in table.c or table is media_chunks


def _of_company(table: Table, company: str) -> Select[Any] | None:
    """By an index, whatever other companies have."""
    if table is media_chunks:
        return select(table).where(table.c.media_id.in_(select(media.c.id).where(media.c.company_id == company)))
    if table is webhook_deliveries:
        return select(table).where(table.c.event_seq.in_(select(events.c.seq).where(events.c.company_id == company)))
    return select(table).where(table.c.company_id == company) if is_of_companies(table) else None


def write(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    expected: Expected = EVERYTHING,
) -> Iterator[list[dict[str, Any]]]:
    """Insert rows, and yield them batch by batch; bytes may be base64, as in a backup.

    Raises `RestoreRefused` for an invalid row.
    """
    for name in columns:
        if name not in table.c:
            raise RestoreRefused(
                f'its rows of {table.name} have a column "{name[:80]}", which no version of Holdfast has'
            )
    coded = {name for name in columns if isinstance(table.c[name].type, LargeBinary)}
    limit = _LARGE_AT_ONCE if table.name == "media_chunks" else _AT_ONCE
    rows = iter(rows)
    while batch := list(itertools.islice(rows, limit)):
        named = (dict(zip(columns, row, strict=True)) for row in batch)
        checked = [_checked(table, _decoded(row, coded), expected) for row in named]
        connection.execute(insert(table), checked)
        yield checked


def _decoded(row: dict[str, Any], coded: Collection[str]) -> dict[str, Any]:
    return {**row, **{name: base64.b64decode(row[name]) for name in coded if isinstance(row[name], str)}}


def _checked(table: Table, row: dict[str, Any], expected: Expected) -> dict[str, Any]:
    if "company_id" in row:
        _check_company(table, row["company_id"], expected)
    if table is media_chunks and expected.company is not None and row["media_id"] not in expected.media:
        raise RestoreRefused("it has a chunk of a media file that does not belong to the company")
    if table is sessions and row["state"] not in set(State):
        raise RestoreRefused(f"it has a session in a state that does not exist: {str(row['state'])[:80]!r}")
    if (number := NUMBERED.get(table.name)) is not None:
        seq = row[number]
        if not isinstance(seq, int) or not 0 < seq < _LARGEST_SEQ:
            raise RestoreRefused(f"it has a row of {table.name} with the number {str(seq)[:40]}")
        return {**row, number: seq + expected.shift.get(table.name, 0)}
    return row


def _check_company(table: Table, company: Any, expected: Expected) -> None:
    """Raises `RestoreRefused`. Other code relies on company ids that are safe in paths, headers and logs."""
    if expected.company is not None and company != expected.company:
        raise RestoreRefused(
            f"its manifest lists company {expected.company} only, but it has rows of {str(company)[:80]!r}"
        )
    is_default = table is webhook_endpoints and company == ""
    if not is_default and not (isinstance(company, str) and is_company_id(company)):
        raise RestoreRefused(f"it has rows of {str(company)[:80]!r}, which is not a valid company id")


def empty(connection: Connection) -> None:
    """Delete the rows of all tables that a backup has."""
    for table in reversed(KEPT):
        connection.execute(delete(table))


def first_free(connection: Connection, table: Table) -> int:
    """Return a number from which on all are free and were never assigned."""
    column = table.c[NUMBERED[table.name]]
    limit: int = connection.scalar(select(func.coalesce(func.max(column), 0))) or 0
    if connection.dialect.name == "postgresql":
        drawn = connection.scalar(text(f"SELECT last_value FROM {_sequence(connection, table)}"))  # noqa: S608
    else:
        drawn = connection.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :table"), {"table": table.name})
    return max(limit, drawn or 0) + 1


def _sequence(connection: Connection, table: Table) -> str:
    found: str = connection.execute(
        text("SELECT pg_get_serial_sequence(:table, 'seq')"), {"table": table.name}
    ).scalar_one()
    return found


def count_on(connection: Connection) -> None:
    """Set PostgreSQL's sequences behind the numbers that were written. SQLite does this without help."""
    if connection.dialect.name != "postgresql":
        return
    for table in KEPT:
        column = next((each for each in table.primary_key if each.name == "seq"), None)
        if column is None or not isinstance(column.type, (Integer, BigInteger)):
            continue
        limit = select(func.coalesce(func.max(column), 0)).scalar_subquery()
        sequence = _sequence(connection, table)
        drawn = connection.scalar(text(f"SELECT last_value FROM {sequence}"))  # noqa: S608 – PostgreSQL's own answer
        connection.execute(select(func.setval(sequence, func.greatest(limit, drawn))))


def continue_from(connection: Connection, table: Table, number: int) -> None:
    """Assign no number below this one, also if no row has it: readers may have seen it before it was deleted."""
    if connection.dialect.name == "postgresql":
        sequence = _sequence(connection, table)
        drawn = connection.scalar(text(f"SELECT last_value FROM {sequence}"))  # noqa: S608 – PostgreSQL's own answer
        connection.execute(select(func.setval(sequence, max(number - 1, drawn or 1, 1))))
        return
    values = {"table": table.name, "number": number - 1}
    changed = connection.execute(text("UPDATE sqlite_sequence SET seq = max(seq, :number) WHERE name = :table"), values)
    if not changed.rowcount:
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :number)"), values)
