"""The window of keep-alives, and how it is derived from the session machine's steps."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.health.keepalive import WINDOW, KeepAlives, follow
from holdfast.session.events import Event, HostLost, ReconnectAsked, StopAsked, Tick
from holdfast.session.state import Link, Policy, Session, State
from tests.doubles.engine_reports import granted_step, link_closed, ponged

NOW = 1000.0
OPEN = Link(number=7, began_at=899, gives_up_at=None, opened_at=900, ping=1, ponged_at=900.1, next_ping_at=1000)
CONNECTED = Session(state=State.CONNECTED, paired=True, newest_link=7, link=OPEN)


def take(known: KeepAlives, session: Session, event: Event, *, now: float) -> tuple[KeepAlives, Session]:
    after, _ = granted_step(session, event, now=now, jitter=0, policy=Policy())
    return follow(known, session, after), after


def test_nothing_is_known_at_first() -> None:
    """Without an outcome there is no rate and no round trip, and no ping was missed."""
    none = KeepAlives()
    assert (none.success_rate, none.last_s, none.p50_s, none.p95_s, none.missed_in_a_row) == (None, None, None, None, 0)


def test_a_ping_and_its_answer() -> None:
    """A ping is counted when it is sent, and its answer with the round trip."""
    known, session = take(KeepAlives(), CONNECTED, Tick(), now=NOW)
    assert known == KeepAlives(sent=1)
    known, _ = take(known, session, ponged(7, 2), now=NOW + 0.25)
    assert known == KeepAlives(sent=1, answered=1, outcomes=(0.25,))


def test_an_unanswered_ping_is_missed() -> None:
    """The machine cuts the link at the deadline, so that keep-alive failed."""
    known, session = take(KeepAlives(), CONNECTED, Tick(), now=NOW)
    known, _ = take(known, session, Tick(), now=NOW + 5)
    assert (known, known.missed_in_a_row) == (KeepAlives(sent=1, outcomes=(None,)), 1)


@pytest.mark.parametrize("event", [link_closed(7, 428), HostLost()])
def test_a_ping_whose_link_was_lost_is_missed(event: Event) -> None:
    """A ping counts as missed when its link ends before the answer."""
    known, session = take(KeepAlives(), CONNECTED, Tick(), now=NOW)
    assert take(known, session, event, now=NOW + 1)[0].outcomes == (None,)


@pytest.mark.parametrize("event", [StopAsked(), ReconnectAsked(), link_closed(7, 515)])
def test_a_ping_on_a_link_ended_on_purpose_does_not_count(event: Event) -> None:
    """A link that was ended on purpose says nothing about its pending ping."""
    known, session = take(KeepAlives(), CONNECTED, Tick(), now=NOW)
    assert take(known, session, event, now=NOW + 1)[0] == KeepAlives(sent=1)


def test_a_link_that_ends_between_pings_does_not_count() -> None:
    """Without a pending ping, the end of a link is not an outcome."""
    assert take(KeepAlives(), CONNECTED, link_closed(7, 428), now=NOW)[0] == KeepAlives()


def test_pings_of_the_next_link_count_from_one() -> None:
    """A link that just opened has sent its first ping, whatever the ping number of the one before."""
    connecting = Session(
        state=State.RECONNECTING, newest_link=8, link=Link(number=8, began_at=NOW, gives_up_at=NOW + 20)
    )
    opened = replace(connecting, link=replace(OPEN, number=8, ping=1, pinged_at=NOW))
    assert follow(KeepAlives(sent=9), connecting, opened).sent == 10
    assert follow(KeepAlives(sent=9), CONNECTED, opened).sent == 10


def test_other_steps_change_nothing() -> None:
    """Steps without ping, pong or end have no effect on the statistics."""
    waiting = replace(CONNECTED, link=replace(OPEN, pinged_at=NOW))
    known = KeepAlives(sent=3, answered=2, outcomes=(0.1, 0.2))
    assert follow(known, waiting, replace(waiting, attempts=0)) == known


def test_rate_misses_and_percentiles() -> None:
    """The rate is that of the window; misses in a row count since the last answer."""
    known = KeepAlives(outcomes=(0.4, None, 0.1, 0.2, 0.3, None, None))
    assert (known.success_rate, known.missed_in_a_row, known.last_s) == (4 / 7, 2, 0.3)
    assert (known.p50_s, known.p95_s) == (0.2, 0.4)


@given(st.lists(st.one_of(st.none(), st.floats(0, 60)), max_size=3 * WINDOW))
def test_memory_is_bounded_and_counts_add_up(outcomes: list[float | None]) -> None:
    """Only the window is kept, with the newest outcomes."""
    known = KeepAlives()
    for outcome in outcomes:
        known = known.with_sent()
        known = known.with_miss() if outcome is None else known.with_answer(outcome)
    assert known.outcomes == tuple(outcomes[-WINDOW:])
    assert (known.sent, known.answered) == (len(outcomes), sum(outcome is not None for outcome in outcomes))
    assert known.success_rate is None or 0 <= known.success_rate <= 1
