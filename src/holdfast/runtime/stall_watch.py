"""Keeps callers from waiting for a database that hangs: they get an error that says what to do before they time out.

A statement that was sent can't be withdrawn, and may be executed when the database continues. It must never tell a
caller that nothing was stored when it may have been.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from holdfast.base.clock import Clock
from holdfast.base.errors import Fault, HoldfastError

T = TypeVar("T")

WAIT_S = 9.0
"""How long a caller waits; many clients give up after ten seconds."""
REFUSE_AFTER_S = 3.0
"""While others have waited for this long without any answer, new work is refused at once."""


class DatabaseStalled(HoldfastError):
    """The database does not answer."""

    code = "database-stalled"
    fault = Fault.HOLDFAST

    def __init__(self, *, may_be_stored: bool) -> None:
        cure = (
            "the request may have been stored: repeat it with the same Idempotency-Key"
            if may_be_stored
            else "nothing was stored: try again"
        )
        super().__init__(f"the database does not answer; {cure}")


class StallWatch:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting = 0
        self._answered_at = 0.0
        """When the database last answered, or when somebody began to wait for it."""

    async def answered(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`, which waits for the database. Raises `DatabaseStalled`."""
        now = self._clock.monotonic()
        if self._waiting and now - self._answered_at >= REFUSE_AFTER_S:
            raise DatabaseStalled(may_be_stored=False)
        if not self._waiting:
            self._answered_at = now
        self._waiting += 1
        try:
            async with self._clock.until(now + WAIT_S):
                try:
                    result = await work()
                except Exception:  # an error is an answer, too
                    self._answered_at = self._clock.monotonic()
                    raise
                self._answered_at = self._clock.monotonic()
                return result
        finally:
            self._waiting -= 1
        raise DatabaseStalled(may_be_stored=True)
