"""The session machine by literal values: every situation with every event, then one test for each rule."""

from dataclasses import replace

import pytest

from holdfast.session import reasons
from holdfast.session.engine import CutLink, LogOut, Ping, Presence
from holdfast.session.events import (
    ClientUpdated,
    CommitFailed,
    ConnectDeferred,
    ConnectGranted,
    EngineQuarantined,
    Event,
    HostLost,
    LogoutAsked,
    NetworkRestored,
    PairAsked,
    PasskeyAnswered,
    PasskeyConfirmed,
    PasskeyDeclined,
    ProbeAsked,
    QuarantineCredentials,
    ReconnectAsked,
    SendsWaited,
    StartAsked,
    StartLink,
    StopAsked,
    Tick,
)
from holdfast.session.machine import ROWS, TABLE, NotPossible, Step, deadline
from holdfast.session.state import Link, PasskeyStep, Policy, Session, State
from tests.doubles.engine_reports import (
    granted_step,
    link_closed,
    link_opened,
    link_paired,
    passkey_continued,
    passkey_failed,
    passkey_requested,
    ponged,
    qr_shown,
)

POLICY = Policy()
NOW = 1000.0
"""The time of each test's event; every deadline in a situation has been reached by then."""


def take(session: Session, event: Event, *, now: float = NOW, jitter: float = 0, policy: Policy = POLICY) -> Step:
    return granted_step(session, event, now=now, jitter=jitter, policy=policy)


LOGGING_IN = Link(number=7, began_at=980, gives_up_at=NOW)
OPEN = Link(number=7, began_at=969, gives_up_at=None, opened_at=970, ping=1, ponged_at=970.5, next_ping_at=NOW)

SITUATIONS = {
    "unpaired": Session(),
    "pairing, link": Session(state=State.PAIRING, newest_link=7, link=LOGGING_IN),
    "pairing, passkey": Session(
        state=State.PAIRING,
        newest_link=7,
        link=replace(LOGGING_IN, passkey=PasskeyStep.SIGN),
        reason=reasons.PASSKEY_REQUIRED,
    ),
    "pairing, waiting": Session(state=State.PAIRING, newest_link=7, attempts=1, next_attempt_at=NOW),
    "connecting": Session(state=State.CONNECTING, paired=True, newest_link=7, link=LOGGING_IN),
    "connected": Session(state=State.CONNECTED, paired=True, newest_link=7, link=OPEN),
    "reconnecting, link": Session(state=State.RECONNECTING, paired=True, newest_link=7, link=LOGGING_IN, attempts=1),
    "reconnecting, waiting": Session(
        state=State.RECONNECTING, paired=True, newest_link=7, attempts=1, next_attempt_at=NOW
    ),
    "reconnecting, unreached": Session(
        state=State.RECONNECTING,
        paired=True,
        newest_link=7,
        attempts=1,
        next_attempt_at=NOW,
        reason=reasons.BY_CODE[408],
    ),
    "reconnecting, asking": Session(state=State.RECONNECTING, paired=True, newest_link=7, requested=True),
    "reconnecting, restored": Session(state=State.RECONNECTING, paired=True, attempts=1),
    "paused, link": Session(
        state=State.PAUSED, paired=True, newest_link=7, link=LOGGING_IN, reason=reasons.BY_CODE[405]
    ),
    "paused, waiting": Session(state=State.PAUSED, paired=True, next_attempt_at=NOW, reason=reasons.BY_CODE[405]),
    "paused, banned": Session(state=State.PAUSED, paired=True, reason=reasons.BY_CODE[406]),
    "paused, banned for a time": Session(
        state=State.PAUSED, paired=True, next_attempt_at=NOW, reason=reasons.BY_CODE[402]
    ),
    "logged out": Session(state=State.LOGGED_OUT, reason=reasons.DEVICE_REMOVED),
    "stopped": Session(state=State.STOPPED),
    "stopped, paired": Session(state=State.STOPPED, paired=True),
}

