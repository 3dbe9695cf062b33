"""Starts the sessions that this process owns, a few at a time, in parallel with the renewal of their leases.

A start reads and writes the database, and hundreds of them take longer than a lease lives when the database is busy. If
renewals waited for them, a process that comes back after an outage would lose its leases before it has started all
sessions, cut those that it has, and begin again, forever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from holdfast.base.clock import Clock

log = logging.getLogger(__name__)

_AT_ONCE = 8


class SessionStarts:
    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        start: Callable[[str], Awaitable[None]],
        *,
        clock: Clock,
        loaded: Callable[[], None],
    ) -> None:
        """`start` starts the session of a company. `loaded` is called when the sessions that were requested first
        have been started, even if more are added in the meantime: other nodes may transfer sessions here at any
        time."""
        self._tasks = tasks
        self._start = start
        self._clock = clock
        self._loaded = loaded
        self._first: set[str] | None = None
        """Those that were requested first and are not started yet."""
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._requested_at: dict[str, float] = {}

    @property
    def companies(self) -> Collection[str]:
        """Those whose sessions are being started, or wait for it."""
        return self._running.keys()

    def overdue(self, after_s: float) -> list[str]:
        """Companies whose sessions should have been started this long ago, those that have waited longest first."""
        before = self._clock.monotonic() - after_s
        return [company for company in self._running if self._requested_at[company] <= before]

    def begin(self, companies: Collection[str]) -> None:
        """Start these sessions. One that can't be started is not tried again."""
        if self._first is None:
            self._first = set(companies)
            self._call_if_loaded()
        for company in companies:
            self._requested_at[company] = self._clock.monotonic()
            self._running[company] = self._tasks.create_task(self._run(company), name=f"start of session {company}")

    async def cancel(self, companies: Collection[str]) -> None:
        """Do not start these sessions; returns when nothing does any more."""
        tasks = [self._running[company] for company in companies if company in self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, company: str) -> None:
        try:
            async with self._slots:
                await self._start(company)
        except Exception as error:  # noqa: BLE001 – whatever it is, the other sessions must run
            log.warning("Session %s could not be started: %s", company, error)
        finally:
            del self._running[company], self._requested_at[company]
            if self._first:
                self._first.discard(company)
                self._call_if_loaded()

    def _call_if_loaded(self) -> None:
        if not self._first:
            self._loaded()
