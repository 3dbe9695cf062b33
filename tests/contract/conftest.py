"""A store on each database, for every suite that holds rows to their promises."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from holdfast.base.ids import SystemRandomSource
from holdfast.store.accounts import AccountRows
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.events import EventRows
from holdfast.store.inbox import InboxRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.postgres import parse
from holdfast.store.sessions import SessionRows
from tests.contract.rows import COMPANY, OTHER, Row, Store, record
from tests.doubles.fake_clock import FakeClock
from tests.postgres_process import PostgresProcess
from tests.world import migrated


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path | URL, Callable[[str], list[Row]]]:
    """Where a database of this version is, and how another program reads it."""
    if request.param == "sqlite":
        path = tmp_path / "holdfast.db"
        path.write_bytes(migrated())
        return path, functools.partial(_rows, path)
    server: PostgresProcess = request.getfixturevalue("postgres")
    url = server.new_migrated()
    return parse(url), functools.partial(server.rows, url)


def _rows(path: Path, statement: str) -> list[Row]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


@pytest.fixture
async def store(place: tuple[Path | URL, Callable[[str], list[Row]]]) -> AsyncIterator[Store]:
    clock, database = FakeClock(), Database(place[0])
    made = Store(
        rows=place[1],
        clock=clock,
        sessions=SessionRows(database),
        engine=EngineRows(database, clock=clock, randomness=SystemRandomSource()),
        outbox=OutboxRows(database, clock=clock),
        inbox=InboxRows(database),
        accounts=AccountRows(database),
        events=EventRows(database),
        database=database,
    )
    for company in (COMPANY, OTHER):
        await made.sessions.save(record(company))
    yield made
    database.close()