EVENTS: list[Event] = [
    StartAsked(),
    StopAsked(),
    ReconnectAsked(),
    LogoutAsked(),
    PairAsked(),
    qr_shown(7),
    link_paired(7),
    link_opened(7),
    link_closed(7, 428),
    HostLost(7),
    CommitFailed(7),
    ponged(7, 1),
    SendsWaited(7, NOW),
    ProbeAsked(7),
    ConnectGranted(8),
    ConnectDeferred(NOW + 5, reasons.CONNECT_QUEUED),
    Tick(),
    EngineQuarantined(),
    passkey_requested(7, 600),
    PasskeyAnswered(7),
    passkey_continued(7, compare=False),
    PasskeyConfirmed(7),
    passkey_failed(7, "passkey-refused"),
    PasskeyDeclined(7, "passkey-declined"),
    ClientUpdated(),
    NetworkRestored(),
]

# x: changes something · a dot: changes nothing · an exclamation mark: refused with NotPossible
#                           start stop recn logo pair qr   paird open clos host keep pong sends prob gran defr tick quar
# pkrq pkan pkco pkcf pkfl pkde updt netw
MATRIX = """
unpaired                    x    x    !    x    x    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .
pairing, link               .    x    x    x    .    x    x    x    x    x    x    !    !    !    .    .    x    x    x    .    .    .    x    x    .    .
pairing, passkey            .    x    x    x    .    x    x    x    x    x    x    !    !    !    .    .    x    x    x    x    .    .    x    x    .    .
pairing, waiting            .    x    x    x    .    .    .    .    .    .    .    .    .    .    .    .    x    x    .    .    .    .    .    .    .    .
connecting                  .    x    x    x    !    x    !    x    x    x    x    !    !    !    .    .    x    x    !    !    !    !    !    !    .    .
connected                   .    x    x    x    !    !    !    !    x    x    x    .    x    x    .    .    x    x    !    !    !    !    !    !    .    .
reconnecting, link          .    x    x    x    !    x    !    x    x    x    x    !    !    !    .    .    x    x    !    !    !    !    !    !    .    .
reconnecting, waiting       .    x    x    x    !    .    .    .    .    .    .    .    .    .    .    .    x    x    .    .    .    .    .    .    .    .
reconnecting, unreached     .    x    x    x    !    .    .    .    .    .    .    .    .    .    .    .    x    x    .    .    .    .    .    .    .    x
reconnecting, asking        .    x    x    x    !    .    .    .    .    .    .    .    .    .    x    x    .    x    .    .    .    .    .    .    .    .
reconnecting, restored      x    x    x    x    !    .    .    .    .    .    .    .    .    .    .    .    .    x    .    .    .    .    .    .    .    .
paused, link                x    x    x    x    !    x    !    x    x    x    x    !    !    !    .    .    x    x    !    !    !    !    !    !    .    .
paused, waiting             x    x    x    x    !    .    .    .    .    .    .    .    .    .    .    .    x    .    .    .    .    .    .    .    x    .
paused, banned              x    x    !    x    !    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .
paused, banned for a time   !    x    !    x    !    .    .    .    .    .    .    .    .    .    .    .    x    .    .    .    .    .    .    .    .    .
logged out                  .    x    !    .    x    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .
stopped                     x    .    !    x    x    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .
stopped, paired             x    .    !    x    !    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .    .
"""  # noqa: E501


CELLS = {
    (line[:27].strip(), type(event).__name__): mark
    for line in MATRIX.strip().splitlines()
    for event, mark in zip(EVENTS, line[27:].split(), strict=True)
}


