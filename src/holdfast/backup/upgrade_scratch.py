"""Converts a backup of an older schema version: it fills a temporary database of that version and migrates it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, MetaData, create_engine

from holdfast.backup import rows
from holdfast.backup.archive import ArchiveReader
from holdfast.store.migrate import migrate
from holdfast.store.tables import metadata


class UpgradeScratch:
    """A temporary database of this version."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, table: str) -> tuple[Sequence[str], Iterator[Sequence[Any]]]:
        known = metadata.tables[table]
        return known.columns.keys(), rows.read(self._connection, known)


@contextlib.contextmanager
def upgraded(reader: ArchiveReader, folder: Path) -> Iterator[UpgradeScratch]:
    """Yield the content of the backup, migrated to this version, from a temporary database in `folder`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".forward-") as name:
        engine = create_engine(
            URL.create("sqlite", database=str(Path(name) / "scratch.db")),
            connect_args={"check_same_thread": False},
            hide_parameters=True,
        )
        try:
            with engine.connect() as connection:
                migrate(connection, "scratch", to=reader.manifest.revision)
                _fill(connection, reader)
                migrate(connection, "scratch")
                yield UpgradeScratch(connection)
        finally:
            engine.dispose()


def _fill(connection: Connection, reader: ArchiveReader) -> None:
    then = MetaData()
    then.reflect(connection)
    for table in then.sorted_tables:
        if table.name in reader.manifest.tables:
            columns, values = reader.rows(table.name)
            for _ in rows.write(connection, table, columns, values):
                pass
    connection.commit()
