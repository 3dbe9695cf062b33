"""Simulates the reconnection policy for a line that drops again and again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.session.state import Policy
from tests.flapping_line import simulate

BUDGET = Policy().budget_an_hour


@pytest.mark.parametrize("link_lives_s", [30, 45, 61])
def test_a_line_that_drops_every_half_minute_or_later_stays_connected(link_lives_s: float) -> None:
    """The line is connected for at least 95 % of the first hour and of the second, within the hourly budget."""
    line = simulate(link_lives_s=link_lives_s, minutes=120)
    assert line.uptime_between(0, 60) >= 0.95
    assert line.uptime_between(60, 120) >= 0.95
    assert line.busiest_hour <= BUDGET


@pytest.mark.parametrize("link_lives_s", [10, 20])
def test_a_line_that_drops_too_often_for_the_budget_uses_all_of_it_evenly(link_lives_s: float) -> None:
    """All links of the budget are used, each stays up for its whole life, and they are spread over the whole hour."""
    line = simulate(link_lives_s=link_lives_s, minutes=120)
    assert line.busiest_hour <= BUDGET
    possible = BUDGET * link_lives_s / 3600
    assert line.uptime_between(0, 60) >= 0.95 * possible
    assert line.uptime_between(0, 5) >= 0.95, "the first drops are answered at once"
    for minute in range(10, 110, 10):
        assert line.uptime_between(minute, minute + 10) >= 0.75 * possible


@pytest.mark.parametrize("link_lives_s", [0, 1])
def test_a_server_that_drops_what_it_accepted_meets_the_backoff(link_lives_s: float) -> None:
    """An open link alone proves nothing: the backoff grows to its cap, and fewer links start than the budget allows."""
    line = simulate(link_lives_s=link_lives_s, minutes=120)
    assert line.busiest_hour <= 0.6 * BUDGET
    assert line.started_at[11] - line.started_at[10] >= 50


@given(link_lives_s=st.floats(0, 70), seed=st.integers(0, 10_000), budget=st.sampled_from([90, 120, 240]))
@settings(max_examples=15, deadline=None)
def test_no_hour_passes_the_budget(link_lives_s: float, seed: int, budget: int) -> None:
    """A session never starts more links within an hour than the budget allows, whenever its links die.

    A budget below one link a minute can't be kept, because no wait is longer than the cap of the backoff.
    """
    line = simulate(link_lives_s=link_lives_s, minutes=150, seed=seed, policy=Policy(budget_an_hour=budget))
    assert line.busiest_hour <= budget
