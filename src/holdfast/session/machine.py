"""The session machine: `step(session, event) -> (session, effects)`, and the table of what each state does.

It decides when to connect, when a link is dead and what a close means. It must never read a clock, draw a number or
touch a socket: time is `now` (monotonic seconds), randomness is `jitter` (uniform in [0, 1)), and what must be done is
returned as effects. `deadline` says when `Tick` is due.

Three rules stand above the table. A report of another link than the current one changes nothing, so that a late close
of an old link can't touch the new one. A `Tick` before the deadline changes nothing. And a session has at most one
link: each `StartLink` follows a `LinkClosed`, a `CutLink`, a `LogOut` (which closes) or a `HostLost` of the one before.

A link starts in two steps: the machine asks for it (`RequestConnect`), and the connect limiter grants or defers it.
Only a granted one is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from holdfast.base.errors import Fault, HoldfastError
from holdfast.session import passkeys, reasons
from holdfast.session.engine import (
    LinkClosed,
    LinkOpened,
    LogOut,
    Paired,
    PasskeyContinued,
    PasskeyFailed,
    PasskeyRequested,
    Ponged,
    QrShown,
)
from holdfast.session.events import (
    ClientUpdated,
    CommitFailed,
    ConnectDeferred,
    ConnectGranted,
    Effect,
    EngineQuarantined,
    Event,
    HostLost,
    LogoutAsked,
    NetworkRestored,
    PairAsked,
    PasskeyAnswered,
    PasskeyConfirmed,
    PasskeyDeclined,
    ProbeAsked,
    ReconnectAsked,
    SendsWaited,
    StartAsked,
    StopAsked,
    Tick,
)
from holdfast.session.liveness import deadline, ping, ponged, probe, sends_waited, watch, with_link
from holdfast.session.reasons import SessionReaction, reason_of
from holdfast.session.reconnect import (
    Moment,
    Step,
    connect,
    cut,
    defer,
    log_in_after_pairing,
    logged_out,
    lose,
    lost_state,
    plan,
    start_link,
)
from holdfast.session.state import Policy, Session, State, budget_left

__all__ = ["ROWS", "TABLE", "Moment", "NotPossible", "Rule", "Step", "deadline", "step"]


class NotPossible(HoldfastError):
    """The state of the session does not allow the request; nothing changed."""

    code = "not-possible"
    fault = Fault.CALLER


def step(session: Session, event: Event, *, now: float, jitter: float, policy: Policy) -> Step:
    """Apply `event` to `session`; returns the new session and the effects to carry out.

    Raises `NotPossible`, with nothing changed, for a pair that is not in the table.
    """
    if _is_stale(session, event) or (isinstance(event, Tick) and _is_early(session, now, policy)):
        return session, ()
    rule = TABLE.get((session.state, type(event)))
    if rule is None:
        raise _refusal(session, event)
    return rule(session, event, Moment(now=now, jitter=jitter, policy=policy))


def _is_stale(session: Session, event: Event) -> bool:
    number = getattr(event, "link", None)
    return number is not None and (session.link is None or session.link.number != number)


def _is_early(session: Session, now: float, policy: Policy) -> bool:
    due_at = deadline(session, policy=policy)
    return due_at is None or now < due_at


_REQUESTS = {ReconnectAsked: "reconnect", PairAsked: "pair a phone", LogoutAsked: "log out"}
_CURES = {
    State.UNPAIRED: "ask for a QR code and scan it first",
    State.LOGGED_OUT: "ask for a QR code and scan it first",
    State.STOPPED: "start it first",
}


def _refusal(session: Session, event: Event) -> NotPossible:
    request = _REQUESTS.get(type(event), f"take {type(event).__name__}")
    why = f" because {session.reason.sentence}" if session.reason else ""
    cure = "log it out first" if isinstance(event, PairAsked) else _CURES.get(session.state)
    return NotPossible(
        f"can't {request}: the session is {session.state.replace('_', ' ')}{why}" + (f"; {cure}" if cure else "")
    )


# Requests of people.


def _start(session: Session, _: Event, __: Moment) -> Step:
    """Reset all counters and connect; show a QR code where no phone is linked."""
    state = State.CONNECTING if session.paired else State.PAIRING
    fresh = replace(session, state=state, attempts=0, reason=None, same_reason=0, replaced=0, replaced_at=None)
    return connect(fresh)


def _start_again(session: Session, event: Event, moment: Moment) -> Step:
    """A person ends the pause: cut a probe in progress and connect. Refused during a temporary ban."""
    reason = session.reason
    if reason is not None and reason.reaction is SessionReaction.PAUSE_UNTIL:
        raise NotPossible(f"can't start: the session is paused because {reason.sentence}; it waits until that ends")
    alone, effects = cut(session)
    started, more = _start(alone, event, moment)
    return started, effects + more


def _start_restored(session: Session, _: Event, __: Moment) -> Step:
    """Connect if a restart left neither a link nor a plan; a planned attempt keeps its time."""
    if session.link is not None or session.next_attempt_at is not None or session.requested:
        return session, ()
    return connect(session)


def _pair(session: Session, event: Event, moment: Moment) -> Step:
    """Open a link that shows a QR code; refused where a phone is linked."""
    if session.paired:
        raise NotPossible("can't pair a phone: one is linked; start the session, or log it out first")
    return _start(session, event, moment)


def _fresh_link(session: Session, event: ReconnectAsked, _: Moment) -> Step:
    """Cut the link if there is one and connect at once, without backoff."""
    alone, effects = cut(session)
    asked = replace(alone, state=lost_state(session), reason=event.reason or reasons.RECONNECT_REQUESTED, same_reason=0)
    connected, more = connect(asked)
    return connected, effects + more


def _fresh_link_unless_banned(session: Session, event: ReconnectAsked, moment: Moment) -> Step:
    """Connect at once, but not past a ban or a lock."""
    reason = session.reason
    if reason is not None and reason.reaction is SessionReaction.PAUSE_UNTIL:
        raise NotPossible(f"can't reconnect: the session is paused because {reason.sentence}; it waits until that ends")
    if reason is not None and reason.reaction is SessionReaction.STOP:
        raise NotPossible(
            f"can't reconnect: the session is paused because {reason.sentence}; resolve that and start it"
        )
    return _fresh_link(session, event, moment)


def _stop(session: Session, _: Event, __: Moment) -> Step:
    """Cut the link and stay disconnected until somebody starts the session."""
    alone, effects = cut(session)
    return replace(alone, state=State.STOPPED, reason=None, same_reason=0, attempts=0), effects


def _log_out(session: Session, _: Event, __: Moment) -> Step:
    """Log out at WhatsApp if there is a link, and quarantine the credentials."""
    effects: tuple[Effect, ...] = () if session.link is None else (LogOut(link=session.link.number),)
    gone, more = logged_out(session, reasons.LOGOUT_REQUESTED)
    return gone, effects + more


# A link opens.


def _qr_shown(session: Session, _: Event, moment: Moment) -> Step:
    """Give people time to scan it. The attempts are not reset: a link that only shows codes proves nothing."""
    return with_link(session, gives_up_at=moment.now + moment.policy.qr_deadline_s), ()


def _qr_unexpected(session: Session, _: Event, moment: Moment) -> Step:
    """WhatsApp wants to link a phone although one seemed to be linked: cut, and wait until somebody asks for a code."""
    return lose(replace(session, paired=False), reasons.NOT_LINKED, moment)


def _paired(session: Session, _: Event, moment: Moment) -> Step:
    """A phone is linked. WhatsApp closes this link now, and the session logs in on the next."""
    known = with_link(session, gives_up_at=moment.now + moment.policy.paired_deadline_s, paired=True)
    return replace(known, paired=True, reason=None), ()


def _opened(session: Session, _: Event, moment: Moment) -> Step:
    """WhatsApp accepted the login. The first ping leaves at once, as evidence that the link works."""
    up = with_link(session, gives_up_at=None, opened_at=moment.now)
    return ping(replace(up, state=State.CONNECTED, paired=True, reason=None, same_reason=0), moment)


# A link ends, or does not open.


def _closed(session: Session, event: LinkClosed, moment: Moment) -> Step:
    """React to the code, by the table of reasons; after pairing, log in."""
    was = session.link
    assert was is not None
    ended = replace(session, link=None)
    if was.paired:
        return log_in_after_pairing(ended)
    reason = reason_of(event.code, event.attributes, event.detail)
    expires_in = event.attributes.get("expire")
    return plan(ended, reason, moment, was_open=was.opened_at is not None, expires_in=expires_in)


def _host_lost(session: Session, _: Event, moment: Moment) -> Step:
    """The link is gone with the host: connect again after the backoff. No-op without a link."""
    if session.link is None:
        return session, ()
    was_open = session.link.opened_at is not None
    return plan(replace(session, link=None), reasons.ENGINE_HOST_LOST, moment, was_open=was_open)


def _quarantined(session: Session, _: Event, moment: Moment) -> Step:
    """Pause until a person starts it: each further attempt would cost an engine host. A paused session stays as it
    is."""
    if session.state is State.PAUSED and session.link is None:
        return session, ()
    alone, effects = cut(session)
    paused, more = plan(alone, reasons.ENGINE_QUARANTINED, moment, was_open=False)
    return paused, effects + more


def _commit_failed(session: Session, _: Event, moment: Moment) -> Step:
    """Cut the link, because its keys are ahead of the store, and connect again after the backoff."""
    return lose(session, reasons.STORAGE_FAILED, moment)


def _time_out(session: Session, _: Event, moment: Moment) -> Step:
    """Connect as planned; cut a login that has not finished in time."""
    if session.link is None:
        return connect(session)
    if session.link.paired:
        alone, effects = cut(session)
        connecting, more = log_in_after_pairing(alone)
        return connecting, effects + more
    if session.link.passkey is not None:
        return lose(session, passkeys.overdue(session.link.passkey), moment)
    return lose(session, reasons.LOGIN_TIMEOUT, moment)


def _try_updated_client(session: Session, _: Event, __: Moment) -> Step:
    """Connect at once if WhatsApp refused the client version before."""
    if session.link is not None or session.requested:
        return session, ()
    if session.reason is None or session.reason.code != reasons.CLIENT_OUTDATED_CODE:
        return session, ()
    return connect(session)


def _try_restored_network(session: Session, _: Event, moment: Moment) -> Step:
    """Connect at once if the last attempt could not reach WhatsApp, unless the budget is low: then the plan stays."""
    is_planned = session.link is None and session.next_attempt_at is not None and session.held is None
    if not is_planned or session.reason is None or session.reason.fault != "network":
        return session, ()
    if budget_left(session, now=moment.now, policy=moment.policy) <= moment.policy.budget_an_hour // 2:
        return session, ()
    return connect(session)


def _granted(session: Session, event: ConnectGranted, moment: Moment) -> Step:
    """Start the link that was asked for."""
    return start_link(session, event.number, moment) if session.requested else (session, ())


def _deferred(session: Session, event: ConnectDeferred, moment: Moment) -> Step:
    """Wait for the connect limiter. No-op for a session that neither asked nor waits."""
    if not session.requested and session.held is None:
        return session, ()
    return defer(session, event.until, event.because, moment)


def _ignore(session: Session, _: Event, __: Moment) -> Step:
    """No-op: the session is already in the requested state, or has nothing to do with the event."""
    return session, ()


Rule = Callable[[Session, Any, Moment], Step]
"""How a state reacts to an event. `Any`: the table passes each rule only events of the type of its key."""

_ALWAYS: dict[type[Any], Rule] = {
    StopAsked: _stop,
    LogoutAsked: _log_out,
    ClientUpdated: _ignore,
    NetworkRestored: _ignore,
}
_AT_REST: dict[type[Any], Rule] = {
    **_ALWAYS,
    HostLost: _ignore,
    EngineQuarantined: _ignore,
    ConnectGranted: _ignore,
    ConnectDeferred: _ignore,
}
_WITH_LINKS: dict[type[Any], Rule] = {
    **_ALWAYS,
    StartAsked: _ignore,
    ReconnectAsked: _fresh_link,
    LinkOpened: _opened,
    LinkClosed: _closed,
    HostLost: _host_lost,
    EngineQuarantined: _quarantined,
    CommitFailed: _commit_failed,
    ConnectGranted: _granted,
    ConnectDeferred: _deferred,
    Tick: _time_out,
}

ROWS: dict[State, dict[type[Any], Rule]] = {
    State.UNPAIRED: {**_AT_REST, StartAsked: _start, PairAsked: _pair},
    State.PAIRING: {
        **_WITH_LINKS,
        PairAsked: _ignore,
        QrShown: _qr_shown,
        Paired: _paired,
        PasskeyRequested: passkeys.requested,
        PasskeyAnswered: passkeys.answered,
        PasskeyContinued: passkeys.continued,
        PasskeyConfirmed: passkeys.confirmed,
        PasskeyFailed: passkeys.failed,
        PasskeyDeclined: passkeys.failed,
    },
    State.CONNECTING: {**_WITH_LINKS, QrShown: _qr_unexpected},
    State.CONNECTED: {
        **_ALWAYS,
        StartAsked: _ignore,
        ReconnectAsked: _fresh_link,
        Ponged: ponged,
        SendsWaited: sends_waited,
        ProbeAsked: probe,
        LinkClosed: _closed,
        HostLost: _host_lost,
        EngineQuarantined: _quarantined,
        CommitFailed: _commit_failed,
        ConnectGranted: _ignore,
        ConnectDeferred: _ignore,
        Tick: watch,
    },
    State.RECONNECTING: {
        **_WITH_LINKS,
        StartAsked: _start_restored,
        NetworkRestored: _try_restored_network,
        QrShown: _qr_unexpected,
    },
    State.PAUSED: {
        **_WITH_LINKS,
        ClientUpdated: _try_updated_client,
        StartAsked: _start_again,
        ReconnectAsked: _fresh_link_unless_banned,
        QrShown: _qr_unexpected,
    },
    State.LOGGED_OUT: {**_AT_REST, StartAsked: _ignore, LogoutAsked: _ignore, PairAsked: _pair},
    State.STOPPED: {**_AT_REST, StartAsked: _start, PairAsked: _pair},
}

TABLE: dict[tuple[State, type[Any]], Rule] = {
    (state, event): rule for state, rules in ROWS.items() for event, rule in rules.items()
}
