"""Expires the queued messages of one session when their time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast.base.clock import Clock, ClockWatch, iso, to_monotonic
from holdfast.base.clock_step import ClockStep
from holdfast.delivery.queue_watch import earliest
from holdfast.delivery.stores import Outbox


class MessageExpiry:
    def __init__(
        self,
        company: str,
        *,
        outbox: Outbox,
        clock: Clock,
        clock_watch: ClockWatch,
        expired: Callable[[str], None],
    ) -> None:
        """`expired` is called with the WhatsApp id of each message that expired."""
        self._company = company
        self._outbox = outbox
        self._clock = clock
        self._clock_watch = clock_watch
        self._steps: list[ClockStep] = []
        """Steps of the wall clock that are not applied to the outbox yet."""
        self._expired = expired
        self._next_at: float | None = clock.monotonic()
        """When the next message expires, in monotonic seconds, as read from the outbox."""
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Expire messages until cancelled."""
        while True:
            async with self._clock.until(self._next_at):
                await self._wake.wait()
            self._wake.clear()
            if self._next_at is not None and self._next_at <= self._clock.monotonic():
                await self._expire()

    def expect(self, at: str | None) -> None:
        """A message was accepted that expires at this time (ISO 8601)."""
        if at is not None:
            self._set(to_monotonic(self._clock, at))

    def recheck(self) -> None:
        """Others accepted messages: ask the outbox."""
        self._set(self._clock.monotonic())

    def clock_was_set(self, step: ClockStep) -> None:
        """Stored expiries are times of the wall clock: they move with it."""
        self._steps.append(step)
        self._set(self._clock.monotonic())

    def _set(self, moment: float) -> None:
        self._next_at = earliest(self._next_at, moment)
        self._wake.set()

    async def _expire(self) -> None:
        self._clock_watch.check()
        self._next_at = None
        while self._steps:
            await self._outbox.move_expiries(self._company, self._steps[0])
            del self._steps[0]
        now = iso(self._clock.now())
        first = await self._outbox.next_expiry(self._company)
        if first is not None and first <= now:  # otherwise nothing is written: in a cluster this runs each second
            for message in await self._outbox.expire(self._company, at=now):
                self._expired(message.whatsapp_id)
            first = await self._outbox.next_expiry(self._company)
        self.expect(first)
