"""A store on each database, for the suites that test the contracts of rows."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, event

from holdfast.base.ids import SystemRandomSource
from holdfast.store.accounts import AccountRows
from holdfast.store.contacts import ContactRows
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.events import EventRows
from holdfast.store.inbox import InboxRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.sessions import SessionRows
from tests.contract.places import make_place
from tests.contract.rows import COMPANY, OTHER, Row, Statement, Store, record
from tests.doubles.fake_clock import FakeClock
from tests.postgres_process import PostgresProcess


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Path | URL]:
    """Creates an empty database of this version at each call."""
    return lambda: make_place(request.param, request, tmp_path)


@pytest.fixture
def place(new_place: Callable[[], Path | URL]) -> Path | URL:
    """An empty database of this version."""
    return new_place()


@pytest.fixture
def recorded() -> Iterator[list[Statement]]:
    """Every statement that any engine opened from now on executes, also those that bypass SQLAlchemy."""
    found: list[Statement] = []

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, values: Any = (), /) -> Any:
            found.append((sql, values))
            return super().execute(sql, values)

    class Recording(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
            found.append((sql, values))
            return super().execute(sql, values)

    def connect(dialect: Any, _: object, __: object, options: dict[str, Any]) -> None:
        if dialect.name == "sqlite":
            options["factory"] = Recording

    def execute(
        connection: Connection, _: object, sql: str, values: Any, __: object, is_for_many: bool, *___: object
    ) -> None:
        if connection.dialect.name != "sqlite":
            found.append((sql, values[0] if is_for_many and isinstance(values, list) else values))

    event.listen(Engine, "do_connect", connect)
    event.listen(Engine, "before_cursor_execute", execute)
    yield found
    event.remove(Engine, "do_connect", connect)
    event.remove(Engine, "before_cursor_execute", execute)


@pytest.fixture
def read_rows(request: pytest.FixtureRequest, place: Path | URL) -> Callable[[str], list[Row]]:
    """Reads the database at `place` as another program does."""
    if isinstance(place, Path):
        return functools.partial(_rows, place)
    server: PostgresProcess = request.getfixturevalue("postgres")
    url = place.set(drivername="postgresql").render_as_string(hide_password=False)
    return functools.partial(server.rows, url)


def _rows(path: Path, statement: str) -> list[Row]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


@pytest.fixture
async def store(place: Path | URL, read_rows: Callable[[str], list[Row]]) -> AsyncIterator[Store]:
    clock, database = FakeClock(), Database(place)
    made = Store(
        rows=read_rows,
        clock=clock,
        sessions=SessionRows(database),
        engine=EngineRows(database, clock=clock, randomness=SystemRandomSource()),
        outbox=OutboxRows(database, clock=clock),
        inbox=InboxRows(database),
        accounts=AccountRows(database),
        events=EventRows(database),
        contacts=ContactRows(database, clock=clock),
        database=database,
    )
    for company in (COMPANY, OTHER):
        await made.sessions.save(record(company))
    yield made
    database.close()