def test_matrix_is_whole() -> None:
    """Every event is tried in every situation, and every state has a situation."""
    assert len(CELLS) == len(SITUATIONS) * len(EVENTS)
    assert {session.state for session in SITUATIONS.values()} == set(State)
    assert {type(event) for event in EVENTS} >= {event for _, event in TABLE}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_meets_every_event(situation: str, event: Event) -> None:
    """An event changes something, nothing, or is refused, as the matrix says; a refused event changes nothing."""
    session = SITUATIONS[situation]
    before = replace(session)
    try:
        after, effects = take(session, event)
        mark = "." if after == session and not effects else "x"
    except NotPossible:
        mark = "!"
    assert mark == CELLS[situation, type(event).__name__]
    assert session == before


@pytest.mark.parametrize(
    ("state", "event"),
    [(state, event) for state in State for event in EVENTS if (state, type(event)) not in TABLE],
    ids=lambda value: str(value) if isinstance(value, State) else type(value).__name__,
)
def test_pairs_outside_the_table_are_refused(state: State, event: Event) -> None:
    """A pair that is not in the table raises NotPossible; only a Tick with nothing due is ignored instead."""
    link = OPEN if state is State.CONNECTED else LOGGING_IN
    session = Session(state=state, paired=True, newest_link=7, link=link)
    with pytest.raises(NotPossible) as refused:
        take(session, event)
    assert refused.value.code == "not-possible"


def test_the_table_has_every_pair_of_its_rows() -> None:
    """TABLE is the flattened ROWS: 8 states, 106 pairs."""
    assert set(ROWS) == set(State)
    assert len(TABLE) == sum(len(row) for row in ROWS.values()) == 114


@pytest.mark.parametrize(
    "event",
    [
        qr_shown(6),
        link_paired(6),
        link_opened(6),
        link_closed(6, 401),
        HostLost(6),
        CommitFailed(6),
        ponged(6, 1),
        SendsWaited(6, 0),
        ProbeAsked(6),
    ],
    ids=lambda event: type(event).__name__,
)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_reports_of_another_link_change_nothing(situation: str, event: Event) -> None:
    """A report of an old link changes nothing in any situation, even where the event would be refused."""
    session = SITUATIONS[situation]
    assert take(session, event) == (session, ())


@pytest.mark.parametrize("situation", SITUATIONS)
def test_early_ticks_change_nothing(situation: str) -> None:
    """A Tick before the deadline, or without a deadline, changes nothing."""
    session = SITUATIONS[situation]
    assert take(session, Tick(), now=NOW - 0.001) == (session, ())


# Requests of people.


@pytest.mark.parametrize(
    ("situation", "event", "sentence"),
    [
        ("stopped", ReconnectAsked(), "can't reconnect: the session is stopped; start it first"),
        (
            "logged out",
            ReconnectAsked(),
            (
                "can't reconnect: the session is logged out because the device was unlinked on the phone; "
                "ask for a QR code and scan it first"
            ),
        ),
        ("connected", PairAsked(), "can't pair a phone: the session is connected; log it out first"),
        (
            "stopped, paired",
            PairAsked(),
            "can't pair a phone: one is linked; start the session, or log it out first",
        ),
        (
            "paused, banned",
            ReconnectAsked(),
            "can't reconnect: the session is paused because WhatsApp banned this number; resolve that and start it",
        ),
        (
            "paused, banned for a time",
            StartAsked(),
            (
                "can't start: the session is paused because WhatsApp banned this number for a time; "
                "it waits until that ends"
            ),
        ),
        (
            "paused, banned for a time",
            ReconnectAsked(),
            (
                "can't reconnect: the session is paused because WhatsApp banned this number for a time; "
                "it waits until that ends"
            ),
        ),
        ("connecting", link_paired(7), "can't take Paired: the session is connecting"),
    ],
)
def test_refusals_have_reason_and_advice(situation: str, event: Event, sentence: str) -> None:
    """A refusal says what can't be done, in which state, why, and what to do instead."""
    with pytest.raises(NotPossible) as refused:
        take(SITUATIONS[situation], event)
    assert refused.value.sentence == sentence


