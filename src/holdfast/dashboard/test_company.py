"""A company's page offers the actions that its state allows, and shows only measured figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.dashboard.company import SESSION_ACTIONS, actions_for
from holdfast.health.keepalive import KeepAlives
from holdfast.runtime.view import View
from holdfast.session.machine import TABLE
from holdfast.session.reasons import BY_CODE
from holdfast.session.state import Session, State
from holdfast.session.stores import Record

NOW = "2026-11-22T10:00:00.000Z"


def view(state: State, *, number: str | None = "962790000002") -> View:
    record = Record(company="962302", state=state, since=NOW, phone_number=number, created_at=NOW)
    return View(
        record=record, session=Session(state=state), qr=None, next_attempt_at=None, keepalives=KeepAlives(), ends=(),
        frame_at=None, acked_at=None, in_state_s=1, silent_s=0, node=None,
    )  # fmt: skip


@pytest.mark.parametrize("state", State)
def test_no_button_offers_an_action_that_would_be_refused(state: State) -> None:
    """In every state."""
    assert all((state, type(action.event)) in TABLE for action in actions_for(view(state)))


@pytest.mark.parametrize(
    ("state", "names"),
    [
        (State.CONNECTED, ["reconnect", "stop", "log-out"]),
        (State.RECONNECTING, ["reconnect", "stop", "log-out"]),
        (State.STOPPED, ["start", "log-out"]),
        (State.PAIRING, ["stop"]),
        (State.LOGGED_OUT, []),
        (State.UNPAIRED, []),
    ],
)
def test_buttons_are_those_that_change_something(state: State, names: list[str]) -> None:
    """Without a linked phone there is the QR code instead."""
    assert [action.name for action in actions_for(view(state))] == names


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (402, ["stop", "log-out"]),
        (406, ["start", "stop", "log-out"]),
        (405, ["reconnect", "stop", "log-out"]),
        (440, ["start", "stop", "log-out"]),
    ],
)
def test_a_paused_session_has_the_buttons_that_its_reason_allows(code: int, names: list[str]) -> None:
    """A reconnection if Holdfast retries automatically, otherwise a start; neither during a temporary ban."""
    shown = view(State.PAUSED)
    paused = replace(shown, session=replace(shown.session, reason=BY_CODE[code]))
    assert [wish.name for wish in actions_for(paused)] == names


def test_a_session_that_was_never_linked_has_no_logout() -> None:
    """A session that was stopped before its phone was linked."""
    assert [action.name for action in actions_for(view(State.STOPPED, number=None))] == ["start"]


def test_actions_with_consequences_need_a_confirmation() -> None:
    """Actions with consequences need a confirmation; starting and showing a code need none."""
    assert {name for name, action in SESSION_ACTIONS.items() if action.question is None} == {"start", "pair"}
