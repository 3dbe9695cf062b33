"""The passkey ceremony in the session machine: one deadline a step, and a reason for each way it fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.session import reasons
from holdfast.session.engine import CutLink
from holdfast.session.events import (
    Event,
    PairAsked,
    PasskeyAnswered,
    PasskeyConfirmed,
    Tick,
)
from holdfast.session.machine import deadline, step
from holdfast.session.passkeys import FAILURES
from holdfast.session.reasons import Reason
from holdfast.session.state import Link, PasskeyStep, Policy, Session, State, restored
from tests.doubles.engine_reports import link_closed, link_paired, passkey_continued, passkey_failed, passkey_requested

POLICY = Policy()
NOW = 1000.0
SHOWN = Session(state=State.PAIRING, newest_link=1, link=Link(number=1, began_at=990, gives_up_at=1075))


def after(session: Session, *events: Event, now: float = NOW) -> Session:
    for event in events:
        session, _ = step(session, event, now=now, jitter=0, policy=POLICY)
    return session


ASKED = after(SHOWN, passkey_requested(1, 600))


def waits(session: Session) -> tuple[PasskeyStep | None, float | None]:
    link = session.link
    return (None if link is None else link.passkey), deadline(session, policy=POLICY)


def test_the_session_stays_in_pairing_with_a_reason_and_a_deadline() -> None:
    """People see what is asked of them, and have as long as the challenge lives, not as long as a QR code."""
    assert (ASKED.state, ASKED.reason) == (State.PAIRING, reasons.PASSKEY_REQUIRED)
    assert waits(ASKED) == (PasskeyStep.SIGN, NOW + 600)


@pytest.mark.parametrize(("said_s", "given_s"), [(1e9, 600), (-5, 30), (120, 120)])
def test_whatsapp_s_own_time_is_bounded(said_s: float, given_s: float) -> None:
    """A challenge counts for ten minutes at most, and long enough for a person to notice it."""
    assert waits(after(SHOWN, passkey_requested(1, said_s)))[1] == NOW + given_s


def test_each_step_has_a_deadline_of_its_own() -> None:
    """WhatsApp gets half a minute where it has to act; a person gets five minutes to compare the codes."""
    sent = after(ASKED, PasskeyAnswered(1))
    assert waits(sent) == (PasskeyStep.SENT, NOW + 30)
    assert waits(after(sent, passkey_continued(1, compare=False))) == (PasskeyStep.FINISH, NOW + 30)
    compared = after(sent, passkey_continued(1, compare=True))
    assert waits(compared) == (PasskeyStep.COMPARE, NOW + 300)
    assert waits(after(compared, PasskeyConfirmed(1))) == (PasskeyStep.FINISH, NOW + 30)


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        (ASKED, reasons.PASSKEY_EXPIRED),
        (after(ASKED, PasskeyAnswered(1)), reasons.PASSKEY_TIMEOUT),
        (after(ASKED, PasskeyAnswered(1), passkey_continued(1, compare=True)), reasons.PASSKEY_EXPIRED),
        (after(ASKED, PasskeyAnswered(1), passkey_continued(1, compare=False)), reasons.PASSKEY_TIMEOUT),
    ],
)
def test_an_overdue_step_ends_with_its_own_reason(session: Session, reason: Reason) -> None:
    """The link is cut, and the session waits until somebody asks for a code; then everything starts from the
    beginning."""
    assert session.link is not None
    assert session.link.gives_up_at is not None
    ended, effects = step(session, Tick(), now=session.link.gives_up_at, jitter=0, policy=POLICY)
    assert (ended.state, ended.reason, ended.link, effects) == (State.UNPAIRED, reason, None, (CutLink(link=1),))
    again = after(ended, PairAsked())
    assert (again.state, again.reason, waits(again)[0]) == (State.PAIRING, None, None)


@pytest.mark.parametrize("code", [*FAILURES, "something else"])
def test_each_failure_has_a_reason_of_its_own(code: str) -> None:
    """This also holds for a failure code that this version does not know."""
    ended = after(ASKED, passkey_failed(1, code))
    assert (ended.state, ended.reason) == (State.UNPAIRED, FAILURES.get(code, reasons.PASSKEY_FAILED))


def test_a_step_out_of_its_order_changes_nothing() -> None:
    """A late or repeated click must not move a deadline."""
    for event in (PasskeyAnswered(1), passkey_continued(1, compare=False), PasskeyConfirmed(1)):
        assert after(SHOWN, event, now=1010) == SHOWN
    sent = after(ASKED, PasskeyAnswered(1))
    assert after(sent, PasskeyAnswered(1), now=1010) == sent


def test_the_linked_device_logs_in() -> None:
    """Pairing clears the reason."""
    linked = after(ASKED, PasskeyAnswered(1), passkey_continued(1, compare=False), link_paired(1))
    assert linked.reason is None
    assert after(linked, link_closed(1, 515)).state is State.CONNECTING


def test_a_restart_forgets_the_challenge() -> None:
    """A challenge can't be answered after its link is gone."""
    session = restored(state=State.PAIRING, paired=False, attempts=0, resumes_at=None, reason=reasons.PASSKEY_REQUIRED)
    assert (session.state, session.reason) == (State.UNPAIRED, reasons.PASSKEY_EXPIRED)
    assert replace(session, reason=None) == Session()