def test_start_connects_a_paired_session() -> None:
    """Starting a stopped, paired session opens a link and resets its counters."""
    stopped = Session(state=State.STOPPED, paired=True, newest_link=7, replaced=2, replaced_at=1.0)
    session, effects = take(stopped, StartAsked())
    assert (session.state, session.replaced, session.replaced_at, effects) == (
        State.CONNECTING,
        0,
        None,
        (StartLink(8),),
    )
    assert deadline(session, policy=POLICY) == NOW + 20


@pytest.mark.parametrize("event", [StartAsked(), PairAsked()])
def test_an_unpaired_session_pairs(event: Event) -> None:
    """A start, or a request for a QR code, makes an unpaired session pair."""
    session, effects = take(Session(), event)
    assert (session.state, effects) == (State.PAIRING, (StartLink(1),))


def test_a_logged_out_session_pairs_again_only_on_a_request_for_a_code() -> None:
    """A start does not undo a logout; a request for a code does."""
    assert take(SITUATIONS["logged out"], StartAsked())[1] == ()
    session, effects = take(SITUATIONS["logged out"], PairAsked())
    assert (session.state, session.reason, effects) == (State.PAIRING, None, (StartLink(1),))


def test_start_during_a_probe_keeps_to_one_link() -> None:
    """Starting a paused session while its probe is in progress cuts that link before another one opens."""
    session, effects = take(SITUATIONS["paused, link"], StartAsked())
    assert (session.state, effects) == (State.CONNECTING, (CutLink(link=7), StartLink(8)))


def test_start_ends_a_ban_that_a_person_has_settled() -> None:
    """After a ban without an end, a start by a person makes one attempt."""
    session, effects = take(SITUATIONS["paused, banned"], StartAsked())
    assert (session.state, effects) == (State.CONNECTING, (StartLink(1),))


@pytest.mark.parametrize("situation", ["connected", "connecting", "reconnecting, link"])
def test_reconnect_cuts_and_connects(situation: str) -> None:
    """A requested reconnection replaces the link at once; the count of attempts continues."""
    session, effects = take(SITUATIONS[situation], ReconnectAsked())
    assert (session.state, effects) == (State.RECONNECTING, (CutLink(link=7), StartLink(8)))
    assert (session.reason, session.attempts) == (reasons.RECONNECT_REQUESTED, SITUATIONS[situation].attempts)


def test_reconnect_goes_past_a_backoff() -> None:
    """A requested reconnection does not wait for the planned attempt, and replaces the plan."""
    session, effects = take(SITUATIONS["reconnecting, waiting"], ReconnectAsked(), now=10)
    assert (session.next_attempt_at, effects) == (None, (StartLink(8),))


def test_reconnect_of_a_pairing_session_keeps_pairing() -> None:
    """A fresh link of a session without a phone shows QR codes again."""
    session, effects = take(SITUATIONS["pairing, link"], ReconnectAsked())
    assert (session.state, effects) == (State.PAIRING, (CutLink(link=7), StartLink(8)))


def test_stop_cuts_and_plans_nothing() -> None:
    """A stopped session has no link, no plan and no deadline."""
    session, effects = take(SITUATIONS["connected"], StopAsked())
    assert (session.state, effects, deadline(session, policy=POLICY)) == (State.STOPPED, (CutLink(link=7),), None)
    waiting, nothing = take(SITUATIONS["reconnecting, waiting"], StopAsked())
    assert (waiting.state, waiting.attempts, nothing) == (State.STOPPED, 0, ())
    assert deadline(waiting, policy=POLICY) is None


def test_logout_informs_whatsapp_and_quarantines_credentials() -> None:
    """A logout is sent over the link if there is one, and the credentials are quarantined."""
    session, effects = take(SITUATIONS["connected"], LogoutAsked())
    assert effects == (LogOut(link=7), QuarantineCredentials(7))
    assert (session.state, session.paired, session.link, session.reason) == (
        State.LOGGED_OUT,
        False,
        None,
        reasons.LOGOUT_REQUESTED,
    )


