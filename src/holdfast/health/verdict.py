"""Judges the health of a session by evidence alone. Each finding has a stable code, a sentence and advice.

A session must never count as healthy because nobody complained, or as unhealthy because there is no traffic. The code
of a finding is the name of a reason (`banned`, `no-pong` …) where one is known, otherwise a literal of this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeVar

from holdfast.delivery.rate_limits import NEW_CHAT_QUOTA, REACH_OUT_LOCK
from holdfast.health.advice import Advice, Remedy, because, format_duration, to_minute
from holdfast.health.signals import HoldSignals, HourlySignals, Limits, LinkSignals, MessageSignals, Signals
from holdfast.session import reasons
from holdfast.session.reasons import Action, Reason
from holdfast.session.state import State

OUTBOX_LATE = "outbox-late"
HOLDS = {
    REACH_OUT_LOCK: "WhatsApp accepts messages from this number only to people it already knows",
    NEW_CHAT_QUOTA: "WhatsApp's quota of new chats is used up: this number can write only to people it already knows",
}


class Status(IntEnum):
    """Health levels in order; the worst finding decides."""

    HEALTHY = 0
    DEGRADED = 1
    UNHEALTHY = 2

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem of a session."""

    status: Status
    code: str
    message: str
    """A sentence without a full stop."""
    action: Advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    status: Status
    reasons: tuple[Finding, ...]
    """The findings, worst first; empty when healthy."""


def judge(signals: Signals, limits: Limits) -> Verdict:
    """The verdict on the evidence."""
    everything = (*_machinery(signals, limits), *_state(signals, limits))
    found = [replace(finding, action=nearest_advice(finding.action, signals)) for finding in everything]
    worst_first = tuple(sorted(found, key=lambda finding: -finding.status))
    return Verdict(status=max((finding.status for finding in found), default=Status.HEALTHY), reasons=worst_first)


A = TypeVar("A", Advice, str)


def nearest_advice(action: A, signals: Signals) -> A | Advice:
    """The advice with the machine's network ruled out while other sessions are connected over it."""
    return Remedy.CHECK_SESSION if action == Action.CHECK_NETWORK and signals.others_connected else action


def _degraded(code: str, message: str, action: Advice = Action.WAIT) -> Finding:
    return Finding(status=Status.DEGRADED, code=code, message=message, action=action)


def _unhealthy(code: str, message: str, action: Advice = Action.WAIT) -> Finding:
    return Finding(status=Status.UNHEALTHY, code=code, message=message, action=action)


# Holdfast's own parts.


def host_hangs(signals: Signals, limits: Limits) -> bool:
    silent_s = signals.machinery.host_silent_s
    return silent_s is not None and silent_s > limits.host_hangs_s


def actor_hangs(signals: Signals, limits: Limits) -> bool:
    """Whether an action of the session is long overdue and its actor has handled no event since."""
    overdue_s = signals.overdue_s
    return overdue_s is not None and min(overdue_s, signals.machinery.actor_silent_s) > limits.actor_hangs_s


def _machinery(signals: Signals, limits: Limits) -> Iterator[Finding]:
    if host_hangs(signals, limits):
        silent = format_duration(signals.machinery.host_silent_s or 0)
        yield _unhealthy("host-hangs", f"the engine host has not responded for {silent} and is being replaced")
    if actor_hangs(signals, limits):
        overdue = format_duration(signals.overdue_s or 0)
        yield _unhealthy(
            "session-hangs", f"Holdfast should have acted {overdue} ago and did not: it is being restarted"
        )


# The session's state.


