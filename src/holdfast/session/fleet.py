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

from holdfast.session.reasons import FLEET_HELD, WAITS_TURN, Reaction, Reason

_OURS_OR_THE_NETWORKS = frozenset({"network", "engine", "holdfast", "nobody", "person"})
_OF_ONE_SESSION = frozenset({Reaction.REPLACED, Reaction.PAUSE_UNTIL, Reaction.RESTART})
_ALSO_MID_STREAM = frozenset({405, 429})
"""Other codes count only as an answer to a login: a server that restarts may take the very next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPolicy:
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
class Breaker:
    """WhatsApp refuses several sessions alike; all wait for a probe."""

    reason: Reason
    probe_at: float
    failed: int = 0
    """Probes that were refused."""
    prober: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
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
    breaker: Breaker | None = None


@dataclass(frozen=True, slots=True)
class Go:
    """Connect now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Ask again at `until`, or when woken."""

    until: float
    because: Reason = WAITS_TURN


Wakes = tuple[tuple[str, float], ...]
"""Companies that wait no longer, and when each may begin."""


# Asking.


def ask(fleet: Fleet, company: str, *, now: float, policy: FleetPolicy) -> tuple[Fleet, Go | Hold]:
    """May this company's link begin now?"""
    if fleet.breaker is not None:
        return _ask_breaker(fleet, fleet.breaker, company, now, policy)
    place = fleet.promised.get(company)
    if place is None:
        if not _room(fleet, policy):
            return _enqueue(fleet, company), Hold(until=now + policy.patience_s)
        fleet, place = _next_place(_without(fleet, company), now, policy)
    if place > now:
        return _promise(fleet, company, place), Hold(until=place)
    return _begin(fleet, company), Go()


def _ask_breaker(
    fleet: Fleet, breaker: Breaker, company: str, now: float, policy: FleetPolicy
) -> tuple[Fleet, Go | Hold]:
    if breaker.prober is None and now >= breaker.probe_at:
        return replace(_begin(fleet, company), breaker=replace(breaker, prober=company)), Go()
    queued = _enqueue(fleet, company)
    if breaker.prober is None and queued.waiting[0] == company:
        return queued, Hold(until=breaker.probe_at, because=FLEET_HELD)
    return queued, Hold(until=max(now, breaker.probe_at) + policy.patience_s, because=FLEET_HELD)


# What became of it.


def opened(fleet: Fleet, company: str, *, now: float, policy: FleetPolicy) -> tuple[Fleet, Wakes]:
    """WhatsApp took a link: whatever it refused, it does no more."""
    return _admit(replace(_without(fleet, company), refusals=MappingProxyType({}), breaker=None), now, policy)


def ended(
    fleet: Fleet, company: str, reason: Reason | None, *, was_open: bool, now: float, policy: FleetPolicy
) -> tuple[Fleet, Wakes]:
    """A link ended, or a plan for one. `reason` None: a person wanted it."""
    was_probe = fleet.breaker is not None and fleet.breaker.prober == company
    fleet = _without(fleet, company)
    if fleet.breaker is None:
        if reason is None or not _is_refusal(reason, was_open=was_open):
            return _admit(fleet, now, policy)
        fleet = _count(fleet, company, reason, now, policy)
    elif was_probe:
        failed = fleet.breaker.failed + (reason is not None)
        probe_at = now + (0 if reason is None else _pace_s(fleet.breaker.reason, failed, policy))
        fleet = replace(fleet, breaker=replace(fleet.breaker, failed=failed, prober=None, probe_at=probe_at))
    return _admit(fleet, now, policy)


def _is_refusal(reason: Reason, *, was_open: bool) -> bool:
    """WhatsApp's own word that may be meant for all; not what befalls one session or the network here."""
    if reason.code is None or reason.fault in _OURS_OR_THE_NETWORKS or reason.reaction in _OF_ONE_SESSION:
        return False
    return not was_open or reason.code in _ALSO_MID_STREAM


def _count(fleet: Fleet, company: str, reason: Reason, now: float, policy: FleetPolicy) -> Fleet:
    recent = {other: seen for other, seen in fleet.refusals.items() if seen[1] > now - policy.alike_within_s}
    recent[company] = (reason, now)
    fleet = replace(fleet, refusals=MappingProxyType(recent))
    if sum(seen[0].code == reason.code for seen in recent.values()) < policy.alike:
        return fleet
    return replace(fleet, breaker=Breaker(reason=reason, probe_at=now + _pace_s(reason, 0, policy)))


def _pace_s(reason: Reason, failed: int, policy: FleetPolicy) -> float:
    if reason.code == 405:
        return policy.probe_outdated_s
    return min(policy.probe_first_s * 2.0 ** min(failed, 10), policy.probe_cap_s)


def _admit(fleet: Fleet, now: float, policy: FleetPolicy) -> tuple[Fleet, Wakes]:
    """Wake those for whom there is room; while the breaker holds, the one that is to probe."""
    if fleet.breaker is not None:
        if fleet.breaker.prober is not None or not fleet.waiting:
            return fleet, ()
        return fleet, ((fleet.waiting[0], max(now, fleet.breaker.probe_at)),)
    wakes = []
    while fleet.waiting and _room(fleet, policy):
        company = fleet.waiting[0]
        fleet, at = _next_place(_without(fleet, company), now, policy)
        fleet = _promise(fleet, company, at)
        wakes.append((company, at))
    return fleet, tuple(wakes)


# Places.


def _room(fleet: Fleet, policy: FleetPolicy) -> bool:
    return len(fleet.opening) + len(fleet.promised) < policy.opening_at_once


def _next_place(fleet: Fleet, now: float, policy: FleetPolicy) -> tuple[Fleet, float]:
    due_at = max(now, fleet.next_at)
    return replace(fleet, next_at=due_at + policy.stagger_s), max(now, due_at - policy.burst_s)


def _without(fleet: Fleet, company: str) -> Fleet:
    return replace(
        fleet,
        opening=fleet.opening - {company},
        promised=MappingProxyType({other: at for other, at in fleet.promised.items() if other != company}),
        waiting=tuple(other for other in fleet.waiting if other != company),
    )


def _begin(fleet: Fleet, company: str) -> Fleet:
    alone = _without(fleet, company)
    return replace(alone, opening=alone.opening | {company})


def _promise(fleet: Fleet, company: str, at: float) -> Fleet:
    return replace(fleet, promised=MappingProxyType({**fleet.promised, company: at}))


def _enqueue(fleet: Fleet, company: str) -> Fleet:
    """At the end, or where it waits already."""
    if company in fleet.waiting:
        return fleet
    alone = _without(fleet, company)
    return replace(alone, waiting=(*alone.waiting, company))
