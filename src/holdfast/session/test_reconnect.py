"""The reaction to the end of a link, for each kind of reaction, and the bounds on how often links start."""

from dataclasses import replace

import pytest

from holdfast.session import reasons
from holdfast.session.engine import CutLink
from holdfast.session.events import (
    ConnectDeferred,
    ConnectGranted,
    Event,
    HostLost,
    LogoutAsked,
    QuarantineCredentials,
    RequestConnect,
    StartLink,
    StopAsked,
    Tick,
)
from holdfast.session.machine import deadline, step
from holdfast.session.reconnect import Step
from holdfast.session.state import Link, Policy, Session, State
from tests.doubles.engine_reports import granted_step, link_closed, link_opened, ponged, qr_shown

POLICY = Policy()
NOW = 1000.0
OPEN = Link(number=7, began_at=899, gives_up_at=None, opened_at=900, ping=1, ponged_at=900.1, next_ping_at=1010)
LOGGING_IN = Link(number=7, began_at=999, gives_up_at=1019)
CONNECTED = Session(state=State.CONNECTED, paired=True, newest_link=7, link=OPEN)
CONNECTING = Session(state=State.CONNECTING, paired=True, newest_link=7, link=LOGGING_IN)
RECONNECTING = replace(CONNECTING, state=State.RECONNECTING, attempts=3)
PAIRING = Session(state=State.PAIRING, newest_link=7, link=LOGGING_IN)


def take(session: Session, event: Event, *, now: float = NOW, jitter: float = 0, policy: Policy = POLICY) -> Step:
    return granted_step(session, event, now=now, jitter=jitter, policy=policy)


def close(session: Session, code: int, attributes: dict[str, str] | None = None, *, now: float = NOW) -> Step:
    assert session.link is not None
    return take(session, link_closed(session.link.number, code, "", attributes or {}), now=now)


def open_next(session: Session) -> tuple[Session, float]:
    """Advance to the planned attempt and let WhatsApp accept the login; returns the time of that."""
    at = session.next_attempt_at
    assert at is not None
    begun, effects = take(session, Tick(), now=at)
    assert effects == (StartLink(begun.newest_link),)
    return take(begun, link_opened(begun.newest_link), now=at)[0], at


# Backoff.


@pytest.mark.parametrize("code", [428, 408, 503, 500])
def test_the_first_attempt_after_an_open_link_comes_at_once(code: int) -> None:
    """A stable link that is lost is replaced within 0.25 s."""
    session, effects = close(CONNECTED, code)
    assert (session.state, session.attempts, session.next_attempt_at, effects) == (State.RECONNECTING, 1, NOW, ())
    late, _ = take(CONNECTED, link_closed(7, code), jitter=0.96)
    assert late.next_attempt_at == pytest.approx(NOW + 0.24)


def test_further_attempts_follow_the_formula() -> None:
    """From the second attempt on the wait is 1.5 s, 2.25 s and so on, up to a minute."""
    waits = []
    session, now = close(CONNECTED, 428)[0], NOW
    for _ in range(12):
        assert session.next_attempt_at is not None
        waits.append(session.next_attempt_at - now)
        now = session.next_attempt_at
        begun, _ = take(session, Tick(), now=now)
        session, _ = close(begun, 408, now=now)
    assert waits[:5] == pytest.approx([0, 1.5, 2.25, 3.375, 5.0625])
    assert waits[-1] == 60


def test_a_flapping_link_does_not_come_back_at_once() -> None:
    """Opening does not reset the attempts: links that close right after they opened start further and further apart."""
    session = close(CONNECTED, 428)[0]
    waits = []
    for _ in range(4):
        opened, at = open_next(session)
        session, _ = close(opened, 428, now=at + 1)
        assert session.next_attempt_at is not None
        waits.append(session.next_attempt_at - at)
    assert waits == pytest.approx([1.5, 2.25, 3.375, 5.0625])


def test_the_time_that_a_link_lived_has_been_waited_already() -> None:
    """The delay counts between the starts of links: after a link that lived longer, the next one starts at once."""
    once = close(CONNECTED, 428)[0]
    opened, at = open_next(once)
    lost, _ = take(opened, link_closed(8, 428), now=at + 10, jitter=0.4)
    assert lost.attempts == 2
    assert lost.next_attempt_at == pytest.approx(at + 10.1)


