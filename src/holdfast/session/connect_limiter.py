"""Who of all sessions may connect now: a limit, a stagger, and a breaker for what WhatsApp says to several alike.

A session asks before it connects and is let through, or is told when to ask again; whoever waits is woken when there is
room. When three sessions got the same refusal within a minute, the trouble is not theirs: one probes for all, at a
slowing pace, until WhatsApp takes one. It must never hold an installation of one or two sessions for what WhatsApp
said, never decide about a session's state, and never forget one that waits: each has a time at which it asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from holdfast.session.reasons import FLEET_HELD, WAITS_TURN, Reason, SessionReaction

_OURS_OR_THE_NETWORKS = frozenset({"network", "engine", "holdfast", "nobody", "person"})
_OF_ONE_SESSION = frozenset({SessionReaction.REPLACED, SessionReaction.PAUSE_UNTIL, SessionReaction.RESTART})
_ALSO_MID_STREAM = frozenset({405, 429})
"""Other codes count only as an answer to a login: a server that restarts may take the very next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterPolicy:
    """Seconds unless the name says otherwise."""

    opening_at_once: int = 20
    """Links of this process that may be opening at the same time."""
    stagger_s: float = 0.05
    """Between the beginnings of two links, on the average …"""
    burst_s: float = 0.5
    """… while so much of it may be drawn ahead: ten links begin at once."""
    alike: int = 3
    """Sessions that get the same refusal within …"""
    alike_within_s: float = 60
    """… this make the breaker hold all others."""
    probe_first_s: float = 5
    """The wait before the first probe; doubled for each that fails …"""
    probe_cap_s: float = 60
    """… up to this."""
    probe_outdated_s: float = 300
    """The wait before each probe where the client is outdated (405)."""
    patience_s: float = 60
    """Who waits and was not woken asks again after this, counted from the next probe where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBreaker:
    """WhatsApp refuses several sessions alike; all wait for a probe."""

    reason: Reason
    probe_at: float
    failed: int = 0
    """Probes that were refused."""
    prober: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limiter:
    """All that is known about the connects of one process."""

    opening: frozenset[str] = frozenset()
    """Companies whose link is neither open nor ended."""
    promised: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Companies with a place, and when they may begin."""
    waiting: tuple[str, ...] = ()
    """Companies without one, in the order in which they asked."""
    next_at: float = 0
    """When the next link would begin if none were let through ahead."""
    refusals: Mapping[str, tuple[Reason, float]] = field(default_factory=lambda: MappingProxyType({}))
    """The newest refusal of each company that counts, and when it came."""
    breaker: OpenBreaker | None = None


@dataclass(frozen=True, slots=True)
class Go:
    """Connect now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferConnect:
    """Ask again at `until`, or when woken."""

    until: float
    because: Reason = WAITS_TURN


Wakes = tuple[tuple[str, float], ...]
"""Companies that wait no longer, and when each may begin."""


# Asking.


def ask(limiter: Limiter, company: str, *, now: float, policy: LimiterPolicy) -> tuple[Limiter, Go | DeferConnect]:
    """May this company's link begin now?"""
    if limiter.breaker is not None:
        return _ask_breaker(limiter, limiter.breaker, company, now, policy)
    place = limiter.promised.get(company)
    if place is None:
        if not _room(limiter, policy):
            return _enqueue(limiter, company), DeferConnect(until=now + policy.patience_s)
        limiter, place = _next_place(_without(limiter, company), now, policy)
    if place > now:
        return _promise(limiter, company, place), DeferConnect(until=place)
    return _begin(limiter, company), Go()


def _ask_breaker(
    limiter: Limiter, breaker: OpenBreaker, company: str, now: float, policy: LimiterPolicy
) -> tuple[Limiter, Go | DeferConnect]:
    if breaker.prober is None and now >= breaker.probe_at:
        return replace(_begin(limiter, company), breaker=replace(breaker, prober=company)), Go()
    queued = _enqueue(limiter, company)
    if breaker.prober is None and queued.waiting[0] == company:
        return queued, DeferConnect(until=breaker.probe_at, because=FLEET_HELD)
    return queued, DeferConnect(until=max(now, breaker.probe_at) + policy.patience_s, because=FLEET_HELD)


# What became of it.


def opened(limiter: Limiter, company: str, *, now: float, policy: LimiterPolicy) -> tuple[Limiter, Wakes]:
    """WhatsApp took a link: whatever it refused, it does no more."""
    return _admit(replace(_without(limiter, company), refusals=MappingProxyType({}), breaker=None), now, policy)


def ended(
    limiter: Limiter, company: str, reason: Reason | None, *, was_open: bool, now: float, policy: LimiterPolicy
) -> tuple[Limiter, Wakes]:
    """A link ended, or a plan for one. `reason` None: a person wanted it."""
    was_probe = limiter.breaker is not None and limiter.breaker.prober == company
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
    """What WhatsApp refused was mended: the next probe is due at once."""
    if limiter.breaker is None or limiter.breaker.prober is not None:
        return limiter, ()
    return _admit(replace(limiter, breaker=replace(limiter.breaker, probe_at=now)), now, policy)


def _is_refusal(reason: Reason, *, was_open: bool) -> bool:
    """WhatsApp's own word that may be meant for all; not what befalls one session or the network here."""
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
    """Wake those for whom there is room; while the breaker holds, the one that is to probe."""
    if limiter.breaker is not None:
        if limiter.breaker.prober is not None or not limiter.waiting:
            return limiter, ()
        return limiter, ((limiter.waiting[0], max(now, limiter.breaker.probe_at)),)
    wakes = []
    while limiter.waiting and _room(limiter, policy):
        company = limiter.waiting[0]
        limiter, at = _next_place(_without(limiter, company), now, policy)
        limiter = _promise(limiter, company, at)
        wakes.append((company, at))
    return limiter, tuple(wakes)


# Places.


def _room(limiter: Limiter, policy: LimiterPolicy) -> bool:
    return len(limiter.opening) + len(limiter.promised) < policy.opening_at_once


def _next_place(limiter: Limiter, now: float, policy: LimiterPolicy) -> tuple[Limiter, float]:
    due_at = max(now, limiter.next_at)
    return replace(limiter, next_at=due_at + policy.stagger_s), max(now, due_at - policy.burst_s)


def _without(limiter: Limiter, company: str) -> Limiter:
    return replace(
        limiter,
        opening=limiter.opening - {company},
        promised=MappingProxyType({other: at for other, at in limiter.promised.items() if other != company}),
        waiting=tuple(other for other in limiter.waiting if other != company),
    )


def _begin(limiter: Limiter, company: str) -> Limiter:
    alone = _without(limiter, company)
    return replace(alone, opening=alone.opening | {company})


def _promise(limiter: Limiter, company: str, at: float) -> Limiter:
    return replace(limiter, promised=MappingProxyType({**limiter.promised, company: at}))


def _enqueue(limiter: Limiter, company: str) -> Limiter:
    """At the end, or where it waits already."""
    if company in limiter.waiting:
        return limiter
    alone = _without(limiter, company)
    return replace(alone, waiting=(*alone.waiting, company))
