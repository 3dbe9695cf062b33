"""How a session's link starts, and how the session reacts to its end, as the table of reasons says.

Every `RequestConnect` comes from `connect`, which never runs while there is a link: its callers have seen the link
close or have cut it. No wait planned here for a lost link is longer than the backoff's cap; only the connect limiter
may make one wait longer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from holdfast.session.backoff import immediate_delay_s, spread_s
from holdfast.session.engine import CutLink, LinkId
from holdfast.session.events import Effect, QuarantineCredentials, RequestConnect, StartLink
from holdfast.session.reasons import Reason, SessionReaction
from holdfast.session.state import Link, Policy, Session, State, budget_left, even_pace_s

Step = tuple[Session, tuple[Effect, ...]]

_LONGEST_BAN_S = 10 * 365 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The inputs of a step besides session and event."""

    now: float
    jitter: float
    policy: Policy


# Starting.


def connect(session: Session) -> Step:
    """Ask for the next link. The caller must have made sure that there is none."""
    return replace(session, requested=True, next_attempt_at=None), (RequestConnect(),)


def start_link(session: Session, number: LinkId, moment: Moment) -> Step:
    """The connect limiter let the link start: only now it counts."""
    link = Link(number=number, began_at=moment.now, gives_up_at=moment.now + moment.policy.open_deadline_s)
    begun_at = (*session.begun_at, moment.now)[-moment.policy.budget_an_hour :]
    started = replace(session, newest_link=number, link=link, begun_at=begun_at, requested=False, held=None)
    return started, (StartLink(number),)


def defer(session: Session, until: float, because: Reason, moment: Moment) -> Step:
    """The connect limiter makes the link wait: nothing is counted, and nothing else changes."""
    return replace(session, requested=False, held=because, next_attempt_at=max(until, moment.now)), ()


def log_in_after_pairing(session: Session) -> Step:
    """The first login, whatever WhatsApp closed the pairing link with (515 as a rule)."""
    return connect(replace(session, state=State.CONNECTING, attempts=0, reason=None, same_reason=0))


# Ending.


def cut(session: Session) -> Step:
    """Leave neither a link nor a plan for one."""
    effects = () if session.link is None else (CutLink(link=session.link.number),)
    return replace(session, link=None, next_attempt_at=None, requested=False, held=None), effects


def lose(session: Session, reason: Reason, moment: Moment) -> Step:
    """Give up on a link that still exists: cut it without waiting for it to close, then plan the next one."""
    assert session.link is not None
    alone, effects = cut(session)
    lost, more = plan(alone, reason, moment, was_open=session.link.opened_at is not None)
    return lost, effects + more


def plan(session: Session, reason: Reason, moment: Moment, *, was_open: bool, expires_in: str | None = None) -> Step:
    """React to the end of a link. `expires_in` is how long a ban lasts, in seconds, as WhatsApp reported it."""
    same = session.same_reason + 1 if session.reason is not None and session.reason.name == reason.name else 1
    session, policy = replace(session, reason=reason, same_reason=same), moment.policy
    if not session.paired and reason.reaction not in {SessionReaction.RESTART, SessionReaction.BACKOFF}:
        return _unpair(session)
    match reason.reaction:
        case SessionReaction.RESTART if not _restarted_lately(session, moment):
            return connect(replace(session, state=lost_state(session), restarted_at=moment.now))
        case SessionReaction.RESTART | SessionReaction.BACKOFF:
            return _back_off(session, moment, was_open=was_open)
        case SessionReaction.LONG_BACKOFF:
            return _wait(session, State.RECONNECTING, spread_s(policy.long_backoff_s, jitter=moment.jitter), moment)
        case SessionReaction.REPLACED:
            return _replaced(session, moment)
        case SessionReaction.CONFIRM_LOGOUT if same == 1:
            return _back_off(session, moment, was_open=False)
        case SessionReaction.CONFIRM_LOGOUT | SessionReaction.LOGGED_OUT:
            return logged_out(session, reason)
        case SessionReaction.PAUSE_UNTIL if expires_in is not None and expires_in.isdecimal():
            return _wait(session, State.PAUSED, _ban_s(expires_in, policy), moment)
        case SessionReaction.PAUSE_UNTIL | SessionReaction.PROBE:
            return _wait(session, State.PAUSED, spread_s(policy.probe_interval_s, jitter=moment.jitter), moment)
        case SessionReaction.STOP:
            return replace(session, state=State.PAUSED, next_attempt_at=None), ()
        case SessionReaction.UNPAIR:  # pragma: no branch – mypy checks that there is no other
            return _unpair(session)


