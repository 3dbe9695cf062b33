"""The database, SQLite or PostgreSQL, and the one writer with group commit.

All writes go through one thread. It runs a group of waiting writes in one transaction and commits once, so that a
hundred writes cost one wait for the disk; `WriteQueue` keeps this fair between companies. A write's future ends only
when its transaction is durable. Reads run in other threads, on connections of their own. A lost connection is replaced;
a write that was certainly not committed is then retried once, any other fails. While the server accepts no connections,
for example during a restart, reads and writes wait for some seconds before they fail.

It must never report a write as done before it is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from holdfast.base.clock import SystemClock
from holdfast.store.brief_writer import BriefWriter
from holdfast.store.connection import GROUP_COMPANIES
from holdfast.store.postgres import open_postgres
from holdfast.store.sqlite import open_sqlite
from holdfast.store.write_queue import CommitGroup, WriteQueue

T = TypeVar("T")

_READERS = 4
_TRIES = 3
PATIENCE_S = 6.0
"""How long reads and writes wait for a server that accepts no connections: about as long as leases last."""
_PAUSE_S = 0.25
_ANNOUNCED = "holdfast.announced"
_AT_END = "holdfast.at-end"
_SURELY_ROLLED_BACK = {"40001", "40P01"}
"""SQLSTATE of transactions that PostgreSQL rolled back because of others: serialization failure, deadlock."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Returned by a write to refuse its request: awaiting the write raises `error`.

    For ordinary refusals, such as a used Idempotency-Key. A refused write must not have changed anything: unlike with
    an exception, the transaction of its group commits, so the other writes need not run again.
    """

    error: Exception


Work = Callable[[Connection], T | Refusal]


@dataclass(frozen=True, slots=True)
class _Write:
    work: Work[Any]
    done: asyncio.Future[Any]
    company: str | None
    last: bool


_Listener = Callable[[Collection[Hashable]], None]
_Outcome = tuple[asyncio.Future[Any], bool, Any]
"""The future of a write, whether the write is durable, and its result or the error."""


class Database:
    """An open database of this version. `close` waits for running writes."""

    def __init__(
        self, place: Path | URL, *, patience_s: float = PATIENCE_S, check: Callable[[Connection], None] | None = None
    ) -> None:
        """Open the SQLite file at a path, which is created if missing, or PostgreSQL at a URL.

        patience_s: how long reads and writes wait for a server that accepts no connections.
        check: raises an error if the open database must not be used.
        Raises `Misconfigured` with the cure.
        """
        self._is_closed = False
        self._is_writable = True
        self._pauses = int(patience_s / _PAUSE_S)
        self._listeners: list[_Listener] = []
        self._opened = open_sqlite(place) if isinstance(place, Path) else open_postgres(place)
        if check is not None:
            self._check(check)
        self._connection = self._opened.writing.connect()
        self._monotonic = SystemClock().monotonic
        self._writes: WriteQueue[_Write] = WriteQueue()
        self._writes_changed = threading.Condition()
        """Guards `_writes` and `_is_closed`."""
        self._writer = threading.Thread(target=self._write_groups, name="holdfast-writer")
        self._writer.start()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="holdfast-reader")
        self._brief_writers: list[BriefWriter] = []

    def _check(self, check: Callable[[Connection], None]) -> None:
        try:
            with self._opened.reading.connect() as connection, connection.begin():
                check(connection)
        except BaseException:
            self._opened.close()
            raise

    @property
    def is_shared(self) -> bool:
        """Whether other processes may use it at the same time."""
        return self._opened.is_shared

    @property
    def is_writable(self) -> bool:
        """Whether the last write succeeded. False on a full disk, for example, until a write succeeds again."""
        return self._is_writable

    def write(self, work: Work[T], *, company: str | None = None, last: bool = False) -> Awaitable[T]:
        """Run `work` in a write transaction; awaiting it returns when the transaction is durable.

        Writes of one `company` are executed in the order of their calls, and leave room for those of other companies.
        One that is `last` is executed after the others of its group, because it takes a lock that other nodes wait for.

        `work` may run more than once. When a write of its group raises, the group runs again with a savepoint for each
        write; when that transaction fails, too, each write runs in a transaction of its own; when the connection was
        lost before the commit, the group runs again on a new one. A write that only refuses its request returns
        `Refusal`.
        """
        if self._is_closed:
            raise RuntimeError("the database is closed: nothing can be written any more")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._writes_changed:
            self._writes.add(_Write(work, done, company, last), company, self._monotonic())
            self._writes_changed.notify()
        return done

    async def caught_up(self, company: str | None = None) -> None:
        """Wait for all writes that were queued before; with `company`, only for its writes and those of no company."""
        with self._writes_changed:
            companies = {None, company} if company is not None else {None, *self._writes.companies}
        await asyncio.gather(*(self.write(lambda connection: None, company=company) for company in companies))

    def read(self, work: Callable[[Connection], T]) -> Awaitable[T]:
        """Run `work` on a snapshot of the committed rows."""
        return asyncio.wrap_future(self._readers.submit(self._read, work))

    def brief_writer(self) -> BriefWriter:
        """Return a writer for short writes that bypass the queue of `write`, on a shared database only.

        It is closed with the database.
        """
        assert self._opened.brief is not None
        self._brief_writers.append(BriefWriter(self._opened.brief()))
        return self._brief_writers[-1]

    def notifications(self, channel: str) -> AsyncGenerator[str]:
        """What processes send to a channel from now on, until the connection ends; on a shared database only."""
        assert self._opened.notifications is not None
        return self._opened.notifications(channel)

    def maintain(self, work: Callable[[Any], T]) -> Awaitable[T]:
        """Run `work` with a connection of the database's driver, outside of any transaction, as VACUUM demands."""
        return asyncio.wrap_future(self._readers.submit(self._maintain, work))

    def listen(self, listener: _Listener) -> None:
        """Call `listener` in the writer's thread with the announcements of each group as soon as it is durable."""
        self._listeners.append(listener)

    def close(self) -> None:
        with self._writes_changed:
            self._is_closed = True
            self._writes_changed.notify()
        self._writer.join()
        self._readers.shutdown()
        for brief in self._brief_writers:
            brief.close()
        self._opened.close()

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._reading_connection() as connection, connection.begin():
            return work(connection)

    def _reading_connection(self) -> Connection:
        pauses_left = self._pauses if self.is_shared else 0
        while True:
            try:
                return self._opened.reading.connect()
            except OperationalError:
                if not pauses_left:
                    raise
            pauses_left -= 1
            _pause()

    def _maintain(self, work: Callable[[Any], T]) -> T:
        raw = self._opened.writing.raw_connection()
        driver: Any = raw.driver_connection
        raw.detach()  # its settings are changed, so it must not return to the pool
        try:
            if self.is_shared:
                driver.autocommit = True
            return work(driver)
        finally:
            raw.close()

    def _write_groups(self) -> None:
        with self._connection:
            while (group := self._next_group()) is not None:
                began_at = self._monotonic()
                writes = (write for write in group.writes if not write.done.cancelled())
                self._run_group(sorted(writes, key=lambda write: write.last))
                now = self._monotonic()
                with self._writes_changed:
                    self._writes.committed(group, took_s=now - began_at, now=now)

    def _run_group(self, group: list[_Write]) -> None:
        if not group:
            return
        outcomes = _run(self._connection, group, self._listeners, pauses=self._pauses)
        self._is_writable = not any(isinstance(outcome, OperationalError) for _, _, outcome in outcomes)
        _report(outcomes)

    def _next_group(self) -> CommitGroup[_Write] | None:
        """Wait for writes to commit; returns None when the database is closed and no write is left."""
        with self._writes_changed:
            while True:
                now = self._monotonic()
                group = self._writes.take(now)
                if group.writes:
                    return group
                if self._is_closed and group.next_at is None:
                    return None
                self._writes_changed.wait(None if group.next_at is None else group.next_at - now)


