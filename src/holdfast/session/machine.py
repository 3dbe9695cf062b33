"""The session machine: `step(session, event) -> (session, effects)`, and the table of what each state does.

It decides when to connect, when a link is dead and what a close means. It must never read a clock, draw a number or
touch a socket: time is `now` (monotonic seconds), chance is `jitter` (uniform in [0, 1)), and what must happen in the
world is returned as effects. `deadline` says when it wants to be woken with `Tick`.

Two rules stand above the table. A report of another link than the current one changes nothing, so that a late close
of an old link can't touch the new one. And a session has at most one link: each `OpenLink` follows a `LinkClosed` or
a `CutLink` of the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from holdfast.base.errors import Fault, HoldfastError
from holdfast.session import reasons
from holdfast.session.backoff import at_once_s
from holdfast.session.events import (
    CutLink,
    Effect,
    Event,
    HostLost,
    LinkClosed,
    LinkOpened,
    LogoutAsked,
    OpenLink,
    PairAsked,
    Paired,
    Ponged,
    QrShown,
    QuarantineCredentials,
    ReconnectAsked,
    SendPing,
    SendPresence,
    SendsWaited,
    StartAsked,
    StopAsked,
    Tick,
    Unlink,
)
from holdfast.session.life import Link, Policy, Session, State
from holdfast.session.reasons import Reaction, Reason, reason_of

Step = tuple[Session, tuple[Effect, ...]]


class NotPossible(HoldfastError):
    """This state of the session forbids what was asked; nothing changed."""

    code = "not-possible"
    fault = Fault.CALLER


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a step is given besides session and event."""

    now: float
    jitter: float
    policy: Policy


def step(session: Session, event: Event, *, now: float, jitter: float, policy: Policy) -> Step:
    """What `event` makes of `session`, and what must be done.

    Raises `NotPossible`, with nothing changed, for a pair that is not in the table.
    """
    if _is_stale(session, event) or (isinstance(event, Tick) and _is_early(session, now, policy)):
        return session, ()
    rule = TABLE.get((session.state, type(event)))
    if rule is None:
        raise NotPossible(_refusal(session, event))
    return rule(session, event, Moment(now=now, jitter=jitter, policy=policy))


def _refusal(session: Session, event: Event) -> str:
    why = f" because {session.reason.sentence}" if session.reason else ""
    return f"the session is {session.state}{why}; {type(event).__name__} can't be taken in this state"


def deadline(session: Session, *, policy: Policy) -> float | None:
    """When `Tick` is due (monotonic seconds), or None while nothing is waited for."""
    times = [session.next_attempt_at]
    if link := session.link:
        times.append(link.gives_up_at)
    if link and link.opened_at is not None:
        times.append(_sign_of_life_due_at(link, policy))
        if link.unacked_since is not None:
            times.append(link.unacked_since + policy.no_acks_deadline_s)
        if session.attempts:
            times.append(_stable_at(link, policy))
    return min((time for time in times if time is not None), default=None)


def _is_stale(session: Session, event: Event) -> bool:
    number = getattr(event, "link", None)
    return number is not None and (session.link is None or session.link.number != number)


def _is_early(session: Session, now: float, policy: Policy) -> bool:
    due_at = deadline(session, policy=policy)
    return due_at is None or now < due_at


def _sign_of_life_due_at(link: Link, policy: Policy) -> float | None:
    """When the answer to the last ping is due; with none outstanding, when the next ping is."""
    if link.pinged_at is not None:
        return link.pinged_at + policy.pong_deadline_s
    overdue_at = None if link.unacked_since is None else link.unacked_since + policy.ack_deadline_s
    if overdue_at is None or (link.ponged_at is not None and link.ponged_at >= overdue_at):
        return link.next_ping_at
    return overdue_at if link.next_ping_at is None else min(overdue_at, link.next_ping_at)


def _stable_at(link: Link, policy: Policy) -> float | None:
    if link.opened_at is None or link.ponged_at is None:
        return None
    return max(link.opened_at + policy.stable_after_s, link.ponged_at)


# Connecting.


