"""Stability, by literal histories and against a count second by second."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.delivery.stores import DeliveryTally
from holdfast.health.stability import (
    WINDOWS_S,
    Connectivity,
    ConnectivityChange,
    Stability,
    connectivity_of,
    stability,
)
from holdfast.session.state import State

UP, DISCONNECTED, EXCLUDED = Connectivity.CONNECTED, Connectivity.DISCONNECTED, Connectivity.EXCLUDED
NOW = 10_000.0
DAY_S = WINDOWS_S["24h"]


def measured(
    *changes: tuple[float, Connectivity], window_s: float = DAY_S, messages: DeliveryTally | None = None
) -> Stability:
    history = [ConnectivityChange(at, connectivity) for at, connectivity in changes]
    return stability(history, messages or DeliveryTally(), now=NOW, window_s=window_s)


def rows(found: Stability) -> list[tuple[str, bool]]:
    return [(row.measured, row.holds) for row in found.table()]


def test_a_good_day_holds() -> None:
    """One loss in two and a half hours, reconnected in four seconds, everything delivered: all four goals hold."""
    found = measured(
        (1000, UP), (4000, DISCONNECTED), (4004, UP), messages=DeliveryTally(accepted=200, taken=199, arrived=180)
    )
    assert [(row.what, row.goal) for row in found.table()] == [
        ("connection uptime", "> 95 %"),
        ("message delivery", "> 95 %"),
        ("reconnection, p95", "< 10 s"),
        ("disconnections an hour", "< 1"),
    ]
    assert rows(found) == [
        ("99.9 %", True),
        ("99.5 % accepted by WhatsApp, 90.0 % on phones", True),
        ("4.0 s", True),
        ("0.4", True),
    ]
    assert found.holds


def test_a_bad_hour_does_not() -> None:
    """The user's old links: nearly always disconnected, nothing delivered, dozens of disconnections."""
    changes = [
        (6400.0 + 36 * n + offset, connectivity)
        for n in range(100)
        for offset, connectivity in ((0, UP), (3, DISCONNECTED))
    ]
    found = measured(*changes, window_s=3600, messages=DeliveryTally(accepted=50))
    assert rows(found) == [
        ("8.3 %", False),
        ("0.0 % accepted by WhatsApp, 0.0 % on phones", False),
        ("33.0 s", False),
        ("100.0", False),
    ]
    assert not found.holds


@pytest.mark.parametrize(
    ("percent", "holds"),
    [(95, False), (96, True)],
)
def test_goals_are_exceeded_not_met(percent: int, holds: bool) -> None:
    """Exactly 95 % is not more than 95 %."""
    found = measured(
        (9900, UP), (9900 + percent, DISCONNECTED), window_s=100, messages=DeliveryTally(accepted=100, taken=percent)
    )
    assert [row.holds for row in found.table()[:2]] == [holds, holds]


def test_a_loss_within_five_minutes_is_one_an_hour() -> None:
    """A short observation is not extrapolated to a rate, and one loss still misses the goal."""
    found = measured((0, UP), (9800, DISCONNECTED), (9801, UP), window_s=300)
    assert (found.disconnections_an_hour, found.table()[3].holds) == (1, False)


def test_nothing_observed_proves_nothing() -> None:
    """Without history, or only stopped on purpose, there is no uptime."""
    for found in (measured(), measured((0, EXCLUDED))):
        assert (found.observed_s, found.uptime_percent, found.disconnected_s) == (0, None, None)
        assert rows(found)[0] == ("not observed", False)


def test_no_messages_and_no_losses_are_no_failures() -> None:
    """A company without traffic meets its goals."""
    found = measured((0, UP))
    assert rows(found) == [
        ("100.0 %", True),
        ("no messages to evaluate", True),
        ("none needed", True),
        ("0.0", True),
    ]


def test_time_before_the_first_transition_is_not_counted() -> None:
    """A session that is an hour old has an hour's uptime, not a day's."""
    assert measured((NOW - 3600, UP)).observed_s == 3600


def test_stopped_on_purpose_is_neither_up_nor_down() -> None:
    """Neither the stop nor the start is a disconnection, and the time in between does not count."""
    found = measured((0, UP), (1000, EXCLUDED), (9000, DISCONNECTED), (9002, UP))
    assert (found.observed_s, found.connected_s, found.disconnections, found.reconnects_s) == (2000, 1998, 0, ())


def test_a_start_is_no_reconnection() -> None:
    """The first link of a session follows no loss."""
    assert measured((9000, DISCONNECTED), (9030, UP)).reconnects_s == ()


def test_a_stop_during_an_absence_ends_it_without_a_reconnection() -> None:
    """Nobody knows how long the reconnection would have taken."""
    found = measured((0, UP), (100, DISCONNECTED), (105, EXCLUDED), (900, DISCONNECTED), (901, UP))
    assert (found.disconnections, found.reconnects_s) == (1, ())


