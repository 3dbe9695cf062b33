"""Time as an argument: the one home of clocks. Monotonic seconds for durations, aware UTC for records."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, overload

from holdfast.base.clock_step import ClockStep

_CLOCK_STEP_S = 5
"""The wall clock moved by more than this against the monotonic one: somebody set it."""


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; for durations and deadlines."""

    def now(self) -> datetime:
        """Aware UTC; for records."""

    def suspended(self) -> float:
        """Seconds that the machine spent suspended, from an arbitrary moment on: `monotonic` does not count them."""

    async def sleep(self, seconds: float) -> None: ...

    def until(self, deadline: float | None) -> AbstractAsyncContextManager[object]:
        """Run a block until `deadline` (monotonic seconds; None: no limit), then end the block without an error."""


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 – the one home

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 – the one home

    def suspended(self) -> float:
        boot_time = getattr(time, "CLOCK_BOOTTIME", None)  # Linux only; elsewhere a suspension looks like a set clock
        awake_s = time.monotonic()  # noqa: TID251 – the one home
        return 0.0 if boot_time is None else time.clock_gettime(boot_time) - awake_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 – the one home

    def until(self, deadline: float | None) -> AbstractAsyncContextManager[object]:
        return _Until(None if deadline is None else asyncio.get_running_loop().time() + deadline - self.monotonic())


class _Until:
    """Ends a block at a time of the event loop. No generator: a message that is accepted passes it several times."""

    __slots__ = ("_timeout",)

    def __init__(self, when: float | None) -> None:
        self._timeout = asyncio.timeout_at(when)

    def __aenter__(self) -> Coroutine[Any, Any, object]:
        return self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> bool:
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError:  # not one that the block raised
            return True
        return False


def process_age_s() -> float:
    """Seconds since this process was started, its interpreter included; 0 if the system does not provide it."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    return max(up_s - started / os.sysconf("SC_CLK_TCK"), 0.0)


class ClockWatch:
    """Notices when the wall clock is set, and reports it to everything that relies on stored times.

    Code that compares stored times with the clock calls `look` first; the health monitor calls it regularly.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._followers: list[Callable[[ClockStep], None]] = []
        self._offset_s, self._suspended_s = self._offset(), clock.suspended()
        self._looked_at = clock.monotonic()

    def follow(self, follower: Callable[[ClockStep], None]) -> None:
        """Call `follower` after each step. It must only record the step: it runs within other code's `check`."""
        self._followers.append(follower)

    def check(self) -> ClockStep | None:
        """The step since the last check, if there was one; ordinary drift is none. All followers are called first."""
        now, offset_s, suspended_s = self._clock.now(), self._offset(), self._clock.suspended()
        looked_at = self._clock.monotonic()
        step = ClockStep(
            by_s=offset_s - self._offset_s,
            suspended_s=suspended_s - self._suspended_s,
            after=now - timedelta(seconds=looked_at - self._looked_at),
            at=now,
        )
        self._offset_s, self._suspended_s, self._looked_at = offset_s, suspended_s, looked_at
        if abs(step.by_s) <= _CLOCK_STEP_S:
            return None
        for follower in self._followers:
            follower(step)
        return step

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
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat(timespec='milliseconds')[:-6]}Z"


def in_utc(moment: datetime) -> datetime:
    """The same time in UTC; one without a zone is taken as UTC. Raises `ValueError` beyond the years 1 to 9999."""
    try:
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the years 1 to 9999 in UTC") from None


def to_monotonic(clock: Clock, at: str) -> float:
    """A recorded time (ISO 8601) as a moment of the monotonic clock, in seconds."""
    return clock.monotonic() + (datetime.fromisoformat(at) - clock.now()).total_seconds()


def to_wall(clock: Clock, moment: float) -> datetime:
    """A moment of the monotonic clock, in seconds, as a time."""
    return clock.now() + timedelta(seconds=moment - clock.monotonic())