def test_logout_without_a_link_only_quarantines() -> None:
    """Without a link WhatsApp can't be informed; the credentials are quarantined anyway."""
    assert take(SITUATIONS["stopped, paired"], LogoutAsked())[1] == (QuarantineCredentials(0),)


def test_a_planned_attempt_is_not_hurried_by_starts() -> None:
    """A script that repeats its start can't turn a backoff into a loop; but a restored session connects."""
    assert take(SITUATIONS["reconnecting, waiting"], StartAsked())[1] == ()
    session, effects = take(SITUATIONS["reconnecting, restored"], StartAsked())
    assert (session.state, session.attempts, effects) == (State.RECONNECTING, 1, (StartLink(1),))


# A link opens.


def test_a_qr_code_may_be_looked_at() -> None:
    """A displayed QR code gives people 75 s from then on, and does not reset the attempts."""
    shown, effects = take(replace(SITUATIONS["pairing, link"], attempts=3), qr_shown(7), now=990)
    assert (deadline(shown, policy=POLICY), shown.attempts, effects) == (1065, 3, ())


def test_pairing_leads_to_a_login() -> None:
    """After pairing, WhatsApp closes the link (515), and the session logs in on a new one at once."""
    paired, nothing = take(SITUATIONS["pairing, link"], link_paired(7))
    assert (paired.paired, nothing, deadline(paired, policy=POLICY)) == (True, (), NOW + 15)
    session, effects = take(paired, link_closed(7, 515), now=NOW + 1)
    assert (session.state, session.attempts, effects) == (State.CONNECTING, 0, (StartLink(8),))


@pytest.mark.parametrize("code", [401, 428, 500])
def test_any_close_after_pairing_leads_to_a_login(code: int) -> None:
    """Whatever code closes the pairing link after pairing, it is neither a logout nor a failure."""
    paired, _ = take(SITUATIONS["pairing, link"], link_paired(7))
    session, effects = take(paired, link_closed(7, code), now=NOW + 1)
    assert (session.state, session.paired, session.reason, effects) == (State.CONNECTING, True, None, (StartLink(8),))


def test_a_pairing_link_that_stays_is_cut() -> None:
    """When WhatsApp does not close the link after pairing, it is cut, and the session logs in."""
    paired, _ = take(SITUATIONS["pairing, link"], link_paired(7))
    session, effects = take(paired, Tick(), now=NOW + 15)
    assert (session.state, effects) == (State.CONNECTING, (CutLink(link=7), StartLink(8)))


def test_a_late_close_of_the_paired_link_means_nothing() -> None:
    """A 401 of the old socket after the 515 changes nothing."""
    paired, _ = take(SITUATIONS["pairing, link"], link_paired(7))
    session, _ = take(paired, link_closed(7, 515), now=NOW + 1)
    assert take(session, link_closed(7, 401), now=NOW + 2) == (session, ())


@pytest.mark.parametrize("situation", ["connecting", "reconnecting, link", "paused, link"])
def test_a_login_that_is_asked_to_pair_waits_for_a_person(situation: str) -> None:
    """A QR code although a phone seemed linked: the link is cut, and nobody sees a code that nobody asked for."""
    session, effects = take(SITUATIONS[situation], qr_shown(7))
    assert (session.state, session.paired, session.reason) == (State.UNPAIRED, False, reasons.NOT_LINKED)
    assert effects == (CutLink(link=7),)