def _pause() -> None:
    threading.Event().wait(_PAUSE_S)


def announce(connection: Connection, what: Hashable) -> None:
    """Pass `what` to the listeners when the transaction of `connection` is durable."""
    connection.info.setdefault(_ANNOUNCED, set()).add(what)


def at_end(connection: Connection, work: Callable[[Connection], None]) -> None:
    """Run `work` after all writes of the transaction of `connection`, once, however often this is called."""
    connection.info[_AT_END] = connection.info.get(_AT_END, frozenset()) | {work}


def _run(
    connection: Connection,
    group: list[_Write],
    listeners: Sequence[_Listener],
    *,
    tries: int = _TRIES,
    pauses: int,
    savepoints: bool = False,
) -> list[_Outcome]:
    """Run the group in one transaction.

    pauses: how often to pause before another attempt while the server accepts no connections.

    When a write raises, the group runs again, with a savepoint for each write: only the failing one is rolled back.
    When the transaction itself fails, each write runs in a transaction of its own.
    """
    began = committing = False
    try:
        with connection.begin():
            began = True
            connection.info[GROUP_COMPANIES] = {write.company for write in group if write.company is not None}
            outcomes = [_outcome(connection, write, savepoint=savepoints) for write in group]
            for work in connection.info.pop(_AT_END, ()):
                work(connection)
            committing = True
    except Exception as error:  # noqa: BLE001 – passed on to the callers that await the writes
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        if not connection.invalidated:
            connection.info.clear()
        if not began and connection.invalidated and pauses:
            _pause()
            return _run(connection, group, listeners, tries=tries, pauses=pauses - 1, savepoints=savepoints)
        # When the commit was sent, its effect is unknown: such a write never runs again.
        if tries > 1 and not committing and (lost or _is_rolled_back(error)):
            if not lost:
                _pause()  # first, the transaction that this one blocked must get its locks
            tries = 1 if lost else tries - 1
            return _run(connection, group, listeners, tries=tries, pauses=pauses, savepoints=savepoints)
        if len(group) == 1 or lost or connection.invalidated:
            return [(write.done, False, error) for write in group]
        if not committing and not savepoints:
            return _run(connection, group, listeners, pauses=pauses, savepoints=True)
        return [outcome for write in group for outcome in _run(connection, [write], listeners, pauses=pauses)]
    if announced := connection.info.pop(_ANNOUNCED, None):
        for listener in listeners:
            listener(announced)
    return outcomes


