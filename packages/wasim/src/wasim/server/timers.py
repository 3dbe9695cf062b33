"""Scheduled actions, ordered by time, and by the order of scheduling when they are due together."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[float], None]
"""Called with the time at which it is actually run."""


class Timers:
    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Action]] = []
        self._count = 0

    def schedule(self, when: float, action: Action) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (when, self._count, action))

    @property
    def next_deadline(self) -> float | None:
        return self._waiting[0][0] if self._waiting else None

    def tick(self, *, now: float) -> None:
        """Run what is due by now."""
        while self._waiting and self._waiting[0][0] <= now:
            _, _, action = heapq.heappop(self._waiting)
            action(now)
