"""Fair queueing of writes: one company's burst must not delay the writes of the others.

One thread executes all writes, in groups with one commit each. Without limits, a burst fills every group and keeps the
thread busy all the time, so that another company's write waits for the current group and then for its own, long one.
Therefore a company that makes many writes, and many more than some other company that writes, gets small groups, with a
pause after each that lasts four times as long as the group took. This also limits its use of the processor: its
requests are answered more slowly. Companies with the fewest waiting writes come first in a group. The writes of one
company keep their order.

Decides only: no clock, no threads. Times are monotonic seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

W = TypeVar("W")

MAX_GROUP = 512
MAX_BURST_WRITES = 2
"""Writes of a bursting company in one group."""
_REST_TO_WORK = 4
"""How many times as long as its last group a bursting company rests."""
LONGEST_REST_S = 0.2
_MEMORY_S = 1.0
"""Time constant with which past writes are forgotten."""
_MANY = 50
"""A company with fewer recent writes does not burst."""
_TIMES_THE_LEAST = 4
"""A company bursts that makes so many times the writes of another one."""
_FEW = 0.5
"""Companies with fewer recent writes are idle, and a burst may use the whole time."""
_FORGOTTEN = 0.01


@dataclass(slots=True)
class _Flow(Generic[W]):
    """The writes of one company."""

    waiting: deque[W] = field(default_factory=deque)
    recent: float = 0.0
    """Number of writes, exponentially decayed."""
    decayed_at: float = 0.0
    rests_until: float = -math.inf

    def decay(self, now: float) -> float:
        self.recent *= math.exp((self.decayed_at - now) / _MEMORY_S)
        self.decayed_at = now
        return self.recent


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitGroup(Generic[W]):
    """Writes to commit together."""

    writes: Sequence[W]
    bursting: Collection[str]
    """Companies that must rest after this group."""
    next_at: float | None
    """When the next waiting write may be committed, if only resting companies have any."""


class WriteQueue(Generic[W]):
    def __init__(self) -> None:
        self._flows: dict[str | None, _Flow[W]] = {}

    @property
    def companies(self) -> Collection[str | None]:
        """Companies with waiting writes; None for writes of no company."""
        return [company for company, flow in self._flows.items() if flow.waiting]

    def add(self, write: W, company: str | None, now: float) -> None:
        """A write of no company (None) never rests, and no company has to leave room for it."""
        flow = self._flows.setdefault(company, _Flow(decayed_at=now))
        flow.recent = flow.decay(now) + 1
        flow.waiting.append(write)

    def take(self, now: float) -> CommitGroup[W]:
        """Remove the next group from the queue; it is empty while nothing may be committed."""
        self._flows = {
            company: flow for company, flow in self._flows.items() if flow.waiting or flow.decay(now) > _FORGOTTEN
        }
        active = [flow.decay(now) for company, flow in self._flows.items() if company is not None]
        burst = max(_MANY, _TIMES_THE_LEAST * min((recent for recent in active if recent > _FEW), default=0))
        writes: list[W] = []
        bursting: list[str] = []
        next_at: float | None = None
        for company, flow in sorted(self._flows.items(), key=lambda each: len(each[1].waiting)):
            most = MAX_GROUP - len(writes)
            if company is not None and flow.recent > burst and flow.waiting:
                if flow.rests_until > now:
                    next_at = flow.rests_until if next_at is None else min(next_at, flow.rests_until)
                    continue
                bursting.append(company)
                most = min(most, MAX_BURST_WRITES)
            writes += [flow.waiting.popleft() for _ in range(min(most, len(flow.waiting)))]
        return CommitGroup(writes=writes, bursting=bursting, next_at=None if writes else next_at)

    def committed(self, group: CommitGroup[W], *, took_s: float, now: float) -> None:
        """The companies that burst rest in proportion to the time that their group took."""
        for company in group.bursting:
            if flow := self._flows.get(company):
                flow.rests_until = now + min(_REST_TO_WORK * took_s, LONGEST_REST_S)
