"""The SQLite database under the store: durable writes, group commit, opening, migrations, a full disk."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Hashable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, event

from holdfast.base.clock import SystemClock
from holdfast.base.errors import Conflict, Misconfigured
from holdfast.base.ids import SystemRandomSource
from holdfast.session.engine import Commit
from holdfast.store import search_index
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database, Refusal
from holdfast.store.tables import metadata

COMPANY = "962302"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "holdfast.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    opened = Database(path)
    yield opened
    opened.close()


@pytest.fixture
def commits() -> Iterator[list[int]]:
    """One entry for each COMMIT of any SQLAlchemy engine."""
    seen: list[int] = []

    def count(_: Connection) -> None:
        seen.append(1)

    event.listen(sqlalchemy.Engine, "commit", count)
    yield seen
    event.remove(sqlalchemy.Engine, "commit", count)


def insert(connection: Connection, id_: str) -> None:
    connection.exec_driver_sql(
        "INSERT INTO signal_keys (company_id, type, id, value) VALUES (?, 'session', ?, '{}')", (COMPANY, id_)
    )


def put(database: Database, id_: str, *, company: str | None = None) -> Awaitable[None]:
    return database.write(lambda connection: insert(connection, id_), company=company)


async def number(database: Database, pragma: str) -> int:
    """The value of a pragma on the writer's connection, after setting it if a value is given."""
    return int(await database.write(lambda connection: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()) or 0)


def ids(path: Path) -> list[str]:
    """The ids that another program reads from the file."""
    connection = sqlite3.connect(path)
    try:
        return [id_ for (id_,) in connection.execute("SELECT id FROM signal_keys ORDER BY id")]
    finally:
        connection.close()


class Gate:
    """A write that blocks the writer until it is released, so that others queue behind it."""

    def __init__(self, database: Database) -> None:
        self._loop = asyncio.get_running_loop()
        self._entered = asyncio.Event()
        self._open = threading.Event()
        self.write = database.write(self._hold)

    async def entered(self) -> None:
        await self._entered.wait()

    def release(self) -> None:
        self._open.set()

    def _hold(self, _: Connection) -> None:
        self._loop.call_soon_threadsafe(self._entered.set)
        assert self._open.wait(10)


# Writing.


async def test_the_writer_waits_for_the_disk(database: Database) -> None:
    """Write-ahead log and synchronous=FULL are set on the writer's connection: 2 is FULL."""

    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.write(pragmas) == ["wal", 2, 1]
    assert await database.read(pragmas) == ["wal", 2, 1]


async def test_a_finished_write_is_on_the_disk(database: Database, path: Path) -> None:
    """Another program can read it as soon as the future is done."""
    for transition in range(20):
        await put(database, f"{transition:02}")
        assert len(ids(path)) == transition + 1


async def test_queued_writes_are_committed_together(database: Database, path: Path, commits: list[int]) -> None:
    """A hundred writes cost two fsyncs."""
    gate = Gate(database)
    await gate.entered()
    writes = [put(database, f"{each:03}") for each in range(100)]
    gate.release()
    await asyncio.gather(gate.write, *writes)
    assert len(ids(path)) == 100
    assert len(commits) == 2


async def test_a_burst_leaves_room_for_the_writes_of_other_companies(
    database: Database, path: Path, commits: list[int]
) -> None:
    """The burst is committed in small groups; a write of another company is in the first of them, though it was queued
    last.
    """
    gate = Gate(database)
    await gate.entered()
    burst = [asyncio.ensure_future(put(database, f"{each:03}", company="busy")) for each in range(100)]
    other = put(database, "other", company="other")
    gate.release()
    await other
    assert sum(write.done() for write in burst) <= 50
    await database.caught_up()
    assert all(write.done() for write in burst)
    assert len(ids(path)) == 101
    assert len(commits) > 2  # on a slow disk so much time passes that the rest no longer counts as a burst
    await gate.write


