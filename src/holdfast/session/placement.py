"""Placement: which engine host runs which session, and which session to blame when hosts die.

Ordinary hosts are numbered from 0; sessions are spread over them and stay where they were placed. When one host has
clearly more than another, because those of the other ended or moved to other nodes, its sessions move when they connect
again anyway: no link is closed for that. After a death the sessions that may be to blame move to isolation hosts, which
have higher numbers that are never used again. Each further death narrows the group, until a session that keeps killing
its isolation host is quarantined.

It must never read a clock, and it never blames a session for a host that was killed from outside (`kill -9`, the
kernel's out-of-memory killer) long after that session had opened its link.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

HostNumber = int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicy:
    hosts: int = 1
    """Number of ordinary hosts."""
    window_s: float = 60
    """Two deaths of the same host within this start the search for the session that causes them."""
    crowded_by: float = 0.25
    """A host with this part more sessions than the one with the fewest gives away those that connect again."""
    crowded_by_at_least: int = 5
    proven_after_s: float = 60
    """An isolation host that has lived this long clears its sessions."""
    deaths_alone_opening: int = 2
    """Deaths of a host that ran one session alone, while its link was opening, until that session is quarantined."""
    deaths_alone: int = 5
    """The same for deaths at any time. Higher, because a single message may be to blame, and that message fails
    first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The unexpected end of a host."""

    at: float
    """Monotonic seconds."""
    host: HostNumber
    sessions: frozenset[str]
    """Sessions with a link on the host, open or opening."""
    opening: frozenset[str] = frozenset()
    """Sessions whose link was not open yet."""
    fresh: frozenset[str] = frozenset()
    """Sessions whose link had opened moments before."""
    from_outside: bool = False
    """It was killed by a signal that Holdfast did not send."""

    @property
    def suspects(self) -> frozenset[str]:
        """The sessions that may have caused it."""
        return (self.opening | self.fresh) & self.sessions if self.from_outside else self.sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where sessions run, and what is known about deaths of hosts."""

    hosts: Mapping[str, HostNumber] = field(default_factory=dict)
    """By company."""
    next_host: HostNumber | None = None
    """Number of the next isolation host; None before the first."""
    halving: frozenset[HostNumber] = frozenset()
    """Isolation hosts whose group was narrowed to, or by, those that were opening: next time it is halved."""
    deaths: tuple[Death, ...] = ()
    """Deaths of ordinary hosts within the window."""
    alone: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    """By company: for each death of the host that ran it alone, whether its link was opening."""
    distrusted: frozenset[str] = frozenset()
    """Sessions that were quarantined: started again, they run alone first."""

    def members(self, host: HostNumber) -> frozenset[str]:
        return frozenset(company for company, where in self.hosts.items() if where == host)


def is_isolation(host: HostNumber, policy: PlacementPolicy) -> bool:
    return host >= policy.hosts


def place(placement: Placement, company: str, *, policy: PlacementPolicy) -> tuple[Placement, HostNumber]:
    """The host for a session that opens a link: where it was, unless that is crowded, else the ordinary host with the
    fewest sessions."""
    known = placement.hosts.get(company)
    if known is None and company in placement.distrusted:
        isolated = _isolate(placement, [frozenset({company})], policy)
        return isolated, isolated.hosts[company]
    sessions = Counter(placement.hosts.values())
    host = min(range(policy.hosts), key=lambda number: (sessions[number], number))
    if known is not None and not _should_move(placement, company, sessions[host], policy):
        return placement, known
    return replace(placement, hosts={**placement.hosts, company: host}), host


def _should_move(placement: Placement, company: str, fewest: int, policy: PlacementPolicy) -> bool:
    """Whether the session's host is crowded, when another one has only `fewest` sessions.

    A session that may have ended a host stays, so that the next death of that host narrows the search."""
    host = placement.hosts[company]
    if is_isolation(host, policy) or any(company in death.suspects for death in placement.deaths):
        return False
    excess = len(placement.members(host)) - fewest
    return excess >= max(policy.crowded_by_at_least, fewest * policy.crowded_by)


