"""The history of a session: one entry for each disconnection, with its cause, the reaction and the next attempt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.dashboard.fleet import Tone
from holdfast.dashboard.rendering import disconnected_for
from holdfast.dashboard.timeline import TimelineEntry, newest_first, timeline_entries
from holdfast.health.advice import WHAT_TO_DO
from holdfast.session.reasons import Action
from holdfast.session.state import State
from holdfast.session.stores import Transition

_S = State


def transition(
    minute: int,
    before: State,
    after: State,
    reason: str | None = None,
    code: int | None = None,
    *,
    attempts: int = 0,
    next_at: str | None = None,
) -> Transition:
    return Transition(
        company="962302", at=at(minute), before=before, after=after, event="Tick", reason=reason, code=code,
        attempts=attempts, next_attempt_at=next_at, lasted_s=0,
    )  # fmt: skip


def at(minute: int) -> str:
    return f"2026-11-22T10:{minute:02}:00.000Z"


LINKED = [
    transition(0, _S.UNPAIRED, _S.PAIRING),
    transition(1, _S.PAIRING, _S.CONNECTING),
    transition(2, _S.CONNECTING, _S.CONNECTED),
]
CUT = transition(5, _S.CONNECTED, _S.RECONNECTING, "transport-closed", 428, attempts=1, next_at=at(6))


def titles(entries: list[TimelineEntry]) -> list[str]:
    return [entry.title for entry in entries]


def test_linking_reads_from_the_code_to_the_connection() -> None:
    """The newest entry is first."""
    assert titles(timeline_entries(LINKED)) == ["Connected", "Phone linked", "QR code requested"]


def test_a_past_disconnection_shows_cause_and_end() -> None:
    """There is one entry from the loss to the next link, however many attempts were needed."""
    again = transition(6, _S.RECONNECTING, _S.RECONNECTING, "link-lost", 408, attempts=2, next_at=at(7))
    newest = timeline_entries([*LINKED, CUT, again, transition(8, _S.RECONNECTING, _S.CONNECTED, attempts=2)])[0]
    assert newest == TimelineEntry(
        at=at(5),
        ended_at=at(8),
        tone=Tone.WARNING,
        title="Connection lost",
        lines=(
            "the connection was closed (428). Cause: the network",
            "Later: WhatsApp could not be reached or stopped answering (408). Cause: the network",
            "Holdfast reconnected at attempt 2",
        ),
    )


def test_a_current_disconnection_shows_the_next_attempt_and_what_to_do() -> None:
    """With the time of the next attempt."""
    lost = transition(5, _S.CONNECTED, _S.RECONNECTING, "link-lost", 408, attempts=3, next_at=at(6))
    newest = timeline_entries([*LINKED, lost])[0]
    assert (newest.title, newest.tone, newest.next_attempt_at) == ("Not connected", Tone.CRITICAL, at(6))
    assert newest.lines[1:] == (
        "Holdfast retries automatically",
        WHAT_TO_DO[Action.CHECK_NETWORK],
    )


def test_another_program_with_the_same_device_is_not_blamed_on_holdfast() -> None:
    """The sentence names the cause, and a second one, such as "this installation", would contradict it."""
    newest = timeline_entries([*LINKED, transition(5, _S.CONNECTED, _S.RECONNECTING, "replaced", 440)])[0]
    assert newest.lines[0] == "the same device connected from somewhere else (440)"


def test_a_sentence_that_names_its_cause_is_followed_by_no_other() -> None:
    """Both reasons about an engine host name it."""
    newest = timeline_entries([*LINKED, transition(5, _S.CONNECTED, _S.RECONNECTING, "engine-host-lost")])[0]
    assert newest.lines[0] == "the engine host ended or stopped answering"


def test_a_pause_without_an_end_shows_that_a_person_is_needed() -> None:
    """Holdfast makes no attempt after such a ban."""
    newest = timeline_entries([*LINKED, transition(5, _S.CONNECTED, _S.PAUSED, "banned", 406)])[0]
    assert newest.title == "Paused"
    assert newest.lines == (
        "WhatsApp banned this number (406). Cause: WhatsApp",
        "Holdfast does not retry automatically",
        "ask for a review in WhatsApp on the company's phone, or write to WhatsApp's support",
    )


@pytest.mark.parametrize(
    ("last", "title", "line"),
    [
        (transition(5, _S.CONNECTED, _S.STOPPED), "Stopped", "stopped by a user; accepted messages wait"),
        (
            transition(5, _S.CONNECTED, _S.LOGGED_OUT, "unlinked", 401),
            "Logged out",
            "the device was unlinked on the phone (401)",
        ),
        (
            transition(5, _S.PAIRING, _S.UNPAIRED, "qr-expired", 408),
            "Not linked",
            "no QR code was scanned in time (408)",
        ),
    ],
)
def test_other_transitions_have_entries_of_their_own(last: Transition, title: str, line: str) -> None:
    """They are requested by a person, or need one to undo."""
    newest = timeline_entries([*LINKED, last])[0]
    assert (newest.title, newest.lines) == (title, (line,))


def test_a_stop_ends_an_absence_without_calling_it_a_return() -> None:
    """The entry does not say that the session connected again."""
    entries = timeline_entries([*LINKED, CUT, transition(7, _S.RECONNECTING, _S.STOPPED)])
    assert titles(entries)[:2] == ["Stopped", "Connection lost"]
    assert entries[1].lines == ("the connection was closed (428). Cause: the network",)


def test_a_requested_reconnection_is_not_shown_as_a_loss() -> None:
    """The entry says who requested it."""
    asked = transition(5, _S.CONNECTED, _S.RECONNECTING, "reconnect-requested")
    newest = timeline_entries([*LINKED, asked, transition(6, _S.RECONNECTING, _S.CONNECTED)])[0]
    assert (newest.title, newest.tone, newest.lines) == ("Reconnected", Tone.NEUTRAL, ("a reconnection was requested",))


def test_holdfasts_own_absence_is_admitted() -> None:
    """The time is not attributed to an unknown code of WhatsApp."""
    away = transition(5, _S.CONNECTED, _S.RECONNECTING, "holdfast-stopped")
    newest = timeline_entries([*LINKED, away, transition(6, _S.RECONNECTING, _S.CONNECTED)])[0]
    assert newest.lines[0] == "Holdfast was not running"


def test_consecutive_qr_codes_are_one_entry() -> None:
    """Repeated requests for a QR code are one entry."""
    again = [transition(n, _S.PAIRING, _S.PAIRING) for n in (1, 2, 3)]
    assert titles(timeline_entries([LINKED[0], *again])) == ["QR code requested"]


def test_entries_of_the_same_time_keep_their_order() -> None:
    """A restart within the millisecond of the connection, or a clock that was set back, puts no loss before it."""
    away = replace(transition(5, _S.CONNECTED, _S.RECONNECTING, "holdfast-stopped"), at=LINKED[-1].at)
    entries = timeline_entries([*LINKED, replace(away, at=LINKED[0].at)])
    operation = TimelineEntry(at=away.at, tone=Tone.SUCCESS, title="Create a group")
    assert titles(newest_first(entries, [operation]))[:2] == ["Create a group", "Not connected"]


@pytest.mark.parametrize(
    ("ended_at", "shown"), [("03.049", "less than 0.1 s"), ("03.100", "0.1 s"), ("15.000", "12 s")]
)
def test_a_short_disconnection_is_not_shown_as_zero(ended_at: str, shown: str) -> None:
    """A duration is rounded down, and `0 s` would look like an error."""
    entry = TimelineEntry(
        at="2026-11-29T10:00:03.000Z", tone=Tone.WARNING, title="Connection lost",
        ended_at=f"2026-11-29T10:00:{ended_at}Z",
    )  # fmt: skip
    assert disconnected_for(entry) == shown
