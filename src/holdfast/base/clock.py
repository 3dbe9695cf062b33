"""Time as an argument: the one home of clocks. Monotonic seconds for durations, aware UTC for records."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Protocol, overload

_CLOCK_STEP_S = 5
"""The wall clock moved by more than this against the monotonic one: somebody set it."""


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; for durations and deadlines."""

    def now(self) -> datetime:
        """Aware UTC; for records."""

    async def sleep(self, seconds: float) -> None: ...

    def until(self, deadline: float | None) -> AbstractAsyncContextManager[object]:
        """Run a block until `deadline` (monotonic seconds; None: for ever) and then go on behind it, quietly."""


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 – the one home

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 – the one home

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 – the one home

    @contextlib.asynccontextmanager
    async def until(self, deadline: float | None) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        when = None if deadline is None else loop.time() + deadline - self.monotonic()
        try:
            async with asyncio.timeout_at(when) as scope:
                yield
        except TimeoutError:
            if not scope.expired():  # the block's own: not ours to swallow
                raise


class ClockSteps:
    """Notices when somebody sets the wall clock: it then moves against the monotonic one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s = self._offset()

    def step_s(self) -> float:
        """By how many seconds the wall clock was set since the last call; 0 for the drift of ordinary clocks."""
        before, self._offset_s = self._offset_s, self._offset()
        step_s = self._offset_s - before
        return step_s if abs(step_s) > _CLOCK_STEP_S else 0.0

    def _offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()


@overload
def iso(moment: datetime) -> str: ...
@overload
def iso(moment: datetime | None) -> str | None: ...
def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds and `Z`, as in every record: `2026-11-22T10:56:00.000Z`."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_monotonic(clock: Clock, at: str) -> float:
    """A recorded time (ISO 8601) as a moment of the monotonic clock, in seconds."""
    return clock.monotonic() + (datetime.fromisoformat(at) - clock.now()).total_seconds()


def to_wall(clock: Clock, moment: float) -> datetime:
    """A moment of the monotonic clock, in seconds, as a time."""
    return clock.now() + timedelta(seconds=moment - clock.monotonic())