@pytest.mark.parametrize("situation", ["pairing, link", "connecting", "reconnecting, link", "paused, link"])
def test_opened_is_connected_and_pings(situation: str) -> None:
    """A link that opened is connected, and sends a ping and presence at once as a check."""
    session, effects = take(SITUATIONS[situation], link_opened(7))
    assert (session.state, session.paired, session.reason) == (State.CONNECTED, True, None)
    assert effects == (Ping(link=7, n=1), Presence(link=7, available=True))
    assert session.attempts == SITUATIONS[situation].attempts
    assert deadline(session, policy=POLICY) == NOW + 5


def test_presence_can_be_switched_off() -> None:
    """Without presence, only a ping is sent."""
    effects = take(SITUATIONS["connecting"], link_opened(7), policy=Policy(presence=False))[1]
    assert effects == (Ping(link=7, n=1),)


# An open link.


def test_keepalive_is_sent_every_interval() -> None:
    """30 s after the last ping the next one is sent, with presence."""
    session, effects = take(SITUATIONS["connected"], Tick())
    assert effects == (Ping(link=7, n=2), Presence(link=7, available=True))
    answered, _ = take(session, ponged(7, 2), now=NOW + 0.2)
    assert deadline(answered, policy=POLICY) == NOW + 30


def test_a_pong_is_evidence() -> None:
    """A pong to the last ping is recorded with its round trip."""
    pinged, _ = take(SITUATIONS["connected"], Tick())
    session, effects = take(pinged, ponged(7, 2), now=NOW + 0.25)
    assert session.link is not None
    assert (session.link.round_trip_s, session.link.ponged_at, effects) == (0.25, NOW + 0.25, ())


@pytest.mark.parametrize("ping", [1, 3])
def test_a_pong_to_another_ping_is_none(ping: int) -> None:
    """An answer to an older ping, or to one never sent, does not count."""
    pinged, _ = take(SITUATIONS["connected"], Tick())
    assert take(pinged, ponged(7, ping), now=NOW + 1) == (pinged, ())


def test_an_unanswered_ping_ends_the_link() -> None:
    """No pong within 5 s: the link is cut without waiting for it to close, and the next one opens at once."""
    pinged, _ = take(SITUATIONS["connected"], Tick())
    session, effects = take(pinged, Tick(), now=NOW + 5, jitter=0.4)
    assert (session.state, session.reason, effects) == (State.RECONNECTING, reasons.NO_PONG, (CutLink(link=7),))
    assert session.next_attempt_at == pytest.approx(NOW + 5.1)


def test_a_probe_asks_for_a_sign_of_life_once() -> None:
    """A probe of the health monitor pings at once; a second probe adds no ping while the first is unanswered."""
    probed, effects = take(SITUATIONS["connected"], ProbeAsked(7), now=980)
    assert effects[0] == Ping(link=7, n=2)
    assert take(probed, ProbeAsked(7), now=981) == (probed, ())


def test_a_waiting_send_asks_for_a_sign_of_life() -> None:
    """A send without an ack for 2 s causes a ping before the interval is over."""
    waiting, _ = take(SITUATIONS["connected"], SendsWaited(7, 980), now=980.1)
    assert deadline(waiting, policy=POLICY) == 982
    assert take(waiting, Tick(), now=982)[1][0] == Ping(link=7, n=2)


def test_a_dead_link_with_a_send_is_found_in_seven_seconds() -> None:
    """A send, 2 s without an ack, a ping, 5 s without a pong: the link is cut."""
    waiting, _ = take(SITUATIONS["connected"], SendsWaited(7, 980), now=980)
    asked, _ = take(waiting, Tick(), now=982)
    assert take(asked, Tick(), now=987)[1] == (CutLink(link=7),)


def test_one_sign_of_life_is_enough_for_a_waiting_send() -> None:
    """A link that answered after the send was overdue is pinged again only at the interval, and has 15 s in all."""
    waiting, _ = take(SITUATIONS["connected"], SendsWaited(7, 980), now=980)
    asked, _ = take(waiting, Tick(), now=983)
    answered, _ = take(asked, ponged(7, 2), now=983.2)
    assert deadline(answered, policy=POLICY) == 995
    session, effects = take(answered, Tick(), now=995)
    assert (session.reason, effects) == (reasons.NO_ACKS, (CutLink(link=7),))