def test_a_failed_login_keeps_its_backoff() -> None:
    """After a link that never opened, no attempt is made at once."""
    session, _ = close(CONNECTING, 408)
    assert (session.attempts, session.next_attempt_at) == (1, NOW + 1)


def test_settings_under_a_quarter_second_hold_for_the_first_attempt_too() -> None:
    """No wait exceeds the cap, even the short one after an open link."""
    policy = Policy(backoff=replace(POLICY.backoff, base_ms=10, cap_ms=50))
    session, _ = take(CONNECTED, link_closed(7, 428), jitter=0.9, policy=policy)
    assert session.next_attempt_at == NOW + 0.05


# The hourly budget.


def test_the_budget_slows_a_nervous_link() -> None:
    """With 120 links started in this hour, the next wait is a minute, however stable the last link was."""
    spent = replace(CONNECTED, begun_at=tuple(float(n) for n in range(120)))
    assert close(spent, 428)[0].next_attempt_at == NOW + 60


def test_a_quarter_of_the_budget_is_free_and_the_rest_is_spread_evenly() -> None:
    """29 links within the hour cost no wait; from the thirtieth on, starts are far enough apart to make the rest
    last."""
    free = replace(CONNECTED, begun_at=tuple(NOW - n for n in range(29, 0, -1)))
    assert close(free, 428)[0].next_attempt_at == NOW
    paced = replace(CONNECTED, begun_at=(NOW - 600, *(NOW - n for n in range(30, 1, -1))))
    assert close(paced, 428)[0].next_attempt_at == pytest.approx(NOW - 2 + (3600 - 30) / 91)


def test_a_link_that_lived_longer_than_the_pace_is_followed_at_once() -> None:
    """Time connected counts towards the pace."""
    begun_at = tuple(NOW - 31 * n for n in range(60, 0, -1))
    assert close(replace(CONNECTED, begun_at=begun_at), 428)[0].next_attempt_at == NOW


def test_the_budget_recovers() -> None:
    """Links that started more than an hour ago are not counted."""
    spent = replace(CONNECTED, begun_at=tuple(float(n) for n in range(120)))
    assert close(spent, 428, now=3600)[0].next_attempt_at == 3600


def test_the_budget_remembers_no_more_than_it_needs() -> None:
    """However often a person reconnects, the recorded history is bounded."""
    waiting = replace(CONNECTED, link=None, begun_at=tuple(float(n) for n in range(120)), next_attempt_at=NOW)
    session, _ = take(replace(waiting, state=State.RECONNECTING), Tick())
    assert (len(session.begun_at), session.begun_at[0], session.begun_at[-1]) == (120, 1.0, NOW)


# Deferred by the connect limiter.


def ask(session: Session, *, now: float = NOW + 0.5) -> Session:
    """Advance to the planned attempt; the connect limiter has not answered yet."""
    asked, effects = step(session, Tick(), now=now, jitter=0, policy=POLICY)
    assert effects == (RequestConnect(),)
    return asked


def test_a_deferred_link_is_as_if_it_had_not_been_tried() -> None:
    """Attempts, reason, state and budget stay the same; the reason for waiting is shown; the attempt follows later."""
    waiting = replace(close(CONNECTED, 428)[0], begun_at=tuple(NOW - n for n in range(120, 0, -1)))
    held, effects = take(ask(waiting), ConnectDeferred(NOW + 30, reasons.CIRCUIT_BREAKER_OPEN), now=NOW + 0.5)
    assert effects == ()
    assert (held.state, held.attempts, held.reason, held.begun_at) == (
        waiting.state, waiting.attempts, waiting.reason, waiting.begun_at,
    )  # fmt: skip
    assert (held.shown_reason, deadline(held, policy=POLICY)) == (reasons.CIRCUIT_BREAKER_OPEN, NOW + 30)
    again, effects = take(held, Tick(), now=NOW + 30)
    assert (again.shown_reason, effects) == (reasons.BY_CODE[428], (StartLink(8),))
    assert again.begun_at == (*waiting.begun_at[1:], NOW + 30)