def _connect(session: Session, moment: Moment) -> Step:
    number = session.links + 1
    link = Link(number=number, began_at=moment.now, gives_up_at=moment.now + moment.policy.open_deadline_s)
    return replace(session, links=number, link=link, next_attempt_at=None), (OpenLink(number),)


def _start(session: Session, _: Event, moment: Moment) -> Step:
    state = State.CONNECTING if session.paired else State.PAIRING
    return _connect(replace(session, state=state, attempts=0, reason=None, same_reason=0), moment)


def _resume(session: Session, _: Event, moment: Moment) -> Step:
    """Connect now instead of at the planned time; the count of attempts goes on."""
    if session.link is not None:
        return session, ()
    return _connect(session, moment)


def _fresh_link(session: Session, _: Event, moment: Moment) -> Step:
    """Cut what there is and connect at once."""
    cut, effects = _cut(session)
    state = State.RECONNECTING if session.paired else State.PAIRING
    connected, more = _connect(replace(cut, state=state, reason=reasons.ASKED, same_reason=0), moment)
    return connected, effects + more


def _fresh_link_unless_banned(session: Session, event: Event, moment: Moment) -> Step:
    reason = session.reason
    if reason is not None and reason.reaction in {Reaction.STOP, Reaction.PAUSE_UNTIL}:
        raise NotPossible(f"the session is paused because {reason.sentence}; connecting again would make it worse")
    return _fresh_link(session, event, moment)


def _cut(session: Session) -> Step:
    effects = () if session.link is None else (CutLink(session.link.number),)
    return replace(session, link=None, next_attempt_at=None), effects


def _stop(session: Session, _: Event, __: Moment) -> Step:
    cut, effects = _cut(session)
    return replace(cut, state=State.STOPPED, reason=None, attempts=0), effects


def _log_out(session: Session, _: Event, __: Moment) -> Step:
    effects: tuple[Effect, ...] = (QuarantineCredentials(),)
    if session.link is not None:
        effects = (Unlink(session.link.number), *effects)
    gone = replace(session, state=State.LOGGED_OUT, paired=False, link=None, next_attempt_at=None)
    return replace(gone, attempts=0, reason=reasons.ASKED), effects


# A link comes up.


def _qr_shown(session: Session, _: Event, moment: Moment) -> Step:
    return _with_link(session, gives_up_at=moment.now + moment.policy.qr_deadline_s, attempts=0), ()


def _paired(session: Session, _: Event, moment: Moment) -> Step:
    known = _with_link(session, gives_up_at=moment.now + moment.policy.paired_deadline_s, paired=True)
    return replace(known, paired=True), ()


def _opened(session: Session, _: Event, moment: Moment) -> Step:
    """Open means that WhatsApp let us in. The first ping leaves at once: being connected is shown, not assumed."""
    up = _with_link(session, gives_up_at=None, opened_at=moment.now)
    return _ping(replace(up, state=State.CONNECTED, paired=True, reason=None, same_reason=0), moment)


def _with_link(session: Session, *, attempts: int | None = None, **changes: Any) -> Session:
    """`changes` are fields of `Link`."""
    assert session.link is not None
    changed = replace(session, link=replace(session.link, **changes))
    return changed if attempts is None else replace(changed, attempts=attempts)


# A link lives.


def _ping(session: Session, moment: Moment) -> Step:
    assert session.link is not None
    number = session.link.ping + 1
    pinged = _with_link(
        session, ping=number, pinged_at=moment.now, next_ping_at=moment.now + moment.policy.keepalive_interval_s
    )
    effects: tuple[Effect, ...] = (SendPing(session.link.number, number),)
    if moment.policy.presence:
        effects += (SendPresence(session.link.number),)
    return pinged, effects


def _ponged(session: Session, event: Ponged, moment: Moment) -> Step:
    link = session.link
    assert link is not None
    if event.ping != link.ping or link.pinged_at is None:
        return session, ()
    return _with_link(session, pinged_at=None, ponged_at=moment.now, round_trip_s=moment.now - link.pinged_at), ()


def _sends_waited(session: Session, event: SendsWaited, _: Moment) -> Step:
    return _with_link(session, unacked_since=event.since), ()


