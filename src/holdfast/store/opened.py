"""What an open database is to `Database`, whichever kind it is, and the one place that knows the dialects' inserts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

Insert = sqlite.Insert | postgresql.Insert


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A database of this version that can be used."""

    writing: Engine
    """Its transactions take the right to write at once."""
    reading: Engine
    """Each of its transactions sees one snapshot of what is committed."""
    is_shared: bool
    """May other processes use it at the same time?"""
    close: Callable[[], None]


class Prepared:
    """An insert that is built once. Building one anew for each row takes five times as long as executing it does."""

    def __init__(self, build: Callable[[Callable[[Table], Any]], ReturningInsert[Any] | Insert]) -> None:
        """`build` gets the dialect's `insert`; the rows are given when it is executed."""
        self._known = {"sqlite": build(sqlite.insert), "postgresql": build(postgresql.insert)}

    def on(self, connection: Connection) -> ReturningInsert[Any] | Insert:
        return self._known[connection.dialect.name]


def insert(connection: Connection, table: Table) -> Insert:
    """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`. Its `rowcount` tells nothing."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