def test_a_held_session_can_be_woken() -> None:
    """A wake moves the plan of a held session, never into the past, and has no effect on any other session."""
    waiting = close(CONNECTED, 428)[0]
    wake = ConnectDeferred(NOW + 1, reasons.CONNECT_QUEUED)
    assert take(waiting, wake) == (waiting, ())
    held, _ = take(ask(waiting), ConnectDeferred(NOW + 30, reasons.CIRCUIT_BREAKER_OPEN))
    assert take(held, wake)[0].next_attempt_at == NOW + 1
    assert take(held, wake, now=NOW + 2)[0].next_attempt_at == NOW + 2


def test_a_stopped_session_does_not_wait() -> None:
    """Stop and logout end the wait; a later wake changes nothing."""
    held, _ = take(ask(close(CONNECTED, 428)[0]), ConnectDeferred(NOW + 30, reasons.CIRCUIT_BREAKER_OPEN))
    for request in (StopAsked(), LogoutAsked()):
        ended, _ = take(held, request)
        assert (ended.held, deadline(ended, policy=POLICY)) == (None, None)
        assert take(ended, ConnectDeferred(NOW, reasons.CONNECT_QUEUED)) == (ended, ())


def test_a_grant_that_comes_too_late_starts_nothing() -> None:
    """Only a session that asked, and has not been stopped since, starts a link."""
    waiting = close(CONNECTED, 428)[0]
    assert take(waiting, ConnectGranted(8)) == (waiting, ())
    stopped, _ = take(ask(waiting), StopAsked())
    assert take(stopped, ConnectGranted(8)) == (stopped, ())


# 515.


def test_a_restart_is_granted_at_once() -> None:
    """515 opens the next link in the same step and counts no attempt."""
    session, effects = close(CONNECTED, 515)
    assert (session.state, session.attempts, effects) == (State.RECONNECTING, 0, (StartLink(8),))


def test_a_second_restart_soon_after_backs_off() -> None:
    """A server that repeats 515 is not hammered: the second one within a minute waits, whether or not a link opened."""
    restarted, _ = close(CONNECTED, 515)
    again, effects = close(restarted, 515, now=NOW + 0.1)
    assert (again.attempts, again.next_attempt_at, effects) == (1, NOW + 1, ())
    opened, _ = take(restarted, link_opened(8), now=NOW + 0.1)
    assert close(opened, 515, now=NOW + 59)[1] == ()
    assert close(opened, 515, now=NOW + 60)[1] == (StartLink(9),)


# 429.


def test_a_rate_limit_is_a_long_wait() -> None:
    """429 waits 5 min plus up to a fifth, and does not count as an attempt."""
    session, effects = close(CONNECTING, 429)
    assert (session.state, session.next_attempt_at, effects) == (State.RECONNECTING, NOW + 300, ())
    late, _ = take(CONNECTING, link_closed(7, 429), jitter=0.5)
    assert late.next_attempt_at == NOW + 330


# 440.


def test_a_replaced_session_tries_twice_and_pauses() -> None:
    """Two attempts, each after 30 s, though each link opens; the third replacement pauses the session without an
    end."""
    session, _ = close(CONNECTED, 440)
    for _ in range(2):
        assert session.state is State.RECONNECTING
        opened, at = open_next(session)
        session, effects = close(opened, 440, now=at + 0.5)
    assert (at, session.state, effects) == (NOW + 60.5, State.PAUSED, ())
    assert deadline(session, policy=POLICY) is None
    assert session.reason is not None
    assert session.reason.name == "replaced"


def test_a_conflict_outlasts_other_losses() -> None:
    """Another loss between two replacements does not start a new conflict."""
    session, _ = close(CONNECTED, 440)
    session, _ = close(open_next(session)[0], 428, now=NOW + 31)
    session, _ = close(open_next(session)[0], 440, now=NOW + 40)
    session, _ = close(open_next(session)[0], 440, now=NOW + 80)
    assert session.state is State.PAUSED


def test_a_replacement_hours_later_is_a_new_conflict() -> None:
    """A replacement an hour after the last one gets two attempts again."""
    session, _ = close(CONNECTED, 440)
    opened, _ = open_next(session)
    again, _ = close(opened, 440, now=NOW + 3600)
    assert (again.state, again.replaced) == (State.RECONNECTING, 1)


