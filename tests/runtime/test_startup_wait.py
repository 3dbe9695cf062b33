"""What a start waits for: it is logged, and sessions that arrive meanwhile don't extend it."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.runtime.session_starts import SessionStarts
from holdfast.runtime.startup_wait import awaited
from tests.doubles.fake_clock import FakeClock


async def _run_ready_tasks() -> None:
    """Let the event loop run what can continue without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_long_wait_at_the_start_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Every ten seconds, with what is awaited; a short one is not."""
    clock, step = FakeClock(), asyncio.Event()
    waiting = asyncio.ensure_future(awaited(step, lambda: "an engine host", clock=clock))
    for _ in range(2):
        await _run_ready_tasks()
        clock.advance_to(clock.monotonic() + 10)
    await _run_ready_tasks()
    step.set()
    await waiting
    await awaited(step, lambda: "nothing", clock=clock)
    assert [record.getMessage() for record in caplog.records] == [
        "Holdfast is not ready: it has waited 10 s for an engine host",
        "Holdfast is not ready: it has waited 20 s for an engine host",
    ]


async def test_a_process_is_ready_when_its_first_sessions_are_started() -> None:
    """Others may move sessions to it all the time, so that some are always being started."""
    loaded, may_start = asyncio.Event(), {company: asyncio.Event() for company in "abc"}

    async def start(company: str) -> None:
        await may_start[company].wait()

    async with asyncio.TaskGroup() as tasks:
        starts = SessionStarts(tasks, start, clock=FakeClock(), loaded=loaded.set)
        starts.begin(["a", "b"])
        starts.begin(["c"])
        may_start["a"].set()
        await asyncio.sleep(0.01)
        assert not loaded.is_set()
        may_start["b"].set()
        await loaded.wait()
        assert list(starts.companies) == ["c"]
        may_start["c"].set()


async def test_a_process_without_sessions_is_ready_at_once() -> None:
    """After the first renewal of its leases."""
    loaded = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        SessionStarts(tasks, lambda company: asyncio.sleep(0), clock=FakeClock(), loaded=loaded.set).begin([])
        assert loaded.is_set()