def _state(signals: Signals, limits: Limits) -> Iterator[Finding]:
    match signals.state:
        case State.CONNECTED:
            yield from _connected(signals, limits)
        case State.CONNECTING | State.RECONNECTING:
            yield _disconnected(signals, limits)
        case State.PAIRING:
            yield _pairing(signals)
        case State.UNPAIRED:
            why = "" if signals.reason is None else f": {because(signals.reason)}"
            yield _unhealthy("unpaired", f"no phone is linked{why}", Action.SCAN_QR)
        case State.STOPPED:
            yield _stopped(signals.reason)
        case State.PAUSED | State.LOGGED_OUT:  # pragma: no branch – mypy checks that there is no other
            yield _held(signals)


def _stopped(reason: Reason | None) -> Finding:
    if reason is None:
        return _unhealthy("stopped", "the session was stopped on purpose; accepted messages wait", Action.START)
    return _unhealthy(reason.name, f"the session is stopped: {because(reason)}", reason.action)


def _disconnected(signals: Signals, limits: Limits) -> Finding:
    """The finding about a session without a link. The wait until the next attempt counts as part of the absence."""
    why = because(signals.reason)
    if signals.in_state_s + max(signals.next_attempt_in_s or 0, 0) < limits.moment_s:
        return _degraded("connecting", f"the session is being connected: {why}")
    code, action = ("not-connected", Action.WAIT) if signals.reason is None else _name(signals.reason)
    return _unhealthy(
        code, f"not connected for {format_duration(signals.in_state_s)} because {why}; {_next(signals)}", action
    )


def _held(signals: Signals) -> Finding:
    """The finding about a session that must not reconnect automatically, because that would be useless or harmful."""
    code, action = (str(signals.state), Action.WAIT) if signals.reason is None else _name(signals.reason)
    held = str(signals.state).replace("_", " ")
    message = f"the session is {held} because {because(signals.reason)}"
    return _unhealthy(code, message if signals.next_attempt_in_s is None else f"{message}; {_next(signals)}", action)


def _name(reason: reasons.Reason) -> tuple[str, Action]:
    return reason.name, reason.action


def _next(signals: Signals) -> str:
    if signals.next_attempt_in_s is not None:
        return f"next attempt in {format_duration(signals.next_attempt_in_s)}"
    attempt = f"attempt {signals.attempts}" if signals.attempts else "the first attempt"
    return f"{attempt} is under way" if signals.link else "no attempt is planned"


def _pairing(signals: Signals) -> Finding:
    if signals.reason is reasons.PASSKEY_REQUIRED:
        return _degraded(signals.reason.name, signals.reason.sentence, signals.reason.action)
    if signals.qr_requested:
        return _degraded("pairing", "a QR code is waiting to be scanned", Action.SCAN_QR)
    return _unhealthy("pairing-unattended", "no phone is linked, and nobody has requested a QR code", Action.SCAN_QR)


# A link that is open.


def _connected(signals: Signals, limits: Limits) -> Iterator[Finding]:
    link = signals.link
    if link is None or link.open_s is None:
        yield _unhealthy("no-link", "the session counts as connected but has no open link: it is being reset")
        return
    yield from _answers(link, limits)
    yield from _takes_messages(signals, link, limits)
    yield from _steady(signals, limits)


def no_pong(link: LinkSignals, limits: Limits) -> bool:
    """A ping went unanswered for longer than the session machine itself would have waited."""
    return link.ping_s is not None and link.ping_s > limits.pong_deadline_s + limits.grace_s


def no_acks(link: LinkSignals, limits: Limits) -> bool:
    """A message went without an ack for longer than the session machine itself would have waited."""
    return link.unacked_s is not None and link.unacked_s > limits.no_acks_deadline_s + limits.grace_s


def is_silent(link: LinkSignals, limits: Limits) -> bool:
    """Whether an open link was silent for so long that it should be pinged. Silence alone does not prove it dead."""
    return link.ping_s is None and link.silent_s is not None and link.silent_s > limits.silent_s


