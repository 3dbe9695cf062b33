"""Log lines about sessions. They never contain a message's text, a phone number or a key."""

from __future__ import annotations

from holdfast.health.advice import because, format_duration
from holdfast.session.reasons import CONNECT_QUEUED
from holdfast.session.state import Session, reason_of_change

_MINUTE_S = 60


def transition(company: str, before: Session, after: Session, *, now: float) -> str | None:
    """`Session 962302 connected → reconnecting: the connection was closed (428); attempt 1 in 0.2 s`.

    None when nothing happened that a person would want to read.
    """
    reason = reason_of_change(before, after)
    same_reason = reason is None or reason is before.shown_reason
    same_attempt = after.attempts in {0, before.attempts}
    same_plan = after.next_attempt_at in {None, before.next_attempt_at}
    if after.state is before.state and same_reason and same_attempt and same_plan:
        return None
    line = f"Session {company} {before.state} → {after.state}"
    if reason is not None:
        line += f": {because(reason)}"
    if after.next_attempt_at is not None:
        which = f"attempt {after.attempts}" if after.attempts else "next attempt"  # a pause counts none
        wait_s = max(after.next_attempt_at - now, 0)
        line += f"; {which} in {format_duration(wait_s) if wait_s >= _MINUTE_S else f'{wait_s:.1f} s'}"
    return line


def is_routine(before: Session, after: Session) -> bool:
    """Whether it is a session of a large installation that only waits to connect, which is not logged at
    INFO.
    """
    return after.state is before.state and after.shown_reason is CONNECT_QUEUED


def received(company: str, count: int) -> str:
    """`Session 962302 received 2 messages`"""
    return f"Session {company} received {count} message{'' if count == 1 else 's'}"


def keep_alive(company: str, round_trip_s: float | None) -> str:
    """`Keep-alive 962302 answered after 12 ms`; None: it never was."""
    if round_trip_s is None:
        return f"Keep-alive {company} not answered before the link ended"
    return f"Keep-alive {company} answered after {round_trip_s * 1000:.0f} ms"
