"""The database: opening it, bringing it to this version, and the one writer with group commit.

All writes go through one thread. It takes whatever has gathered, runs it in one transaction and commits once
(synchronous=FULL), so that a hundred waiting writes cost one wait for the disk. A write's future ends only when its
transaction is durable. Reads run beside it on connections of their own.

It must never report a write as done that is not on the disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from holdfast.base.errors import Misconfigured

T = TypeVar("T")
Work = Callable[[Connection], T]

_MOST_IN_A_GROUP = 512
_READERS = 4
_MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class _Write:
    work: Work[Any]
    done: Future[Any]


class Database:
    """An open database of this version. `close` waits for the writes that were begun."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the SQLite file at `path`. Raises `Misconfigured` with the cure."""
        self._lock = _lock(path.with_suffix(".lock"))
        self._is_closed = False
        self._engine = _engine(path)
        try:
            os.close(_open_private(path))  # SQLite would let everybody read it; its log gets the same mode
            _migrate(self._engine, path)
        except BaseException:
            self._engine.dispose()
            os.close(self._lock)
            raise
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_groups, name="holdfast-writer")
        self._writer.start()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="holdfast-reader")

    def write(self, work: Work[T]) -> Awaitable[T]:
        """Run `work` in a write transaction; awaiting it returns when that is durable.

        `work` may run twice: when another write of its group failed, each is run again in a transaction of its own.
        """
        if self._is_closed:
            raise RuntimeError("the database is closed: nothing can be written any more")
        done: Future[T] = Future()
        self._writes.put(_Write(work, done))
        return asyncio.wrap_future(done)

    def read(self, work: Work[T]) -> Awaitable[T]:
        """Run `work` on a snapshot of what is committed."""
        return asyncio.wrap_future(self._readers.submit(self._read, work))

    def close(self) -> None:
        self._is_closed = True
        self._writes.put(None)
        self._writer.join()
        self._readers.shutdown()
        self._engine.dispose()
        os.close(self._lock)

    def _read(self, work: Work[T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def _write_groups(self) -> None:
        with self._engine.connect().execution_options(immediate=True) as connection:
            while group := self._next_group():
                _run(connection, group)

    def _next_group(self) -> list[_Write]:
        """Blocks until there is a write; empty when the database closes."""
        group: list[_Write] = []
        while len(group) < _MOST_IN_A_GROUP:
            try:
                write = self._writes.get(block=not group)
            except queue.Empty:
                break
            if write is None:
                if group:
                    self._writes.put(None)
                break
            if write.done.set_running_or_notify_cancel():
                group.append(write)
        return group


def _run(connection: Connection, group: list[_Write]) -> None:
    """One transaction for the whole group; when it fails, one for each write, so that only the guilty one fails."""
    try:
        with connection.begin():
            results = [write.work(connection) for write in group]
    except Exception as error:  # noqa: BLE001 – handed to whoever waits for the write
        if len(group) == 1:
            group[0].done.set_exception(error)
        else:
            for write in group:
                _run(connection, [write])
        return
    for write, result in zip(group, results, strict=True):
        write.done.set_result(result)


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),  # a path may hold what a URL may not
        connect_args={"check_same_thread": False},
        hide_parameters=True,  # errors go to the log, and the parameters are keys and messages
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: sqlite3's own rules delay it to the first write
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _lock(path: Path) -> int:
    """Hold the data folder for this process: two gateways on one file would both run its sessions."""
    handle = _open_private(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise Misconfigured(
            f'the data folder "{path.parent}" is in use by another holdfast process: '
            "stop that one, or set HOLDFAST_DATA_DIR to another folder",
            field="HOLDFAST_DATA_DIR",
        ) from error
    return handle


def _open_private(path: Path) -> int:
    """Open a file, or make one that only its owner may read."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured(
            f'the data folder "{path.parent}" can\'t be written ({error.strerror}): '
            "give its user the right to, or set HOLDFAST_DATA_DIR to another folder",
            field="HOLDFAST_DATA_DIR",
        ) from error


def _migrate(engine: Engine, path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    try:
        with engine.connect() as connection:
            _refuse_newer(connection, config, path)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (SQLAlchemyError, CommandError) as error:
        raise Misconfigured(
            f'the database "{path}" can\'t be opened ({_cause(error)}): restore a backup, '
            "or move the file away to begin with an empty one"
        ) from error


def _refuse_newer(connection: Connection, config: Config, path: Path) -> None:
    found = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise Misconfigured(
            f'the database "{path}" has version {found}, newer than this Holdfast (up to {max(known)}): '
            "install the Holdfast that wrote it, or restore a backup made before the upgrade"
        )


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
