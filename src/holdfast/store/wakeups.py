"""Notifies the owner of a session at once that another process stored work for it, by PostgreSQL's NOTIFY.

Without this, the owner finds the work when it renews its leases, up to two seconds later. So a wakeup may be lost, and
an error here is only logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from sqlalchemy import Connection, func, select

from holdfast.base.clock import Clock
from holdfast.store.database import Database

log = logging.getLogger(__name__)

CHANNEL = "holdfast_work"
_RETRY_S = 2.0


class Wakeups:
    """On a database that several processes share."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._companies: set[str] = set()
        """To be woken."""
        self._changed = asyncio.Event()
        self.woken: Callable[[str], None] = lambda company: None
        """Called with each company for which a process stored work."""

    def wake(self, company: str) -> None:
        """Wake the process that owns the session. Never blocks, never raises."""
        self._companies.add(company)
        self._changed.set()

    async def run(self) -> None:
        """Send and receive wakeups until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(), name="wakeups sent")
            tasks.create_task(self._receive(), name="wakeups received")

    async def _send(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            companies, self._companies = sorted(self._companies), set()

            def work(connection: Connection, companies: list[str] = companies) -> None:
                for company in companies:
                    connection.execute(select(func.pg_notify(CHANNEL, company)))

            with contextlib.suppress(Exception):  # the owner polls as well
                await self._database.write(work)

    async def _receive(self) -> None:
        while True:
            try:
                async for company in self._database.notifications(CHANNEL):
                    self.woken(company)
            except Exception as error:  # noqa: BLE001 – whatever it is, the owner looks for itself, too
                log.info("Notifications from the database are interrupted: %s", type(error).__name__)
            await self._clock.sleep(_RETRY_S)