def lost_state(session: Session) -> State:
    """The state of a session between two links."""
    return State.RECONNECTING if session.paired else State.PAIRING


def logged_out(session: Session, reason: Reason) -> Step:
    """WhatsApp no longer knows this device. The credentials are quarantined, never deleted."""
    gone = replace(
        session, state=State.LOGGED_OUT, paired=False, link=None, next_attempt_at=None, requested=False, held=None
    )
    return replace(gone, attempts=0, reason=reason, same_reason=0), (QuarantineCredentials(session.newest_link),)


def _wait(session: Session, state: State, seconds: float, moment: Moment) -> Step:
    return replace(session, state=state, next_attempt_at=moment.now + seconds), ()


def _back_off(session: Session, moment: Moment, *, was_open: bool) -> Step:
    """Plan the next attempt: at once after a link that was open and no failed attempts before it, else by the formula.

    The delay lies between the starts of two links, so the lifetime of the last link, and the time until its
    end was detected, count towards it. `even_pace_s` keeps a line that drops again and again from using up its hourly
    budget early.
    """
    backoff = moment.policy.backoff
    if not session.paired and session.attempts >= moment.policy.pairing_tries:
        return _unpair(session)
    if budget_left(session, now=moment.now, policy=moment.policy) <= 0:
        delay_s = backoff.cap_ms / 1000
    else:
        waited_s = moment.now - session.begun_at[-1] if session.begun_at else 0
        formula_s = 0 if was_open and session.attempts == 0 else backoff.delay_s(session.attempts, jitter=moment.jitter)
        apart_s = max(formula_s, even_pace_s(session, now=moment.now, policy=moment.policy))
        delay_s = min(max(apart_s - waited_s, immediate_delay_s(jitter=moment.jitter)), backoff.cap_ms / 1000)
    return _wait(replace(session, attempts=session.attempts + 1), lost_state(session), delay_s, moment)


def _restarted_lately(session: Session, moment: Moment) -> bool:
    return session.restarted_at is not None and moment.now < session.restarted_at + moment.policy.restart_memory_s


def _replaced(session: Session, moment: Moment) -> Step:
    """Another connection uses the same credentials. Two that keep replacing each other would both be banned."""
    policy = moment.policy
    is_same_quarrel = session.replaced_at is not None and moment.now < session.replaced_at + policy.replaced_memory_s
    times = session.replaced + 1 if is_same_quarrel else 1
    known = replace(session, replaced=times, replaced_at=moment.now)
    if times > policy.replaced_tries:
        return replace(known, state=State.PAUSED, next_attempt_at=None), ()
    return _wait(known, State.RECONNECTING, policy.replaced_wait_s, moment)


def _ban_s(expires_in: str, policy: Policy) -> float:
    said_s = min(int(expires_in[:12]), _LONGEST_BAN_S)
    return said_s * (1 + policy.ban_margin_share) + policy.ban_margin_s


def _unpair(session: Session) -> Step:
    """No phone is linked and nobody has scanned a code: wait until a person requests one."""
    forgets = session.reason is not None and session.reason.reaction in {
        SessionReaction.CONFIRM_LOGOUT,
        SessionReaction.LOGGED_OUT,
    }
    gone = replace(session, state=State.UNPAIRED, paired=False, link=None, next_attempt_at=None, attempts=0)
    return gone, (QuarantineCredentials(session.newest_link),) if forgets else ()
