"""Operations in the history: each with its outcome in words; frequent, successful ones are left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.dashboard.fleet import Tone
from holdfast.dashboard.operation_entries import TITLES, TITLES_BY_ARGUMENT, operation_entries
from holdfast.session.operation_states import Operation, OperationState
from holdfast.session.operations import KINDS

AT, BEFORE = "2026-11-22T10:00:00.000Z", "2026-11-15T10:00:00.000Z"
GROUP = Operation(
    seq=1, id="op_1", company="962302", kind="create-group", target="groups", arguments={"subject": "Orders"},
    state=OperationState.SUCCEEDED, attempts=1, accepted_at=AT,
)  # fmt: skip
READ = replace(GROUP, id="op_2", kind="read-chat", arguments={})
_S = OperationState


@pytest.mark.parametrize(
    ("changes", "tone", "line"),
    [
        ({}, Tone.SUCCESS, "done"),
        ({"state": _S.QUEUED}, Tone.INFO, "waiting to be carried out"),
        (
            {"state": _S.QUEUED, "retry_message": "WhatsApp limits it"},
            Tone.INFO,
            "will be retried: WhatsApp limits it",
        ),
        ({"state": _S.RUNNING}, Tone.INFO, "sent to WhatsApp; waiting for the answer"),
        ({"state": _S.FAILED, "error": "not an admin (403)"}, Tone.CRITICAL, "not an admin (403)"),
        ({"state": _S.FAILED}, Tone.CRITICAL, "WhatsApp refused it"),
        ({"state": _S.EXPIRED}, Tone.CRITICAL, "not done: it expired before it could be carried out"),
        ({"state": _S.CANCELLED}, Tone.NEUTRAL, "cancelled before it was carried out"),
        ({"state": _S.UNKNOWN}, Tone.CRITICAL, "it is not known whether this was done: look at the phone"),
    ],
)
def test_an_operation_shows_request_and_outcome(changes: dict[str, object], tone: Tone, line: str) -> None:
    """With its id, under which the API has the rest."""
    (entry,) = operation_entries([replace(GROUP, **changes)], since=BEFORE)  # type: ignore[arg-type]
    assert (entry.title, entry.tone, entry.operation_id) == ("Create a group", tone, "op_1")
    assert entry.lines == ("name: Orders", line)


@pytest.mark.parametrize("state", OperationState)
def test_marking_as_read_is_shown_only_when_it_failed(state: OperationState) -> None:
    """Successes are left out, because there are as many as there are chats."""
    shown = operation_entries([replace(READ, state=state)], since=BEFORE)
    assert bool(shown) == (state in {_S.FAILED, _S.EXPIRED, _S.UNKNOWN})


def test_the_history_has_its_own_start() -> None:
    """Older operations are left out, as older connections are."""
    assert operation_entries([GROUP], since="2026-11-22T10:00:00.001Z") == []


def test_every_kind_has_a_title() -> None:
    """One of another version is shown by its name."""
    assert {*TITLES, *TITLES_BY_ARGUMENT} == set(KINDS), "add a title to TITLES or TITLES_BY_ARGUMENT"
    (entry,) = operation_entries([replace(GROUP, kind="close-account")], since=BEFORE)
    assert entry.title == "Close account"


@pytest.mark.parametrize("kind", TITLES_BY_ARGUMENT)
def test_the_title_distinguishes_opposite_operations(kind: str) -> None:
    """Leaving a channel does not read as following it; the argument is one that the kind has."""
    argument, *titles = TITLES_BY_ARGUMENT[kind]
    assert argument in KINDS[kind].__struct_fields__
    given = [replace(GROUP, kind=kind, arguments={argument: value}) for value in (True, False)]
    assert [each.title for each in operation_entries(given, since=BEFORE)] == titles
