"""Opens SQLite in the data folder: one process, one file, and writes that are on the disk when they return."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from holdfast.base.errors import Misconfigured
from holdfast.store.connection import Opened
from holdfast.store.database_failures import cause_of
from holdfast.store.migrate import log_migration, migrate

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000")


def open_sqlite(path: Path) -> Opened:
    """Open or create the file at `path`. Raises `Misconfigured` with the cure."""
    lock = _lock(path.with_suffix(".lock"))
    engine = _engine(path)

    def close() -> None:
        engine.dispose()
        os.close(lock)

    try:
        os.close(_open_private(path))  # SQLite would make it readable for all; its log gets the same mode
        _migrate(engine, path)
    except BaseException:
        close()
        raise
    writing = engine.execution_options(immediate=True)
    return Opened(writing=writing, reading=engine, is_shared=False, close=close)


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),  # a path may have characters that a URL may not
        connect_args={"check_same_thread": False},
        hide_parameters=True,  # errors go to the log, and the parameters are keys and messages
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # BEGIN is sent below: sqlite3 would delay it to the first write
        if connection.execute("PRAGMA page_count").fetchone() == (0,):
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # with content in the file, only VACUUM changes it
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _lock(path: Path) -> int:
    """Lock the data folder for this process: two gateways on one file would both run its sessions."""
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
    """Open a file; a new one is readable for its owner only."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured(
            f'the data folder "{path.parent}" can\'t be written ({error.strerror}): '
            "give the user of Holdfast permission to write there, or set HOLDFAST_DATA_DIR to another folder",
            field="HOLDFAST_DATA_DIR",
        ) from error


def _migrate(engine: Engine, path: Path) -> None:
    try:
        with engine.connect() as connection:
            log_migration(connection, str(path))
            migrate(connection, str(path))
            # Without statistics the planner chooses wrong indexes. Sampling each index takes milliseconds.
            connection.exec_driver_sql("PRAGMA analysis_limit=1000")
            connection.exec_driver_sql("ANALYZE")
            connection.commit()
    except SQLAlchemyError as error:
        raise Misconfigured(
            f'the database "{path}" can\'t be opened ({cause_of(error)}): restore a backup, '
            "or move the file away to start with an empty one"
        ) from error
