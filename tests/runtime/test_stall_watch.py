"""Errors of callers while the database hangs: in time, and at once if nothing was stored."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.runtime.stall_watch import REFUSE_AFTER_S, WAIT_S, DatabaseStalled, StallWatch
from tests.doubles.fake_clock import FakeClock


class Stalling:
    """A database that answers when the test says so."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.asked = 0

    async def store(self) -> str:
        self.asked += 1
        await self.goes_on.wait()
        return "stored"


async def later(clock: FakeClock, seconds: float) -> None:
    clock.advance_to(clock.monotonic() + seconds)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_caller_learns_in_time_that_its_request_may_have_been_stored() -> None:
    """The statement was sent and may be executed later, so the error is returned before the caller times out."""
    clock, database = FakeClock(), Stalling()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_refusal(StallWatch(clock), database))
        await later(clock, 0)
        await later(clock, WAIT_S)
        assert "may have been stored" in await waiting


async def test_others_are_refused_at_once_and_nothing_of_theirs_is_stored() -> None:
    """As soon as somebody has waited in vain for some seconds; until then other callers wait as well."""
    clock, database = FakeClock(), Stalling()
    watch = StallWatch(clock)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(watch.answered(database.store))
        await later(clock, 0)
        await later(clock, REFUSE_AFTER_S - 0.1)
        second = tasks.create_task(watch.answered(database.store))
        await later(clock, 0)
        await later(clock, 0.1)
        assert "nothing was stored" in await _refusal(watch, database)
        assert database.asked == 2
        database.goes_on.set()
        assert [await first, await second, await watch.answered(database.store)] == ["stored"] * 3


async def test_a_slow_database_that_answers_is_not_a_stalled_one() -> None:
    """Each answer shows that it works, also an error; a caller that disconnects shows nothing."""
    clock, slow = FakeClock(), Stalling()
    watch = StallWatch(clock)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(watch.answered(slow.store))
        await later(clock, 0)
        await later(clock, REFUSE_AFTER_S - 0.1)
        with pytest.raises(ValueError, match="refused"):
            await watch.answered(_fail)
        await later(clock, 0.2)
        left = tasks.create_task(watch.answered(slow.store))
        await later(clock, 0)
        await later(clock, REFUSE_AFTER_S - 0.3)
        left.cancel()
        await later(clock, 0.2)
        assert "nothing was stored" in await _refusal(watch, slow)
        slow.goes_on.set()
        assert await waiting == "stored"


async def _fail() -> None:
    raise ValueError("refused")


async def _refusal(watch: StallWatch, database: Stalling) -> str:
    with pytest.raises(DatabaseStalled) as refused:
        await watch.answered(database.store)
    return refused.value.sentence
