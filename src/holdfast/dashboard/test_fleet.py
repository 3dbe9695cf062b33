"""Rows of the fleet: companies that need attention come first, with advice for the dashboard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.base.clock import iso
from holdfast.dashboard.fleet import LABELS, FleetRow, Tone, advice_on, counted, make_row, ranked, tone_of
from holdfast.dashboard.rendering import hold_sentence, joined_to_units, percent, prose, sentence
from holdfast.delivery.rate_limits import REACH_OUT_LOCK
from holdfast.delivery.stores import Backlog, DeliveryTally
from holdfast.health.keepalive import KeepAlives
from holdfast.health.signals import HoldSignals
from holdfast.health.verdict import Status, restriction_sentence
from holdfast.runtime.view import View
from holdfast.session.reasons import Action
from holdfast.session.state import Session, State
from holdfast.session.stores import Record

NOW = "2026-11-22T10:00:00.000Z"


def row(company: str, tone: Tone) -> FleetRow:
    return FleetRow(
        company=company, label=None, phone_number=None,
        state=State.CONNECTED, tone=tone, since=NOW, sentence=None, advice=None,
        keepalive_percent=None, delivery_percent=None, accepted=0, arrived=0, waiting=0, oldest_at=None, node=None,
    )  # fmt: skip


def test_filters_use_the_words_of_verdicts() -> None:
    """So that the page, the API and alerts name the health of a session alike."""
    shown = {LABELS[tone_of(State.CONNECTED, status)].lower() for status in Status}
    assert shown == {status.label for status in Status}


def test_sessions_with_problems_come_first_and_stopped_ones_last() -> None:
    """Sessions of the same severity are ordered by company."""
    rows = [
        row("d", Tone.NEUTRAL),
        row("c", Tone.SUCCESS),
        row("b", Tone.CRITICAL),
        row("a", Tone.CRITICAL),
        row("e", Tone.WARNING),
    ]
    assert [each.company for each in ranked(rows)] == ["a", "b", "e", "c", "d"]
    assert counted(rows) == {Tone.CRITICAL: 2, Tone.WARNING: 1, Tone.INFO: 0, Tone.SUCCESS: 1, Tone.NEUTRAL: 1}


@pytest.mark.parametrize(
    ("state", "status", "tone"),
    [
        (State.CONNECTED, Status.HEALTHY, Tone.SUCCESS),
        (State.CONNECTED, Status.DEGRADED, Tone.WARNING),
        (State.RECONNECTING, Status.UNHEALTHY, Tone.CRITICAL),
        (State.LOGGED_OUT, Status.UNHEALTHY, Tone.CRITICAL),
        (State.STOPPED, Status.UNHEALTHY, Tone.NEUTRAL),
        (State.UNPAIRED, Status.UNHEALTHY, Tone.INFO),
        (State.PAIRING, Status.DEGRADED, Tone.INFO),
    ],
)
def test_tones_follow_the_verdict_except_for_requested_states(state: State, status: Status, tone: Tone) -> None:
    """A session that was stopped on purpose, or has no phone yet, is not shown as a problem."""
    assert tone_of(state, status) is tone


@pytest.mark.parametrize(
    ("state", "reason", "tone", "sentence"),
    [
        (State.CONNECTED, "transport-closed", Tone.SUCCESS, None),
        (State.PAUSED, "banned", Tone.CRITICAL, "WhatsApp banned this number (406)"),
    ],
)
def test_sessions_of_other_processes_show_their_record(
    state: State, reason: str, tone: Tone, sentence: str | None
) -> None:
    """It shows no invented figures, the node that runs it, and no reason that no longer applies."""
    record = Record(company="962302", state=state, since=NOW, reason=reason, code=406, created_at=NOW)
    view = View(
        record=record, session=Session(state=state), qr=None, next_attempt_at=None, keepalives=KeepAlives(), ends=(),
        frame_at=None, acked_at=None, in_state_s=1, silent_s=0, node="other:3000",
    )  # fmt: skip
    made = make_row(view, None, Backlog(waiting=2, oldest_at=NOW), DeliveryTally(accepted=4, taken=3, arrived=2))
    assert (made.tone, made.sentence, made.node, made.waiting) == (tone, sentence, "other:3000", 2)
    assert (made.keepalive_percent, made.delivery_percent) == (None, 75.0)


def test_advice_is_written_for_users_of_the_page() -> None:
    """The advice names no command where there is a button, and is empty where nothing needs to be done."""
    assert advice_on(Action.SCAN_QR) == "open the company and scan its QR code with the phone"
    assert advice_on(Action.WAIT) == advice_on(Action.NONE) == ""
    assert advice_on(Action.CHECK_NETWORK).startswith("check whether this machine reaches the internet")


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (100.0, "100 %"), (99.99, "99.9 %"), (0.0, "0 %"), (66.6666, "66.6 %")]
)
def test_shares_are_never_rounded_up(value: float | None, shown: str) -> None:
    """100 % is shown only for all of it."""
    assert percent(value) == shown


def test_sentences_are_complete() -> None:
    """They get a capital letter and one full stop; addresses are unchanged."""
    assert sentence("the link is gone") == "The link is gone."
    assert sentence("is the disk full?") == "Is the disk full?"
    assert sentence("http://example.com does not answer") == "http://example.com does not answer."
    assert sentence("") == ""
    assert sentence("<b> & more") == "&lt;b&gt; &amp; more."


def test_times_in_sentences_are_shown_in_the_readers_time_zone() -> None:
    """They are marked for the script that shows all times; a date that does not exist stays as somebody wrote it."""
    until = datetime(2026, 11, 28, 23, 51, tzinfo=UTC)
    hold = HoldSignals(code=REACH_OUT_LOCK, until=until - timedelta(milliseconds=1))
    marked = (
        'until <time datetime="2026-11-28T23:51:00.000Z" title="23:51 UTC on 28 Nov 2026" data-minute>'
        "23:51 UTC on 28 Nov 2026</time>."
    )
    assert sentence(restriction_sentence(hold)).endswith(marked)
    assert sentence(hold_sentence(REACH_OUT_LOCK, iso(until))).endswith(marked)
    assert sentence("at 29:99 UTC on 31 Feb 2026") == "At 29:99 UTC on 31 Feb 2026."


def test_prose_marks_code_and_escapes_the_rest() -> None:
    """Descriptions come from the code, and are escaped like any text."""
    assert prose("give `next` as <after>") == "give <code>next</code> as &lt;after&gt;"


@pytest.mark.parametrize(
    ("figures", "joined"),
    [
        ("1 h 40 min", "1\xa0h 40\xa0min"),
        ("2 d 23 h", "2\xa0d 23\xa0h"),
        ("1.8 s", "1.8\xa0s"),
        ("87.2 %", "87.2\xa0%"),
        ("–", "–"),
    ],
)
def test_numbers_are_joined_to_their_units(figures: str, joined: str) -> None:
    """A narrow column breaks a duration only between its parts."""
    assert joined_to_units(figures) == joined
