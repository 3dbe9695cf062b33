"""Time as an argument: the one home of clocks. Monotonic seconds for durations, aware UTC for records."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; for durations and deadlines."""

    def now(self) -> datetime:
        """Aware UTC; for records."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 – the one home

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 – the one home

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 – the one home


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds and `Z`, as in every record: `2026-11-22T10:56:00.000Z`."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
