"""Decides which sessions may connect now: a limit, a rate, and a circuit breaker for refusals that several get.

A session asks before it connects. It may connect at once, or it gets a time at which to ask again; sessions that wait
are woken when a slot is free, those with messages to send first. `connect_rate` decides how many start a second.

When three sessions get the same refusal within a minute, the cause is probably none of them: one session then probes
for all, at growing intervals, until WhatsApp accepts a login. The breaker never opens in an installation of one or two
sessions. The limiter never decides about a session's state, and each session that waits has a time at which it asks
again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from holdfast.session import connect_rate
from holdfast.session.connect_rate import Rate, RatePolicy
from holdfast.session.reasons import CIRCUIT_BREAKER_OPEN, CONNECT_QUEUED, LOGIN_TIMEOUT, Reason, SessionReaction

_OURS_OR_THE_NETWORKS = frozenset({"network", "engine", "holdfast", "nobody", "person"})
_OF_ONE_SESSION = frozenset({SessionReaction.REPLACED, SessionReaction.PAUSE_UNTIL, SessionReaction.RESTART})
_ALSO_MID_STREAM = frozenset({405, 429})
"""Codes that count also on an open link. Others count only as an answer to a login: a server that restarts may accept
the next one."""
_OVERLOADED = frozenset({429, 500, 503})
"""Codes by which WhatsApp may say that it has too much to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterPolicy:
    """Seconds unless the name says otherwise."""

    rate: RatePolicy = field(default_factory=RatePolicy)
    """How many links start a second."""
    opening_at_once: int = 20
    """Links of this process that may always be opening at the same time."""
    opening_slack: float = 2
    """When logins are slow, more may be opening: the number that starts in the time of the fastest recent login, times
    this."""
    burst_s: float = 0.5
    """How far ahead of the rate a burst may run: at twenty a second, ten links start at once."""
    alike: int = 3
    """Sessions with the same refusal, within `alike_within_s`, that open the breaker."""
    alike_within_s: float = 60
    """The seconds within which refusals count towards `alike`."""
    probe_first_s: float = 5
    """Pause before the first probe; doubled for each probe that fails, up to `probe_cap_s`."""
    probe_cap_s: float = 60
    """Upper bound of the pause between probes."""
    probe_outdated_s: float = 300
    """Pause before each probe when the client is outdated (405)."""
    patience_s: float = 60
    """A session that was not woken requests a link again after this, counted from the next probe if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBreaker:
    """The breaker is open: WhatsApp refuses several sessions alike, and all wait for a probe."""

    reason: Reason
    probe_at: float
    failed: int = 0
    """Number of probes that were refused."""
    prober: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limiter:
    """Everything known about the connects of one process."""

    opening: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Companies whose link is opening, and when it was started."""
    reserved: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Companies that were let through, and when each may start its link."""
    waiting: tuple[str, ...] = ()
    """Companies that wait: those with messages to send first, else in the order in which they asked."""
    urgent: frozenset[str] = frozenset()
    """Those of them that have messages to send."""
    rate: Rate = field(default_factory=Rate)
    next_at: float = 0
    """When the next link would start if none ran ahead of the spacing."""
    refusals: Mapping[str, tuple[Reason, float]] = field(default_factory=lambda: MappingProxyType({}))
    """The newest refusal of each company that counts, and when it arrived."""
    breaker: OpenBreaker | None = None


@dataclass(frozen=True, slots=True)
class ConnectNow:
    """Connect now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferConnect:
    """Ask again at `until`, or when woken."""

    until: float
    because: Reason = CONNECT_QUEUED


Wakes = tuple[tuple[str, float], ...]
"""Companies that no longer wait, and when each may start its link."""


# Asking.


def ask(
    limiter: Limiter, company: str, *, now: float, policy: LimiterPolicy, urgent: bool = False
) -> tuple[Limiter, ConnectNow | DeferConnect]:
    """Decide whether this company's link may start now. `urgent`: it has messages to send."""
    rate = connect_rate.resumed(limiter.rate, now=now, policy=policy.rate)
    if rate is not limiter.rate:
        limiter = replace(limiter, rate=rate)
    if limiter.breaker is not None:
        return _ask_breaker(limiter, limiter.breaker, company, now, policy, urgent=urgent)
    place = limiter.reserved.get(company)
    if place is not None:
        limiter = replace(limiter, rate=connect_rate.late(limiter.rate, now - place, now=now, policy=policy.rate))
    else:
        if not _has_free_slot(limiter, policy):
            return _enqueue(limiter, company, urgent=urgent), DeferConnect(until=now + policy.patience_s)
        limiter, place = _next_slot(_without(limiter, company), now, policy)
    if place > now:
        return _reserve(limiter, company, place), DeferConnect(until=place)
    return _begin(limiter, company, now), ConnectNow()


