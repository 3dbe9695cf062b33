"""The fake clock fulfils the contract of a clock."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.base.clock import Clock, SystemClock
from tests.doubles.fake_clock import FakeClock


@pytest.fixture(params=[SystemClock, FakeClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


async def test_a_deadline_that_has_passed_ends_a_block_that_waits(clock: Clock) -> None:
    """`until` continues after the block without raising."""
    async with clock.until(clock.monotonic() - 1):
        await asyncio.Event().wait()
        pytest.fail("nobody set the event")


async def test_a_block_that_does_not_wait_is_finished_whatever_the_deadline(clock: Clock) -> None:
    """A block that does not have to wait runs to its end even when the deadline has passed."""
    done = False
    async with clock.until(clock.monotonic() - 1):
        done = True
    await asyncio.sleep(0)
    assert done


async def test_a_timeout_of_the_blocks_own_is_not_swallowed(clock: Clock) -> None:
    """An error of the block itself is raised to the caller, with or without a deadline."""
    for deadline in (None, clock.monotonic() + 60):
        with pytest.raises(TimeoutError, match="its own"):
            async with clock.until(deadline):
                raise TimeoutError("its own")


async def test_without_a_deadline_a_block_is_not_interrupted(clock: Clock) -> None:
    """None means no deadline."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_soon(done.set)
    async with clock.until(None):
        await done.wait()
    assert done.is_set()


async def test_a_cancellation_is_not_mistaken_for_a_deadline(clock: Clock) -> None:
    """A cancelled task ends; `until` does not suppress the cancellation."""

    async def waits() -> None:
        async with clock.until(clock.monotonic() + 60):
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()


async def test_fake_time_moves_only_on_request_and_wakes_in_order() -> None:
    """Sleepers are woken by deadline, each at its own time."""
    clock, woken = FakeClock(), list[str]()
    start = clock.monotonic()

    async def sleeps(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleeps("late", 5))
        tasks.create_task(sleeps("early", 2))
        await asyncio.sleep(0)
        assert clock.next_due == start + 2
        clock.advance_to(start + 2)
        await asyncio.sleep(0.01)
        assert woken == ["early"]
        clock.advance_to(start + 9)
    assert woken == ["early", "late"]
    assert clock.monotonic() == start + 9
    assert clock.next_due is None


async def test_a_block_that_ended_leaves_no_timer() -> None:
    """A deadline for which nobody waits any more is not due."""
    clock = FakeClock()
    async with clock.until(clock.monotonic() + 3):
        assert clock.next_due == clock.monotonic() + 3
    assert clock.next_due is None
