"""A day of round trips takes little memory, and no bad one is averaged away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.health.keepalive import PingOutcome, RoundTrips

_BEGIN = 1_800_000_000.0
_outcomes = st.lists(st.tuples(st.floats(1, 400), st.none() | st.floats(0.01, 5)), max_size=600)


def test_the_last_hour_is_detailed_and_earlier_hours_are_aggregated() -> None:
    """Two hours of pings: the older hour by its worst value in each five minutes, the newer one individually, none
    twice."""
    known = RoundTrips()
    for n in range(240):
        known.add(_BEGIN + 30 * n, None if n == 5 else 2.5 if n == 7 else 0.1)
    points = known.since(0)
    assert points[0] == PingOutcome(at=_BEGIN, worst_s=2.5, missed=1)
    assert [point.at for point in points[-120:]] == [_BEGIN + 30 * n for n in range(120, 240)]
    assert len(points) == 12 + 120


def test_data_before_the_requested_period_is_left_out() -> None:
    """A chart of an hour gets the data of an hour."""
    known = RoundTrips()
    for n in range(10):
        known.add(_BEGIN + 30 * n, 0.1)
    assert [point.at for point in known.since(_BEGIN + 240)] == [_BEGIN + 240, _BEGIN + 270]


@given(_outcomes)
def test_points_are_in_order_and_bounded(outcomes: list[tuple[float, float | None]]) -> None:
    """At any interval, times increase and there are never more than 408 points."""
    known, at = RoundTrips(), _BEGIN
    for pause_s, round_trip_s in outcomes:
        at += pause_s
        known.add(at, round_trip_s)
    times = [point.at for point in known.since(0)]
    assert times == sorted(times)
    assert len(times) <= 120 + 288


@given(_outcomes)
def test_the_worst_is_never_lost(outcomes: list[tuple[float, float | None]]) -> None:
    """The slowest answer shown is the slowest that there was."""
    known, at = RoundTrips(), _BEGIN
    for pause_s, round_trip_s in outcomes:
        at += pause_s / 4
        known.add(at, round_trip_s)
    answered = [seconds for _, seconds in outcomes if seconds is not None]
    shown = [point.worst_s for point in known.since(0) if point.worst_s is not None]
    assert max(shown, default=None) == max(answered, default=None)
