"""Moves everything from one database to another: from SQLite to PostgreSQL, or back.

The target gets all rows in one transaction, which is committed only after they were read back and compared with the
source, so an interrupted move leaves an empty target. Ratchets are copied as they are, because the source is marked and
never runs again. Between the two commits the target is marked as incomplete; so at no moment can both be used.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, select, text

from holdfast.backup import rows
from holdfast.backup.company import node_in_use
from holdfast.backup.creating import Progress
from holdfast.base.errors import Conflict
from holdfast.store import moved, search_index
from holdfast.store.database import Database
from holdfast.store.shared_secrets import noted
from holdfast.store.tables import notes, sessions

_MIN_REPORTED_ROWS = 1000
_NUMBERED = tuple(table for table in rows.KEPT if "seq" in table.primary_key.columns)


@dataclass(frozen=True, slots=True)
class TableDigest:
    """Number and hash of the rows of a table, whatever their order."""

    rows: int = 0
    total: int = 0

    def with_row(self, row: Sequence[Any]) -> TableDigest:
        encoded = repr(tuple(_plain(value) for value in row)).encode()
        return TableDigest(self.rows + 1, (self.total + int.from_bytes(hashlib.sha256(encoded).digest())) % 2**256)

    @property
    def sha256(self) -> str:
        return f"{self.total:064x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveResult:
    tables: dict[str, TableDigest]
    """What both databases have, by table."""
    sessions: int

    @property
    def rows(self) -> int:
        return sum(digest.rows for digest in self.tables.values())


class Mover:
    """Moves between two databases that nothing else uses."""

    def __init__(self, source: Database, target: Database, *, source_name: str, target_name: str) -> None:
        """The names are shown to people: without passwords."""
        self._source, self._target = source, target
        self._source_name, self._target_name = source_name, target_name
        self._progress: Progress = lambda line: None

    async def move(self, progress: Progress) -> MoveResult:
        """Copy, compare, and mark the source. Raises `Conflict`, and then nothing is changed in the source.

        `progress` is called in any thread.
        """
        self._progress = progress
        self._report("Both databases are checked …")
        if await self._was_interrupted_at_its_end():
            return await self._target.write(self._finish)
        await self._source.read(moved.refuse_moved)
        await self._source.read(refuse_running)
        await self._target.read(_refuse_filled)
        result = await self._copy()
        self._report("The copy is committed …")
        # Until the next line is done, the target refuses to run; from then on the source does.
        await self._source.write(self._mark_source)
        self._report("The original is marked …")
        await self._target.write(lambda connection: moved.unmark(connection, moved.FILLED_FROM))
        return result

    def _report(self, line: str) -> None:
        self._progress(line)

    async def _copy(self) -> MoveResult:
        """In one snapshot of the source and one transaction of the target."""
        loop = asyncio.get_running_loop()

        def read(source: Connection) -> MoveResult:
            _wait_for_the_other(source)
            refuse_running(source)  # a process that starts now waits until this transaction ends

            async def write() -> MoveResult:
                return await self._target.write(lambda target: self._fill(source, target))

            return asyncio.run_coroutine_threadsafe(write(), loop).result()

        return await self._source.read(read)

    async def _was_interrupted_at_its_end(self) -> bool:
        """Everything is copied, and only the mark of the target is left."""
        to = await self._source.read(lambda connection: noted(connection, moved.MOVED_TO))
        filled_from = await self._target.read(lambda connection: noted(connection, moved.FILLED_FROM))
        return (to, filled_from) == (self._target_name, self._source_name)

    def _finish(self, target: Connection) -> MoveResult:
        moved.unmark(target, moved.FILLED_FROM)
        digests = {table.name: _digest(target, table) for table in rows.KEPT}
        return MoveResult(tables=digests, sessions=digests[sessions.name].rows)

    def _mark_source(self, source: Connection) -> None:
        refuse_running(source)
        moved.mark(source, moved.MOVED_TO, self._target_name)

    def _fill(self, source: Connection, target: Connection) -> MoveResult:
        _wait_for_the_other(target)
        refuse_running(target)
        _refuse_filled(target)
        rows.empty(target)
        search_index.drop_lookup(target)
        digests = {table.name: _copy_table(source, target, table, self._report) for table in rows.KEPT}
        self._report("The copy is compared with the original …")
        for table in rows.KEPT:
            if (copied := _digest(target, table)) != digests[table.name]:
                raise Conflict(
                    f"table {table.name} has {copied.rows} rows in the copy, and {digests[table.name].rows} in the "
                    "original, or different ones: nothing was moved; please report this"
                )
        rows.count_on(target)
        for table in _NUMBERED:
            rows.continue_from(target, table, rows.first_free(source, table))
        search_index.create_lookup(target)
        moved.mark(target, moved.FILLED_FROM, self._source_name)
        return MoveResult(tables=digests, sessions=digests[sessions.name].rows)


def _wait_for_the_other(connection: Connection) -> None:
    """While one database works, the transaction of the other one is idle for longer than otherwise allowed."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def refuse_running(connection: Connection) -> None:
    """Raises `Conflict` while a Holdfast process runs a session of a shared database."""
    node = node_in_use(connection)
    if node is not None:
        raise Conflict(
            f'a database is in use by the Holdfast process "{node}": stop all processes that use it, and move again'
        )


def _refuse_filled(target: Connection) -> None:
    """Raises `Conflict` unless the target is empty, or has what an interrupted move left there."""
    if noted(target, moved.FILLED_FROM) is not None:
        return
    filled = next((table.name for table in rows.KEPT if table is not notes and _has_rows(target, table)), None)
    if filled is not None:
        raise Conflict(f"the target is not empty (it has rows of {filled}): a move never overwrites anything")


def _has_rows(connection: Connection, table: Table) -> bool:
    return connection.execute(select(table).limit(1)).first() is not None


def _copy_table(source: Connection, target: Connection, table: Table, report: Progress) -> TableDigest:
    count = source.scalar(select(func.count()).select_from(table)) or 0
    if count >= _MIN_REPORTED_ROWS:
        report(f"{table.name}: {count} rows …")
    digest = TableDigest()

    def counted() -> Iterator[Sequence[Any]]:
        nonlocal digest
        for row in rows.read(source, table):
            digest = digest.with_row(row)
            yield row

    for batch in rows.write(target, table, [column.name for column in table.columns], counted()):
        if table in search_index.INDEXED:
            search_index.add_all(target, table, batch)
    return digest


def _digest(connection: Connection, table: Table) -> TableDigest:
    digest = TableDigest()
    for row in rows.read(connection, table):
        digest = digest.with_row(row)
    return digest


def _plain(value: Any) -> Any:
    """The same for both databases."""
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return int(value) if isinstance(value, bool) else value