def test_the_time_in_which_the_store_held_frames_back_does_not_count() -> None:
    """Neither for the answer to a ping nor for acks: WhatsApp had nothing to answer. Afterwards the link has as long as
    any other."""
    waiting, _ = take(SITUATIONS["connected"], SendsWaited(7, 980), now=980)
    asked, _ = take(waiting, Tick(), now=982)
    held, effects = take(asked, Tick(held_until=986), now=987)
    assert (effects, deadline(held, policy=POLICY)) == ((), 991)
    assert take(held, Tick(held_until=986), now=991)[0].reason == reasons.NO_PONG
    answered, _ = take(held, ponged(7, 2), now=988)
    assert deadline(answered, policy=POLICY) == 1001
    assert take(answered, Tick(), now=1001)[0].reason == reasons.NO_ACKS


def test_an_ack_ends_the_waiting() -> None:
    """When nothing waits for an ack, only the keep-alive is due."""
    waiting, _ = take(SITUATIONS["connected"], SendsWaited(7, 980), now=980)
    acked, effects = take(waiting, SendsWaited(7, None), now=981)
    assert (deadline(acked, policy=POLICY), effects) == (NOW, ())


def test_attempts_are_forgotten_after_stability() -> None:
    """A link open for 5 s, with a ping answered, resets the attempts and has no other effect."""
    link = replace(OPEN, opened_at=NOW - 5, ponged_at=NOW - 4.9, next_ping_at=NOW + 10)
    session = replace(SITUATIONS["connected"], link=link, attempts=4)
    assert deadline(session, policy=POLICY) == NOW
    stable, effects = take(session, Tick())
    assert (stable.attempts, effects, deadline(stable, policy=POLICY)) == (0, (), NOW + 10)


def test_attempts_are_not_forgotten_without_a_pong() -> None:
    """Time alone proves nothing: without a pong the attempts are kept."""
    link = replace(OPEN, opened_at=NOW - 60, ponged_at=None, next_ping_at=NOW + 10)
    session = replace(SITUATIONS["connected"], link=link, attempts=4)
    assert deadline(session, policy=POLICY) == NOW + 10


# A link ends, or does not open.


def test_a_login_has_twenty_seconds() -> None:
    """A login that has not finished is cut, and the next one waits for the backoff."""
    session, effects = take(SITUATIONS["connecting"], Tick())
    assert (session.state, session.reason, effects) == (State.RECONNECTING, reasons.LOGIN_TIMEOUT, (CutLink(link=7),))
    assert (session.attempts, session.next_attempt_at) == (1, NOW + 1)


@pytest.mark.parametrize("situation", ["pairing, waiting", "reconnecting, waiting", "paused, waiting"])
def test_a_planned_attempt_is_made(situation: str) -> None:
    """At its time, the planned attempt opens a link; the state stays the same until the link is open."""
    session, effects = take(SITUATIONS[situation], Tick())
    assert (session.state, session.next_attempt_at) == (SITUATIONS[situation].state, None)
    assert effects == (StartLink(SITUATIONS[situation].newest_link + 1),)


def test_a_lost_host_costs_one_reconnection() -> None:
    """The link is gone with its host: nothing is cut, and after an open link the next one opens at once."""
    session, effects = take(SITUATIONS["connected"], HostLost())
    assert (session.state, session.reason, effects) == (State.RECONNECTING, reasons.ENGINE_HOST_LOST, ())
    assert (session.link, session.next_attempt_at) == (None, NOW)


def test_the_loss_of_an_unnamed_host_takes_whichever_link_there_is() -> None:
    """A lost host without a number counts as the host of the session's link."""
    assert take(SITUATIONS["connected"], HostLost()) == take(SITUATIONS["connected"], HostLost(7))


