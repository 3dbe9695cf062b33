"""Log lines about the transitions of a session."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.runtime.log_lines import is_routine, received, transition
from holdfast.session.reasons import BY_CODE, CONNECT_QUEUED, NO_PONG
from holdfast.session.state import Link, Session, State

CONNECTED = Session(state=State.CONNECTED, paired=True)
LOST = replace(CONNECTED, state=State.RECONNECTING, reason=BY_CODE[428], attempts=1, next_attempt_at=100.25)


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (CONNECTED, LOST, "connected → reconnecting: the connection was closed (428); attempt 1 in 0.2 s"),
        (
            LOST,
            replace(LOST, reason=NO_PONG, attempts=2, next_attempt_at=102.5),
            "reconnecting → reconnecting: WhatsApp no longer answers pings on this link; attempt 2 in 2.5 s",
        ),
        (
            LOST,
            replace(LOST, attempts=2, next_attempt_at=99.0),
            "reconnecting → reconnecting: the connection was closed (428); attempt 2 in 0.0 s",
        ),
        (
            CONNECTED,
            replace(CONNECTED, state=State.PAUSED, reason=BY_CODE[402], next_attempt_at=3700),
            "connected → paused: WhatsApp banned this number for a time (402); next attempt in 1 h",
        ),
        (
            replace(LOST, state=State.PAUSED, reason=BY_CODE[405], attempts=0, next_attempt_at=None),
            replace(LOST, state=State.PAUSED, reason=BY_CODE[405], attempts=0, next_attempt_at=400),
            "paused → paused: WhatsApp refuses this version of the client (405); next attempt in 5 min",
        ),
        (
            replace(CONNECTED, link=Link(number=1, began_at=1, gives_up_at=None)),
            replace(LOST, reason=BY_CODE[515], held=CONNECT_QUEUED, attempts=0, next_attempt_at=160),
            ("connected → reconnecting: WhatsApp asked for a new connection, as it does after pairing (515); "
            "next attempt in 1 min"),
        ),
        (
            LOST,
            replace(LOST, held=CONNECT_QUEUED, next_attempt_at=160),
            ("reconnecting → reconnecting: many sessions are connecting, and this one waits in the queue; "
            "attempt 1 in 1 min"),
        ),
        (LOST, replace(CONNECTED, attempts=1), "reconnecting → connected"),
        (LOST, replace(CONNECTED, state=State.STOPPED), "reconnecting → stopped"),
    ],
)  # fmt: skip
def test_a_transition_is_logged_in_one_line(before: Session, after: Session, line: str) -> None:
    """Old and new state, the reason with WhatsApp's code, and the next attempt; also for a refused probe."""
    assert transition("962302", before, after, now=100) == f"Session 962302 {line}"


@pytest.mark.parametrize("after", [CONNECTED, replace(CONNECTED, newest_link=7), replace(CONNECTED, attempts=0)])
def test_routine_steps_are_not_logged(after: Session) -> None:
    """Pongs, ticks and the reset of attempts are not logged."""
    assert transition("962302", replace(CONNECTED, attempts=3), after, now=100) is None


def test_waiting_to_connect_is_routine_unless_the_state_changes() -> None:
    """With 300 companies, a start would fill the log; the loss of a link is still logged."""
    waits = replace(LOST, reason=CONNECT_QUEUED)
    assert is_routine(LOST, waits)
    assert not is_routine(CONNECTED, waits)
    assert not is_routine(CONNECTED, LOST)


def test_messages_are_counted_in_words() -> None:
    """One message, two messages."""
    assert received("962302", 1) == "Session 962302 received 1 message"
    assert received("962302", 2) == "Session 962302 received 2 messages"
