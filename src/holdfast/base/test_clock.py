"""Real time, and how it is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from holdfast.base.clock import ClockWatch, SystemClock, iso, to_monotonic, to_wall
from holdfast.base.clock_step import ClockStep
from tests.doubles.fake_clock import FakeClock


async def test_real_time_moves_and_knows_its_zone() -> None:
    """Monotonic seconds grow over a sleep; the time of day is aware, in UTC."""
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() > before
    assert clock.now().utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 22, 10, 56, tzinfo=UTC), "2026-11-22T10:56:00.000Z"),
        (datetime(2026, 11, 22, 10, 56, 1, 999_999, tzinfo=UTC), "2026-11-22T10:56:01.999Z"),
        (datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=3))), "2025-12-31T22:30:00.000Z"),
        (None, None),
    ],
)
def test_times_are_written_in_one_form(moment: datetime | None, text: str | None) -> None:
    """ISO 8601 in UTC, three digits of a second and `Z`, whatever zone the time came in; no time is no text."""
    assert iso(moment) == text


def test_recorded_times_and_monotonic_moments_are_converted_both_ways() -> None:
    """A time ahead lies as far ahead on the monotonic clock, one that is past as far behind."""
    clock = SystemClock()
    for seconds in (-3600.0, 0.0, 90.5):
        at = iso(clock.now() + timedelta(seconds=seconds))
        moment = to_monotonic(clock, at)
        assert moment - clock.monotonic() == pytest.approx(seconds, abs=1)
        assert (to_wall(clock, moment) - clock.now()).total_seconds() == pytest.approx(seconds, abs=1)


def test_a_wall_clock_that_was_set_is_noticed_once() -> None:
    """By how much; ordinary clock drift is ignored. Everybody who follows the clock is notified."""
    clock = FakeClock()
    watch, heard = ClockWatch(clock), list[ClockStep]()
    watch.follow(heard.append)
    clock.advance_to(2000)
    assert watch.check() is None
    clock.set_wall(clock.now() + timedelta(seconds=4))
    assert watch.check() is None
    clock.advance_to(2010)
    clock.set_wall(clock.now() - timedelta(days=1))
    step = watch.check()
    assert step is not None
    assert step.set_by_s == step.by_s == pytest.approx(-86400)
    assert (step.after, step.at) == (clock.now() - timedelta(seconds=10), clock.now())
    assert watch.check() is None
    assert heard == [step]


def test_time_that_passed_while_the_machine_was_suspended_is_real() -> None:
    """The wall clock moved relative to the monotonic one, but it was not set."""
    clock = FakeClock()
    watch = ClockWatch(clock)
    clock.suspend(3600)
    step = watch.check()
    assert step is not None
    assert step.by_s == pytest.approx(3600)
    assert step.set_by_s == pytest.approx(0)
    assert SystemClock().suspended() >= 0
