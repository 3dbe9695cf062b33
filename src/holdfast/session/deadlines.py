"""When something is due in a session: what `deadline` wants the machine woken for, and what the watchdog judges by.

Both read the same functions, so that a `Tick` at the deadline always finds something to do.
"""

from __future__ import annotations

from holdfast.session.state import Link, Policy, Session


def deadline(session: Session, *, policy: Policy) -> float | None:
    """When `Tick` is due (monotonic seconds), or None while nothing is waited for."""
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
    """When a link that takes no messages is given up, whatever its pings say."""
    return None if link.unacked_since is None else link.unacked_since + policy.no_acks_deadline_s


def stable_at(link: Link, policy: Policy) -> float | None:
    """When the link has been open long enough, with a ping answered, to forget the attempts before it."""
    if link.opened_at is None or link.ponged_at is None:
        return None
    return max(link.opened_at + policy.stable_after_s, link.ponged_at)
