"""Derives the conditions that deserve an alert from the evidence about sessions and about Holdfast's environment.

A condition is either present or absent; the alert book decides when and how often to alert people about it. Sentences
name companies and reasons, never a phone number or the text of a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from holdfast.health.advice import Advice, Remedy, because, format_duration
from holdfast.health.signals import Limits, Signals
from holdfast.health.verdict import (
    OUTBOX_LATE,
    is_late,
    late_sentence,
    losses_advice,
    losses_sentence,
    nearest_advice,
    restriction_sentence,
)
from holdfast.session.reasons import Action
from holdfast.session.state import State


class Severity(StrEnum):
    WARNING = "warning"
    """Things work, but somebody should look at this."""
    CRITICAL = "critical"
    """Something does not work, or a person is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A problem that people should know about. Company and cause identify it."""

    company: str | None
    """None when the condition concerns Holdfast as a whole."""
    cause: str
    """A stable code. Conditions of many companies with the same cause become one alert."""
    severity: Severity
    title: str
    """A few words: `banned by WhatsApp`."""
    sentence: str
    action: str
    """A key of `advice.WHAT_TO_DO`."""
    lasting_s: float = 0
    """How long the condition has been present."""
    quiet: bool = False
    """True when another condition says more: this one raises no alert, but keeps an open alert from being cleared."""

    @property
    def key(self) -> tuple[str, str]:
        return self.cause, self.company or ""


# One session.


def conditions_of(signals: Signals, limits: Limits) -> Iterator[Condition]:
    """The conditions of one session. A session that was stopped on purpose has none."""
    for condition in _conditions_of(signals, limits):
        yield replace(condition, action=nearest_advice(condition.action, signals))


def _conditions_of(signals: Signals, limits: Limits) -> Iterator[Condition]:
    if signals.state is State.STOPPED:
        return
    person = _needs_person(signals)
    if person is not None:
        yield person
    if _fails(signals, limits):
        passing = _flaps(signals, limits) and signals.in_state_s < limits.disconnected_s
        yield _failing(signals, quiet=person is not None or passing)
    yield from _unsteady(signals, limits)
    yield from _messages(signals, limits)
    if signals.not_stored.count:
        yield _not_stored(signals)


def needs_person(signals: Signals) -> bool:
    """Whether the session can't reconnect automatically, or not before a time that WhatsApp set.

    A logout by a person and an unscanned QR code don't count: the people who caused them already know.
    """
    match signals.state:
        case State.PAUSED:
            return True
        case State.LOGGED_OUT | State.UNPAIRED:
            reason = signals.reason
            return reason is not None and reason.action is Action.SCAN_QR and reason.fault not in {"nobody", "person"}
        case _:
            return False


def _needs_person(signals: Signals) -> Condition | None:
    if not needs_person(signals):
        return None
    state = str(signals.state).replace("_", " ")
    reason, planned_s = signals.reason, signals.next_attempt_in_s
    cause, action = (str(signals.state), Action.WAIT) if reason is None else (reason.name, reason.action)
    then = "" if planned_s is None else f"; next attempt in {format_duration(planned_s)}"
    return Condition(
        company=signals.company,
        cause=cause,
        severity=Severity.CRITICAL,
        title=f"{state} ({cause.replace('-', ' ')})",
        sentence=f"The session is {state} because {because(reason)}{then}.",
        action=action,
        lasting_s=signals.in_state_s,
    )


def _fails(signals: Signals, limits: Limits) -> bool:
    """Whether the session has been disconnected for long, or many attempts have failed."""
    match signals.state:
        case State.CONNECTING | State.RECONNECTING | State.PAUSED:
            return signals.attempts >= limits.failures or signals.in_state_s >= limits.disconnected_s
        case _:
            return False


def _flaps(signals: Signals, limits: Limits) -> bool:
    """Whether links open and are lost again. Many attempts are part of that and are not a problem of their own."""
    return signals.hour.lost >= limits.flapping_losses and signals.hour.calm_s < limits.calm_after_s


def _failing(signals: Signals, *, quiet: bool) -> Condition:
    reason = signals.reason
    away, why = format_duration(signals.in_state_s), because(reason)
    return Condition(
        company=signals.company,
        cause="not-connected",
        severity=Severity.CRITICAL,
        title="not connected",
        sentence=f"Not connected for {away}, after {signals.attempts} attempts, because {why}.",
        action=Action.CHECK_NETWORK if reason is None else reason.action,
        lasting_s=signals.in_state_s,
        quiet=quiet,
    )


def _not_stored(signals: Signals) -> Condition:
    messages = signals.not_stored
    return Condition(
        company=signals.company,
        cause="message-not-stored",
        severity=Severity.WARNING,
        title="a message could not be stored",
        sentence=f"Inbound messages that could not be stored within the last hour: {messages.count}, the newest with "
        f"the WhatsApp id {_shown(messages.newest)}. Each was acknowledged, and the inbox has a stub for it.",
        action=Remedy.CHECK_MESSAGE,
        lasting_s=messages.since_s,
    )


def _shown(whatsapp_id: str | None) -> str:
    """A WhatsApp id made safe for display: the sender chooses it, so it may hold anything."""
    return "".join(each if each.isalnum() else "?" for each in (whatsapp_id or "")[:40])


def _messages(signals: Signals, limits: Limits) -> Iterator[Condition]:
    """Conditions of the outbox: WhatsApp's limits on new contacts, and messages that wait although the link is open."""
    if signals.state is not State.CONNECTED:
        return
    hold = signals.hold
    if hold is not None:
        yield Condition(
            company=signals.company,
            cause=hold.code,
            severity=Severity.WARNING,
            title="no messages to new contacts",
            sentence=f"{restriction_sentence(hold)}. Messages to new contacts wait; known chats are not affected.",
            action=Remedy.WRITE_LESS,
        )
    if is_late(signals.messages, limits.queue_alert_s):
        yield Condition(
            company=signals.company,
            cause=OUTBOX_LATE,
            severity=Severity.WARNING,
            title="messages are not sent",
            sentence=f"The link is open, but {late_sentence(signals.messages)}.",
            action=Remedy.CHECK_OUTBOX,
            lasting_s=(signals.messages.late_s or 0) - limits.queue_late_s,
            quiet=hold is not None,
        )


