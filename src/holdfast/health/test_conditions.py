"""Which evidence deserves an alert."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from holdfast.health.advice import WHAT_TO_DO, Remedy
from holdfast.health.conditions import (
    Condition,
    Severity,
    SystemSignals,
    conditions_of,
    needs_person,
    system_conditions,
)
from holdfast.health.conftest import QUIET, away
from holdfast.health.signals import HoldSignals, HourlySignals, Limits, MessageSignals, Signals
from holdfast.session import reasons
from holdfast.session.reasons import BY_CODE, OWN, Action, Reason
from holdfast.session.state import State

LIMITS = Limits()


def found(signals: Signals) -> dict[str, Condition]:
    return {condition.cause: condition for condition in conditions_of(signals, LIMITS)}


def test_a_quiet_company_deserves_none() -> None:
    """A lack of messages never raises an alert."""
    assert found(QUIET) == {}


@pytest.mark.parametrize(
    ("attempts", "in_state_s", "alerts"), [(4, 299, False), (5, 2, True), (1, 300, True), (0, 301, True)]
)
def test_repeated_failures(attempts: int, in_state_s: float, alerts: bool) -> None:
    """An alert needs five attempts, or five minutes."""
    conditions = found(away(attempts=attempts, in_state_s=in_state_s, reason=BY_CODE[408]))
    assert list(conditions) == (["not-connected"] if alerts else [])


def test_a_failure_has_duration_attempts_and_reason() -> None:
    """One sentence says how long, how often and why."""
    condition = found(away(attempts=7, in_state_s=372, reason=BY_CODE[408]))["not-connected"]
    assert condition.sentence == (
        "Not connected for 6 min, after 7 attempts, because WhatsApp could not be reached or stopped answering (408)."
    )
    assert (condition.company, condition.lasting_s, condition.action) == ("962302", 372, Action.CHECK_NETWORK)
    assert (condition.severity, condition.quiet) == (Severity.CRITICAL, False)
    assert found(away(attempts=7))["not-connected"].action is Action.CHECK_NETWORK


@pytest.mark.parametrize("state", [State.CONNECTED, State.STOPPED, State.UNPAIRED, State.PAIRING])
def test_attempts_are_no_failure_in_other_states(state: State) -> None:
    """A link that opened after ten attempts is fine; a stopped session is not missed."""
    assert found(away(state, attempts=10, in_state_s=5000)) == {}


@pytest.mark.parametrize("code", [401, 402, 403, 405, 406, 440])
def test_a_state_that_needs_a_person_raises_an_alert_at_once(code: int) -> None:
    """What only a person, or time set by WhatsApp, can solve raises an alert at once, named after the reason."""
    reason = BY_CODE[code]
    state = State.LOGGED_OUT if code == 401 else State.PAUSED
    condition = found(away(state, reason=reason, attempts=1))[reason.name]
    assert (condition.severity, condition.action) == (Severity.CRITICAL, reason.action)
    assert reason.sentence in condition.sentence


def test_a_pause_with_an_end_shows_it() -> None:
    """A ban with an end shows the end."""
    condition = found(away(State.PAUSED, reason=BY_CODE[402], next_attempt_in_s=3840))["temporarily-banned"]
    assert condition.title == "paused (temporarily banned)"
    assert condition.sentence == (
        "The session is paused because WhatsApp banned this number for a time (402); next attempt in 1 h 4 min."
    )


def test_a_pause_without_a_reason_is_reported() -> None:
    """A record of an older version may have no reason."""
    assert found(away(State.PAUSED))["paused"].action is Action.WAIT


@pytest.mark.parametrize(
    ("state", "reason", "needed"),
    [
        (State.LOGGED_OUT, reasons.LOGOUT_REQUESTED, False),
        (State.LOGGED_OUT, BY_CODE[401], True),
        (State.LOGGED_OUT, None, False),
        (State.UNPAIRED, None, False),
        (State.UNPAIRED, reasons.QR_EXPIRED, False),
        (State.UNPAIRED, BY_CODE[408], False),
        (State.UNPAIRED, reasons.NOT_LINKED, True),
        (State.UNPAIRED, reasons.DEVICE_REMOVED, True),
        (State.RECONNECTING, BY_CODE[401], False),
        (State.CONNECTED, None, False),
    ],
)
def test_people_are_not_alerted_about_their_own_actions(state: State, reason: Reason | None, needed: bool) -> None:
    """A logout by a person and an unscanned QR code raise no alert; lost credentials do."""
    assert needs_person(away(state, reason=reason)) is needed


def test_failures_are_quiet_while_a_person_is_needed() -> None:
    """ "Banned" says more than "not connected": there is one alert, but an older one about failures is not cleared."""
    conditions = found(away(State.PAUSED, reason=BY_CODE[406], in_state_s=4000))
    assert [(condition.cause, condition.quiet) for condition in conditions.values()] == [
        ("banned", False),
        ("not-connected", True),
    ]


def test_warnings_about_an_unsteady_session() -> None:
    """Zombies, flapping and a used-up budget are reported although the session is connected right now."""
    conditions = found(replace(QUIET, hour=HourlySignals(lost=6, zombies=2), budget_left=0))
    assert [(condition.cause, condition.severity) for condition in conditions.values()] == [
        ("zombie", Severity.WARNING),
        ("flapping", Severity.WARNING),
        ("reconnect-budget-exhausted", Severity.WARNING),
    ]
    assert found(replace(QUIET, hour=HourlySignals(lost=4, zombies=1), budget_left=1)) == {}


def test_flapping_is_over_when_a_link_has_held() -> None:
    """Ten minutes without a loss end it, however many links were lost in the hour before."""
    assert list(found(replace(QUIET, hour=HourlySignals(lost=60, calm_s=599)))) != []
    assert found(replace(QUIET, hour=HourlySignals(lost=60, calm_s=600))) == {}


def test_a_flapping_session_is_one_alert() -> None:
    """Many attempts are part of flapping and quiet, unless the session stays disconnected for long."""
    flaps = away(State.RECONNECTING, attempts=9, hour=HourlySignals(lost=9))
    for in_state_s, quiet in ((4.0, True), (300.0, False)):
        conditions = found(replace(flaps, in_state_s=in_state_s))
        assert {condition.cause: condition.quiet for condition in conditions.values()} == {
            "not-connected": quiet,
            "flapping": False,
        }


def test_a_stopped_session_deserves_none() -> None:
    """The last hour does not matter, because somebody stopped the session on purpose."""
    assert found(away(State.STOPPED, hour=HourlySignals(lost=60, zombies=20), budget_left=0)) == {}


def around(**seen: float | int) -> list[Condition]:
    return list(system_conditions(SystemSignals(**seen), LIMITS))  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("quiet", "loud", "cause", "action"),
    [
        ({"redis_down_s": 59}, {"redis_down_s": 60}, "redis-unavailable", Remedy.CHECK_REDIS),
        ({}, {"database_failing_s": 0}, "database-failing", Remedy.CHECK_DATABASE),
        ({"host_down_s": 29}, {"host_down_s": 30}, "engine-host", Remedy.CHECK_HOST),
        ({"host_restarts": 2}, {"host_restarts": 3}, "engine-host", Remedy.CHECK_HOST),
        ({"undelivered_s": 899}, {"undelivered_s": 900}, "alerts-undelivered", Remedy.CHECK_ALERTS),
        ({}, {"backup_failing_s": 0}, "backup-failing", Remedy.CHECK_BACKUP),
        ({}, {"versions_refused_s": 0}, "client-version-refused", Action.UPDATE),
        (
            {},
            {"versions_refused_s": 0, "version_is_pinned": True},
            "client-version-refused",
            Remedy.UNPIN_VERSION,
        ),
    ],
)
def test_conditions_of_the_whole_installation(
    quiet: dict[str, float], loud: dict[str, float], cause: str, action: Remedy
) -> None:
    """Each condition starts at its limit, and concerns no single company."""
    assert around(**quiet) == []
    (condition,) = around(**loud)
    assert (condition.cause, condition.company, condition.action) == (cause, None, action)


def test_causes_are_one_word_each() -> None:
    """No condition has the name of a reason as cause, because two problems would become one alert."""
    causes = {
        "not-connected",
        "zombie",
        "flapping",
        "reconnect-budget-exhausted",
        "redis-unavailable",
        "database-failing",
        "engine-host",
    }
    assert not causes & {reason.name for reason in (*BY_CODE.values(), *OWN)}


def test_actions_have_words() -> None:
    """Every action that a condition advises has a text."""
    everything = [
        *conditions_of(away(State.PAUSED, reason=BY_CODE[406], in_state_s=4000), LIMITS),
        *conditions_of(replace(QUIET, hour=HourlySignals(lost=6, zombies=2), budget_left=0), LIMITS),
        *around(redis_down_s=60, database_failing_s=1, host_restarts=3, undelivered_s=900),
    ]
    assert len(everything) == 9
    assert {condition.action for condition in everything} <= {str(word) for word in WHAT_TO_DO}


# Messages.

LOCKED = HoldSignals(code="reach-out-lock", until=datetime(2026, 11, 28, 23, 51, tzinfo=UTC))


@pytest.mark.parametrize("code", ["reach-out-lock", "new-chat-quota"])
def test_a_lock_on_new_contacts_reaches_a_person_with_its_end(code: str) -> None:
    """The alert is raised at the next check, under its own name; messages that wait for the lock raise none."""
    late = MessageSignals(waiting=4, oldest_s=700, late_s=700)
    conditions = found(replace(QUIET, hold=replace(LOCKED, code=code), messages=late))
    assert [(each.cause, each.quiet) for each in conditions.values()] == [(code, False), ("outbox-late", True)]
    assert "only to people it already knows, until 23:51 UTC on 28 Nov 2026." in conditions[code].sentence
    assert conditions[code].action is Remedy.WRITE_LESS


def test_messages_that_are_not_sent_raise_an_alert() -> None:
    """The alert follows ten minutes after they could have been sent; held or paced messages do not count."""
    late = found(replace(QUIET, messages=MessageSignals(waiting=1, oldest_s=840, late_s=840)))["outbox-late"]
    assert late.sentence == "The link is open, but a message has been waiting for 14 min."
    assert found(replace(QUIET, messages=MessageSignals(waiting=9, oldest_s=9000, late_s=600))) == {}
    assert found(replace(QUIET, messages=MessageSignals(waiting=9, oldest_s=9000))) == {}
    assert found(away(in_state_s=20, messages=MessageSignals(waiting=1, late_s=840), hold=LOCKED)) == {}


@pytest.mark.parametrize(
    ("cause", "words", "action"),
    [
        ("server-unavailable", "most of them because WhatsApp's server is restarting or overloaded", Action.WAIT),
        ("no-pong", "most of them because WhatsApp no longer answers pings on this link", Action.CHECK_NETWORK),
        ("replaced", "most of them because the same device connected from somewhere else", Action.STOP_OTHER),
    ],
)
def test_flapping_is_reported_with_its_cause(cause: str, words: str, action: Action) -> None:
    """The advice fits the most frequent cause; WhatsApp's own problems are not blamed on this machine's network."""
    flapping = found(replace(QUIET, hour=HourlySignals(lost=5, main_cause=cause)))["flapping"]
    assert (flapping.sentence, flapping.action) == (f"5 open links were lost within the last hour, {words}.", action)
