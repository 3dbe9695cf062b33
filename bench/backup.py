"""Measures a backup: its time and size, and the latency of messages that are accepted during it.

    uv run python -m bench.backup [--companies 40]

The data folder is like one after some months: each company has 1,000 Signal keys and 5,000 messages in each direction.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from sqlalchemy import Connection

from holdfast.backup.backup_dir import Opener
from holdfast.backup.creating import BackupMaker, BackupOrigin
from holdfast.backup.restoring import Restorer
from holdfast.base.clock import SystemClock
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.stores import Draft
from holdfast.store.database import Database
from holdfast.store.outbox import OutboxRows
from holdfast.store.tables import credentials, inbox, outbox, sessions, signal_keys

KEYS, MESSAGES, KEY_BYTES = 1000, 5000, 1200
T = "2026-01-01T00:00:00.000Z"
ORIGIN = BackupOrigin(made_by="bench", settings={})


def fill(connection: Connection, company: str, randomness: SystemRandomSource) -> None:
    connection.execute(sessions.insert().values(company_id=company, state="connected", since=T, created_at=T))
    creds = '{"me":{"id":"1:1@s.whatsapp.net"}}'
    connection.execute(credentials.insert().values(company_id=company, creds=creds, paired=True, updated_at=T))
    record = '{"_sessions":{"A":{"indexInfo":{"closed":-1},"filler":"%s"}},"version":"v1"}'
    values = [record % "".join(randomness.api_key() for _ in range(KEY_BYTES // 46)) for _ in range(KEYS)]
    keys = [{"company_id": company, "type": "session", "id": str(n), "value": value} for n, value in enumerate(values)]
    connection.execute(signal_keys.insert(), keys)
    names = [randomness.whatsapp_id() for _ in range(MESSAGES)]
    sent = {
        "company_id": company,
        "chat": "1@s.whatsapp.net",
        "recipient": "1",
        "content": '{"text":"hello, how are you?"}',
    }
    out = [{**sent, "id": f"o{name}", "whatsapp_id": name, "state": "read", "accepted_at": T} for name in names]
    got = {"company_id": company, "chat": "1@s.whatsapp.net", "sender": "1@s.whatsapp.net", "type": "text"}
    times = {"sent_at": T, "stored_at": T, "from_me": False, "text": "well, and you?"}
    connection.execute(outbox.insert(), out)
    connection.execute(inbox.insert(), [{**got, **times, "id": f"i{name}", "whatsapp_id": name} for name in names])


async def accept(rows: OutboxRows, randomness: SystemRandomSource, took_ms: list[float], over: asyncio.Event) -> None:
    """Accept one message after the other, like a caller that waits for each."""
    while not over.is_set():
        draft = Draft(
            id=randomness.message_id(), whatsapp_id=randomness.whatsapp_id(), company="company-0", recipient="1",
            chat="1@s.whatsapp.net", content={"text": "hello"}, idempotency_key=None, request_hash="h",
        )  # fmt: skip
        began = time.perf_counter()
        await rows.accept(draft)
        took_ms.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(0.01)


async def measured(database: Database, work: Awaitable[object]) -> tuple[float, str]:
    """Return the seconds that `work` took, and the latency of messages that were accepted during it."""
    took_ms: list[float] = []
    over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        rows = OutboxRows(database, clock=SystemClock())
        tasks.create_task(accept(rows, SystemRandomSource(), took_ms, over))
        began = time.perf_counter()
        await work
        took_s = time.perf_counter() - began
        over.set()
    ordered = sorted(took_ms)
    p99 = ordered[int(len(ordered) * 0.99) - 1]
    return took_s, f"p50 {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms, most {ordered[-1]:.1f} ms"


async def run(companies: int, folder: Path) -> None:
    database, randomness = Database(folder / "holdfast.db"), SystemRandomSource()
    for n in range(companies):
        await database.write(lambda connection, n=n: fill(connection, f"company-{n}", randomness))  # type: ignore[misc]
    maker = BackupMaker(database, folder / "backups", origin=ORIGIN)
    size_mb = (folder / "holdfast.db").stat().st_size / 1e6
    _, calm = await measured(database, asyncio.sleep(3))
    made = await maker.make(kind="warm", now=SystemClock().now())
    took_s, meanwhile = await measured(database, maker.make(kind="manual", now=SystemClock().now()))
    print(f"{companies} companies, database {size_mb:.0f} MB: backup {took_s:.1f} s, {made.size_bytes / 1e6:.0f} MB")
    print(f"accepting a message, idle:            {calm}")
    print(f"accepting a message, during a backup: {meanwhile}")
    database.close()
    empty = Database(folder / "empty.db")
    target = BackupMaker(empty, folder / "other", origin=ORIGIN)
    restorer = Restorer(empty, target, folder=folder / "other", opener=Opener(), clock=SystemClock())
    began = time.perf_counter()
    await restorer.restore(made.path, progress=lambda _: None)
    print(f"restore into an empty database: {time.perf_counter() - began:.1f} s")
    empty.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--companies", type=int, default=40)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(parser.parse_args().companies, Path(folder)))


if __name__ == "__main__":
    main()