async def test_closing_waits_for_a_burst(path: Path) -> None:
    """Also for the writes of a company that is slowed down in favour of others."""
    database = Database(path)
    for each in range(100):
        put(database, f"{each:03}", company="busy")
    put(database, "other", company="other")
    await asyncio.to_thread(database.close)
    assert len(ids(path)) == 101


async def test_a_failing_write_does_not_affect_others(database: Database, path: Path) -> None:
    """The other writes of its group are stored once, and nothing of the failed write."""
    gate = Gate(database)
    await gate.entered()

    def fails_late(connection: Connection) -> None:
        insert(connection, "half")
        insert(connection, "a")

    writes = [put(database, "a"), database.write(fails_late), put(database, "b")]
    gate.release()
    first, failed, second = await asyncio.gather(*writes, return_exceptions=True)
    await gate.write
    assert isinstance(failed, sqlalchemy.exc.IntegrityError)
    assert not isinstance(first, BaseException)
    assert not isinstance(second, BaseException)
    assert ids(path) == ["a", "b"]


async def test_a_refused_request_does_not_make_its_group_run_again(database: Database, commits: list[int]) -> None:
    """Its caller gets the error; the other writes run once and share one commit."""
    gate = Gate(database)
    await gate.entered()
    runs: list[str] = []

    def add(id_: str) -> Awaitable[None]:
        def work(connection: Connection) -> None:
            runs.append(id_)
            insert(connection, id_)

        return database.write(work)

    def refuse(_: Connection) -> Refusal | None:
        return Refusal(Conflict("used before"))

    first, refused, second = add("a"), database.write(refuse), add("b")
    gate.release()
    outcomes = await asyncio.gather(first, refused, second, gate.write, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), Conflict, type(None), type(None)]
    assert runs == ["a", "b"]
    assert len(commits) == 2


async def test_a_write_that_raises_makes_its_group_run_once_more(database: Database, commits: list[int]) -> None:
    """The writes of the group don't get a transaction and a wait for the disk each; announcements of the failed write
    are dropped.
    """
    gate = Gate(database)
    await gate.entered()
    heard: list[Hashable] = []
    database.listen(heard.extend)
    runs = 0

    def add(id_: str) -> Awaitable[None]:
        def work(connection: Connection) -> None:
            nonlocal runs
            runs += 1
            insert(connection, id_)

        return database.write(work)

    def fail(connection: Connection) -> None:
        insert(connection, "half")
        connection.info["taken"] = True
        raise LookupError

    def taken(connection: Connection) -> bool:
        return "taken" in connection.info

    writes = [add(f"{each:02}") for each in range(10)]
    failed = database.write(fail)
    after = [database.write(taken), *(add(f"{each:02}") for each in range(10, 20))]
    gate.release()
    outcomes = await asyncio.gather(failed, gate.write, *after, *writes, return_exceptions=True)
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == [outcomes[0]]
    assert isinstance(outcomes[0], LookupError)
    assert outcomes[2] is False
    assert runs == 10 + 20
    assert len(commits) == 2


