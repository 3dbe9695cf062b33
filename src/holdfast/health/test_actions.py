"""The actions of the monitor, by literal evidence."""

from dataclasses import replace

import pytest

from holdfast.health.actions import Nothing, Probe, Reconnect, ReplaceActor, ReplaceHost, decide
from holdfast.health.conftest import LOGGING_IN, QUIET, away, with_link
from holdfast.health.signals import Limits, ProcessSignals, Signals
from holdfast.session.state import State

LIMITS = Limits()


def test_a_quiet_company_is_left_alone() -> None:
    """Without messages, but with all pings answered, there is never anything to do."""
    assert decide(QUIET, LIMITS) == Nothing()


def test_a_silent_link_is_pinged_and_not_cut() -> None:
    """After three keep-alive intervals without a sign of life the link is pinged, nothing more."""
    assert decide(with_link(pong_s=91, frame_s=None), LIMITS) == Probe("nothing has arrived on the link for 1 min")
    assert decide(with_link(pong_s=91, frame_s=89), LIMITS) == Nothing()


def test_a_probe_is_not_repeated_while_its_answer_is_awaited() -> None:
    """While a ping is unanswered, no other one is sent."""
    assert decide(with_link(pong_s=91, frame_s=None, ping_s=4), LIMITS) == Nothing()


def test_an_unanswered_probe_ends_the_link() -> None:
    """The machine would have cut the link after 5 s; the monitor does it after 10 s."""
    assert decide(with_link(ping_s=9.9), LIMITS) == Nothing()
    assert decide(with_link(ping_s=10.1), LIMITS) == Reconnect("a ping has gone unanswered for 10 s")


def test_a_link_that_acks_no_messages_is_ended() -> None:
    """Answered pings do not make up for a message without an ack."""
    assert decide(with_link(unacked_s=19.9), LIMITS) == Nothing()
    assert decide(with_link(unacked_s=20.1), LIMITS) == Reconnect("a message has gone without an ack for 20 s")


@pytest.mark.parametrize("state", [State.CONNECTING, State.CONNECTED, State.RECONNECTING])
def test_a_session_without_link_and_plan_is_reconnected(state: State) -> None:
    """A session that should be connected, with no attempt in progress, is reconnected."""
    assert decide(away(state, in_state_s=11), LIMITS) == Reconnect("the session has no link and none is planned")
    assert decide(away(state, in_state_s=9), LIMITS) == Nothing()
    assert decide(away(state, in_state_s=500, next_attempt_in_s=50), LIMITS) == Nothing()


def test_a_login_under_way_is_the_machines() -> None:
    """The session machine has its own deadline for a login."""
    assert decide(replace(QUIET, state=State.CONNECTING, link=LOGGING_IN), LIMITS) == Nothing()


@pytest.mark.parametrize("state", [State.PAUSED, State.STOPPED, State.LOGGED_OUT, State.UNPAIRED, State.PAIRING])
def test_a_session_that_waits_for_a_person_is_left_alone(state: State) -> None:
    """After a ban, a logout or a stop, reconnecting would do harm."""
    assert decide(away(state, in_state_s=5000), LIMITS) == Nothing()


def late(signals: Signals, *, actor_s: float, overdue_s: float | None, check_s: float = 0) -> Signals:
    machinery = ProcessSignals(actor_silent_s=actor_s, check_late_s=check_s)
    return replace(signals, overdue_s=overdue_s, machinery=machinery)


def test_an_actor_that_hangs_is_replaced() -> None:
    """An actor is replaced if its deadline passed long ago and it has handled no event since; either alone proves
    nothing."""
    assert isinstance(decide(late(QUIET, actor_s=40, overdue_s=31), LIMITS), ReplaceActor)
    assert decide(late(QUIET, actor_s=4000, overdue_s=None), LIMITS) == Nothing()
    assert decide(late(QUIET, actor_s=1, overdue_s=31), LIMITS) == Nothing()
    assert decide(late(QUIET, actor_s=40, overdue_s=29), LIMITS) == Nothing()


def test_an_actor_that_hangs_is_replaced_in_every_state() -> None:
    """A paused session whose time has come must act, too."""
    assert isinstance(decide(late(away(State.PAUSED), actor_s=40, overdue_s=31), LIMITS), ReplaceActor)


def test_a_host_that_hangs_comes_first() -> None:
    """No link can be repaired on a host that does not answer."""
    hung = replace(with_link(ping_s=60), machinery=ProcessSignals(host_silent_s=31))
    assert decide(hung, LIMITS) == ReplaceHost("the engine host has not responded for 31 s")


def test_a_late_check_takes_no_action() -> None:
    """After a pause of the process by a minute everything is a minute old, so the first check judges nothing."""
    hung = replace(with_link(ping_s=60), machinery=ProcessSignals(host_silent_s=70, check_late_s=11))
    assert decide(hung, LIMITS) == Nothing()
