"""Inspects a database that may be in use: version, integrity, newest row. It must never write, migrate or lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, create_engine, func, inspect, literal_column, select, table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from holdfast.base.errors import Misconfigured
from holdfast.store.database_failures import cause_of
from holdfast.store.migrate import revision_of
from holdfast.store.postgres import open_reading, parse, shown, unusable
from holdfast.store.tables import inbox, outbox, transitions

_NEWEST = (transitions.c.at, outbox.c.accepted_at, inbox.c.stored_at)
_WAIT_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseInspection:
    name: str
    """Path or address for messages, without a password."""
    revision: str
    """Schema version; empty when Holdfast has not used the database yet."""
    newest_at: str | None
    damage: str | None
    """Faults that SQLite's integrity check found; None for none, and on PostgreSQL, which has no such check."""


def inspect_database(place: Path | str) -> DatabaseInspection:
    """Inspect the SQLite file, or the PostgreSQL database at the URL. Raises `Misconfigured` when it can't be read."""
    return _sqlite(place) if isinstance(place, Path) else _postgres(place)


def _sqlite(path: Path) -> DatabaseInspection:
    # A file name may have characters that a URI may not; mode=ro creates and repairs nothing.
    uri = f"file:{quote(str(path))}?mode=ro"
    engine = create_engine(
        URL.create("sqlite"),
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=_WAIT_S),
        poolclass=NullPool,
        hide_parameters=True,
    )
    try:
        with engine.connect() as connection:
            results = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
            damage = None if results == ["ok"] else "; ".join(map(str, results))
            return _inspect(connection, str(path), damage)
    except SQLAlchemyError as error:
        cause = cause_of(error)
        if "malformed" in cause:
            return DatabaseInspection(name=str(path), revision="", newest_at=None, damage=cause)
        raise Misconfigured(f'the database "{path}" can\'t be read ({cause})') from error


def _postgres(text: str) -> DatabaseInspection:
    url = parse(text)
    try:
        with _open(url) as connection:
            return _inspect(connection, shown(url), None)
    except SQLAlchemyError as error:
        raise unusable(url, error) from None  # its text may hold the password


@contextmanager
def _open(url: URL) -> Iterator[Connection]:
    engine = open_reading(url)
    try:
        with closing(engine.connect()) as connection:
            yield connection
    finally:
        engine.dispose()


def _inspect(connection: Connection, name: str, damage: str | None) -> DatabaseInspection:
    there = set(inspect(connection).get_table_names())
    revision = revision_of(connection)
    newest: list[str | None] = [
        connection.scalar(select(func.max(literal_column(column.name))).select_from(table(column.table.name)))
        for column in _NEWEST
        if column.table.name in there
    ]
    return DatabaseInspection(
        name=name, revision=revision, newest_at=max(filter(None, newest), default=None), damage=damage
    )
