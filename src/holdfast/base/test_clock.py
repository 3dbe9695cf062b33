"""Real time, and how it is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from holdfast.base.clock import ClockSteps, SystemClock, iso, to_monotonic, to_wall
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
    """By how much; what ordinary clocks drift is nothing."""
    clock = FakeClock()
    steps = ClockSteps(clock)
    clock.advance_to(2000)
    assert steps.step_s() == 0
    clock.set_wall(clock.now() + timedelta(seconds=4))
    assert steps.step_s() == 0
    clock.set_wall(clock.now() - timedelta(days=1))
    assert steps.step_s() == pytest.approx(-86400)
    assert steps.step_s() == 0