def forget(placement: Placement, company: str, *, policy: PlacementPolicy) -> Placement:
    """The session no longer runs: free its place on its ordinary host. Suspicions about it are kept."""
    host = placement.hosts.get(company)
    return placement if host is None or is_isolation(host, policy) else _without(placement, {company})


def distrust(placement: Placement, company: str) -> Placement:
    """From now on the session runs alone until it is cleared of suspicion."""
    return replace(_without(placement, {company}), distrusted=placement.distrusted | {company})


def died(placement: Placement, death: Death, *, policy: PlacementPolicy) -> tuple[Placement, frozenset[str]]:
    """Place all sessions after a death; returns also the sessions to quarantine."""
    if is_isolation(death.host, policy):
        return _narrow(placement, death, policy)
    recent = [each for each in placement.deaths if each.at > death.at - policy.window_s]
    known = replace(placement, deaths=(*recent, death))
    before = frozenset[str]().union(*(each.suspects for each in recent if each.host == death.host))
    if repeated := before & death.suspects:
        return _isolate(known, _halves(repeated), policy), frozenset()
    if death.opening:  # the likeliest cause; all other sessions are back at once and run undisturbed
        return _isolate(known, [death.opening & death.sessions], policy), frozenset()
    return known, frozenset()


def proven(placement: Placement, host: HostNumber, *, policy: PlacementPolicy) -> Placement:
    """An isolation host has lived long enough: its sessions go to ordinary hosts when they next open a link."""
    if not is_isolation(host, policy):
        return placement
    cleared = placement.members(host)
    return replace(
        _without(placement, cleared),
        distrusted=placement.distrusted - cleared,
        alone={each: deaths for each, deaths in placement.alone.items() if each not in cleared},
    )


def _narrow(placement: Placement, death: Death, policy: PlacementPolicy) -> tuple[Placement, frozenset[str]]:
    """An isolation host died: the session is among those that it ran."""
    members = placement.members(death.host)
    suspects = death.suspects & members
    if not suspects:
        return placement, frozenset()
    if len(members) == 1:
        return _judge_alone(placement, next(iter(members)), death, policy)
    freed = _without(placement, members)
    opening = death.opening & suspects
    if death.host not in placement.halving and 0 < len(opening) < len(suspects):
        groups = [opening, suspects - opening]
    else:
        groups = _halves(suspects)
    isolated = _isolate(freed, groups, policy)
    new = {isolated.hosts[company] for company in suspects}
    return replace(isolated, halving=(isolated.halving | new) - {death.host}), frozenset()


def _judge_alone(
    placement: Placement, company: str, death: Death, policy: PlacementPolicy
) -> tuple[Placement, frozenset[str]]:
    deaths = (*placement.alone.get(company, ()), company in death.opening)
    is_enough = sum(deaths) >= policy.deaths_alone_opening or len(deaths) >= policy.deaths_alone
    if not is_enough and company not in placement.distrusted:
        return replace(placement, alone={**placement.alone, company: deaths}), frozenset()
    rest = {each: known for each, known in placement.alone.items() if each != company}
    return distrust(replace(placement, alone=rest), company), frozenset({company})


def _halves(companies: Collection[str]) -> list[frozenset[str]]:
    """Split into two groups; a single session is one group."""
    ordered = sorted(companies)
    middle = (len(ordered) + 1) // 2
    return [frozenset(half) for half in (ordered[:middle], ordered[middle:]) if half]


def _isolate(placement: Placement, groups: Collection[frozenset[str]], policy: PlacementPolicy) -> Placement:
    """A new isolation host for each group."""
    host = policy.hosts if placement.next_host is None else placement.next_host
    hosts = dict(placement.hosts)
    for group in groups:
        hosts |= dict.fromkeys(group, host)
        host += 1
    return replace(placement, hosts=hosts, next_host=host)


def _without(placement: Placement, companies: Collection[str]) -> Placement:
    hosts = {company: host for company, host in placement.hosts.items() if company not in companies}
    return replace(placement, hosts=hosts)