# 401.


def test_a_logout_takes_effect_the_second_time() -> None:
    """After 401 there is one more attempt after the backoff; if that is refused as well, the credentials are
    quarantined."""
    doubted, effects = close(CONNECTED, 401)
    assert (doubted.state, doubted.paired, doubted.next_attempt_at, effects) == (
        State.RECONNECTING,
        True,
        NOW + 1,
        (),
    )
    trying, _ = take(doubted, Tick(), now=NOW + 1)
    gone, effects = close(trying, 401, now=NOW + 1.1)
    assert (gone.state, gone.paired, effects) == (State.LOGGED_OUT, False, (QuarantineCredentials(8),))


def test_a_login_that_opens_disproves_the_logout() -> None:
    """After a 401 and a link that opened, the next 401 again needs a second one."""
    doubted, _ = close(CONNECTED, 401)
    opened, at = open_next(doubted)
    assert close(opened, 401, now=at + 1)[0].state is State.RECONNECTING


def test_another_failure_between_two_logouts_asks_once_more() -> None:
    """Only two refusals in a row count as a logout."""
    doubted, _ = close(CONNECTED, 401)
    trying, _ = take(doubted, Tick(), now=NOW + 1)
    lost, _ = close(trying, 408, now=NOW + 2)
    trying, _ = take(lost, Tick(), now=NOW + 60)
    assert close(trying, 401, now=NOW + 61)[0].state is State.RECONNECTING


@pytest.mark.parametrize(("code", "attributes"), [(516, {}), (401, {"type": "device_removed"})])
def test_an_unlinking_takes_effect_at_once(code: int, attributes: dict[str, str]) -> None:
    """The phone unlinked the device: the credentials are quarantined, no attempt is made, and a person must scan
    again."""
    session, effects = close(CONNECTED, code, attributes)
    assert (session.state, session.paired, effects) == (State.LOGGED_OUT, False, (QuarantineCredentials(7),))
    assert deadline(session, policy=POLICY) is None


# Pauses.


@pytest.mark.parametrize("code", [403, 406, 411])
def test_a_stop_plans_nothing_and_keeps_credentials(code: int) -> None:
    """A lock or ban pauses the session until a person starts it."""
    session, effects = close(CONNECTED, code)
    assert (session.state, session.paired, effects) == (State.PAUSED, True, ())
    assert deadline(session, policy=POLICY) is None


@pytest.mark.parametrize("code", [405, 409, 400, 415, 418, 501, 999])
def test_a_refusal_that_may_pass_is_probed(code: int) -> None:
    """An outdated client or an unknown code pauses the session, with one attempt every 5 min plus up to a fifth."""
    session, effects = close(CONNECTING, code)
    assert (session.state, session.next_attempt_at, effects) == (State.PAUSED, NOW + 300, ())
    late, _ = take(CONNECTING, link_closed(7, code), jitter=0.5)
    assert late.next_attempt_at == NOW + 330


def test_a_probe_that_opens_ends_the_pause() -> None:
    """When the probe's login is accepted, the session is connected."""
    opened, _ = open_next(close(CONNECTING, 405)[0])
    assert (opened.state, opened.reason) == (State.CONNECTED, None)


def test_a_probe_that_is_refused_again_pauses_again() -> None:
    """The session stays paused during a probe, and the next probe is as slow."""
    paused, _ = close(CONNECTING, 405)
    probing, _ = take(paused, Tick(), now=NOW + 300)
    assert probing.state is State.PAUSED
    again, _ = close(probing, 405, now=NOW + 301)
    assert (again.state, again.next_attempt_at) == (State.PAUSED, NOW + 601)


@pytest.mark.parametrize(
    ("expire", "resumes_after_s"),
    [("0", 60), ("600", 690), ("86400", 90_780), ("9" * 5000, 331_128_060)],
)
def test_a_temporary_ban_ends_automatically(expire: str, resumes_after_s: float) -> None:
    """The pause is WhatsApp's time plus a twentieth of it plus a minute; ten years at most."""
    session, _ = close(CONNECTING, 402, {"expire": expire})
    assert session.state is State.PAUSED
    assert session.next_attempt_at == pytest.approx(NOW + resumes_after_s)


