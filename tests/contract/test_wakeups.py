"""Work that one process stored reaches the owner of the session at once; PostgreSQL only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from holdfast.store.database import Database
from holdfast.store.postgres import parse
from holdfast.store.wakeups import CHANNEL, Wakeups
from tests.doubles.fake_clock import FakeClock
from tests.postgres_process import PostgresProcess
from tests.served import eventually

pytestmark = pytest.mark.slow


class Process:
    def __init__(self, url: str) -> None:
        self.database, self.clock = Database(parse(url)), FakeClock()
        self.wakeups = Wakeups(self.database, clock=self.clock)
        self.heard: list[str] = []
        self.wakeups.woken = self.heard.append


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Process]:
    process = Process(url)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(process.wakeups.run())
        try:
            yield process
        finally:
            task.cancel()
    process.database.close()


async def test_every_process_is_notified_of_what_one_stored(postgres: PostgresProcess) -> None:
    """Once for each company, however often it was woken; also after the connection was lost."""
    url = postgres.new_migrated()
    listening = f"SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN {CHANNEL}'"
    async with running(url) as one, running(url) as two:

        async def both_listen() -> bool:
            one.clock.advance_to(one.clock.monotonic() + 5)
            two.clock.advance_to(two.clock.monotonic() + 5)
            return postgres.rows(url, listening) == [(2,)]

        async def both_heard() -> bool:
            return one.heard == two.heard == expected

        await eventually(both_listen, within_s=10, what="both processes listening")
        for company in ("962302", "962303", "962302"):
            one.wakeups.wake(company)
        expected = ["962302", "962303"]
        await eventually(both_heard, within_s=10, what="both wakeups")
        with postgres.operator(url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = %s", [f"LISTEN {CHANNEL}"]
            )
        await eventually(both_listen, within_s=10, what="both processes listening again")
        two.wakeups.wake("962304")
        expected = ["962302", "962303", "962304"]
        await eventually(both_heard, within_s=10, what="the third wakeup")
