"""Removes rows that are older than their setting allows, in small batches with pauses, so that no other write waits for
it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from datetime import timedelta

from holdfast.base.clock import Clock, iso
from holdfast.delivery.retention import RetainedRows, Retention

log = logging.getLogger(__name__)

FIRST_SWEEP_S = 120
SWEEP_INTERVAL_S = 3600
PAUSE_S = 0.1
"""Between two batches."""


class RetentionSweeper:
    """Sweeps every hour. A failure, such as an unavailable database, is logged and retried."""

    def __init__(self, store: Retention, *, clock: Clock, keep_days: Mapping[RetainedRows, float]) -> None:
        """keep_days: for each kind of row; 0 or none keeps it forever."""
        self._store = store
        self._clock = clock
        self._keep_days = {kept: days for kept, days in keep_days.items() if days > 0}

    async def run(self) -> None:
        """Sweep until cancelled."""
        pause_s: float = FIRST_SWEEP_S
        while True:
            await self._clock.sleep(pause_s)
            pause_s = SWEEP_INTERVAL_S
            for kept, days in self._keep_days.items():
                before = iso(self._clock.now() - timedelta(days=days))
                await self._try(self._sweep(kept, before=before), f"Old {kept.value} could not be removed")
            await self._try(self._store.reclaim_space(), "Unused space of the database could not be reclaimed")

    async def _try(self, work: Awaitable[None], failed: str) -> None:
        try:
            await work
        except Exception:
            log.exception("%s; next try in %.0f s", failed, SWEEP_INTERVAL_S)

    async def _sweep(self, retained: RetainedRows, *, before: str) -> None:
        removed, after = 0, 0
        while True:
            now = iso(self._clock.now())
            batch = await self._store.remove_batch(retained, before=before, now=now, after=after)
            removed += batch.removed
            if batch.continue_after is None:
                break
            after = batch.continue_after
            await self._clock.sleep(PAUSE_S)
        if removed:
            log.info("%d old %s removed", removed, retained.value)
