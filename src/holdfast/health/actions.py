"""The actions of the health monitor, which checks each session independently of the session's state machine.

The state machine watches its own link and reacts sooner. The monitor acts only where the state machine failed to. It
must never end a link for being quiet: it pings a silent link, and reconnects only if the ping is not answered.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.health.advice import format_duration
from holdfast.health.signals import Limits, Signals
from holdfast.health.verdict import actor_hangs, host_hangs, is_silent, no_acks, no_pong
from holdfast.session.state import RUNNING


@dataclass(frozen=True, slots=True)
class Nothing:
    """No action: the session is healthy, or its state machine or a person is handling the problem."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ping now. The session's state machine cuts the link if the ping is not answered."""

    because: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Replace the session's link at once."""

    because: str


@dataclass(frozen=True, slots=True)
class ReplaceActor:
    """Stop the session's actor and start a new one from the stored record."""

    because: str


@dataclass(frozen=True, slots=True)
class ReplaceHost:
    """End the engine host; the engine supervisor starts another.

    Every session of the host gets this action; the caller must carry it out only once.
    """

    because: str


HealthAction = Nothing | Probe | Reconnect | ReplaceActor | ReplaceHost


def decide(signals: Signals, limits: Limits) -> HealthAction:
    """The one action to take now. A hanging actor or host comes before the link: a new link would not repair either."""
    machinery = signals.machinery
    if machinery.check_late_s > limits.check_late_s:
        return Nothing()
    if host_hangs(signals, limits):
        return ReplaceHost(f"the engine host has not responded for {format_duration(machinery.host_silent_s or 0)}")
    if actor_hangs(signals, limits):
        return ReplaceActor(f"the session should have acted {format_duration(signals.overdue_s or 0)} ago and did not")
    return _about_link(signals, limits) if signals.state in RUNNING else Nothing()


def _about_link(signals: Signals, limits: Limits) -> HealthAction:
    link = signals.link
    if link is None:
        planned = signals.next_attempt_in_s is not None or signals.in_state_s < limits.moment_s
        return Nothing() if planned else Reconnect("the session has no link and none is planned")
    if no_pong(link, limits):
        return Reconnect(f"a ping has gone unanswered for {format_duration(link.ping_s or 0)}")
    if no_acks(link, limits):
        return Reconnect(f"a message has gone without an ack for {format_duration(link.unacked_s or 0)}")
    if is_silent(link, limits):
        return Probe(f"nothing has arrived on the link for {format_duration(link.silent_s or 0)}")
    return Nothing()