def _watch(session: Session, _: Event, moment: Moment) -> Step:
    """The watchdog of an open link, on evidence alone: pings, acks, time."""
    link, now, policy = session.link, moment.now, moment.policy
    assert link is not None
    if link.unacked_since is not None and now >= link.unacked_since + policy.no_acks_deadline_s:
        return _lose(session, reasons.NO_ACKS, moment)
    due_at = _sign_of_life_due_at(link, policy)
    is_due = due_at is not None and now >= due_at
    if is_due and link.pinged_at is not None:
        return _lose(session, reasons.NO_PONG, moment)
    stable_at = _stable_at(link, policy)
    if stable_at is not None and now >= stable_at:
        session = replace(session, attempts=0)
    return _ping(session, moment) if is_due else (session, ())


# A link ends.


def _lose(session: Session, reason: Reason, moment: Moment) -> Step:
    """Give up on a link that still exists: cut it without waiting for anybody's close, then plan the next."""
    cut, effects = _cut(session)
    lost, more = _plan(cut, reason, moment, was_open=session.link is not None and session.link.opened_at is not None)
    return lost, effects + more


def _closed(session: Session, event: LinkClosed, moment: Moment) -> Step:
    was = session.link
    assert was is not None
    ended = replace(session, link=None)
    if was.paired:
        return _log_in(ended, moment)
    reason = reason_of(event.code, event.attributes)
    expires_in = event.attributes.get("expire")
    return _plan(ended, reason, moment, was_open=was.opened_at is not None, expires_in=expires_in)


def _log_in(session: Session, moment: Moment) -> Step:
    """The first login after pairing, whatever WhatsApp closed the pairing link with (515 as a rule)."""
    return _connect(replace(session, state=State.CONNECTING, attempts=0, reason=None, same_reason=0), moment)


def _host_lost(session: Session, _: Event, moment: Moment) -> Step:
    if session.link is None:
        return session, ()
    was_open = session.link.opened_at is not None
    return _plan(replace(session, link=None), reasons.HOST_LOST, moment, was_open=was_open)


def _plan(session: Session, reason: Reason, moment: Moment, *, was_open: bool, expires_in: str | None = None) -> Step:
    """What follows from the end of a link, by the reaction that the table of reasons names."""
    same = session.same_reason + 1 if session.reason is not None and session.reason.name == reason.name else 1
    session = replace(session, reason=reason, same_reason=same)
    policy = moment.policy
    match reason.reaction:
        case Reaction.RESTART:
            return _connect(replace(session, state=_reconnecting(session)), moment)
        case Reaction.BACKOFF:
            return _back_off(session, moment, was_open=was_open), ()
        case Reaction.LONG_BACKOFF:
            return _wait(
                session, State.RECONNECTING, moment.now + policy.long_backoff_s * (1 + 0.2 * moment.jitter)
            ), ()
        case Reaction.REPLACED if same <= policy.replaced_tries:
            return _wait(session, State.RECONNECTING, moment.now + policy.replaced_wait_s), ()
        case Reaction.CONFIRM_LOGOUT if same == 1 and session.paired:
            return _back_off(session, moment, was_open=False), ()
        case Reaction.CONFIRM_LOGOUT | Reaction.LOGGED_OUT:
            gone = replace(session, state=State.LOGGED_OUT, paired=False, next_attempt_at=None, attempts=0)
            return gone, (QuarantineCredentials(),)
        case Reaction.PAUSE_UNTIL if expires_in is not None and expires_in.isdigit():
            return _wait(session, State.PAUSED, moment.now + int(expires_in) * 1.05 + 60), ()
        case Reaction.PAUSE_UNTIL | Reaction.PROBE:
            return _wait(session, State.PAUSED, moment.now + policy.probe_interval_s), ()
        case Reaction.REPLACED | Reaction.STOP:
            return _wait(session, State.PAUSED, None), ()


def _reconnecting(session: Session) -> State:
    return State.RECONNECTING if session.paired else State.PAIRING


def _wait(session: Session, state: State, until: float | None) -> Session:
    return replace(session, state=state, next_attempt_at=until)


