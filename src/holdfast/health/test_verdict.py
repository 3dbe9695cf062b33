"""Verdicts by literal evidence."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from holdfast.health.advice import WHAT_TO_DO, Advice, Remedy, because, format_duration
from holdfast.health.conditions import conditions_of
from holdfast.health.conftest import LOGGING_IN, QUIET, away, with_link
from holdfast.health.keepalive import KeepAlives
from holdfast.health.signals import (
    HoldSignals,
    HourlySignals,
    Limits,
    LinkSignals,
    MessageSignals,
    ProcessSignals,
    Signals,
)
from holdfast.health.verdict import Finding, Status, judge
from holdfast.session import reasons
from holdfast.session.reasons import BY_CODE, Action
from holdfast.session.state import State

LIMITS = Limits()


def only(signals: Signals) -> Finding:
    """The one finding about these signals, which decides the verdict."""
    verdict = judge(signals, LIMITS)
    (finding,) = verdict.reasons
    assert verdict.status is finding.status
    return finding


def test_a_quiet_company_is_healthy() -> None:
    """Two hours without a message are no problem: the pings were answered."""
    verdict = judge(QUIET, LIMITS)
    assert (verdict.status, verdict.status.label, verdict.reasons) == (Status.HEALTHY, "healthy", ())


def test_bytes_do_not_replace_a_pong() -> None:
    """A link that has just opened is not healthy before its first ping is answered, whatever else arrived."""
    finding = only(with_link(open_s=0.1, pong_s=None, ping_s=0.1, frame_s=0.0))
    assert (finding.status, finding.code) == (Status.DEGRADED, "unproven")


@pytest.mark.parametrize(
    ("changes", "status", "code", "message"),
    [
        ({"ping_s": 3}, Status.DEGRADED, "ping-late", "WhatsApp has not answered a ping for 3 s"),
        (
            {"ping_s": 10.5},
            Status.UNHEALTHY,
            "no-pong",
            "WhatsApp no longer answers pings on this link: none for 10 s",
        ),
        (
            {"pong_s": 91, "frame_s": 95},
            Status.DEGRADED,
            "silent",
            "nothing has arrived on the link for 1 min: it is being pinged",
        ),
        ({"unacked_s": 8}, Status.DEGRADED, "sends-unacked", "WhatsApp has not acknowledged a message for 8 s"),
        (
            {"unacked_s": 21},
            Status.UNHEALTHY,
            "no-acks",
            "WhatsApp answers pings but accepts no messages: no ack for 21 s",
        ),
    ],
)
def test_an_open_link_is_judged_by_its_answers(
    changes: dict[str, float], status: Status, code: str, message: str
) -> None:
    """Late answers degrade a link; missing ones make it unhealthy."""
    finding = only(with_link(**changes))
    assert (finding.status, finding.code, finding.message) == (status, code, message)


@pytest.mark.parametrize("changes", [{"ping_s": 1.9}, {"unacked_s": 1.9}, {"pong_s": 91, "frame_s": 3}])
def test_a_moment_without_an_answer_is_nothing(changes: dict[str, float]) -> None:
    """Round trips take time, and bytes are a sign of life on a link that has answered a ping."""
    assert judge(with_link(**changes), LIMITS).status is Status.HEALTHY


def test_old_messages_on_an_open_link_are_a_finding() -> None:
    """An open link on which messages wait for long does not work."""
    finding = only(replace(QUIET, messages=MessageSignals(waiting=12, oldest_s=180, late_s=180)))
    assert finding.code == "outbox-late"
    assert finding.message == "the link is open, but the oldest of 12 messages has been waiting for 3 min"
    assert (
        judge(replace(QUIET, messages=MessageSignals(waiting=12, oldest_s=900, late_s=20)), LIMITS).status
        is Status.HEALTHY
    )


def test_poor_keepalives_are_a_finding() -> None:
    """A link that loses every tenth keep-alive is degraded; three outcomes are not enough for a rate."""
    poor = KeepAlives(outcomes=(0.1,) * 18 + (None, 0.1))
    assert judge(replace(QUIET, keepalives=poor), LIMITS).status is Status.HEALTHY
    finding = only(replace(QUIET, keepalives=KeepAlives(outcomes=(0.1,) * 9 + (None,))))
    assert (finding.code, finding.message) == ("keepalives-poor", "9 of the last 10 keep-alives were answered")
    assert judge(replace(QUIET, keepalives=KeepAlives(outcomes=(None, 0.1, 0.1))), LIMITS).reasons == ()


def test_an_unsteady_hour_and_a_small_budget_are_findings() -> None:
    """Repeated losses are reported although the session is connected now, and so is a budget that is nearly used up."""
    verdict = judge(replace(QUIET, hour=HourlySignals(lost=3), budget_left=2), LIMITS)
    assert [(found.code, found.status) for found in verdict.reasons] == [
        ("unsteady", Status.DEGRADED),
        ("budget-low", Status.DEGRADED),
    ]


def test_a_repeated_zombie_is_a_finding() -> None:
    """One zombie can happen; a second one within the hour is reported, although the next link is open."""
    assert judge(replace(QUIET, hour=HourlySignals(lost=1, zombies=1)), LIMITS).reasons == ()
    finding = only(replace(QUIET, hour=HourlySignals(lost=2, zombies=2)))
    assert (finding.code, finding.status) == ("zombie", Status.DEGRADED)


@pytest.mark.parametrize("link", [None, LOGGING_IN])
def test_connected_without_an_open_link_is_a_contradiction(link: LinkSignals | None) -> None:
    """A state without an open link proves nothing."""
    finding = only(replace(QUIET, link=link))
    assert (finding.status, finding.code) == (Status.UNHEALTHY, "no-link")


def test_connecting_for_a_moment_is_no_alarm() -> None:
    """A reconnection within ten seconds is within the goal."""
    finding = only(away(reason=BY_CODE[428], attempts=1, next_attempt_in_s=0.2))
    assert (finding.status, finding.code) == (Status.DEGRADED, "connecting")
    assert finding.message == "the session is being connected: the connection was closed (428)"


def test_waiting_in_backoff_is_unhealthy_with_reason_and_next_attempt() -> None:
    """A long wait is not a brief reconnection, even when it has only begun."""
    finding = only(away(reason=BY_CODE[503], attempts=8, next_attempt_in_s=26.4, in_state_s=2))
    assert (finding.status, finding.code, finding.action) == (Status.UNHEALTHY, "server-unavailable", Action.WAIT)
    assert finding.message == (
        "not connected for 2 s because WhatsApp's server is restarting or overloaded (503); next attempt in 26 s"
    )


def test_an_attempt_in_progress_is_reported() -> None:
    """A slow login is reported with the number of its attempt, or as the first one."""
    tried = replace(QUIET, state=State.RECONNECTING, link=LOGGING_IN, in_state_s=61, attempts=4, reason=BY_CODE[408])
    assert only(tried).message.endswith("(408); attempt 4 is under way")
    first = only(replace(tried, state=State.CONNECTING, attempts=0, reason=None))
    assert first.message == "not connected for 1 min because no link is open yet; the first attempt is under way"
    assert first.code == "not-connected"


def test_a_missing_next_attempt_is_reported() -> None:
    """A session that is disconnected without a planned attempt is reported as such."""
    assert only(away(in_state_s=40, attempts=2)).message.endswith("; no attempt is planned")


@pytest.mark.parametrize(
    ("state", "reason", "action"),
    [
        (State.LOGGED_OUT, BY_CODE[401], Action.SCAN_QR),
        (State.LOGGED_OUT, reasons.DEVICE_REMOVED, Action.SCAN_QR),
        (State.PAUSED, BY_CODE[406], Action.CONTACT_WHATSAPP),
        (State.PAUSED, BY_CODE[403], Action.CHECK_PHONE),
        (State.PAUSED, BY_CODE[440], Action.STOP_OTHER),
        (State.PAUSED, BY_CODE[405], Action.UPDATE),
    ],
)
def test_a_person_is_needed(state: State, reason: reasons.Reason, action: Action) -> None:
    """A problem that only a person can solve is unhealthy at once, with advice."""
    finding = only(away(state, reason=reason))
    assert (finding.status, finding.code, finding.action) == (Status.UNHEALTHY, reason.name, action)
    assert reason.sentence in finding.message


def test_the_advice_on_another_user_of_the_device_fits_before_and_after_the_attempts() -> None:
    """Holdfast reconnects automatically after 440, so the advice asks for a start only if the session is paused."""
    trying = only(away(in_state_s=40, reason=BY_CODE[440], attempts=1, next_attempt_in_s=30))
    assert trying.message.endswith("; next attempt in 30 s")
    assert only(away(State.PAUSED, reason=BY_CODE[440])).action == trying.action == Action.STOP_OTHER
    assert WHAT_TO_DO[Action.STOP_OTHER] == (
        "stop the other program that uses this session's credentials; start the session only if it is paused by then"
    )


def test_a_temporary_ban_shows_its_end() -> None:
    """A pause with an end shows the end."""
    finding = only(away(State.PAUSED, reason=BY_CODE[402], attempts=1, next_attempt_in_s=7260))
    assert finding.message == (
        "the session is paused because WhatsApp banned this number for a time (402); next attempt in 2 h 1 min"
    )


def test_a_state_without_a_reason_is_its_own_code() -> None:
    """A record of an older version may have no reason."""
    assert only(away(State.LOGGED_OUT)).code == "logged_out"


def test_stopped_on_purpose_is_its_own_code() -> None:
    """A session that somebody stopped has no fault to look for."""
    finding = only(away(State.STOPPED))
    assert (finding.status, finding.code, finding.action) == (Status.UNHEALTHY, "stopped", Action.START)


def test_a_stop_with_a_reason_shows_it() -> None:
    """A restored session that was not started is no fault either, and the reason is shown."""
    finding = only(away(State.STOPPED, reason=reasons.RESTORED_STALE))
    assert (finding.code, finding.action) == ("restored-stale", Action.START)
    assert finding.message.startswith("the session is stopped: it was restored from a backup")


def test_the_verdict_of_pairing_depends_on_a_recent_request() -> None:
    """A QR code that somebody looks at is degraded; one that nobody asked for is unhealthy."""
    assert (only(away(State.PAIRING, qr_requested=True)).code, only(away(State.PAIRING)).code) == (
        "pairing",
        "pairing-unattended",
    )
    assert only(away(State.PAIRING, qr_requested=True)).status is Status.DEGRADED


def test_an_unpaired_session_shows_the_reason() -> None:
    """The sentence gives the reason why no phone is linked, if there is one."""
    assert only(away(State.UNPAIRED)).message == "no phone is linked"
    assert only(away(State.UNPAIRED, reason=reasons.QR_EXPIRED)).message == (
        "no phone is linked: no QR code was scanned in time (408)"
    )


def test_the_worst_finding_comes_first() -> None:
    """A hanging engine host decides, whatever the link seems to be."""
    hung = replace(with_link(ping_s=3), machinery=ProcessSignals(host_silent_s=31, actor_silent_s=45), overdue_s=40)
    verdict = judge(hung, LIMITS)
    assert [finding.code for finding in verdict.reasons] == ["host-hangs", "session-hangs", "ping-late"]
    assert verdict.status is Status.UNHEALTHY


def test_a_host_that_is_being_started_does_not_hang() -> None:
    """A missing host is not a host that does not answer."""
    assert judge(replace(QUIET, machinery=ProcessSignals(host_silent_s=None)), LIMITS).reasons == ()


def test_every_advice_has_words() -> None:
    """Each action that a verdict can advise has a text, a phrase without a full stop."""
    every: list[Advice] = [*Action, *Remedy]
    assert set(WHAT_TO_DO) == set(every)
    assert not [words for words in WHAT_TO_DO.values() if words.endswith(".") or not words[0].islower()]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.44, "0.4 s"),
        (9.99, "9.9 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (86_400, "1 d"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    """Durations are written as people say them, rounded down."""
    assert format_duration(seconds) == words


def test_own_reasons_have_no_number() -> None:
    """Holdfast's own findings have no code of WhatsApp's."""
    assert because(reasons.NO_PONG) == "WhatsApp no longer answers pings on this link"


def test_a_lock_on_new_contacts_is_seen_at_a_glance() -> None:
    """The finding has the sentence and the end of the lock, before any finding about late messages."""
    lock = HoldSignals(code="reach-out-lock", until=datetime(2026, 11, 28, 23, 51, tzinfo=UTC))
    finding = only(replace(QUIET, hold=lock, messages=MessageSignals(waiting=1, oldest_s=900, late_s=900)))
    assert (finding.status, finding.code) == (Status.DEGRADED, "reach-out-lock")
    assert finding.message.endswith("only to people it already knows, until 23:51 UTC on 28 Nov 2026")


def test_advice_for_one_company_is_not_that_for_all() -> None:
    """While other companies are connected, the machine's network is not blamed; health and alerts agree."""
    away = replace(QUIET, state=State.RECONNECTING, reason=reasons.LOGIN_TIMEOUT, link=None, in_state_s=400, attempts=9)
    alone = replace(away, others_connected=True)
    for signals, action in ((away, Action.CHECK_NETWORK), (alone, Remedy.CHECK_SESSION)):
        assert only(signals).action == action
        assert {condition.action for condition in conditions_of(signals, LIMITS)} == {action}
