"""The only source of time: Unix seconds that never jump backwards, and waiting."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class Clock:
    """Wall time at the start, monotonic from then on: good for records and for deadlines."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()  # noqa: TID251 – the one home

    def now(self) -> float:
        return self._offset + time.monotonic()  # noqa: TID251 – the one home

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 – the one home


def iso(moment: float | None) -> str | None:
    """ISO 8601 in UTC with milliseconds: `2026-11-22T10:56:00.000Z`."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
