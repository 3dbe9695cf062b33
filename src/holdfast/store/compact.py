"""Returns the space of removed rows to the disk. It must never block the writes of a running gateway for long.

SQLite: a file of this version returns free pages in small transactions (incremental vacuum). An older file must be
rewritten once by VACUUM while nobody else uses it. PostgreSQL: VACUUM blocks nobody and makes the space usable again;
only VACUUM FULL, which locks the table, returns it to the disk.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from holdfast.base.errors import Conflict, HoldfastError
from holdfast.store import search_index
from holdfast.store.database import Database
from holdfast.store.tables import metadata

Progress = Callable[[str], None]

_PAGES_AT_ONCE = 256
_SHOWN_EVERY_PARTS = 200
_INCREMENTAL = 2
_MB = 1_000_000
_WORTH_FULL = 0.3
"""Unused share of a table from which VACUUM FULL is advised."""
_LARGE_BYTES = 16 * _MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """Size of the database in bytes before and after."""

    before: int
    after: int
    advice: str | None
    """What an operator could do to free more; None for nothing."""


class NoSpace(HoldfastError):
    """The disk lacks the space that a rewrite needs temporarily; nothing was changed."""

    code = "disk-full"


async def compact(database: Database, *, may_rewrite: bool, progress: Progress = lambda _: None) -> Compacted:
    """Return unused space to the disk.

    may_rewrite: nobody else uses the database.
    Raises `NoSpace`, and `Conflict` for a file that must be rewritten when `may_rewrite` is false.
    """
    for table in search_index.INDEXED:
        is_first = True
        while await database.write(functools.partial(search_index.optimize_part, table=table, is_first=is_first)):
            is_first = False
    if database.is_shared:
        return await database.maintain(lambda driver: _vacuum_postgres(driver, progress))
    file = await database.maintain(_File.of)
    if file.is_incremental:
        await _vacuum_in_parts(database, file, progress)
    elif file.free_bytes and not may_rewrite:
        raise Conflict(
            f"the database file was made by an older version, and its {file.free_bytes // _MB} unused MB can only be "
            "freed by rewriting it: stop Holdfast, run `holdfast compact`, and start Holdfast; from then on a "
            "running Holdfast can do it"
        )
    elif may_rewrite:
        file.refuse_without_space()
        progress(f"Rewriting {(file.bytes - file.free_bytes) // _MB} MB; this can take minutes …")
        await database.maintain(_rewrite)
    await database.maintain(_shrink_log)
    after = await database.maintain(_File.of)
    return Compacted(before=file.bytes, after=after.bytes, advice=None)


async def release_free_pages(database: Database, *, max_parts: int) -> None:
    """Return up to `max_parts` megabytes of free pages of an SQLite file; does nothing on PostgreSQL."""
    if not database.is_shared:
        for _ in range(max_parts):
            if not await database.write(_vacuum_part):
                break


async def refresh_statistics(database: Database) -> None:
    """Refresh the statistics of SQLite's query planner. PostgreSQL does so automatically."""
    if not database.is_shared:
        await database.write(_optimize)


def _optimize(connection: Connection) -> None:
    for pragma in ("analysis_limit=1000", "optimize"):
        connection.exec_driver_sql(f"PRAGMA {pragma}").close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    bytes: int
    """Size of the file and its write-ahead log."""
    free_bytes: int
    """Size of the unused pages."""
    is_incremental: bool

    @classmethod
    def of(cls, driver: Any) -> _File:
        """`driver`: a sqlite3 connection."""

        def pragma(name: str) -> int:
            return int(driver.execute(f"PRAGMA {name}").fetchone()[0])

        path = Path(driver.execute("PRAGMA database_list").fetchone()[2])
        log = path.with_name(f"{path.name}-wal")
        size = pragma("page_size")
        return cls(
            path=path,
            bytes=size * pragma("page_count") + (log.stat().st_size if log.exists() else 0),
            free_bytes=size * pragma("freelist_count"),
            is_incremental=pragma("auto_vacuum") == _INCREMENTAL,
        )

    def refuse_without_space(self) -> None:
        """Raises `NoSpace`. VACUUM writes the content to a temporary file, then to the log beside the database."""
        needed = self.bytes - self.free_bytes
        for folder in {self.path.parent, Path(tempfile.gettempdir())}:
            free = shutil.disk_usage(folder).free
            if free < 2 * needed:
                raise NoSpace(
                    f'rewriting the database needs {2 * needed // _MB} MB temporarily, and "{folder}" has '
                    f"{free // _MB}: make room there, or set TMPDIR to another disk; nothing was changed"
                )


async def _vacuum_in_parts(database: Database, file: _File, progress: Progress) -> None:
    total, done = file.free_bytes, 0
    while await database.write(_vacuum_part):
        done += 1
        if done % _SHOWN_EVERY_PARTS == 0:
            left = (await database.maintain(_File.of)).free_bytes
            progress(f"{max(total - left, 0) // _MB} of {total // _MB} MB freed …")


def _vacuum_part(connection: Connection) -> bool:
    """Return some free pages to the disk; false when there are none."""
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    if free == 0 or connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() != _INCREMENTAL:
        return False
    driver: Any = connection.connection.driver_connection
    for _ in range(min(free, _PAGES_AT_ONCE)):
        driver.execute("PRAGMA incremental_vacuum(1)")  # with a larger number Python would free only the first page
    left = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    return bool(left < free)


def _rewrite(driver: Any) -> None:
    """Rewrite the file so that it can return space in parts from now on."""
    driver.execute("PRAGMA auto_vacuum=INCREMENTAL")
    driver.execute("VACUUM")


def _shrink_log(driver: Any) -> None:
    driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _vacuum_postgres(driver: Any, progress: Progress) -> Compacted:
    """`driver`: a psycopg connection in autocommit mode."""
    before, large = 0, []
    names = [*metadata.tables, *(f"{table.name}_search" for table in search_index.INDEXED)]
    for name in names:
        before += _postgres_size(driver, name)
    for name in names:
        progress(f"{name} …")
        driver.execute(f"VACUUM (ANALYZE) {name}".encode())
        unused = _unused_bytes(driver, name)
        if unused > max(_WORTH_FULL * _postgres_size(driver, name), _LARGE_BYTES):
            large.append(f"{name} about {unused // _MB} MB")
    after = sum(_postgres_size(driver, name) for name in names)
    advice = (
        "new rows use the space of removed ones; VACUUM FULL would give it back to the disk, and locks the table for "
        f"minutes, so stop Holdfast first ({', '.join(large)})"
    )
    return Compacted(before=before, after=after, advice=advice if large else None)


def _postgres_size(driver: Any, name: str) -> int:
    return int(driver.execute("SELECT pg_total_relation_size(%s::regclass)", (name,)).fetchone()[0])


_UNUSED = """
SELECT pg_relation_size(c.oid) - c.reltuples * (28 + COALESCE((SELECT SUM(avg_width) FROM pg_stats
WHERE schemaname = n.nspname AND tablename = c.relname), 0))
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = %s::regclass
"""
"""An estimate from the statistics; the header of a row has 28 bytes."""


def _unused_bytes(driver: Any, name: str) -> int:
    return int(driver.execute(_UNUSED, (name,)).fetchone()[0] or 0)