def _unsteady(signals: Signals, limits: Limits) -> Iterator[Condition]:
    hour = signals.hour
    if hour.zombies >= limits.zombies:
        yield _warning(
            signals,
            cause="zombie",
            title="links that look open but are dead",
            sentence=f"{hour.zombies} links within the last hour looked open but were dead; each was replaced.",
        )
    if _flaps(signals, limits):
        yield _warning(
            signals,
            cause="flapping",
            title="loses its link repeatedly",
            sentence=f"{hour.lost} {losses_sentence(hour)}.",
            action=losses_advice(hour),
        )
    if signals.budget_left <= 0:
        yield _warning(
            signals,
            cause="reconnect-budget-exhausted",
            title="too many reconnections",
            sentence="The hourly limit on new connections is reached: further connection attempts wait, so that "
            "WhatsApp does not block the number.",
        )


def _warning(
    signals: Signals, *, cause: str, title: str, sentence: str, action: Advice = Action.CHECK_NETWORK
) -> Condition:
    return Condition(
        company=signals.company,
        cause=cause,
        severity=Severity.WARNING,
        title=title,
        sentence=sentence,
        action=action,
    )


# Holdfast as a whole.


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSignals:
    """The state of the parts that all of Holdfast depends on."""

    redis_down_s: float | None = None
    """Seconds since Redis last answered; None while it answers."""
    database_failing_s: float | None = None
    """Seconds since the database first failed; None while it works."""
    host_down_s: float | None = None
    """Seconds without any engine host; None while one runs."""
    host_restarts: int = 0
    """Engine host restarts within the last hour."""
    undelivered_s: float | None = None
    """Age of the oldest undelivered alert; None when there is none."""
    backup_failing_s: float | None = None
    """Seconds since scheduled backups began to fail; None while they succeed."""
    versions_refused_s: float | None = None
    """How long WhatsApp has refused every known client version, or the pinned one; None while it does not."""
    versions_refused: tuple[str, ...] = ()
    version_is_pinned: bool = False


