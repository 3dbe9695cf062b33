"""A session's history in words: each absence as one entry, with its cause, what Holdfast did, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from holdfast.dashboard.fleet import Tone, advice_on
from holdfast.health.words import because
from holdfast.session.reasons import stored_reason
from holdfast.session.state import RUNNING, State
from holdfast.session.stores import Turn

STOPPED_HOLDFAST = "holdfast-stopped"
_DOINGS = {
    "network": "the network's doing",
    "whatsapp": "WhatsApp's doing",
    "operator": "something on our side that a person can mend",
    "engine": "Holdfast's own engine host",
    "holdfast": "Holdfast's own doing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
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
    causes: tuple[Turn, ...] = field(default_factory=tuple)
    """The turns that gave a new reason."""
    attempts: int = 0
    next_attempt_at: str | None = None
    paused: bool = False

    def heard(self, turn: Turn) -> _Absence:
        is_new = turn.reason is not None and turn.reason not in {known.reason for known in self.causes}
        return replace(
            self,
            causes=(*self.causes, turn) if is_new else self.causes,
            attempts=max(self.attempts, turn.attempts),
            next_attempt_at=turn.next_attempt_at,
            paused=turn.after is State.PAUSED,
        )


def told(turns: Iterable[Turn]) -> list[Entry]:
    """Entries of these turns (oldest first), the newest first."""
    entries: list[Entry] = []
    absence: _Absence | None = None
    for turn in turns:
        if turn.after is State.CONNECTED:
            entries.append(_connected(turn) if absence is None else _back(absence, turn))
            absence = None
        elif turn.after in {State.CONNECTING, State.RECONNECTING, State.PAUSED} and (absence or _is_away(turn)):
            absence = (absence or _Absence(at=turn.at)).heard(turn)
        else:
            if absence is not None:
                entries.append(_given_up(absence, turn))
            absence = None
            entries.append(_plain(turn))
    if absence is not None:
        entries.append(_away(absence))
    return list(reversed(_without_repeats(entries)))


def _is_away(turn: Turn) -> bool:
    """Does an absence begin? A first connection that is under way is none."""
    return turn.before is State.CONNECTED or turn.reason is not None


def _connected(turn: Turn) -> Entry:
    return Entry(at=turn.at, tone=Tone.WELL, title="Connected")


def _back(absence: _Absence, turn: Turn) -> Entry:
    if absence.causes and absence.causes[0].reason == "asked":
        return Entry(at=absence.at, tone=Tone.OFF, title="Reconnected", lines=_why(absence), ended_at=turn.at)
    how = "at the first attempt" if absence.attempts <= 1 else f"at attempt {absence.attempts}"
    did = f"Holdfast connected again by itself, {how}"
    return Entry(at=absence.at, tone=Tone.SHAKY, title="Connection lost", lines=(*_why(absence), did), ended_at=turn.at)


def _away(absence: _Absence) -> Entry:
    title = "Paused" if absence.paused else "Not connected"
    return Entry(
        at=absence.at,
        tone=Tone.TROUBLE,
        title=title,
        lines=(*_why(absence), *_next(absence), *_advice(absence)),
        next_attempt_at=absence.next_attempt_at,
    )


def _given_up(absence: _Absence, turn: Turn) -> Entry:
    return Entry(at=absence.at, tone=Tone.SHAKY, title="Connection lost", lines=_why(absence), ended_at=turn.at)


def _next(absence: _Absence) -> tuple[str, ...]:
    if absence.paused and absence.next_attempt_at is None:
        return ("Holdfast does not try again by itself",)
    if absence.next_attempt_at is None:
        return (f"attempt {absence.attempts} is under way",) if absence.attempts else ()
    which = f"attempt {absence.attempts}" if absence.attempts else "the next attempt"
    return (f"Holdfast goes on by itself: {which} is planned",)


def _why(absence: _Absence) -> tuple[str, ...]:
    """Each cause once; of many, the first and the last."""
    causes = absence.causes if len(absence.causes) <= 2 else (absence.causes[0], absence.causes[-1])
    said = [_cause(turn) for turn in causes]
    return tuple(said[:1] + [f"then: {each}" for each in said[1:]])


def _cause(turn: Turn) -> str:
    if turn.reason == STOPPED_HOLDFAST:
        return "Holdfast itself was not running"
    if turn.reason is None:
        return "no reason is known"
    reason = stored_reason(turn.reason, turn.code)
    doing = _DOINGS.get(reason.fault)
    return because(reason) if doing is None else f"{because(reason)}: {doing}"


def _advice(absence: _Absence) -> tuple[str, ...]:
    known = [turn for turn in absence.causes if turn.reason not in {None, STOPPED_HOLDFAST}]
    if not known or known[-1].reason is None:
        return ()
    advice = advice_on(stored_reason(known[-1].reason, known[-1].code).action)
    return (advice,) if advice else ()


_PLAIN = {
    State.STOPPED: (Tone.OFF, "Stopped", "somebody stopped it on purpose; accepted messages wait"),
    State.PAIRING: (Tone.UNLINKED, "A QR code was asked for", ""),
    State.CONNECTING: (Tone.UNLINKED, "Started", ""),
    State.RECONNECTING: (Tone.UNLINKED, "Started", ""),
    State.LOGGED_OUT: (Tone.TROUBLE, "Logged out", ""),
    State.UNPAIRED: (Tone.UNLINKED, "Not linked", ""),
    State.PAUSED: (Tone.TROUBLE, "Paused", ""),
}


def _plain(turn: Turn) -> Entry:
    """What is no absence: a person's wish, or an end that only a person can undo."""
    if turn.before is State.PAIRING and turn.after in RUNNING and turn.reason is None:
        return Entry(at=turn.at, tone=Tone.WELL, title="A phone was linked")
    tone, title, line = _PLAIN[turn.after]
    if not line and turn.reason is not None and turn.after is not State.PAIRING:
        line = _cause(turn)
    return Entry(at=turn.at, tone=tone, title=title, lines=(line,) if line else ())


def _without_repeats(entries: list[Entry]) -> list[Entry]:
    """QR codes that follow each other are one wish."""
    kept: list[Entry] = []
    for entry in entries:
        if kept and kept[-1].title == entry.title and kept[-1].lines == entry.lines and entry.ended_at is None:
            kept.pop()
        kept.append(entry)
    return kept