async def test_a_write_whose_commit_is_in_doubt_is_not_tried_again(database: Database, path: Path) -> None:
    """The connection is lost during the commit: it may have taken effect, and here it has."""
    runs = 0

    def work(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        insert(connection, f"{runs}")

    def commit_and_lose(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.commit()
        driver.close()

    event.listen(sqlalchemy.Engine, "commit", commit_and_lose, once=True)
    with pytest.raises(sqlalchemy.exc.ProgrammingError, match="closed database"):
        await database.write(work)
    assert (runs, ids(path)) == (1, ["1"])
    await put(database, "2")
    assert ids(path) == ["1", "2"]


async def test_a_write_sees_those_before_it(database: Database) -> None:
    """Also those of its own group: an engine's reads come after its commits."""
    gate = Gate(database)
    await gate.entered()
    written = put(database, "a")
    found = database.write(lambda connection: connection.exec_driver_sql("SELECT id FROM signal_keys").scalar())
    gate.release()
    await asyncio.gather(gate.write, written)
    assert await found == "a"


async def test_reads_do_not_wait_for_the_writer(database: Database) -> None:
    """They see committed rows while a write is running."""
    gate = Gate(database)
    await gate.entered()
    assert await database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1
    gate.release()
    await gate.write


async def test_errors_contain_no_values(database: Database) -> None:
    """Keys and texts must not reach a log through an exception."""
    rows = EngineRows(database, clock=SystemClock(), randomness=SystemRandomSource())
    await database.write(lambda connection: connection.exec_driver_sql("DROP TABLE signal_keys"))
    with pytest.raises(sqlalchemy.exc.OperationalError) as failed:
        await rows.commit(COMPANY, Commit(link=1, seq=1, keys={"session": {"a": "a private key"}}))
    assert "no such table" in str(failed.value)
    assert "a private key" not in str(failed.value)


async def test_closing_waits_for_queued_writes(path: Path) -> None:
    """A graceful stop loses none."""
    database = Database(path)
    writes = [put(database, f"{each:03}") for each in range(50)]
    database.close()
    assert len(ids(path)) == 50
    await asyncio.gather(*writes)


async def test_a_write_to_a_closed_database_fails(path: Path) -> None:
    """It does not wait forever for a writer that has ended."""
    database = Database(path)
    database.close()
    with pytest.raises(RuntimeError, match="closed"):
        await database.write(lambda connection: None)


# A full disk.


async def test_a_full_disk_fails_the_write_and_not_the_writer(database: Database, path: Path) -> None:
    """No write is partial, other writes of the group that still fit are stored, and the writer continues when there is
    space.
    """

    used = await number(database, "page_count")
    await number(database, f"max_page_count={used}")
    rows = EngineRows(database, clock=SystemClock(), randomness=SystemRandomSource())
    large: dict[str, str | None] = {f"{each}": "x" * 1000 for each in range(500)}
    with pytest.raises(sqlalchemy.exc.OperationalError, match="database or disk is full"):
        await rows.commit(COMPANY, Commit(link=1, seq=1, credentials="new", paired=True, keys={"session": large}))
    assert ids(path) == []
    assert not database.is_writable
    assert await rows.credentials(COMPANY) is None
    await rows.commit(COMPANY, Commit(link=1, seq=2, keys={"session": {"small": "{}"}}))
    assert ids(path) == ["small"]
    assert database.is_writable
    await number(database, f"max_page_count={used + 1000}")
    await rows.commit(COMPANY, Commit(link=1, seq=3, keys={"session": large}))
    assert len(ids(path)) == 501


# Killed.


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from holdfast.store.database import Database

path = Path(sys.argv[1])

async def write(name):
    database = Database(path)
    for turn in range(10**6):
        ids = [f"{name}-{turn}-{number}" for number in range(turn % 7 + 1)]
        insert = "INSERT INTO signal_keys (company_id, type, id, value) VALUES ('962302', 'session', ?, '{}')"
        async def one(id_):
            await database.write(lambda connection: connection.exec_driver_sql(insert, (id_,)))
            os.write(1, f"{id_}\\n".encode())
        await asyncio.gather(*map(one, ids))

for name in range(20):
    there, back = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(back, 1)
        asyncio.run(write(name))
    os.close(back)
    with os.fdopen(there, "rb") as lines:
        said = [lines.readline() for _ in range(5 + 3 * name)]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        said += lines.readlines()
    os.write(1, b"".join(line for line in said if line.endswith(b"\\n")))
"""


def test_acknowledged_writes_survive_a_killed_process(path: Path) -> None:
    """Twenty times a process is killed during its writes: every id that it reported is found."""
    run = subprocess.run(
        [sys.executable, "-c", _KILLED, str(path)], stdout=subprocess.PIPE, check=True, timeout=60, text=True
    )
    said = run.stdout.split()
    assert len({line.split("-")[0] for line in said}) == 20
    assert set(said) <= set(ids(path))


# Opening.


def test_a_second_process_on_one_data_folder_is_refused(path: Path) -> None:
    """Two would both run its sessions. The lock goes with the process, however it ends."""
    database = Database(path)
    try:
        with pytest.raises(Misconfigured, match="is in use by another holdfast process: stop that one"):
            Database(path)
    finally:
        database.close()
    Database(path).close()


def test_a_folder_that_cannot_be_written_is_reported_with_the_cure(tmp_path: Path) -> None:
    """Also for root, who may write anywhere except below a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match=r"can't be written \(Not a directory\): .* set HOLDFAST_DATA_DIR"):
        Database(tmp_path / "file" / "holdfast.db")


def test_a_file_that_is_not_a_database_is_reported_and_not_changed(path: Path) -> None:
    """And the folder can be used as soon as the file is gone."""
    path.write_bytes(b"these are my holiday pictures" * 100)
    with pytest.raises(Misconfigured, match=r"can't be opened \(file is not a database\): restore a backup"):
        Database(path)
    assert path.read_bytes().startswith(b"these are my holiday pictures")
    path.unlink()
    Database(path).close()


def test_a_file_of_a_newer_version_is_refused_and_not_changed(path: Path) -> None:
    """An older Holdfast could damage it."""
    Database(path).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(Misconfigured, match=r"has version 9999, newer than this Holdfast .* install the Holdfast that"):
        Database(path)


@pytest.mark.parametrize("name", ["a b", "50%", "what?x=1", "naïve#"])
async def test_a_data_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """The path is a path, not a URL."""
    folder = tmp_path / name
    folder.mkdir()
    database = Database(folder / "holdfast.db")
    await put(database, "a")
    database.close()
    assert ids(folder / "holdfast.db") == ["a"]


async def test_nobody_else_may_read_the_files(database: Database, path: Path) -> None:
    """The files contain credentials and messages."""
    await put(database, "a")
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes) == {"holdfast.db", "holdfast.db-wal", "holdfast.db-shm", "holdfast.lock"}
    assert set(modes.values()) == {0o600}


