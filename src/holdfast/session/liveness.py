"""Checks that an open link works: pings, pongs and acks, and when something about them is due.

`deadline` says when the machine must be woken, and `watch` judges by the same functions, so that a `Tick` at the
deadline always finds something to do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from holdfast.session import reasons
from holdfast.session.backoff import ping_interval_s
from holdfast.session.engine import Ping, Ponged, Presence
from holdfast.session.events import Effect, Event, SendsWaited, Tick
from holdfast.session.reconnect import Moment, Step, lose
from holdfast.session.state import Link, Policy, Session

# When something is due.


def deadline(session: Session, *, policy: Policy) -> float | None:
    """When `Tick` is due (monotonic seconds); None while nothing is due."""
    times = [session.next_attempt_at]
    if link := session.link:
        times.append(link.gives_up_at)
    if link and link.opened_at is not None:
        times += [sign_of_life_due_at(link, policy), no_acks_at(link, policy)]
        times.append(stable_at(link, policy) if session.attempts else None)
    return min((time for time in times if time is not None), default=None)


def sign_of_life_due_at(link: Link, policy: Policy) -> float | None:
    """When the answer to the last ping is due; with none outstanding, when the next ping is."""
    if link.pinged_at is not None:
        return link.pinged_at + policy.pong_deadline_s
    overdue_at = None if link.unacked_since is None else link.unacked_since + policy.ack_deadline_s
    if overdue_at is None or (link.ponged_at is not None and link.ponged_at >= overdue_at):
        return link.next_ping_at
    return overdue_at if link.next_ping_at is None else min(overdue_at, link.next_ping_at)


def no_acks_at(link: Link, policy: Policy) -> float | None:
    """When a link without acks is given up, even if it answers pings."""
    return None if link.unacked_since is None else link.unacked_since + policy.no_acks_deadline_s


def stable_at(link: Link, policy: Policy) -> float | None:
    """When the link has been open long enough, with a ping answered, to reset the attempts."""
    if link.opened_at is None or link.ponged_at is None:
        return None
    return max(link.opened_at + policy.stable_after_s, link.ponged_at)


# What the machine does about an open link.


def with_link(session: Session, **changes: Any) -> Session:
    """`changes` are fields of `Link`, which `replace` checks."""
    assert session.link is not None
    return replace(session, link=replace(session.link, **changes))


def ping(session: Session, moment: Moment) -> Step:
    assert session.link is not None
    number = session.link.ping + 1
    next_at = moment.now + ping_interval_s(moment.policy.keepalive_interval_s, jitter=moment.jitter)
    pinged = with_link(session, ping=number, pinged_at=moment.now, next_ping_at=next_at)
    effects: tuple[Effect, ...] = (Ping(link=session.link.number, n=number),)
    if moment.policy.presence:
        effects += (Presence(link=session.link.number, available=True),)
    return pinged, effects


def ponged(session: Session, event: Ponged, moment: Moment) -> Step:
    """Record the answer to the last ping as evidence; an answer to an older ping is none."""
    link = session.link
    assert link is not None
    if event.n != link.ping or link.pinged_at is None:
        return session, ()
    return with_link(session, pinged_at=None, ponged_at=moment.now, round_trip_s=moment.now - link.pinged_at), ()


def probe(session: Session, _: Event, moment: Moment) -> Step:
    """Ping now, unless the answer to a ping is still awaited."""
    assert session.link is not None
    return (session, ()) if session.link.pinged_at is not None else ping(session, moment)


def sends_waited(session: Session, event: SendsWaited, _: Moment) -> Step:
    """Record since when the oldest send has waited for an ack."""
    return with_link(session, unacked_since=event.since), ()


def watch(session: Session, event: Event, moment: Moment) -> Step:
    """Ping, reset the attempts, or cut a link without pongs or acks."""
    if isinstance(event, Tick) and event.held_until is not None:
        session = _shift_sent_times(session, until=event.held_until)
    link, now, policy = session.link, moment.now, moment.policy
    assert link is not None
    if _is_due(no_acks_at(link, policy), now):
        return lose(session, reasons.NO_ACKS, moment)
    asks_for_life = _is_due(sign_of_life_due_at(link, policy), now)
    if asks_for_life and link.pinged_at is not None:
        return lose(session, reasons.NO_PONG, moment)
    if _is_due(stable_at(link, policy), now):
        session = replace(session, attempts=0)
    return ping(session, moment) if asks_for_life else (session, ())


def _shift_sent_times(session: Session, *, until: float) -> Session:
    """What was sent while the store held frames back has been on its way only since then."""
    link = session.link
    assert link is not None
    return with_link(
        session,
        pinged_at=None if link.pinged_at is None else max(link.pinged_at, until),
        unacked_since=None if link.unacked_since is None else max(link.unacked_since, until),
    )


def _is_due(at: float | None, now: float) -> bool:
    return at is not None and now >= at
