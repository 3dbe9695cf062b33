"""Databases and backups of earlier versions, opened by this one. The stored files never change."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, MetaData, create_engine, event, select, text

from holdfast.backup import rows
from holdfast.backup.archive import ArchiveWriter
from holdfast.backup.backup_dir import Opener
from holdfast.backup.creating import BackupMaker, BackupOrigin
from holdfast.backup.manifest import CompanySummary, Manifest
from holdfast.backup.restoring import Restorer
from holdfast.base.clock import SystemClock
from holdfast.delivery.message import MessageState
from holdfast.store import migrations, search_index
from holdfast.store.database import Database
from holdfast.store.inbox import InboxRows
from holdfast.store.migrate import migrate, revisions
from holdfast.store.outbox import OutboxRows
from holdfast.store.postgres import parse
from holdfast.store.sessions import SessionRows
from holdfast.store.tables import leases
from tests import filling
from tests.doubles.fake_clock import FakeClock
from tests.postgres_process import PostgresProcess

STORED = Path(__file__).parents[1] / "stored"
COMPANY = "962302"

Rows = Mapping[str, list[dict[str, Any]]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path | URL:
    """A database of the first released version, with something in every table."""
    script = (STORED / f"holdfast-0001.{request.param}.sql").read_text()
    if request.param == "sqlite":
        return _sqlite(tmp_path / "holdfast.db", script)
    server: PostgresProcess = request.getfixturevalue("postgres")
    url = server.new_database()
    with server.operator(url) as operator:
        operator.execute(script.encode())
    return parse(url)


def _sqlite(path: Path, script: str) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def contents(place: Path | URL) -> Rows:
    """Every row of every table, whatever its version."""
    engine = create_engine(URL.create("sqlite", database=str(place)) if isinstance(place, Path) else place)
    with engine.connect() as connection:
        found = _contents(connection)
    engine.dispose()
    return found


def _contents(connection: Connection) -> Rows:
    known = MetaData()
    known.reflect(connection)
    return {
        table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
        for table in known.tables.values()
        if table.name not in {"alembic_version", "sqlite_sequence", leases.name}
    }


def is_kept(before: Rows, after: Rows) -> bool:
    """Whether each old row exists with each of its values; new columns may be added."""
    for table, its_rows in before.items():
        left = list(after[table])
        for row in its_rows:
            left.remove(next(new for new in left if row.items() <= new.items()))
        assert not left, f"{table} has rows that nobody wrote: {left}"
    return True


async def test_a_database_of_the_first_version_is_migrated_with_all_its_data(old: Path | URL) -> None:
    """Nothing is lost or changed, and the columns and tables of newer versions have the right content."""
    before = contents(old)
    assert all(before.values()), "the stored file has something in every table"
    database = Database(old)
    try:
        records = await SessionRows(database).all()
        outbox = OutboxRows(database, clock=SystemClock())
        messages = await outbox.messages(COMPANY, state=None, after=0, limit=9)
        inbox = await InboxRows(database).received(COMPANY, after=0, limit=9)
    finally:
        database.close()
    after = contents(old)
    assert is_kept(before, after)
    assert [record.state for record in records] == ["connected", "logged_out", "unpaired"]
    assert [message.state for message in messages] == [
        MessageState.DELIVERED,
        MessageState.SENT,
        MessageState.SENDING,
        MessageState.QUEUED,
        MessageState.FAILED,
    ]
    assert messages[0].recipient == "962777"
    assert [item.text for item in inbox] == ["Hallo, wie gehts?", None]
    assert {row["chat"]: row["first_sent_at"] for row in after["chats"]} == {
        "962777@s.whatsapp.net": "2026-11-02T10:00:00.000Z",
        "962888@s.whatsapp.net": None,
    }


def test_indexing_messages_for_search_continues_after_an_interruption(old: Path | URL) -> None:
    """Each part is committed: the next start indexes the rest, and no message twice."""
    engine = create_engine(URL.create("sqlite", database=str(old)) if isinstance(old, Path) else old)
    commits = itertools.count(1)

    def interrupt(_: Connection) -> None:
        if next(commits) == 3:  # the tables are made, a first part is indexed, the second is not committed
            raise InterruptedError

    with engine.connect() as connection:
        migrate(connection, "old", to="0007")
        some = filling.Filling(companies=3, total=2_500)
        some.add_sessions(connection)
        for rows_ in some.messages(range(100, 2_600)):
            if "_search" not in rows_.table:
                filling.load(connection, rows_)
        connection.commit()
        event.listen(connection, "commit", interrupt)
        with pytest.raises(InterruptedError):
            search_index.create_in_parts(connection)
    engine.dispose()
    assert counted(old, "outbox_search") == 2000
    Database(old).close()
    for name in ("outbox", "inbox"):
        assert counted(old, f"{name}_search") == counted(old, name)


def counted(place: Path | URL, table: str) -> int:
    engine = create_engine(URL.create("sqlite", database=str(place)) if isinstance(place, Path) else place)
    with engine.connect() as connection:
        count = connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one()
    engine.dispose()
    return int(count)


@pytest.mark.slow
def test_older_nodes_write_while_an_index_is_built(postgres: PostgresProcess) -> None:
    """Also while another process waits to migrate, and where an earlier attempt was interrupted."""
    url = postgres.new_database()
    engine = create_engine(parse(url))
    with engine.connect() as connection:
        migrate(connection, "test", to="0018")
    engine.dispose()
    insert = "INSERT INTO chats (company_id, chat) VALUES ('{}', 'c')"
    with postgres.operator(url) as first, postgres.operator(url) as other, ThreadPoolExecutor(2) as threads:
        other.execute("CREATE INDEX inbox_by_time ON inbox (company_id)")
        other.execute("SET lock_timeout = '2s'")
        with first.transaction():
            first.execute(insert.format("a").encode())
            migrating = [threads.submit(Database, parse(url)) for _ in range(2)]
            waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%'"
            while postgres.rows(url, waits) != [(1,)]:
                time.sleep(0.05)
            other.execute(insert.format("b").encode())
        for database in migrating:
            database.result().close()
        broken = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        assert postgres.rows(url, broken) == [(0,)]


async def test_a_backup_of_the_first_version_is_restored(tmp_path: Path) -> None:
    """It is migrated during the restore, and no temporary file is left in the folder."""
    path = _sqlite(tmp_path / "old.db", (STORED / "holdfast-0001.sqlite.sql").read_text())
    before = contents(path)
    file = _backup_of_then(path, tmp_path / "old.backup")
    folder, database = tmp_path / "backups", Database(tmp_path / "new.db")
    try:
        maker = BackupMaker(database, folder, origin=BackupOrigin(made_by="now", settings={}))
        restorer = Restorer(database, maker, folder=folder, opener=Opener(), clock=FakeClock())
        await restorer.restore(file, progress=lambda _: None)
    finally:
        database.close()
    assert is_kept(before, contents(tmp_path / "new.db"))
    assert list(folder.iterdir()) == []


def _backup_of_then(path: Path, file: Path) -> Path:
    engine, known = create_engine(URL.create("sqlite", database=str(path))), MetaData()
    with engine.connect() as connection, ArchiveWriter(file) as archive:
        known.reflect(connection)
        tables = [table for table in known.sorted_tables if table.name not in {"alembic_version", leases.name}]
        parts = {
            table.name: archive.add(table.name, table.columns.keys(), rows.read(connection, table)) for table in tables
        }
        company = CompanySummary(company_id=COMPANY, state="stopped", is_paired=True, keys="")
        manifest = Manifest(
            format=1,
            created_at="2026-01-01T00:00:00.000Z",
            made_by="0.1.0",
            revision="0001",
            kind="manual",
            companies=(company,),
            tables=parts,
            settings={},
        )
        archive.finish(manifest)
    engine.dispose()
    return file


def test_a_migration_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before it begins, with both versions. A database that is up to date is opened without a log line."""
    caplog.set_level("INFO", logger="holdfast.store.migrate")
    path = _sqlite(tmp_path / "holdfast.db", (STORED / "holdfast-0001.sqlite.sql").read_text())
    for _ in range(2):
        Database(path).close()
    assert [record.getMessage() for record in caplog.records] == [
        f"Migrating the database {path} from version 0001 to {revisions()[0]}"
    ]


def test_migrations_have_the_revisions_of_their_file_names() -> None:
    """Opening a database reads only the file names: alembic finds the same revisions, in the same order."""
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent)).walk_revisions()
    assert [script.revision for script in scripts] == revisions()
