"""Waits for a step of the start-up, and logs what it waits for when that takes long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from holdfast.base.clock import Clock

log = logging.getLogger(__name__)

LOGGED_EVERY_S = 10.0


async def awaited(step: asyncio.Event, what: Callable[[], str], *, clock: Clock) -> None:
    """Return when `step` is set. `what`: what is awaited, for the log."""
    began_at = clock.monotonic()
    while not step.is_set():
        async with clock.until(clock.monotonic() + LOGGED_EVERY_S):
            await step.wait()
        if not step.is_set():
            log.warning("Holdfast is not ready: it has waited %.0f s for %s", clock.monotonic() - began_at, what())
