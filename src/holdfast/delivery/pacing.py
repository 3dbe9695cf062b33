"""How fast one session writes: what keeps a number from looking like a spammer's. Times are seconds.

WhatsApp bans numbers that write much, and above all to strangers. So answers within known chats go out as they come,
while messages to new contacts and those that are marked as bulk are spread out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`burst` messages at once, then `per_minute`; 0 a minute: no limit."""

    per_minute: float
    burst: int

    def slowed(self, *, per_minute: float, burst: int) -> Pace:
        """Not faster than that."""
        limited = min(self.per_minute, per_minute) if self.per_minute else per_minute
        return Pace(per_minute=limited, burst=min(self.burst, burst))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """The pace of one session, and its limits for new contacts."""

    every: Pace = field(default_factory=lambda: Pace(per_minute=0, burst=50))
    """Of all messages."""
    bulk: Pace = field(default_factory=lambda: Pace(per_minute=60, burst=20))
    """Of those marked as bulk."""
    new: Pace = field(default_factory=lambda: Pace(per_minute=20, burst=50))
    """Of first messages to people who are not known yet."""
    new_per_day: int = 250
    """People written to for the first time within 24 hours; 0: no limit."""
    gap_ms: int = 0
    """Least time between two messages; up to as much again is added by chance."""

    @property
    def tightened(self) -> Pacing:
        """After a temporary ban: little, and hardly to strangers."""
        return replace(
            self,
            every=self.every.slowed(per_minute=20, burst=5),
            new=self.new.slowed(per_minute=2, burst=2),
            new_per_day=min(self.new_per_day or 20, 20),
        )


class Bucket:
    """Tokens of one pace. `take` only when `ready_at` says now."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._left = float(pace.burst)
        self._counted_at = 0.0

    def ready_at(self, now: float) -> float:
        """When the next message may leave: `now`, or later."""
        if not self.pace.per_minute:
            return now
        self._count(now)
        missing = 1 - self._left
        return now if missing <= 0 else now + missing * 60 / self.pace.per_minute

    def take(self, now: float) -> None:
        self._count(now)
        self._left -= 1

    def _count(self, now: float) -> None:
        gained = (now - self._counted_at) * self.pace.per_minute / 60
        self._left = min(self._left + gained, float(max(self.pace.burst, 1)))
        self._counted_at = now


SETTABLE = {
    "perMinute": ("every", "per_minute"),
    "burst": ("every", "burst"),
    "bulkPerMinute": ("bulk", "per_minute"),
    "bulkBurst": ("bulk", "burst"),
    "newPerMinute": ("new", "per_minute"),
    "newBurst": ("new", "burst"),
}
"""What an operator may set of the paces: name -> pace and its field."""


def pacing_with(pacing: Pacing, changes: Mapping[str, object]) -> Pacing:
    """The pacing with some of its figures changed: those of `SETTABLE`, `newPerDay` and `gapMs`. None: unchanged."""
    for name, value in changes.items():
        if not isinstance(value, int | float):
            continue
        if name in SETTABLE:
            pace, figure = SETTABLE[name]
            pacing = replace(pacing, **{pace: replace(getattr(pacing, pace), **{figure: value})})
        elif name == "newPerDay":
            pacing = replace(pacing, new_per_day=int(value))
        elif name == "gapMs":
            pacing = replace(pacing, gap_ms=int(value))
    return pacing