def _answers(link: LinkSignals, limits: Limits) -> Iterator[Finding]:
    if no_pong(link, limits):
        yield _unhealthy(
            reasons.NO_PONG.name, f"{reasons.NO_PONG.sentence}: none for {format_duration(link.ping_s or 0)}"
        )
    elif link.ping_s is not None and link.ping_s > limits.ack_deadline_s:
        yield _degraded("ping-late", f"WhatsApp has not answered a ping for {format_duration(link.ping_s)}")
    elif link.pong_s is None:
        yield _degraded("unproven", "the link has just opened and has not answered a ping yet")
    elif is_silent(link, limits):
        yield _degraded(
            "silent", f"nothing has arrived on the link for {format_duration(link.silent_s or 0)}: it is being pinged"
        )


def _takes_messages(signals: Signals, link: LinkSignals, limits: Limits) -> Iterator[Finding]:
    late_s, messages = link.unacked_s, signals.messages
    if no_acks(link, limits):
        yield _unhealthy(reasons.NO_ACKS.name, f"{reasons.NO_ACKS.sentence}: no ack for {format_duration(late_s or 0)}")
    elif late_s is not None and late_s > limits.ack_deadline_s:
        yield _degraded("sends-unacked", f"WhatsApp has not acknowledged a message for {format_duration(late_s)}")
    elif is_late(messages, limits.queue_late_s) and signals.hold is None:
        yield _degraded(OUTBOX_LATE, f"the link is open, but {late_sentence(messages)}", Remedy.CHECK_OUTBOX)
    if signals.hold is not None:
        yield _degraded(signals.hold.code, restriction_sentence(signals.hold), Remedy.WRITE_LESS)


def is_late(messages: MessageSignals, limit_s: float) -> bool:
    """Whether a message that nothing holds back has waited for longer than this."""
    return messages.late_s is not None and messages.late_s > limit_s


def late_sentence(messages: MessageSignals) -> str:
    """`a message has been waiting for 14 min`."""
    which = "a message" if messages.waiting == 1 else f"the oldest of {messages.waiting} messages"
    return f"{which} has been waiting for {format_duration(messages.late_s or 0)}"


def restriction_sentence(hold: HoldSignals) -> str:
    """Which messages WhatsApp does not accept for now, and until when."""
    return f"{HOLDS[hold.code]}, until {to_minute(hold.until)}"


def losses_sentence(hour: HourlySignals) -> str:
    """`open links were lost within the last hour, most of them because …`."""
    reason = _main_reason(hour)
    why = "" if reason is None else f", most of them because {reason.sentence}"
    return f"open links were lost within the last hour{why}"


def losses_advice(hour: HourlySignals) -> Action:
    """The advice for the most frequent cause of the losses."""
    reason = _main_reason(hour)
    if reason is None or (reason.action is Action.WAIT and reason.fault == "network"):
        return Action.CHECK_NETWORK
    return reason.action


def _main_reason(hour: HourlySignals) -> Reason | None:
    return None if hour.main_cause is None else reasons.stored_reason(hour.main_cause, None)


def _steady(signals: Signals, limits: Limits) -> Iterator[Finding]:
    keepalives, hour = signals.keepalives, signals.hour
    rate, outcomes = keepalives.success_rate, len(keepalives.outcomes)
    if rate is not None and outcomes >= limits.keepalives_needed and rate < limits.keepalives_poor:
        poor = f"{round(rate * outcomes)} of the last {outcomes} keep-alives were answered"
        yield _degraded("keepalives-poor", poor, Action.CHECK_NETWORK)
    if hour.lost >= limits.unstable_losses:
        yield _degraded("unsteady", f"{hour.lost} {losses_sentence(hour)}", losses_advice(hour))
    if hour.zombies >= limits.zombies:
        dead = f"{hour.zombies} links within the last hour looked open but were dead; each was replaced"
        yield _degraded("zombie", dead, Action.CHECK_NETWORK)
    if signals.budget_left <= limits.budget_low:
        yield _degraded(
            "budget-low", f"only {max(signals.budget_left, 0)} more links may be started without a wait this hour"
        )
