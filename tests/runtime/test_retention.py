"""When old rows are removed, under a fake clock."""

from __future__ import annotations

import asyncio
import logging

import pytest

from holdfast.base.clock import iso
from holdfast.delivery.retention import Batch, RetainedRows
from holdfast.runtime.retention import FIRST_SWEEP_S, PAUSE_S, SWEEP_INTERVAL_S, RetentionSweeper
from tests.doubles.fake_clock import FakeClock


class Rows:
    """Three batches of messages; the first request and the first tidying fail."""

    def __init__(self, clock: FakeClock) -> None:
        self.asked: list[tuple[RetainedRows, str, int]] = []
        self.at: list[float] = []
        self.tidied = 0
        self._clock = clock

    async def remove_batch(self, kept: RetainedRows, *, before: str, now: str, after: int) -> Batch:
        self.asked.append((kept, before, after))
        self.at.append(self._clock.monotonic())
        if len(self.asked) == 1:
            raise OSError("away")
        return Batch(removed=500, continue_after=after + 500 if after < 1000 else None)

    async def reclaim_space(self) -> None:
        self.tidied += 1
        if self.tidied == 1:
            raise OSError("locked")


async def test_batches_pause_and_a_failed_sweep_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """An unavailable database ends nothing; a kind that is kept forever is never queried."""
    clock = FakeClock()
    rows, began = Rows(clock), clock.monotonic()
    sweeper = RetentionSweeper(rows, clock=clock, keep_days={RetainedRows.MESSAGES: 1, RetainedRows.INBOX: 0})
    with caplog.at_level(logging.INFO):
        running = asyncio.ensure_future(sweeper.run())
        for pause_s in (FIRST_SWEEP_S, SWEEP_INTERVAL_S, PAUSE_S, PAUSE_S):
            await _settle()
            clock.advance_to(clock.monotonic() + pause_s)
        await _settle()
    assert not running.done()
    running.cancel()
    assert [(kept, after) for kept, _, after in rows.asked] == [(RetainedRows.MESSAGES, n) for n in (0, 0, 500, 1000)]
    second = FIRST_SWEEP_S + SWEEP_INTERVAL_S
    waits = (FIRST_SWEEP_S, second, second + PAUSE_S, second + 2 * PAUSE_S)
    assert [at - began for at in rows.at] == pytest.approx(waits)
    assert all(before < iso(clock.now()) for _, before, _ in rows.asked)
    assert "Old outbound messages could not be removed; next try in 3600 s" in caplog.text
    assert "1500 old outbound messages removed" in caplog.text
    assert "Unused space of the database could not be reclaimed; next try in 3600 s" in caplog.text
    assert rows.tidied == 2


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