def _ask_breaker(
    limiter: Limiter, breaker: OpenBreaker, company: str, now: float, policy: LimiterPolicy, *, urgent: bool
) -> tuple[Limiter, ConnectNow | DeferConnect]:
    if breaker.prober is None and now >= breaker.probe_at:
        return replace(_begin(limiter, company, now), breaker=replace(breaker, prober=company)), ConnectNow()
    queued = _enqueue(limiter, company, urgent=urgent)
    if breaker.prober is None and queued.waiting[0] == company:
        return queued, DeferConnect(until=breaker.probe_at, because=CIRCUIT_BREAKER_OPEN)
    return queued, DeferConnect(until=max(now, breaker.probe_at) + policy.patience_s, because=CIRCUIT_BREAKER_OPEN)


# Outcomes.


def opened(limiter: Limiter, company: str, *, now: float, policy: LimiterPolicy) -> tuple[Limiter, Wakes]:
    """WhatsApp accepted a login: the breaker closes."""
    began_at, was_unreachable = limiter.opening.get(company, now), limiter.rate.unreachable
    rate = connect_rate.accepted(limiter.rate, now - began_at, now=now, policy=policy.rate)
    limiter = replace(_without(limiter, company), rate=rate, refusals=MappingProxyType({}), breaker=None)
    return _admit(_undated(limiter, now) if was_unreachable else limiter, now, policy)


def ended(
    limiter: Limiter, company: str, reason: Reason | None, *, was_open: bool, now: float, policy: LimiterPolicy
) -> tuple[Limiter, Wakes]:
    """A link, or the plan for one, ended. `reason` None: a person asked for it."""
    was_probe = limiter.breaker is not None and limiter.breaker.prober == company
    if reason is not None and (company in limiter.opening or was_open):
        limiter = replace(limiter, rate=_slowed(limiter.rate, reason, was_open, now, policy))
    limiter = _without(limiter, company)
    if limiter.breaker is None:
        if reason is None or not _is_refusal(reason, was_open=was_open):
            return _admit(limiter, now, policy)
        limiter = _count(limiter, company, reason, now, policy)
    elif was_probe:
        failed = limiter.breaker.failed + (reason is not None)
        probe_at = now + (0 if reason is None else _pace_s(limiter.breaker.reason, failed, policy))
        limiter = replace(limiter, breaker=replace(limiter.breaker, failed=failed, prober=None, probe_at=probe_at))
    return _admit(limiter, now, policy)


def hurry(limiter: Limiter, *, now: float, policy: LimiterPolicy) -> tuple[Limiter, Wakes]:
    """A newer client version is available: the next probe is due at once."""
    if limiter.breaker is None or limiter.breaker.prober is not None:
        return limiter, ()
    return _admit(replace(limiter, breaker=replace(limiter.breaker, probe_at=now)), now, policy)


def _slowed(rate: Rate, reason: Reason, was_open: bool, now: float, policy: LimiterPolicy) -> Rate:
    """The rate after a link ended for this reason."""
    if (reason.code in _OVERLOADED and (not was_open or reason.code in _ALSO_MID_STREAM)) or reason is LOGIN_TIMEOUT:
        return connect_rate.refused(rate, now=now, policy=policy.rate)
    if not was_open and reason.code is not None and reason.fault == "network":
        return connect_rate.unreached(rate, now=now, policy=policy.rate)
    return rate


def _is_refusal(reason: Reason, *, was_open: bool) -> bool:
    """Whether it is a refusal by WhatsApp that may concern all sessions, and neither this one alone nor the network."""
    if reason.code is None or reason.fault in _OURS_OR_THE_NETWORKS or reason.reaction in _OF_ONE_SESSION:
        return False
    return not was_open or reason.code in _ALSO_MID_STREAM


