"""What the health monitor does about a session: the second pair of eyes, apart from the session's own machine.

The machine watches its link itself and is quicker. The monitor steps in where that failed, and it must never end a link
for being quiet: a silent link is asked for a sign of life, and reconnected only when it gives none.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.health.advice import lasting
from holdfast.health.signals import Limits, Signals
from holdfast.health.verdict import actor_hangs, host_hangs, is_silent, no_acks, no_pong
from holdfast.session.state import RUNNING


@dataclass(frozen=True, slots=True)
class Nothing:
    """All is well, or in the hands of the session's machine or of a person."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ping now. The session's machine cuts the link if no answer comes."""

    because: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Ask the session for a fresh link at once."""

    because: str


@dataclass(frozen=True, slots=True)
class ReplaceActor:
    """End the session's actor and start another from its record."""

    because: str


@dataclass(frozen=True, slots=True)
class ReplaceHost:
    """End the engine host; the engine supervisor starts another. Asked for each of its sessions, to be done once."""

    because: str


HealthAction = Nothing | Probe | Reconnect | ReplaceActor | ReplaceHost


def decide(signals: Signals, limits: Limits) -> HealthAction:
    """The one thing to do now; parts of Holdfast come before the link, for a link can't mend them."""
    machinery = signals.machinery
    if machinery.check_late_s > limits.check_late_s:
        return Nothing()
    if host_hangs(signals, limits):
        return ReplaceHost(f"the engine host has given no sign of life for {lasting(machinery.host_silent_s or 0)}")
    if actor_hangs(signals, limits):
        return ReplaceActor(f"the session should have acted {lasting(signals.overdue_s or 0)} ago and did not")
    return _about_link(signals, limits) if signals.state in RUNNING else Nothing()


def _about_link(signals: Signals, limits: Limits) -> HealthAction:
    link = signals.link
    if link is None:
        planned = signals.next_attempt_in_s is not None or signals.in_state_s < limits.moment_s
        return Nothing() if planned else Reconnect("the session has no link and none is planned")
    if no_pong(link, limits):
        return Reconnect(f"a ping has gone unanswered for {lasting(link.ping_s or 0)}")
    if no_acks(link, limits):
        return Reconnect(f"a message has gone without an ack for {lasting(link.unacked_s or 0)}")
    if is_silent(link, limits):
        return Probe(f"the link gave no sign of life for {lasting(link.silent_s or 0)}")
    return Nothing()
