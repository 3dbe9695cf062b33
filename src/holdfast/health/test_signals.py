"""The evidence, collected from a session machine and other sources."""

from dataclasses import replace

import pytest

from holdfast.health.keepalive import KeepAlives
from holdfast.health.signals import HourlySignals, Limits, LinkSignals, MessageSignals, ProcessSignals, Signals, observe
from holdfast.session.state import Link, Policy, Session, State

POLICY = Policy()
NOW = 1000.0
OPEN = Link(
    number=7,
    began_at=899,
    gives_up_at=None,
    opened_at=900,
    ping=4,
    pinged_at=998,
    ponged_at=968.5,
    next_ping_at=1028,
    unacked_since=999,
)
CONNECTED = Session(state=State.CONNECTED, paired=True, newest_link=7, link=OPEN, begun_at=(899,))
WAITING = Session(state=State.RECONNECTING, paired=True, newest_link=7, attempts=3, next_attempt_at=1004)


def seen(session: Session, *, frame_at: float | None = None, now: float = NOW) -> Signals:
    return observe(
        session,
        company="962302",
        now=now,
        policy=POLICY,
        in_state_s=100,
        frame_at=frame_at,
        keepalives=KeepAlives(sent=4),
        messages=MessageSignals(waiting=2, oldest_s=1),
        hour=HourlySignals(lost=1),
        machinery=ProcessSignals(actor_silent_s=2),
        qr_requested=True,
    )


def test_a_link_is_seen_by_its_ages() -> None:
    """Every sign of life is given by its age."""
    link = seen(CONNECTED, frame_at=999.5).link
    assert link == LinkSignals(age_s=101, open_s=100, pong_s=31.5, ping_s=2, unacked_s=1, frame_s=0.5)


@pytest.mark.parametrize("frame_at", [None, 898.9])
def test_bytes_of_an_older_link_are_no_sign_of_this_one(frame_at: float | None) -> None:
    """Bytes received before the link started say nothing about it."""
    link = seen(CONNECTED, frame_at=frame_at).link
    assert link is not None
    assert link.frame_s is None


def test_the_rest_is_passed_on() -> None:
    """Values from other sources are passed on unchanged."""
    signals = seen(CONNECTED)
    assert (signals.company, signals.in_state_s, signals.qr_requested) == ("962302", 100, True)
    assert (signals.keepalives.sent, signals.messages.waiting, signals.hour.lost) == (4, 2, 1)
    assert (signals.machinery.actor_silent_s, signals.budget_left) == (2, 119)


def test_a_wait_is_shown_by_its_remaining_time() -> None:
    """Without a link, the time until the next attempt is given."""
    signals = seen(WAITING)
    assert (signals.link, signals.attempts, signals.next_attempt_in_s, signals.overdue_s) == (None, 3, 4, None)


def test_a_missed_deadline_is_overdue() -> None:
    """A planned attempt in the past, or a missed ping deadline, shows how late the session's actor is."""
    assert seen(WAITING, now=1044).overdue_s == 40
    assert seen(CONNECTED, now=1010).overdue_s == 7
    assert seen(replace(WAITING, next_attempt_at=None)).overdue_s is None


def test_the_last_sign_of_life_is_the_youngest() -> None:
    """The latest of bytes, a pong and the opening counts; a login in progress has none yet."""
    link = LinkSignals(age_s=100, open_s=99, pong_s=40, ping_s=None, unacked_s=None, frame_s=12)
    assert link.silent_s == 12
    assert replace(link, frame_s=None).silent_s == 40
    assert replace(link, frame_s=None, pong_s=None).silent_s == 99
    assert replace(link, open_s=None).silent_s is None


def test_the_last_hour_counts_unintended_losses() -> None:
    """Losses within the hour are counted, and zombies among them; intended and older ones are not."""
    ends = [
        (10.0, "no-pong", "network"),
        (20.0, "no-acks", "whatsapp"),
        (30.0, "transport-closed", "network"),
        (40.0, "reconnect-requested", "nobody"),
        (3600.0, "no-pong", "network"),
    ]
    assert HourlySignals.of(ends) == HourlySignals(lost=3, zombies=2, calm_s=10, main_cause="no-pong")


def test_limits_follow_the_policy() -> None:
    """With a slower keep-alive the monitor waits longer, so that both agree about deadlines."""
    limits = Limits.of(Policy(keepalive_interval_s=300, pong_deadline_s=8, ack_deadline_s=3, no_acks_deadline_s=20))
    assert (limits.silent_s, limits.pong_deadline_s, limits.ack_deadline_s, limits.no_acks_deadline_s) == (
        900,
        8,
        3,
        20,
    )
    assert Limits.of(Policy()) == Limits()
