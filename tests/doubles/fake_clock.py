"""A clock for tests: time moves only on request, and sleepers are woken in the order of their deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta

_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A `holdfast.base.clock.Clock`."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._cancelled: set[int] = set()
        self._wall_offset = timedelta()
        self._suspended_s = 0.0

    def monotonic(self) -> float:
        return self._now

    def now(self) -> datetime:
        return _BEGINNING + self._wall_offset + timedelta(seconds=self._now)

    def set_wall(self, to: datetime) -> None:
        """Set the wall clock; monotonic time is not affected."""
        self._wall_offset += to - self.now()

    def suspended(self) -> float:
        return self._suspended_s

    def suspend(self, seconds: float) -> None:
        """Suspend the machine: the wall clock advances, monotonic time does not."""
        self._suspended_s += seconds
        self._wall_offset += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        with self._timer(self._now + seconds, woken.set):
            await woken.wait()

    @contextlib.asynccontextmanager
    async def until(self, deadline: float | None) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as scope:
                if deadline is None:
                    yield
                    return
                with self._timer(deadline, lambda: scope.reschedule(loop.time())):
                    yield
        except TimeoutError:
            if not scope.expired():  # raised by the block itself, so it is not suppressed
                raise

    @property
    def next_due(self) -> float | None:
        """The next deadline of a sleeper."""
        while self._timers and self._timers[0][1] in self._cancelled:
            self._cancelled.remove(heapq.heappop(self._timers)[1])
        return self._timers[0][0] if self._timers else None

    def advance_to(self, moment: float) -> None:
        """Advance to this time, and wake all sleepers whose deadlines have passed."""
        while (due := self.next_due) is not None and due <= moment:
            _, _, ring = heapq.heappop(self._timers)
            self._now = max(self._now, due)
            ring()
        self._now = max(self._now, moment)

    @contextlib.contextmanager
    def _timer(self, due: float, ring: Callable[[], None]) -> Iterator[None]:
        if due <= self._now:
            ring()
            yield
            return
        number = next(self._numbers)
        heapq.heappush(self._timers, (due, number, ring))
        try:
            yield
        finally:
            if any(number == waiting for _, waiting, _ in self._timers):
                self._cancelled.add(number)