def _back_off(session: Session, moment: Moment, *, was_open: bool) -> Session:
    """The first attempt after a link that was open comes at once; from the second on the user's formula holds."""
    if was_open and session.attempts == 0:
        delay_s = at_once_s(jitter=moment.jitter)
    else:
        delay_s = moment.policy.backoff.delay_s(session.attempts, jitter=moment.jitter)
    planned = _wait(session, _reconnecting(session), moment.now + delay_s)
    return replace(planned, attempts=session.attempts + 1)


# While no phone is linked.


def _pairing_closed(session: Session, event: LinkClosed, moment: Moment) -> Step:
    """WhatsApp stops showing QR codes after a few minutes (408 with codes shown): wait until somebody asks again."""
    was = session.link
    assert was is not None
    if was.paired:
        return _closed(session, event, moment)
    if event.code == 408 and "QR" in event.detail:
        return _unpair(session, reasons.QR_USED_UP)
    if session.attempts >= moment.policy.pairing_tries:
        return _unpair(session, reason_of(event.code, event.attributes))
    return _closed(session, event, moment)


def _pairing_timed_out(session: Session, event: Event, moment: Moment) -> Step:
    if session.link is None or not session.link.paired:
        return _tick_unopened(session, event, moment)
    cut, effects = _cut(session)
    connecting, more = _log_in(cut, moment)
    return connecting, effects + more


def _unpair(session: Session, reason: Reason) -> Step:
    gone = replace(session, state=State.UNPAIRED, link=None, next_attempt_at=None, attempts=0)
    return replace(gone, reason=reason, same_reason=1), ()


def _tick_unopened(session: Session, _: Event, moment: Moment) -> Step:
    if session.link is not None:
        return _lose(session, reasons.NOT_OPENED, moment)
    return _connect(session, moment)


def _keep(session: Session, _: Event, __: Moment) -> Step:
    return session, ()


Rule = Callable[[Session, Any, Moment], Step]

_ASKED: dict[type[Any], Rule] = {StopAsked: _stop, LogoutAsked: _log_out}
_LINK_ENDS: dict[type[Any], Rule] = {LinkClosed: _closed, HostLost: _host_lost}
_AT_REST: dict[type[Any], Rule] = {HostLost: _keep, Tick: _keep, StopAsked: _stop}

ROWS: dict[State, dict[type[Any], Rule]] = {
    State.UNPAIRED: {**_AT_REST, StartAsked: _start, PairAsked: _start},
    State.PAIRING: {
        **_ASKED,
        StartAsked: _keep,
        PairAsked: _resume,
        ReconnectAsked: _fresh_link,
        QrShown: _qr_shown,
        Paired: _paired,
        LinkOpened: _opened,
        LinkClosed: _pairing_closed,
        HostLost: _host_lost,
        Tick: _pairing_timed_out,
    },
    State.CONNECTING: {
        **_ASKED,
        **_LINK_ENDS,
        StartAsked: _keep,
        ReconnectAsked: _fresh_link,
        LinkOpened: _opened,
        Tick: _tick_unopened,
    },
    State.CONNECTED: {
        **_ASKED,
        **_LINK_ENDS,
        StartAsked: _keep,
        ReconnectAsked: _fresh_link,
        Ponged: _ponged,
        SendsWaited: _sends_waited,
        Tick: _watch,
    },
    State.RECONNECTING: {
        **_ASKED,
        **_LINK_ENDS,
        StartAsked: _resume,
        ReconnectAsked: _fresh_link,
        LinkOpened: _opened,
        Tick: _tick_unopened,
    },
    State.PAUSED: {
        **_ASKED,
        **_LINK_ENDS,
        StartAsked: _start,
        ReconnectAsked: _fresh_link_unless_banned,
        LinkOpened: _opened,
        Tick: _tick_unopened,
    },
    State.LOGGED_OUT: {**_AT_REST, StartAsked: _keep, PairAsked: _start},
    State.STOPPED: {**_AT_REST, StartAsked: _start, PairAsked: _start, LogoutAsked: _log_out},
}

TABLE: dict[tuple[State, type[Any]], Rule] = {
    (state, event): rule for state, rules in ROWS.items() for event, rule in rules.items()
}
