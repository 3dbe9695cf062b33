"""An open SQLite or PostgreSQL database, prepared statements, and the INSERT of both dialects."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    ClauseElement,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Table,
    Text,
    any_,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

GROUP_COMPANIES = "holdfast.companies"
"""Key of `Connection.info`: the companies of the current group of writes."""
Insert = sqlite.Insert | postgresql.Insert


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A database that is open and migrated to this version."""

    writing: Engine
    """Its transactions take the write lock when they begin."""
    reading: Engine
    """Each of its transactions sees one snapshot of what is committed."""
    is_shared: bool
    """Whether other processes may use it at the same time."""
    close: Callable[[], None]
    brief: Callable[[], Engine] | None = None
    """Makes an engine for short transactions beside the writer's, whose statements the server ends after seconds."""
    notifications: Callable[[str], AsyncGenerator[str]] | None = None
    """What processes send to a channel from now on, on a database that several processes share."""


class Prepared:
    """A statement of a hot path, built once.

    Building a statement takes five times as long as executing it with SQLAlchemy, and SQLAlchemy takes ten times as
    long as SQLite. So SQLite's driver executes the SQL text directly; values are texts, numbers and bytes, which need
    no conversion. On PostgreSQL the round trip to the server dominates, so SQLAlchemy executes it.
    """

    def __init__(self, build: Callable[[Callable[[Table], Any]], Executable]) -> None:
        """`build` gets the dialect's `insert`; values are bound when the statement is executed."""
        self._statements = {"sqlite": build(sqlite.insert), "postgresql": build(postgresql.insert)}
        self._texts: dict[tuple[str, ...], _Text] = {}
        """SQL texts by the names of their values."""

    def on(self, connection: Connection) -> Executable:
        """Return the statement for SQLAlchemy, for results that need type conversion."""
        return self._statements[connection.dialect.name]

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Execute it in the current transaction of `connection` and return its rows."""
        statement = self._statements[connection.dialect.name]
        if connection.dialect.name != "sqlite":
            result = connection.execute(statement, values)
            return result.all() if result.returns_rows else []
        rows, _ = self._text(connection, tuple(values)).execute(connection, values)
        return rows

    def scalar(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """Execute it and return the first value of its first row; None when there is no row."""
        rows = self.rows(connection, values)
        return rows[0][0] if rows else None

    def seq(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Execute the INSERT of one row and return the `seq` that the database gave it.

        SQLite takes up to twice as long for an INSERT with RETURNING.
        """
        if connection.dialect.name != "sqlite":
            statement = self._statements[connection.dialect.name]
            assert isinstance(statement, postgresql.Insert)
            return int(connection.execute(statement.returning(statement.table.c.seq), values).scalar_one())
        _, number = self._text(connection, tuple(values)).execute(connection, values)
        assert number is not None
        return number

    def _text(self, connection: Connection, names: tuple[str, ...]) -> _Text:
        text = self._texts.get(names)
        if text is None:
            text = self._texts[names] = _Text(self._statements["sqlite"], connection, names)
        return text


class _Text:
    """A statement as SQL text for SQLite, for values with certain names."""

    def __init__(self, statement: Executable, connection: Connection, names: Sequence[str]) -> None:
        assert isinstance(statement, ClauseElement)
        compiled = statement.compile(dialect=connection.dialect, column_keys=list(names))
        assert isinstance(compiled, SQLCompiler)
        self._sql = compiled.string
        self._order = compiled.positiontup or []
        self._fixed = {name: value for name, value in compiled.params.items() if name not in names}

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> tuple[list[tuple[Any, ...]], int | None]:
        """Return the rows of the result, and the number of the row that was inserted last."""
        given = {**self._fixed, **values} if self._fixed else values
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        try:
            cursor = driver.execute(self._sql, [given[name] for name in self._order])
            return cursor.fetchall(), cursor.lastrowid
        except sqlite3.Error as error:
            # Raised as SQLAlchemy would, without the values, which are keys and messages.
            raise DBAPIError.instance(
                self._sql, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
            ) from error


def companies_of_group(connection: Connection) -> Collection[str]:
    """The companies for which the current transaction of the writer writes."""
    companies: Collection[str] = connection.info.get(GROUP_COMPANIES, ())
    return companies


def among(connection: Connection, column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Return the condition that the column has one of these texts or numbers, which are passed as one value.

    With `in_` each of them is a parameter, which costs more time than reading its row.
    """
    if connection.dialect.name == "postgresql":
        return column == any_(bindparam(None, list(values), ARRAY(column.type), unique=True))
    given = bindparam(None, json.dumps(list(values)), Text, unique=True)
    return column.in_(select(func.json_each(given).table_valued("value").c.value))


def insert(connection: Connection, table: Table) -> Insert:
    """Return an insert with `on_conflict_do_nothing` and `on_conflict_do_update`. Its `rowcount` is meaningless."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