# Migrations.


def test_the_migrations_make_the_tables_that_the_code_knows(path: Path) -> None:
    """By Alembic's comparison, and word for word in SQLite's own record of each table and index."""
    Database(path).close()
    migrated = create_engine(f"sqlite:///{path}")
    with migrated.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": is_no_search_index}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    migrated.dispose()
    fresh = path.with_name("fresh.db")
    made = create_engine(f"sqlite:///{fresh}")
    with made.begin() as connection:
        metadata.create_all(connection)
        search_index.create(connection)
    made.dispose()
    assert schema(path) == schema(fresh)


def is_no_search_index(name: str | None, type_: str, _: object) -> bool:
    """Its tables are the databases' own, so SQLAlchemy has none of them."""
    return type_ != "table" or "_search" not in str(name)


def schema(path: Path) -> dict[str, set[str]]:
    """The parts of each table's and index's definition, sorted: their order has no meaning, and a column that was added
    later is on the line of the one before it.
    """
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    finally:
        connection.close()
    return {name: set(parts(sql)) for name, sql in rows if not name.startswith(("alembic_version", "sqlite_"))}


def parts(sql: str) -> list[str]:
    """A definition, split at the commas outside of inner brackets."""
    head, _, inner = sql.replace('"', "").partition("(")
    inner, _, tail = inner.rpartition(")")
    return [" ".join(part.split()) for part in [head, *re.split(r",(?![^(]*\))", inner), tail]]


def test_migrating_again_changes_nothing(path: Path) -> None:
    """A start on a database of this version leaves it as it is."""
    Database(path).close()
    before = schema(path)
    Database(path).close()
    assert schema(path) == before
