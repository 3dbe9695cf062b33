"""Fills the databases of `bench.big_store`, and keeps them: filling takes minutes, copying them seconds."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import URL, Connection, Index

from holdfast.backup.rows import count_on
from holdfast.base.clock import iso
from holdfast.store import search_index
from holdfast.store.contact_backfill import fill_part
from holdfast.store.database import Database
from holdfast.store.postgres import parse
from holdfast.store.tables import events, inbox, outbox, webhook_deliveries
from tests import filling
from tests.postgres_process import PostgresProcess, own_by_postgres

EVENTS = 0.39
"""Events of the last week for each message: five of an outbound and an inbound one together."""
_AT_ONCE = 100_000
"""Rows that worker processes make ahead of the database; they are in memory."""
_SERVER = "-c fsync=on -c maintenance_work_mem=1GB"
"""The tests' PostgreSQL does not wait for the disk; an operator's does. The memory is for making indexes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    rows: int
    """Messages each way."""
    companies: int

    @property
    def name(self) -> str:
        return f"{self.rows}_of_{self.companies}"


class SqliteStores:
    """SQLite files in a folder."""

    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def filled(self, size: Size, data_dir: Path) -> Path:
        """Copy the kept database, which is filled first if needed, into the data folder of a gateway."""
        kept = self._folder / f"{size.name}.db"
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=self._folder) as name:
                asyncio.run(_fill(Path(name) / "holdfast.db", size))
                (Path(name) / "holdfast.db").rename(kept)
        data_dir.mkdir(parents=True)
        return Path(shutil.copyfile(kept, data_dir / "holdfast.db"))


class PostgresStores:
    """Databases of one PostgreSQL."""

    name = "PostgreSQL"

    def __init__(self, server: PostgresProcess) -> None:
        self._server = server

    def filled(self, size: Size, data_dir: Path) -> URL:
        """As with SQLite; a template database is kept."""
        data_dir.mkdir(parents=True)
        template = f"filled_{size.name}"
        with self._server.operator() as operator:
            found = operator.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test_%'").fetchall()
            for (name,) in found:
                operator.execute(f"DROP DATABASE {name}".encode())
            is_kept = operator.execute("SELECT 1 FROM pg_database WHERE datname = %s", (template,)).fetchone()
        if not is_kept:
            url = parse(self._server.new_database())
            asyncio.run(_fill(url, size))
            with self._server.operator(address(url)) as operator:
                operator.execute("VACUUM (ANALYZE)")
            with self._server.operator() as operator:
                operator.execute(f"ALTER DATABASE {url.database} RENAME TO {template}".encode())
        return parse(self._server.new_database(template=template))


@contextlib.contextmanager
def sqlite_stores(folder: Path) -> Iterator[SqliteStores]:
    yield SqliteStores(folder)


@contextlib.contextmanager
def postgres_stores(folder: Path) -> Iterator[PostgresStores]:
    """Run a server of the bench's own, whose cluster is kept in the folder."""
    cluster = folder / "postgres"
    is_new = not cluster.exists()
    cluster.mkdir(exist_ok=True)
    own_by_postgres(cluster)
    server = PostgresProcess(cluster, options=_SERVER)
    if is_new:
        server.create()
    with server.ends_with_this(keeps_folder=True):
        server.start()
        try:
            yield PostgresStores(server)
        finally:
            server.stop()


def address(url: URL) -> str:
    """As an operator writes it, with the password."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


async def _fill(place: Path | URL, size: Size) -> None:
    now = datetime.now(UTC)
    history = filling.Filling(companies=size.companies, total=size.rows, first=now - timedelta(days=filling.DAYS))
    lately = filling.Filling(
        companies=size.companies, total=int(size.rows * EVENTS), first=now - timedelta(days=6.9), days=7
    )
    began_at = time.monotonic()
    database = Database(place)
    with contextlib.closing(database), ProcessPoolExecutor(os.cpu_count()) as makers:
        await database.write(history.add_sessions)
        await database.write(_drop_indexes)
        for make, each in ((history.messages, history), (lately.events, lately)):
            for start in range(0, each.total, _AT_ONCE):
                numbers = range(start, min(each.total, start + _AT_ONCE))
                for part in makers.map(functools.partial(_listed, make), filling.batches(numbers)):
                    await database.write(functools.partial(_load, part=part))
                print(f"  {time.monotonic() - began_at:5.0f} s: {numbers.stop}", file=sys.stderr, flush=True)
        await database.write(_create_indexes)
        await database.write(count_on)
        while await database.write(functools.partial(fill_part, now=iso(now))):
            pass  # else the gateway would do it while it is measured
        await database.write(lambda connection: connection.exec_driver_sql("ANALYZE").close())
    print(f"  filled in {time.monotonic() - began_at:.0f} s", file=sys.stderr, flush=True)


def _listed(make: Callable[[Sequence[int]], Iterable[filling.Rows]], numbers: Sequence[int]) -> list[filling.Rows]:
    return list(make(numbers))


def _load(connection: Connection, part: Sequence[filling.Rows]) -> None:
    for rows in part:
        filling.load(connection, rows)


def _secondary() -> list[Index]:
    return [index for table in (outbox, inbox, events, webhook_deliveries) for index in table.indexes]


def _drop_indexes(connection: Connection) -> None:
    """Filling is several times faster without indexes."""
    for index in _secondary():
        index.drop(connection)
    search_index.drop_lookup(connection)


def _create_indexes(connection: Connection) -> None:
    for index in _secondary():
        index.create(connection)
    search_index.create_lookup(connection)