def _outcome(connection: Connection, write: _Write, *, savepoint: bool) -> _Outcome:
    if not savepoint:
        return _result(write, write.work(connection))
    connection.exec_driver_sql("SAVEPOINT one_write")
    noted = dict(connection.info)
    try:
        outcome = _result(write, write.work(connection))
    except Exception as error:
        if connection.invalidated or _is_rolled_back(error):
            raise
        # At some errors, such as a full disk, SQLite ends the whole transaction; then this raises, and the group fails.
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one_write")
        # What the write noted in `info` is void now: a lock that it took, for example, is released.
        connection.info.clear()
        connection.info.update(noted)
        outcome = write.done, False, error
    connection.exec_driver_sql("RELEASE SAVEPOINT one_write")
    return outcome


def _result(write: _Write, result: Any) -> _Outcome:
    if isinstance(result, Refusal):
        return write.done, False, result.error
    return write.done, True, result


def _report(outcomes: Sequence[_Outcome]) -> None:
    """Wake each event loop once for all its writes: a wake costs about as much as a write."""
    for loop in {done.get_loop() for done, _, _ in outcomes}:
        mine = [outcome for outcome in outcomes if outcome[0].get_loop() is loop]
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody awaits the writes
            loop.call_soon_threadsafe(_settle, mine)


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for done, is_committed, outcome in outcomes:
        if done.cancelled():
            continue
        if is_committed:
            done.set_result(outcome)
        else:
            done.set_exception(outcome)


def _is_rolled_back(error: Exception) -> bool:
    return getattr(getattr(error, "orig", None), "sqlstate", None) in _SURELY_ROLLED_BACK
