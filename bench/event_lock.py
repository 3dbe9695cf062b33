"""How long a node holds the lock on the order of events, and how much a slow node delays the others.

    uv run python -m bench.event_lock [--texts 50] [--delay-ms 5]

Two nodes share a PostgreSQL of the bench's own. The slow one pauses before each statement, as on a busy machine or far
from the database, and accepts texts of many companies at once, which form groups of writes. Meanwhile the other one
accepts single texts of another company. The lock counts as held from the end of the statement that takes it until the
commit has returned.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import threading
from contextlib import closing
from typing import Any

from sqlalchemy import Connection, Engine, event

from bench.figures import percentile
from holdfast.base.clock import SystemClock
from holdfast.delivery.stores import Draft
from holdfast.session.state import State
from holdfast.session.stores import Record
from holdfast.store.database import Database
from holdfast.store.outbox import OutboxRows
from holdfast.store.postgres import parse
from holdfast.store.sessions import SessionRows
from tests.postgres_process import running_postgres

_AT = "2026-01-01T00:00:00.000Z"
_ROUNDS = 10


class Holds:
    """Measures how long the lock is held by each transaction of a database."""

    def __init__(self, database: Database) -> None:
        self._monotonic = SystemClock().monotonic
        self._since: float | None = None
        self.seconds: list[float] = []
        self.statements: list[int] = []
        self._count = 0
        database.listen(lambda _: self._committed())

    def executed(self, sql: str) -> None:
        if "pg_advisory_xact_lock" in sql and "FROM (SELECT unnest" not in sql and self._since is None:
            self._since, self._count = self._monotonic(), 0
        else:
            self._count += 1

    def _committed(self) -> None:
        if self._since is not None:
            self.seconds.append(self._monotonic() - self._since)
            self.statements.append(self._count)
            self._since = None


async def measure(url: str, *, texts: int, delay_s: float) -> None:
    with closing(Database(parse(url))) as slow, closing(Database(parse(url))) as quick:
        holds = Holds(slow)

        def before(_: Connection, __: object, sql: str, *___: Any) -> None:
            if threading.current_thread() is writer and delay_s:
                threading.Event().wait(delay_s)

        def after(_: Connection, __: object, sql: str, *___: Any) -> None:
            if threading.current_thread() is writer:
                holds.executed(sql)

        writer = slow._writer
        companies = [f"slow{number}" for number in range(texts)]
        sessions = SessionRows(slow)
        for company in [*companies, "quick"]:
            await sessions.create(Record(company=company, state=State.CONNECTED, since=_AT, created_at=_AT))
        event.listen(Engine, "before_cursor_execute", before)
        event.listen(Engine, "after_cursor_execute", after)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            waits = tasks.create_task(_accept_one_by_one(quick, stop))
            for number in range(_ROUNDS):
                store = OutboxRows(slow, clock=SystemClock())
                await asyncio.gather(*(store.accept(_draft(company, number)) for company in companies))
            stop.set()
        event.remove(Engine, "before_cursor_execute", before)
        event.remove(Engine, "after_cursor_execute", after)
    held = [1000 * each for each in holds.seconds]
    waited = sorted(1000 * each for each in waits.result())
    print(
        f"{texts} texts at once, {1000 * delay_s:g} ms a statement: lock held {statistics.median(held):.1f} ms a group "
        f"(at most {max(held):.1f}), {max(holds.statements)} statements at most; an accept at the other node "
        f"{percentile(waited, 50):.1f} ms, p99 {percentile(waited, 99):.1f} ms"
    )


async def _accept_one_by_one(database: Database, stop: asyncio.Event) -> list[float]:
    store, clock, waits = OutboxRows(database, clock=SystemClock()), SystemClock(), list[float]()
    while not stop.is_set():
        began_at = clock.monotonic()
        await store.accept(_draft("quick", len(waits)))
        waits.append(clock.monotonic() - began_at)
    return waits


def _draft(company: str, number: int) -> Draft:
    return Draft(
        id=f"msg_{company}_{number}",
        whatsapp_id=f"3EB0{company}{number:06}",
        company=company,
        recipient="962790000001",
        chat="962790000001@s.whatsapp.net",
        content={"text": f"message {number}"},
        idempotency_key=None,
        request_hash="h",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a node holds the lock on the order of events.")
    parser.add_argument("--texts", type=int, default=50)
    parser.add_argument("--delay-ms", type=float, default=5)
    asked = parser.parse_args()
    with running_postgres() as postgres:
        for texts in sorted({1, asked.texts}):
            for delay_ms in sorted({0.0, asked.delay_ms}):
                asyncio.run(measure(postgres.new_migrated(), texts=texts, delay_s=delay_ms / 1000))


if __name__ == "__main__":
    main()
