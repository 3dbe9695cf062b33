"""Holds data back for a while, without changing its order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class DelayQueue(Generic[T]):
    """Passes items on in their order, each after the delay that applied when it was put in, or later."""

    def __init__(self, pass_on: Callable[[T], None]) -> None:
        self._pass_on = pass_on
        self._waiting: deque[T] = deque()
        self._last_due = 0.0

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def put(self, item: T, *, delay_s: float) -> None:
        if not delay_s and self.is_empty:
            self._pass_on(item)
            return
        loop = asyncio.get_running_loop()
        self._last_due = max(self._last_due, loop.time() + delay_s)
        self._waiting.append(item)
        loop.call_at(self._last_due, self._release)

    def flush(self) -> None:
        """Pass on everything that waits now."""
        while self._waiting:
            self._release()

    def _release(self) -> None:
        if self._waiting:  # else it was flushed
            self._pass_on(self._waiting.popleft())
