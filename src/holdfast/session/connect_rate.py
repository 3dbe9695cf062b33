"""How many links may be started a second: raised while logins are fast, lowered when WhatsApp or the machine is slow.

The rate follows the rules by which TCP avoids congestion. It doubles within a second of fast logins up to the rate at
which a problem was last seen, and grows slowly beyond that. A refusal halves it, a slow login or a machine that is late
lowers it by 30 %, once a second at most, because everything that was started before the cut still reports the same
problem. While WhatsApp can't be reached at all the rate falls to its floor, and the first login brings it back.

It must never decide which session connects, and never fall to zero: without attempts nothing could raise it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePolicy:
    """Links a second, unless the name says otherwise."""

    start: float = 20
    """Before anything is known, and after `idle_s` without a new link."""
    resume: float = 40
    """After `idle_s` it may begin up to this, if that was reached before without any problem."""
    floor: float = 4
    """The rate never falls below this."""
    cap: float = 100
    """The rate never rises above this, whatever the evidence."""
    growth: float = 5
    """By how much the rate rises within a second, above the rate at which a problem was last seen."""
    after_refusal: float = 0.5
    """The rate is multiplied by this when WhatsApp refuses a login, or does not finish one."""
    after_delay: float = 0.7
    """The rate is multiplied by this when a login was slow, or this process late."""
    between_cuts_s: float = 1
    """At least this long between two cuts."""
    slow_s: float = 1
    """A login that takes less than this is not slow."""
    slow_factor: float = 3
    """A login is slow that takes this many times as long as the fastest recent one."""
    late_s: float = 0.3
    """A session that starts its link this long after its time shows that the machine is overloaded."""
    idle_s: float = 60
    """See `start`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The rate now, and what it follows."""

    per_s: float = 0
    """Links a second; the default means the rate at which a burst begins."""
    threshold: float = math.inf
    """Up to this the rate doubles; above it, it grows slowly."""
    cut_at: float = -math.inf
    used_at: float = -math.inf
    """When a link was last started, or a login ended."""
    fastest_s: float = math.inf
    """The fastest recent login."""
    unreachable: bool = False
    """WhatsApp could not be reached since the last login that succeeded."""


def resumed(rate: Rate, *, now: float, policy: RatePolicy) -> Rate:
    """The rate for a link that starts now: after a long time without logins a problem seen before counts no more."""
    if now - rate.used_at <= policy.idle_s:
        return rate
    was_smooth = rate.threshold == math.inf and not rate.unreachable
    reached = min(rate.per_s, policy.resume) if was_smooth else 0
    return _bounded(Rate(used_at=now), max(reached, policy.start), policy)


def accepted(rate: Rate, took_s: float, *, now: float, policy: RatePolicy) -> Rate:
    """WhatsApp accepted a login, `took_s` after its link was started."""
    was_unreachable, slow_s = rate.unreachable, max(policy.slow_s, policy.slow_factor * rate.fastest_s)
    # The fastest login is forgotten slowly, so that a network that became slower is not taken for trouble forever.
    rate = replace(_used(rate, now, policy), fastest_s=min(took_s, rate.fastest_s * 1.01), unreachable=False)
    if was_unreachable:
        return _bounded(replace(rate, threshold=math.inf), max(rate.per_s, policy.start), policy)
    if took_s > slow_s:
        return _cut(rate, policy.after_delay, now, policy)
    return _bounded(rate, rate.per_s + (1 if rate.per_s < rate.threshold else policy.growth / rate.per_s), policy)


def refused(rate: Rate, *, now: float, policy: RatePolicy) -> Rate:
    """WhatsApp refused a login in a way that may be due to its load, or did not finish it in time."""
    return _cut(_used(rate, now, policy), policy.after_refusal, now, policy)


def unreached(rate: Rate, *, now: float, policy: RatePolicy) -> Rate:
    """No connection could be opened: WhatsApp or the network is away. It says nothing about the rate that it takes."""
    rate = _used(rate, now, policy)
    return _bounded(replace(rate, unreachable=True), rate.per_s * policy.after_refusal, policy)


def late(rate: Rate, late_s: float, *, now: float, policy: RatePolicy) -> Rate:
    """A session asked `late_s` after the time at which it was to start its link: this process has too much to do."""
    return _cut(rate, policy.after_delay, now, policy) if late_s > policy.late_s else rate


def _used(rate: Rate, now: float, policy: RatePolicy) -> Rate:
    return replace(resumed(rate, now=now, policy=policy), used_at=now)


def _cut(rate: Rate, factor: float, now: float, policy: RatePolicy) -> Rate:
    if now - rate.cut_at < policy.between_cuts_s:
        return rate
    lower = rate.per_s * factor
    return _bounded(replace(rate, threshold=lower, cut_at=now), lower, policy)


def _bounded(rate: Rate, per_s: float, policy: RatePolicy) -> Rate:
    return replace(rate, per_s=min(max(per_s, policy.floor), policy.cap))