def test_a_current_disconnection_counts_with_its_duration_so_far() -> None:
    """A session still disconnected after a minute misses the goal of ten seconds, however quick earlier ones were."""
    found = measured((0, UP), (500, DISCONNECTED), (501, UP), (NOW - 60, DISCONNECTED))
    assert (found.disconnected_s, rows(found)[2]) == (60, ("60.0 s", False))
    assert rows(measured((0, UP), (NOW - 2, DISCONNECTED)))[2] == ("2.0 s", True)


def test_a_present_absence_is_not_hidden_by_many_quick_ones() -> None:
    """A hundred quick reconnections determine the percentile; a current absence decides nevertheless."""
    quick = [
        (10.0 * n + offset, connectivity) for n in range(100) for offset, connectivity in ((0, DISCONNECTED), (1, UP))
    ]
    found = measured((0, UP), *quick, (NOW - 40, DISCONNECTED))
    assert rows(found)[2] == ("1.0 s", False)


def test_a_reconnection_belongs_to_the_window_in_which_it_ended() -> None:
    """Its full duration counts, although the loss was before the window."""
    found = measured((0, UP), (NOW - 310, DISCONNECTED), (NOW - 290, UP), window_s=300)
    assert (found.reconnects_s, found.disconnections, found.connected_s, found.observed_s) == ((20,), 0, 290, 300)
    assert (found.reconnect_p50_s, found.reconnect_p95_s) == (20, 20)


def test_events_before_the_window_are_not_counted() -> None:
    """Losses and reconnections before the window, or exactly at its start, are not counted."""
    before = measured((0, UP), (NOW - 400, DISCONNECTED), (NOW - 350, UP), window_s=300)
    assert (before.disconnections, before.reconnects_s) == (0, ())
    assert measured((0, UP), (NOW - 300, DISCONNECTED), (NOW - 299, UP), window_s=300).disconnections == 0
    assert measured((0, UP), (NOW - 310, DISCONNECTED), (NOW - 300, UP), window_s=300).reconnects_s == ()


def test_a_clock_set_back_makes_no_negative_time() -> None:
    """An entry with an earlier time than the one before counts from that one's; one in the future counts from now."""
    found = measured((1000, UP), (900, DISCONNECTED), (1002, UP), (NOW + 50, DISCONNECTED))
    assert (found.reconnects_s, found.observed_s, found.connected_s) == ((2,), 9000, 8998)
    assert measured((NOW + 50, UP)).observed_s == 0


@pytest.mark.parametrize(
    ("state", "connectivity"),
    [
        (State.CONNECTED, UP),
        (State.CONNECTING, DISCONNECTED),
        (State.RECONNECTING, DISCONNECTED),
        (State.PAUSED, DISCONNECTED),
        (State.LOGGED_OUT, DISCONNECTED),
        (State.STOPPED, EXCLUDED),
        (State.UNPAIRED, EXCLUDED),
        (State.PAIRING, EXCLUDED),
    ],
)
def test_states_and_how_they_count(state: State, connectivity: Connectivity) -> None:
    """Only what a person chose, or has not done yet, is excused."""
    assert connectivity_of(state) is connectivity


TURNS = st.lists(
    st.tuples(st.integers(0, 300), st.sampled_from(Connectivity)), max_size=25, unique_by=lambda change: change[0]
).map(lambda changes: [ConnectivityChange(float(at), connectivity) for at, connectivity in sorted(changes)])


@given(history=TURNS, now=st.integers(300, 350), window_s=st.integers(1, 350))
def test_sums_are_those_of_a_count_by_seconds(history: Sequence[ConnectivityChange], now: int, window_s: int) -> None:
    """The results are those of an observer who looks every second."""
    found = stability(history, DeliveryTally(), now=now, window_s=window_s)
    looked = [_connectivity_at(history, second) for second in range(max(now - window_s, 0), now)]
    assert found.connected_s == looked.count(UP)
    assert found.observed_s == looked.count(UP) + looked.count(DISCONNECTED)
    assert found.uptime_percent is None or 0 <= found.uptime_percent <= 100
    losses = [
        second
        for second in range(max(now - window_s + 1, 1), now + 1)
        if _connectivity_at(history, second - 1) is UP and _connectivity_at(history, second) is DISCONNECTED
    ]
    assert found.disconnections == len(losses)
    assert len(found.reconnects_s) <= found.disconnections + 1


def _connectivity_at(history: Sequence[ConnectivityChange], second: int) -> Connectivity | None:
    """The connectivity during the second that starts then."""
    return next((change.connectivity for change in reversed(history) if change.at <= second), None)
