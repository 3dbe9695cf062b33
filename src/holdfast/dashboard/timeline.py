"""A session's history in words: each absence as one entry, with its cause, what Holdfast did, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from holdfast.dashboard.fleet import Tone, advice_on
from holdfast.health.advice import because
from holdfast.session.reasons import stored_reason
from holdfast.session.state import RUNNING, State
from holdfast.session.stores import Transition

STOPPED_HOLDFAST = "holdfast-stopped"
_ORIGINS = {
    "network": "the network",
    "whatsapp": "WhatsApp",
    "operator": "this installation",
    "engine": "Holdfast's engine host",
    "holdfast": "Holdfast",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """What happened, for people."""

    at: str
    tone: Tone
    title: str
    lines: tuple[str, ...] = ()
    ended_at: str | None = None
    """Of an absence that is over."""
    next_attempt_at: str | None = None
    """Of an absence that is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Absence:
    """Meant to be connected, and not: from one turn to the link that opens again."""

    at: str
    causes: tuple[Transition, ...] = field(default_factory=tuple)
    """The turns that gave a new reason."""
    attempts: int = 0
    next_attempt_at: str | None = None
    paused: bool = False

    def heard(self, transition: Transition) -> _Absence:
        is_new = transition.reason is not None and transition.reason not in {known.reason for known in self.causes}
        return replace(
            self,
            causes=(*self.causes, transition) if is_new else self.causes,
            attempts=max(self.attempts, transition.attempts),
            next_attempt_at=transition.next_attempt_at,
            paused=transition.after is State.PAUSED,
        )


def timeline_entries(transitions: Iterable[Transition]) -> list[TimelineEntry]:
    """Entries of these turns (oldest first), the newest first."""
    entries: list[TimelineEntry] = []
    absence: _Absence | None = None
    for transition in transitions:
        if transition.after is State.CONNECTED:
            entries.append(_connected(transition) if absence is None else _back(absence, transition))
            absence = None
        elif transition.after in {State.CONNECTING, State.RECONNECTING, State.PAUSED} and (
            absence or _is_away(transition)
        ):
            absence = (absence or _Absence(at=transition.at)).heard(transition)
        else:
            if absence is not None:
                entries.append(_given_up(absence, transition))
            absence = None
            entries.append(_plain(transition))
    if absence is not None:
        entries.append(_away(absence))
    return list(reversed(_without_repeats(entries)))


def _is_away(transition: Transition) -> bool:
    """Does an absence begin? A first connection that is under way is none."""
    return transition.before is State.CONNECTED or transition.reason is not None


def _connected(transition: Transition) -> TimelineEntry:
    return TimelineEntry(at=transition.at, tone=Tone.WELL, title="Connected")


def _back(absence: _Absence, transition: Transition) -> TimelineEntry:
    if absence.causes and absence.causes[0].reason == "asked":
        return TimelineEntry(
            at=absence.at, tone=Tone.OFF, title="Reconnected", lines=_why(absence), ended_at=transition.at
        )
    how = "at the first attempt" if absence.attempts <= 1 else f"at attempt {absence.attempts}"
    did = f"Holdfast reconnected {how}"
    return TimelineEntry(
        at=absence.at, tone=Tone.SHAKY, title="Connection lost", lines=(*_why(absence), did), ended_at=transition.at
    )


def _away(absence: _Absence) -> TimelineEntry:
    title = "Paused" if absence.paused else "Not connected"
    return TimelineEntry(
        at=absence.at,
        tone=Tone.TROUBLE,
        title=title,
        lines=(*_why(absence), *_next(absence), *_advice(absence)),
        next_attempt_at=absence.next_attempt_at,
    )


def _given_up(absence: _Absence, transition: Transition) -> TimelineEntry:
    return TimelineEntry(
        at=absence.at, tone=Tone.SHAKY, title="Connection lost", lines=_why(absence), ended_at=transition.at
    )


def _next(absence: _Absence) -> tuple[str, ...]:
    if absence.paused and absence.next_attempt_at is None:
        return ("Holdfast does not retry by itself",)
    if absence.next_attempt_at is None:
        return (f"attempt {absence.attempts} is in progress",) if absence.attempts else ()
    return ("Holdfast retries by itself",)


def _why(absence: _Absence) -> tuple[str, ...]:
    """Each cause once; of many, the first and the last."""
    causes = absence.causes if len(absence.causes) <= 2 else (absence.causes[0], absence.causes[-1])
    said = [_cause(transition) for transition in causes]
    return tuple(said[:1] + [f"then: {each}" for each in said[1:]])


def _cause(transition: Transition) -> str:
    if transition.reason == STOPPED_HOLDFAST:
        return "Holdfast was not running"
    if transition.reason is None:
        return "the cause is unknown"
    reason = stored_reason(transition.reason, transition.code)
    origin = _ORIGINS.get(reason.fault)
    return because(reason) if origin is None else f"{because(reason)}. Cause: {origin}"


def _advice(absence: _Absence) -> tuple[str, ...]:
    known = [transition for transition in absence.causes if transition.reason not in {None, STOPPED_HOLDFAST}]
    if not known or known[-1].reason is None:
        return ()
    reason = stored_reason(known[-1].reason, known[-1].code)
    advice = advice_on(reason.action, reason.name)
    return (advice,) if advice else ()


_PLAIN = {
    State.STOPPED: (Tone.OFF, "Stopped", "stopped by a user; accepted messages wait"),
    State.PAIRING: (Tone.UNLINKED, "QR code requested", ""),
    State.CONNECTING: (Tone.UNLINKED, "Started", ""),
    State.RECONNECTING: (Tone.UNLINKED, "Started", ""),
    State.LOGGED_OUT: (Tone.TROUBLE, "Logged out", ""),
    State.UNPAIRED: (Tone.UNLINKED, "Not linked", ""),
    State.PAUSED: (Tone.TROUBLE, "Paused", ""),
}


def _plain(transition: Transition) -> TimelineEntry:
    """What is no absence: a person's wish, or an end that only a person can undo."""
    if transition.before is State.PAIRING and transition.after in RUNNING and transition.reason is None:
        return TimelineEntry(at=transition.at, tone=Tone.WELL, title="Phone linked")
    tone, title, line = _PLAIN[transition.after]
    if not line and transition.reason is not None and transition.after is not State.PAIRING:
        line = _cause(transition)
    return TimelineEntry(at=transition.at, tone=tone, title=title, lines=(line,) if line else ())


def _without_repeats(entries: list[TimelineEntry]) -> list[TimelineEntry]:
    """QR codes that follow each other are one wish."""
    kept: list[TimelineEntry] = []
    for entry in entries:
        if kept and kept[-1].title == entry.title and kept[-1].lines == entry.lines and entry.ended_at is None:
            kept.pop()
        kept.append(entry)
    return kept