def system_conditions(signals: SystemSignals, limits: Limits) -> Iterator[Condition]:
    """The conditions of Holdfast as a whole."""
    if signals.redis_down_s is not None and signals.redis_down_s >= limits.redis_down_s:
        yield _whole(
            "redis-unavailable",
            Severity.WARNING,
            "Redis is unavailable",
            "Redis does not answer: Holdfast keeps its state in memory, and writes it back when Redis returns.",
            Remedy.CHECK_REDIS,
            lasting_s=signals.redis_down_s,
        )
    if signals.database_failing_s is not None:
        yield _whole(
            "database-failing",
            Severity.CRITICAL,
            "the database is failing",
            "Nothing can be stored: no message is accepted, and links whose keys can't be stored are cut.",
            Remedy.CHECK_DATABASE,
            lasting_s=signals.database_failing_s,
        )
    if signals.backup_failing_s is not None:
        yield _whole(
            "backup-failing",
            Severity.WARNING,
            "backups fail",
            "The scheduled backup could not be made; Holdfast tries again every 15 minutes, and its log says why.",
            Remedy.CHECK_BACKUP,
            lasting_s=signals.backup_failing_s,
        )
    yield from _client_version(signals)
    yield from _host(signals, limits)
    if signals.undelivered_s is not None and signals.undelivered_s >= limits.undelivered_s:
        yield _whole(
            "alerts-undelivered",
            Severity.WARNING,
            "alerts are not delivered",
            "At least one address in HOLDFAST_ALERT_URLS accepts no alerts; Holdfast keeps them and retries.",
            Remedy.CHECK_ALERTS,
            lasting_s=signals.undelivered_s,
        )


def _client_version(signals: SystemSignals) -> Iterator[Condition]:
    if signals.versions_refused_s is None:
        return
    tried = ", ".join(signals.versions_refused)
    yield _whole(
        "client-version-refused",
        Severity.CRITICAL,
        "WhatsApp refuses this client version",
        f"WhatsApp refuses the pinned client version {tried} (405): no session can connect with it."
        if signals.version_is_pinned
        else f"WhatsApp refuses client version {tried} (405) and publishes no newer one: sessions can't connect again. "
        "Holdfast reads the published version every few seconds and connects automatically when there is a newer one.",
        Remedy.UNPIN_VERSION if signals.version_is_pinned else Action.UPDATE,
        lasting_s=signals.versions_refused_s,
    )


def _host(signals: SystemSignals, limits: Limits) -> Iterator[Condition]:
    is_down = signals.host_down_s is not None and signals.host_down_s >= limits.host_down_s
    if is_down or signals.host_restarts >= limits.host_restarts:
        now = "There is no engine host" if is_down else "The engine host had to be restarted"
        yield _whole(
            "engine-host",
            Severity.CRITICAL,
            "the engine host keeps exiting",
            f"{now}; restarts within the last hour: {signals.host_restarts}. Each costs its sessions a reconnection.",
            Remedy.CHECK_HOST,
            lasting_s=signals.host_down_s or 0,
        )


def _whole(cause: str, severity: Severity, title: str, sentence: str, action: Advice, *, lasting_s: float) -> Condition:
    return Condition(
        company=None,
        cause=cause,
        severity=severity,
        title=title,
        sentence=sentence,
        action=action,
        lasting_s=lasting_s,
    )
