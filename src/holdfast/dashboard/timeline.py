"""The history of a session as text. A disconnection is one entry: its causes, the reaction, the next attempt."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from holdfast.dashboard.fleet import Tone, advice_on
from holdfast.health.advice import because
from holdfast.session.reasons import RECONNECT_REQUESTED, stored_reason
from holdfast.session.state import RUNNING, State
from holdfast.session.stores import Transition

_ORIGINS = {
    "network": "the network",
    "whatsapp": "WhatsApp",
    "holdfast": "Holdfast",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One entry of the history."""

    at: str
    tone: Tone
    title: str
    lines: tuple[str, ...] = ()
    ended_at: str | None = None
    """End of a disconnection that is over."""
    next_attempt_at: str | None = None
    """Time of the next attempt during a disconnection."""
    operation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Disconnection:
    """A period without a connection although there should be one, from the loss to the next open link."""

    at: str
    causes: tuple[Transition, ...] = field(default_factory=tuple)
    """The transitions that had a new reason."""
    attempts: int = 0
    next_attempt_at: str | None = None
    paused: bool = False

    def with_transition(self, transition: Transition) -> _Disconnection:
        is_new = transition.reason is not None and transition.reason not in {known.reason for known in self.causes}
        return replace(
            self,
            causes=(*self.causes, transition) if is_new else self.causes,
            attempts=max(self.attempts, transition.attempts),
            next_attempt_at=transition.next_attempt_at,
            paused=transition.after is State.PAUSED,
        )


def timeline_entries(transitions: Iterable[Transition]) -> list[TimelineEntry]:
    """Entries of transitions, newest first. `transitions`: oldest first."""
    entries: list[TimelineEntry] = []
    disconnection: _Disconnection | None = None
    for transition in transitions:
        if transition.after is State.CONNECTED:
            entries.append(_connected(transition) if disconnection is None else _back(disconnection, transition))
            disconnection = None
        elif transition.after in {State.CONNECTING, State.RECONNECTING, State.PAUSED} and (
            disconnection or _is_disconnected(transition)
        ):
            disconnection = (disconnection or _Disconnection(at=transition.at)).with_transition(transition)
        else:
            if disconnection is not None:
                entries.append(_given_up(disconnection, transition))
            disconnection = None
            entries.append(_plain(transition))
    if disconnection is not None:
        entries.append(_disconnected(disconnection))
    return list(reversed(_without_repeats(entries)))


def newest_first(*histories: Iterable[TimelineEntry]) -> list[TimelineEntry]:
    """Several histories as one. Each keeps its own order, also where two of its times are equal or the clock was set
    back between them."""
    return list(heapq.merge(*histories, key=lambda entry: entry.at, reverse=True))


def _is_disconnected(transition: Transition) -> bool:
    """Whether a disconnection begins. The first connection of a session is none."""
    return transition.before is State.CONNECTED or transition.reason is not None


def _connected(transition: Transition) -> TimelineEntry:
    return TimelineEntry(at=transition.at, tone=Tone.SUCCESS, title="Connected")


def _back(disconnection: _Disconnection, transition: Transition) -> TimelineEntry:
    if disconnection.causes and disconnection.causes[0].reason == RECONNECT_REQUESTED.name:
        return TimelineEntry(
            at=disconnection.at,
            tone=Tone.NEUTRAL,
            title="Reconnected",
            lines=_why(disconnection),
            ended_at=transition.at,
        )
    how = "at the first attempt" if disconnection.attempts <= 1 else f"at attempt {disconnection.attempts}"
    did = f"Holdfast reconnected {how}"
    return TimelineEntry(
        at=disconnection.at,
        tone=Tone.WARNING,
        title="Connection lost",
        lines=(*_why(disconnection), did),
        ended_at=transition.at,
    )


def _disconnected(disconnection: _Disconnection) -> TimelineEntry:
    title = "Paused" if disconnection.paused else "Not connected"
    return TimelineEntry(
        at=disconnection.at,
        tone=Tone.CRITICAL,
        title=title,
        lines=(*_why(disconnection), *_next(disconnection), *_advice(disconnection)),
        next_attempt_at=disconnection.next_attempt_at,
    )


def _given_up(disconnection: _Disconnection, transition: Transition) -> TimelineEntry:
    return TimelineEntry(
        at=disconnection.at,
        tone=Tone.WARNING,
        title="Connection lost",
        lines=_why(disconnection),
        ended_at=transition.at,
    )


def _next(disconnection: _Disconnection) -> tuple[str, ...]:
    if disconnection.paused and disconnection.next_attempt_at is None:
        return ("Holdfast does not retry automatically",)
    if disconnection.next_attempt_at is None:
        return (f"attempt {disconnection.attempts} is in progress",) if disconnection.attempts else ()
    return ("Holdfast retries automatically",)


def _why(disconnection: _Disconnection) -> tuple[str, ...]:
    """Each cause once; of more than two, the first and the last."""
    causes = (
        disconnection.causes if len(disconnection.causes) <= 2 else (disconnection.causes[0], disconnection.causes[-1])
    )
    lines = [_cause(transition) for transition in causes]
    return tuple(lines[:1] + [f"Later: {each}" for each in lines[1:]])


def _cause(transition: Transition) -> str:
    if transition.reason is None:
        return "the cause is unknown"
    reason = stored_reason(transition.reason, transition.code)
    origin = _ORIGINS.get(reason.fault)
    return because(reason) if origin is None else f"{because(reason)}. Cause: {origin}"


def _advice(disconnection: _Disconnection) -> tuple[str, ...]:
    known = [transition for transition in disconnection.causes if transition.reason is not None]
    if not known or known[-1].reason is None:
        return ()
    reason = stored_reason(known[-1].reason, known[-1].code)
    advice = advice_on(reason.action, reason.name)
    return (advice,) if advice else ()


_PLAIN = {
    State.STOPPED: (Tone.NEUTRAL, "Stopped", "stopped by a user; accepted messages wait"),
    State.PAIRING: (Tone.INFO, "QR code requested", ""),
    State.CONNECTING: (Tone.INFO, "Started", ""),
    State.RECONNECTING: (Tone.INFO, "Started", ""),
    State.LOGGED_OUT: (Tone.CRITICAL, "Logged out", ""),
    State.UNPAIRED: (Tone.INFO, "Not linked", ""),
    State.PAUSED: (Tone.CRITICAL, "Paused", ""),
}


def _plain(transition: Transition) -> TimelineEntry:
    """An entry that is no disconnection: a request by a user, or an end that only a user can undo."""
    if transition.before is State.PAIRING and transition.after in RUNNING and transition.reason is None:
        return TimelineEntry(at=transition.at, tone=Tone.SUCCESS, title="Phone linked")
    tone, title, line = _PLAIN[transition.after]
    if not line and transition.reason is not None and transition.after is not State.PAIRING:
        line = _cause(transition)
    return TimelineEntry(at=transition.at, tone=tone, title=title, lines=(line,) if line else ())


def _without_repeats(entries: list[TimelineEntry]) -> list[TimelineEntry]:
    """Without repeated entries: consecutive QR codes belong to one request."""
    kept: list[TimelineEntry] = []
    for entry in entries:
        if kept and kept[-1].title == entry.title and kept[-1].lines == entry.lines and entry.ended_at is None:
            kept.pop()
        kept.append(entry)
    return kept
