"""Stores the server's records in one SQLite file, so that a restart finds everything again.

The caller groups writes. They survive the death of the process, but not a crash of the machine.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID
"""


class StoreInUse(Exception):
    """Another process uses the state directory."""


class Store:
    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(directory / "wasim.sqlite3", isolation_level=None, timeout=0.5)
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise StoreInUse(f"the state directory {directory} can't be opened: {error}; is it in use?") from error

    def _prepare(self) -> None:
        """Lock the file for this process until it is closed."""
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("BEGIN EXCLUSIVE")
        self._connection.execute(_SCHEMA)
        self._connection.execute("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def records(self) -> Iterator[tuple[str, str, bytes]]:
        yield from self._connection.execute("SELECT kind, key, value FROM records")

    def write(self, changes: dict[tuple[str, str], bytes | None]) -> None:
        """Commit all of these changes, or none."""
        puts = [(kind, key, value) for (kind, key), value in changes.items() if value is not None]
        deletes = [name for name, value in changes.items() if value is None]
        self._connection.execute("BEGIN")
        try:
            self._connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", puts)
            self._connection.executemany("DELETE FROM records WHERE kind = ? AND key = ?", deletes)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