@pytest.mark.parametrize("attributes", [{}, {"expire": ""}, {"expire": "soon"}, {"expire": "-5"}, {"expire": "²"}])
def test_a_ban_without_a_readable_end_is_probed(attributes: dict[str, str]) -> None:
    """Without a valid number of seconds the session is probed slowly, and nothing fails."""
    session, _ = close(CONNECTING, 402, attributes)
    assert (session.state, session.next_attempt_at) == (State.PAUSED, NOW + 300)


# While no phone is linked.


@pytest.mark.parametrize("code", [429, 440, 403, 406, 402, 405, 409, 411, 999])
def test_an_unpaired_session_waits_for_a_person(code: int) -> None:
    """A refusal while pairing leads to no attempt that nobody asked for; the reason is kept for people to read."""
    session, effects = close(PAIRING, code)
    assert (session.state, session.next_attempt_at, effects) == (State.UNPAIRED, None, ())
    assert session.reason == reasons.reason_of(code, {})


@pytest.mark.parametrize("code", [401, 516])
def test_an_unpaired_session_drops_refused_keys(code: int) -> None:
    """Keys that WhatsApp refuses while pairing are quarantined, so that the next QR code starts with new ones."""
    session, effects = close(PAIRING, code)
    assert (session.state, effects) == (State.UNPAIRED, (QuarantineCredentials(7),))


def test_used_up_qr_codes_wait_for_the_next_request() -> None:
    """When nobody scanned, no further link is opened until somebody asks."""
    session, effects = take(PAIRING, link_closed(7, 408, "QR refs attempts ended"))
    assert (session.state, session.reason, effects) == (State.UNPAIRED, reasons.QR_EXPIRED, ())
    assert deadline(session, policy=POLICY) is None


def test_a_paired_session_without_a_linked_device_shows_no_codes() -> None:
    """Used-up QR codes show that a session that seemed paired has no linked device."""
    session, _ = take(CONNECTING, link_closed(7, 408, "QR refs attempts ended"))
    assert (session.state, session.paired) == (State.UNPAIRED, False)


@pytest.mark.parametrize("loss", ["closed", "timed out", "host lost", "flapped after a code"])
def test_pairing_gives_up_after_ten_lost_links(loss: str) -> None:
    """However the links are lost, ten are followed by a backoff and the eleventh by a wait for a person."""
    session, now, lost = PAIRING, NOW, 0
    while session.state is State.PAIRING and lost < 50:
        lost, now = lost + 1, now + 1
        if loss == "flapped after a code":
            session, _ = take(session, qr_shown(session.newest_link), now=now)
        if loss == "host lost":
            session, _ = take(session, HostLost(session.newest_link), now=now)
        elif loss == "timed out":
            now = deadline(session, policy=POLICY) or 0
            session, effects = take(session, Tick(), now=now)
            assert effects == (CutLink(link=session.newest_link),)
        else:
            session, _ = close(session, 428, now=now)
        if session.next_attempt_at is not None:
            now = session.next_attempt_at
            session, _ = take(session, Tick(), now=now)
    assert (session.state, lost, deadline(session, policy=POLICY)) == (State.UNPAIRED, 11, None)


def test_a_restart_while_pairing_keeps_pairing() -> None:
    """A 515 before a phone is linked opens another pairing link."""
    session, effects = close(PAIRING, 515)
    assert (session.state, effects) == (State.PAIRING, (StartLink(8),))


# Evidence counts from link to link.


def test_a_new_link_begins_without_evidence() -> None:
    """Pings, pongs and unacked sends of the last link say nothing about the next."""
    waiting, _ = take(CONNECTED, Tick(), now=1010)
    answered, _ = take(waiting, ponged(7, 2), now=1010.1)
    opened, at = open_next(close(answered, 428, now=1020)[0])
    assert opened.link == Link(
        number=8, began_at=at, gives_up_at=None, opened_at=at, ping=1, pinged_at=at, next_ping_at=at + 30
    )
    assert take(opened, Tick(), now=at + 5)[1] == (CutLink(link=8),)