def _count(limiter: Limiter, company: str, reason: Reason, now: float, policy: LimiterPolicy) -> Limiter:
    recent = {other: seen for other, seen in limiter.refusals.items() if seen[1] > now - policy.alike_within_s}
    recent[company] = (reason, now)
    limiter = replace(limiter, refusals=MappingProxyType(recent))
    if sum(seen[0].code == reason.code for seen in recent.values()) < policy.alike:
        return limiter
    return replace(limiter, breaker=OpenBreaker(reason=reason, probe_at=now + _pace_s(reason, 0, policy)))


def _pace_s(reason: Reason, failed: int, policy: LimiterPolicy) -> float:
    if reason.code == 405:
        return policy.probe_outdated_s
    return min(policy.probe_first_s * 2.0 ** min(failed, 10), policy.probe_cap_s)


def _admit(limiter: Limiter, now: float, policy: LimiterPolicy) -> tuple[Limiter, Wakes]:
    """Wake the sessions for which a slot is free; while the breaker is open, only the one that probes."""
    if limiter.breaker is not None:
        if limiter.breaker.prober is not None or not limiter.waiting:
            return limiter, ()
        return limiter, ((limiter.waiting[0], max(now, limiter.breaker.probe_at)),)
    wakes = []
    while limiter.waiting and _has_free_slot(limiter, policy):
        company = limiter.waiting[0]
        limiter, at = _next_slot(_without(limiter, company), now, policy)
        limiter = _reserve(limiter, company, at)
        wakes.append((company, at))
    return limiter, tuple(wakes)


# Slots.


def _has_free_slot(limiter: Limiter, policy: LimiterPolicy) -> bool:
    fastest_s = 0 if limiter.rate.fastest_s == math.inf else limiter.rate.fastest_s
    at_once = max(policy.opening_at_once, limiter.rate.per_s * fastest_s * policy.opening_slack)
    return len(limiter.opening) + len(limiter.reserved) < at_once


def _next_slot(limiter: Limiter, now: float, policy: LimiterPolicy) -> tuple[Limiter, float]:
    due_at = max(now, limiter.next_at)
    return replace(limiter, next_at=due_at + 1 / limiter.rate.per_s), max(now, due_at - policy.burst_s)


def _without(limiter: Limiter, company: str) -> Limiter:
    if company in limiter.opening:
        limiter = replace(limiter, opening=_less(limiter.opening, company))
    if company in limiter.reserved:
        limiter = replace(limiter, reserved=_less(limiter.reserved, company))
    if company in limiter.waiting:
        place = limiter.waiting.index(company)
        waiting = limiter.waiting[:place] + limiter.waiting[place + 1 :]
        limiter = replace(limiter, waiting=waiting, urgent=limiter.urgent - {company})
    return limiter


def _less(times: Mapping[str, float], company: str) -> Mapping[str, float]:
    return MappingProxyType({other: at for other, at in times.items() if other != company})


def _begin(limiter: Limiter, company: str, now: float) -> Limiter:
    alone = _without(limiter, company)
    rate = replace(alone.rate, used_at=now)
    return replace(alone, opening=MappingProxyType({**alone.opening, company: now}), rate=rate)


def _reserve(limiter: Limiter, company: str, at: float) -> Limiter:
    return replace(limiter, reserved=MappingProxyType({**limiter.reserved, company: at}))


def _undated(limiter: Limiter, now: float) -> Limiter:
    """Sessions whose start was scheduled at a much lower rate are scheduled again."""
    waiting = (*sorted(limiter.reserved, key=limiter.reserved.__getitem__), *limiter.waiting)
    return replace(limiter, reserved=MappingProxyType({}), waiting=waiting, next_at=now)


def _enqueue(limiter: Limiter, company: str, *, urgent: bool) -> Limiter:
    """Append it unless it already waits; one with messages to send goes before all without."""
    if company in limiter.waiting and (not urgent or company in limiter.urgent):
        return limiter
    alone = _without(limiter, company)
    if not urgent:
        return replace(alone, waiting=(*alone.waiting, company))
    first = tuple(other for other in alone.waiting if other in alone.urgent)
    rest = tuple(other for other in alone.waiting if other not in alone.urgent)
    return replace(alone, waiting=(*first, company, *rest), urgent=alone.urgent | {company})
