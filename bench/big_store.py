"""How long a large store takes for what people and the health monitor ask, beside an empty one.

    uv run python -m bench.big_store [--rows 100000] [--companies 200] [--postgres postgresql://…]

So many messages each way; the first company has a tenth of them. The database at the URL must be empty.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from holdfast.base.clock import SystemClock, iso
from holdfast.delivery.message import MessageState
from holdfast.store.database import Database
from holdfast.store.events import EventRows
from holdfast.store.figures import FigureRows
from holdfast.store.inbox import InboxRows
from holdfast.store.lookup import LookupRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.postgres import parse
from holdfast.store.webhooks import WebhookRows
from tests import filling

STEP = 10_000


def questions(database: Database) -> dict[str, Callable[[], Awaitable[object]]]:
    outbox, inbox = OutboxRows(database, clock=SystemClock()), InboxRows(database)
    lookup, figures, webhooks = LookupRows(database), FigureRows(database), WebhookRows(database)
    end = filling.FIRST + (filling.DAYS * filling.DAY)
    since, until, big, none = iso(end - filling.DAY), iso(end), filling.company(0), "9627@s.whatsapp.net"
    return {
        "health look, metrics": figures.backlogs,
        "diagnostics, a day of all": lambda: figures.tally(big, since=since, until=until),
        "fleet page": lambda: lookup.tallies(since=since, until=until),
        "messages?state=queued": lambda: outbox.messages(big, state=MessageState.QUEUED, after=0, most=100),
        "messages?state=failed": lambda: outbox.messages(big, state=MessageState.FAILED, after=0, most=100),
        "messages?chat=unknown": lambda: outbox.messages(big, state=None, after=0, most=100, chat=none),
        "inbox?chat=unknown": lambda: inbox.received(big, after=0, most=100, chat=none),
        "search, nothing found": lambda: lookup.sent_messages(big, words="nothing", state=None, before=None, most=50),
        "webhooks/failed": lambda: webhooks.failed(None, after=0, most=100),
        "webhooks page": webhooks.counts,
        "events of two companies": lambda: EventRows(database).after(
            0, companies=[filling.company(1), filling.company(2)], most=100
        ),
    }


async def ask(database: Database) -> dict[str, float]:
    took = {}
    for name, question in questions(database).items():
        times = []
        for _ in range(5):
            began_at = time.perf_counter()
            await question()
            times.append((time.perf_counter() - began_at) * 1000)
        took[name] = statistics.median(times)
    return took


async def measure(name: str, database: Database, *, rows: int, companies: int) -> None:
    await database.write(lambda connection: filling.add_sessions(connection, companies=companies))
    await database.write(filling.add_endpoint)
    empty = await ask(database)
    for start in range(0, rows, STEP):
        numbers = range(start, min(rows, start + STEP))
        for add in (filling.add_messages, filling.add_events):
            await database.write(
                lambda connection, add=add, numbers=numbers: add(  # type: ignore[misc]  # bound at once
                    connection, numbers, companies=companies, total=rows, largest=0.1
                )
            )
    await database.write(lambda connection: connection.exec_driver_sql("ANALYZE").close())
    full = await ask(database)
    for question, ms in full.items():
        print(f"{name}: {question:28} {empty[question]:7.1f} -> {ms:7.1f} ms, {ms / empty[question]:6.1f} x")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--companies", type=int, default=200)
    parser.add_argument("--postgres")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "holdfast.db")
        await measure("SQLite", database, rows=given.rows, companies=given.companies)
        database.close()
    if given.postgres is not None:
        database = Database(parse(given.postgres))
        await measure("PostgreSQL", database, rows=given.rows, companies=given.companies)
        database.close()


if __name__ == "__main__":
    asyncio.run(main())
