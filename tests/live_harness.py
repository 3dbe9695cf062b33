"""Live state that runs in a test, its reports about Redis, and sample records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from holdfast.base.clock import SystemClock
from holdfast.live import live_state
from holdfast.session.state import State
from holdfast.session.stores import Availability, LiveState, LiveStatus, Record

KEY = "whatsapp:session:962302"
RECORD = Record(
    company="962302",
    state=State.CONNECTED,
    since="2026-11-22T10:56:00.000Z",
    phone_number="962790000001",
    connected_at="2026-11-22T10:56:00.000Z",
    last_activity="2026-11-22T10:56:30.000Z",
    created_at="2026-11-20T08:00:00.000Z",
)
LOST = replace(RECORD, state=State.RECONNECTING, since="2026-11-22T10:57:00.000Z", attempts=1)
OTHER = replace(RECORD, company="962303")


class LiveStateHarness:
    def __init__(self, url: str | None, *, node: str = "here") -> None:
        self._statuses: asyncio.Queue[LiveStatus] = asyncio.Queue()
        self.live: LiveState = live_state(url, node=node, clock=SystemClock(), changed=self._statuses.put_nowait)

    async def next_status(self, availability: Availability) -> LiveStatus:
        """Wait for the next report about Redis. It must be this one, and arrive within five seconds."""
        async with asyncio.timeout(5):
            status = await self._statuses.get()
        assert status.availability is availability, status.sentence
        return status

    @property
    def has_no_more(self) -> bool:
        return self._statuses.empty()

    async def state(self, company: str = "962302") -> object:
        return (await self.live.get(company) or {}).get("state")


@contextlib.asynccontextmanager
async def running(url: str | None, *, node: str = "here") -> AsyncIterator[LiveStateHarness]:
    harness = LiveStateHarness(url, node=node)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(harness.live.run())
        try:
            yield harness
        finally:
            task.cancel()
