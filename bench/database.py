"""Measures the throughput of the group-commit writer on SQLite, and on a PostgreSQL that is given.

    uv run python -m bench.database [postgresql://…]

Each message is an insert and three updates, like a real message; each of the concurrent callers waits for its own
messages. The renewal of leases is measured, too.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.databases import on_each
from holdfast.base.clock import SystemClock
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.message import StatusUpdate
from holdfast.delivery.rate_limits import Allowance
from holdfast.delivery.stores import Draft, MessageChange
from holdfast.session.state import State
from holdfast.session.stores import NodeDescription, Record
from holdfast.store.database import Database
from holdfast.store.leases import LeaseRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.sessions import SessionRows

SECONDS = 4.0
CALLERS = (1, 20, 200)
SESSIONS = 1000
T = "2026-01-01T00:00:00.000Z"


async def message(outbox: OutboxRows, company: str, randomness: SystemRandomSource) -> None:
    """Accept, begin, ack and deliver a message."""
    draft = Draft(
        id=randomness.message_id(), whatsapp_id=randomness.whatsapp_id(), company=company, recipient="962790000001",
        chat=f"{randomness.message_id()}@s.whatsapp.net", content={"text": "hello"},
        idempotency_key=None, request_hash="h",
    )  # fmt: skip
    accepted = (await outbox.accept(draft)).message
    await outbox.take(company, Allowance(total=20, bulk=20, new=20, approached=20, more_at=None), exclude=())
    for update in (StatusUpdate.ACKED, StatusUpdate.DELIVERED):
        await outbox.apply_updates(company, [MessageChange(whatsapp_id=accepted.whatsapp_id, update=update, at=T)])


async def messages_a_second(database: Database, company: str, callers: int) -> float:
    outbox, randomness = OutboxRows(database, clock=SystemClock()), SystemRandomSource()
    began_at, done = time.monotonic(), 0

    async def call() -> None:
        nonlocal done
        while time.monotonic() - began_at < SECONDS:
            await message(outbox, company, randomness)
            done += 1

    await asyncio.gather(*(call() for _ in range(callers)))
    return done / (time.monotonic() - began_at)


async def renewal_ms(database: Database) -> tuple[float, float]:
    """Return median and maximum of fifty renewals of a thousand leases."""
    leases = LeaseRows(database, node=NodeDescription(name="bench"), randomness=SystemRandomSource(), ttl_s=60)
    await leases.renew(limit=SESSIONS)
    took = []
    for _ in range(50):
        began_at = time.monotonic()
        await leases.renew(limit=SESSIONS)
        took.append((time.monotonic() - began_at) * 1000)
    await leases.release()
    return statistics.median(took), max(took)


async def measure(database: Database, name: str) -> None:
    sessions = SessionRows(database)
    companies = [f"bench{number}" for number in range(SESSIONS)]
    records = [Record(company=company, state=State.STOPPED, since=T, created_at=T) for company in companies]
    await asyncio.gather(*(sessions.create(record) for record in records))
    for callers in CALLERS:
        rate = await messages_a_second(database, companies[0], callers)
        print(f"{name}: {rate:7.0f} messages/s with {callers} callers (4 durable writes each)")
    if database.is_shared:
        median, longest = await renewal_ms(database)
        print(f"{name}: renewing {SESSIONS} leases takes {median:.1f} ms (longest {longest:.1f})")


if __name__ == "__main__":
    asyncio.run(on_each(measure))
