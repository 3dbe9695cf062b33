"""What survives a restart, and how the rest of the hourly budget is reported."""

import pytest

from holdfast.session import reasons
from holdfast.session.events import ReconnectAsked, StartAsked, StartLink
from holdfast.session.machine import NotPossible, deadline
from holdfast.session.state import Policy, Session, State, budget_left, restored
from tests.doubles.engine_reports import granted_step

POLICY = Policy()


@pytest.mark.parametrize("state", [State.CONNECTED, State.CONNECTING, State.RECONNECTING, State.PAIRING])
def test_a_running_session_reconnects(state: State) -> None:
    """A session that was connected or just paired connects again on a start, and its count of attempts continues."""
    session = restored(state=state, paired=True, attempts=5, resumes_at=None)
    assert (session.state, session.attempts) == (State.RECONNECTING, 5)
    started, effects = granted_step(session, StartAsked(), now=1, jitter=0, policy=POLICY)
    assert (started.attempts, effects) == (5, (StartLink(1),))


@pytest.mark.parametrize("state", [State.PAIRING, State.PAUSED, State.CONNECTED, State.UNPAIRED])
def test_without_credentials_nothing_connects_automatically(state: State) -> None:
    """A session without a linked phone waits until somebody asks for a QR code."""
    session = restored(state=state, paired=False, attempts=5, resumes_at=9.0, reason=reasons.BY_CODE[405])
    assert (session.state, session.attempts, session.reason) == (State.UNPAIRED, 0, reasons.BY_CODE[405])
    assert deadline(session, policy=POLICY) is None


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("state", [State.STOPPED, State.LOGGED_OUT])
def test_sessions_ended_by_a_person_or_whatsapp_stay_ended(state: State, paired: bool) -> None:
    """A restart does not connect a stopped or logged-out session."""
    session = restored(state=state, paired=paired, attempts=5, resumes_at=9.0)
    assert (session.state, session.paired, deadline(session, policy=POLICY)) == (state, paired, None)


def test_a_pause_continues() -> None:
    """A paused session resumes at its planned time."""
    session = restored(state=State.PAUSED, paired=True, attempts=2, resumes_at=77.0, reason=reasons.BY_CODE[402])
    assert (session.state, deadline(session, policy=POLICY)) == (State.PAUSED, 77.0)


@pytest.mark.parametrize("code", [402, 403, 406])
def test_a_ban_outlives_a_restart(code: int) -> None:
    """After a restart as well, a reconnection past a ban or lock is refused."""
    session = restored(state=State.PAUSED, paired=True, attempts=0, resumes_at=None, reason=reasons.BY_CODE[code])
    with pytest.raises(NotPossible):
        granted_step(session, ReconnectAsked(), now=1, jitter=0, policy=POLICY)


def test_imported_credentials_are_used_on_a_start() -> None:
    """A session that is new here but has credentials of a linked device logs in without a QR code."""
    session = restored(state=State.UNPAIRED, paired=True, attempts=0, resumes_at=None)
    assert granted_step(session, StartAsked(), now=1, jitter=0, policy=POLICY)[0].state is State.CONNECTING


def test_wanted_means_now_or_later() -> None:
    """Running, pairing and paused sessions are meant to be connected; stopped, unpaired and logged-out ones are not."""
    wanted = [state.value for state in State if Session(state=state).wanted]
    assert wanted == ["pairing", "connecting", "connected", "reconnecting", "paused"]


def test_budget_counts_the_last_hour() -> None:
    """The rest of the budget is its size minus the links started within the last hour."""
    session = Session(begun_at=(0.0, 1000.0, 2000.0))
    assert budget_left(session, now=3600, policy=POLICY) == 118
    assert budget_left(session, now=3599, policy=POLICY) == 117
