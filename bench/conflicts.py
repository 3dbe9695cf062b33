"""Measures the cost of refused requests: 2,000 concurrent accepts with and without reused Idempotency-Keys.

    uv run python -m bench.conflicts [postgresql://…]

The shares of conflicts are measured five times, alternately, and the median is printed. Goal: 5 % of conflicts take at
most 1.5 times as long as none.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.databases import on_each
from holdfast.base.clock import SystemClock
from holdfast.base.errors import Conflict
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.stores import Draft
from holdfast.session.state import State
from holdfast.session.stores import Record
from holdfast.store.database import Database
from holdfast.store.outbox import OutboxRows
from holdfast.store.sessions import SessionRows

ACCEPTS = 2000
SHARES = (0.0, 0.01, 0.05, 0.2)
ROUNDS = 5
COMPANY = "bench"
T = "2026-01-01T00:00:00.000Z"


def draft(randomness: SystemRandomSource, *, key: str | None = None, request_hash: str = "h") -> Draft:
    return Draft(
        id=randomness.message_id(), whatsapp_id=randomness.whatsapp_id(), company=COMPANY, recipient="962790000001",
        chat="962790000001@s.whatsapp.net", content={"text": "hello"}, idempotency_key=key, request_hash=request_hash,
    )  # fmt: skip


async def accepts_ms(outbox: OutboxRows, randomness: SystemRandomSource, share: float) -> float:
    each = round(1 / share) if share else 0
    drafts = [
        draft(randomness, key="used", request_hash="another") if each and number % each == 0 else draft(randomness)
        for number in range(ACCEPTS)
    ]
    began_at = time.perf_counter()
    results = await asyncio.gather(*(outbox.accept(each) for each in drafts), return_exceptions=True)
    took_ms = (time.perf_counter() - began_at) * 1000
    refused = sum(isinstance(result, Conflict) for result in results)
    assert refused == (ACCEPTS // each if each else 0)
    return took_ms


async def measure(database: Database, name: str) -> None:
    randomness, outbox = SystemRandomSource(), OutboxRows(database, clock=SystemClock())
    await SessionRows(database).create(Record(company=COMPANY, state=State.STOPPED, since=T, created_at=T))
    await outbox.accept(draft(randomness, key="used"))
    took: dict[float, list[float]] = {share: [] for share in SHARES}
    for _ in range(ROUNDS):
        for share in SHARES:
            took[share].append(await accepts_ms(outbox, randomness, share))
    none = statistics.median(took[0.0])
    for share in SHARES:
        median = statistics.median(took[share])
        print(f"{name}: {ACCEPTS} accepts, {share:4.0%} conflicts: {median:6.0f} ms, {median / none:4.1f} times none")


if __name__ == "__main__":
    asyncio.run(on_each(measure))
