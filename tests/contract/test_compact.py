"""The space of removed rows is returned to the disk, on SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection

from holdfast.backup.clearing import clear_in_parts
from holdfast.base.clock import SystemClock
from holdfast.base.errors import Conflict
from holdfast.store.compact import Compacted, compact
from holdfast.store.database import Database
from holdfast.store.postgres import parse
from holdfast.store.retention import RetentionRows
from tests import filling
from tests.databases import migrated
from tests.postgres_process import PostgresProcess

ROWS = 4000
FILLING = filling.Filling(companies=2, total=ROWS, largest=0.9)


def fill(connection: Connection) -> None:
    FILLING.add_sessions(connection)
    for add in (FILLING.add_messages, FILLING.add_events, FILLING.add_rest):
        add(connection, range(ROWS))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "holdfast.db"
    path.write_bytes(migrated())
    return path


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    """A database from which a company's rows were cleared."""
    opened = Database(path)
    await opened.write(fill)
    await clear_in_parts(opened, filling.company(0), clock=SystemClock())
    yield opened
    opened.close()


def free_pages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def size(path: Path) -> int:
    return path.stat().st_size


async def test_a_running_gateway_returns_the_space_in_parts(database: Database, path: Path) -> None:
    """No free page is left in the file, the log is truncated, and a second run has nothing to do."""
    assert free_pages(path) > 200
    told: list[str] = []
    done = await compact(database, may_rewrite=False, progress=told.append)
    assert (free_pages(path), size(path.with_name("holdfast.db-wal"))) == (0, 0)
    assert done.after == size(path) < done.before / 2
    again = await compact(database, may_rewrite=False)
    assert again == Compacted(before=done.after, after=done.after, advice=None)


async def test_the_hourly_sweep_returns_space_too(database: Database, path: Path) -> None:
    """One part per sweep, and the planner's statistics are refreshed."""
    await RetentionRows(database).reclaim_space()
    assert free_pages(path) == 0


async def test_a_file_of_an_older_version_is_rewritten_once(path: Path) -> None:
    """While nobody uses it; a running gateway refuses with the cure. From then on it can give space back in parts."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode=DELETE; PRAGMA auto_vacuum=NONE; VACUUM")
    opened = Database(path)
    try:
        await opened.write(fill)
        await clear_in_parts(opened, filling.company(0), clock=SystemClock())
        await RetentionRows(opened).reclaim_space()
        with pytest.raises(Conflict, match="stop Holdfast, run `holdfast compact`, and start Holdfast"):
            await compact(opened, may_rewrite=False)
        done = await compact(opened, may_rewrite=True)
        assert done.after < done.before / 2
        await opened.write(fill_again)
        await clear_in_parts(opened, filling.company(0), clock=SystemClock())
        assert free_pages(path) > 200
        await compact(opened, may_rewrite=False)
        assert free_pages(path) == 0
    finally:
        opened.close()


def fill_again(connection: Connection) -> None:
    again = filling.Filling(companies=1, total=2 * ROWS, largest=1.0)
    again.add_sessions(connection)
    again.add_messages(connection, range(ROWS, 2 * ROWS))


@pytest.mark.slow
async def test_postgres_is_vacuumed_and_says_what_full_would_do(postgres: PostgresProcess) -> None:
    """Beside everybody; the space of removed rows is used again, and only VACUUM FULL shrinks the files."""
    place: URL = parse(postgres.new_migrated())
    opened = Database(place)
    try:
        await opened.write(fill)
        await clear_in_parts(opened, filling.company(0), clock=SystemClock())
        done = await compact(opened, may_rewrite=False)
        assert done.after < done.before * 1.05  # its map of free space is new
        assert done.advice is None or "VACUUM FULL" in done.advice
        dead = postgres.rows(place.render_as_string(hide_password=False).replace("+psycopg", ""), _VACUUMED)
        assert dead == [(True,)]
    finally:
        opened.close()


_VACUUMED = "SELECT last_vacuum IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'outbox'"