@pytest.mark.parametrize("situation", ["pairing, waiting", "reconnecting, waiting", "paused, waiting"])
def test_a_lost_host_without_a_link_is_nothing(situation: str) -> None:
    """A session that waits for its next attempt keeps waiting."""
    assert take(SITUATIONS[situation], HostLost()) == (SITUATIONS[situation], ())


def test_a_link_whose_keys_could_not_be_stored_is_cut() -> None:
    """When the store fails, the link must end: its keys are ahead of those that would be found after a crash."""
    session, effects = take(SITUATIONS["connected"], CommitFailed(7))
    assert (session.state, session.reason, effects) == (State.RECONNECTING, reasons.STORAGE_FAILED, (CutLink(link=7),))


def test_a_close_is_judged_by_code_attributes_and_sentence() -> None:
    """The machine passes all three on to the table of reasons: a proxy's 401 is the network, not a logout."""
    closed = link_closed(7, 401, "WebSocket Error (Unexpected server response: 401)")
    session, effects = take(SITUATIONS["reconnecting, link"], closed)
    assert session.reason is not None
    assert (session.state, session.reason.name, effects) == (State.RECONNECTING, "connect-failed", ())
    removed, quarantine = take(SITUATIONS["connected"], link_closed(7, 401, "", {"type": "device_removed"}))
    assert (removed.state, quarantine) == (State.LOGGED_OUT, (QuarantineCredentials(7),))


def test_a_temporary_ban_is_waited_out() -> None:
    """A ban of an hour pauses the session for an hour, plus a twentieth of that, plus a minute."""
    session, effects = take(SITUATIONS["connecting"], link_closed(7, 402, "", {"code": "101", "expire": "3600"}))
    assert (session.state, session.next_attempt_at, effects) == (State.PAUSED, NOW + 3600 + 180 + 60, ())


@pytest.mark.parametrize("situation", ["connecting", "connected", "reconnecting, waiting", "paused, link"])
def test_a_session_that_kills_engine_hosts_is_paused_until_a_person_starts_it(situation: str) -> None:
    """It plans no attempt, names the reason, and accepts `StartAsked`."""
    session, _ = take(SITUATIONS[situation], EngineQuarantined())
    assert (session.state, session.link, session.next_attempt_at) == (State.PAUSED, None, None)
    assert session.reason is reasons.ENGINE_QUARANTINED
    assert take(session, StartAsked())[0].state is State.CONNECTING


def test_a_session_that_moves_to_another_host_says_so() -> None:
    """Holdfast, not a person, asks for the new link, and the reason says so."""
    session, _ = take(SITUATIONS["connected"], ReconnectAsked(reasons.ENGINE_HOST_REPLACED))
    assert session.reason is reasons.ENGINE_HOST_REPLACED


def test_another_client_version_is_tried_at_once() -> None:
    """This happens only if WhatsApp refused the version before; a pause for any other reason stays."""
    outdated = SITUATIONS["paused, waiting"]
    session, effects = take(outdated, ClientUpdated())
    assert (session.state, effects) == (State.PAUSED, (StartLink(1),))
    assert take(SITUATIONS["paused, banned for a time"], ClientUpdated())[1] == ()


def test_a_session_that_could_not_reach_whatsapp_connects_when_another_one_did() -> None:
    """Not one that WhatsApp refused, nor one that waits for the connect limiter, nor one with a low budget."""
    away = SITUATIONS["reconnecting, unreached"]
    assert take(away, NetworkRestored())[1] == (StartLink(8),)
    for other in (
        replace(away, reason=reasons.BY_CODE[503]),
        replace(away, held=reasons.CONNECT_QUEUED),
        replace(away, begun_at=(NOW - 1,) * 60),
    ):
        assert take(other, NetworkRestored()) == (other, ())
