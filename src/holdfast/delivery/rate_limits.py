"""How much one session may send now: pacing, the daily limit of new contacts, and WhatsApp's own locks.

WhatsApp bans numbers that send a lot, above all to strangers. So replies in known chats are sent at once, while bulk
messages and first messages to new contacts are paced. Everything here is pure: times are monotonic seconds, and
the outbox sender reports what it sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from math import inf
from typing import TypeVar

N = TypeVar("N", int, float)

_DAY_S = 86_400.0
_EPSILON_S = 1e-6
"""Token counts are floats: a moment this close to now counts as now."""

REACH_OUT_LOCK = "reach-out-lock"
"""Ack error 463: WhatsApp accepts no messages to new contacts from this number for a time."""
NEW_CHAT_QUOTA = "new-chat-quota"
"""Ack error 475: WhatsApp's quota of new chats is used up until the end of its cycle."""
DAILY_LIMIT = "daily-limit"
"""Holdfast's own limit of new contacts in 24 hours."""


class ContactStatus(IntEnum):
    """How well the company knows the recipient of a message."""

    KNOWN = 0
    """The recipient wrote to the company, or WhatsApp accepted a message to it; every group."""
    APPROACHED = 1
    """Not known, but a first message was already handed to the engine."""
    NEW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A token bucket: `burst` messages at once, then `per_minute`; 0 a minute means no limit."""

    per_minute: float
    burst: int

    def slowed(self, *, per_minute: float, burst: int) -> Pace:
        """This pace, or the given one where that is slower."""
        limited = min(self.per_minute, per_minute) if self.per_minute else per_minute
        return Pace(per_minute=limited, burst=min(self.burst, burst))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """The operator's limits for one session."""

    every: Pace = field(default_factory=lambda: Pace(per_minute=0, burst=50))
    """For all messages."""
    bulk: Pace = field(default_factory=lambda: Pace(per_minute=60, burst=20))
    """For messages with priority `bulk`."""
    new: Pace = field(default_factory=lambda: Pace(per_minute=20, burst=50))
    """For first messages to new contacts."""
    new_per_day: int = 250
    """New contacts within 24 hours; 0 means no limit."""
    gap_ms: int = 0
    """Minimum time between two messages; jitter adds up to as much again."""

    @property
    def tightened(self) -> Pacing:
        """The limits for a day after a temporary ban."""
        return replace(
            self,
            every=self.every.slowed(per_minute=20, burst=5),
            new=self.new.slowed(per_minute=2, burst=2),
            new_per_day=min(self.new_per_day or 20, 20),
        )


SETTABLE = {
    "perMinute": ("every", "per_minute"),
    "burst": ("every", "burst"),
    "bulkPerMinute": ("bulk", "per_minute"),
    "bulkBurst": ("bulk", "burst"),
    "newPerMinute": ("new", "per_minute"),
    "newBurst": ("new", "burst"),
}
"""The figures of paces that an operator can set: API name to (pace, field)."""


def pacing_with(pacing: Pacing, changes: Mapping[str, object]) -> Pacing:
    """`pacing` with the figures of `SETTABLE`, `newPerDay` and `gapMs` replaced; None leaves a figure as it is."""
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


TENANT = "tenant"
"""In the stored changes of a company: the changes that were made with a key limited to companies."""


def effective_pacing(pacing: Pacing, changes: Mapping[str, object]) -> Pacing:
    """The operator's changes replace figures of `pacing`; the tenant's, under `TENANT`, can only tighten the result."""
    limit = pacing_with(pacing, changes)
    own = changes.get(TENANT)
    if not isinstance(own, Mapping):
        return limit
    wanted = pacing_with(limit, own)
    return Pacing(
        every=_slower(limit.every, wanted.every),
        bulk=_slower(limit.bulk, wanted.bulk),
        new=_slower(limit.new, wanted.new),
        new_per_day=_least_limit(limit.new_per_day, wanted.new_per_day),
        gap_ms=max(limit.gap_ms, wanted.gap_ms),
    )


def loosened(limit: Pacing, changes: Mapping[str, object]) -> str | None:
    """The API name of the first figure in `changes` that would lift a limit; None when all are as tight or tighter."""
    for name, value in changes.items():
        if not isinstance(value, int | float):
            continue
        wanted = pacing_with(limit, {name: value})
        if effective_pacing(limit, {TENANT: {name: value}}) != wanted:
            return name
    return None


def _slower(limit: Pace, pace: Pace) -> Pace:
    if not limit.per_minute:
        return pace
    return Pace(per_minute=_least_limit(limit.per_minute, pace.per_minute), burst=min(limit.burst, pace.burst))


def _least_limit(limit: N, proposed: N) -> N:
    """The tighter of two limits, where 0 means no limit."""
    return min(limit, proposed) if limit and proposed else limit or proposed


class Bucket:
    """The tokens of one pace."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._left = float(pace.burst)
        self._counted_at = 0.0

    def available(self, now: float) -> float:
        """Whole messages that may leave now; infinite without a limit."""
        if not self.pace.per_minute:
            return inf
        self._refill(now)
        return float(int(self._left + _EPSILON_S))

    def ready_at(self, now: float) -> float:
        """When the next message may leave: `now`, or later."""
        if self.available(now) >= 1:
            return now
        return now + (1 - self._left) * 60 / self.pace.per_minute

    def spend(self, now: float) -> None:
        """One message left."""
        self._refill(now)
        self._left -= 1

    def _refill(self, now: float) -> None:
        gained = (now - self._counted_at) * self.pace.per_minute / 60
        self._left = min(self._left + gained, float(max(self.pace.burst, 1)))
        self._counted_at = now


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why messages to new contacts wait, and until when."""

    code: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How many messages may be sent now, in all and of each limited kind."""

    total: int
    bulk: int
    new: int
    """To contacts that are `NEW`."""
    approached: int
    """To contacts that are `APPROACHED`."""
    more_at: float | None
    """When a limit that is used up now allows the next message; None while no limit is used up."""
    suspects: bool = True
    """Whether a message that is suspected of ending links may be sent."""


class RateLimits:
    """The limits of one session and what has been used of them."""

    def __init__(self, pacing: Pacing, *, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._locks: dict[str, float] = {}
        self._first_contacts: deque[float] = deque()
        self._approached: set[str] = set()
        self._gap_ends = -inf
        self._set(pacing)

    def set_pacing(self, pacing: Pacing) -> None:
        """Apply other limits; equal limits keep what has been used."""
        if pacing != self.pacing:
            self._set(pacing)

    def _set(self, pacing: Pacing) -> None:
        self.pacing = pacing
        self._every, self._bulk, self._new = Bucket(pacing.every), Bucket(pacing.bulk), Bucket(pacing.new)

    def restore(self, *, first_contacts: Iterable[float], approached: Iterable[str]) -> None:
        """Restore what is stored: first contacts of the last 24 hours, oldest first, and approached chats."""
        self._first_contacts = deque(first_contacts)
        self._approached = set(approached)

    # Reports of the sender.

    def spend(self, chat: str, contact: ContactStatus, *, is_bulk: bool, now: float) -> None:
        """A message was handed to the engine."""
        self._every.spend(now)
        if is_bulk:
            self._bulk.spend(now)
        if contact is ContactStatus.NEW:
            self._new.spend(now)
            self._approached.add(chat)
        if self.pacing.gap_ms:
            self._gap_ends = now + self.pacing.gap_ms / 1000 * (1 + self._jitter())

    def acked(self, chat: str, contact: ContactStatus, now: float) -> None:
        """WhatsApp accepted a message to this chat."""
        if contact is not ContactStatus.KNOWN:
            self._first_contacts.append(now)
        self._approached.discard(chat)

    def forget(self, chat: str) -> None:
        """No message to this chat is pending any more, or it is known now: it does not count for the daily limit."""
        self._approached.discard(chat)

    def lock(self, code: str, until: float) -> None:
        """WhatsApp accepts no messages to new contacts until then; a past moment lifts the lock."""
        self._locks[code] = until

    def locked_until(self, code: str) -> float | None:
        """The end of this lock, which may be past; None when there was none or it was lifted."""
        return self._locks.get(code)

    def unlock(self, code: str) -> None:
        """WhatsApp lifted the lock."""
        self._locks.pop(code, None)

    # Allowances.

    def hold(self, now: float) -> Hold | None:
        """What holds messages to new contacts now; None when nothing does."""
        return self.longest_lock(now) or self._daily_limit(now)

    def allowance(self, now: float, *, room: int) -> Allowance:
        """What may be sent now, with `room` for that many messages."""
        lock = self.longest_lock(now)
        hold = lock or self._daily_limit(now)
        gap_at = self._gap_ends if self._gap_ends > now + _EPSILON_S else None
        total = 0 if gap_at is not None else min(room, self._every.available(now))
        if self.pacing.gap_ms:
            total = min(total, 1)
        new = 0 if hold else min(self._new.available(now), self._places_left(now))
        moments = [
            gap_at,
            None if hold is None else hold.until,
            *(bucket.ready_at(now) for bucket in (self._every, self._bulk, self._new) if bucket.available(now) < 1),
        ]
        return Allowance(
            total=int(total),
            bulk=int(min(total, self._bulk.available(now))),
            new=int(min(total, new)),
            approached=0 if lock else int(total),
            more_at=min((moment for moment in moments if moment is not None), default=None),
        )

    def longest_lock(self, now: float) -> Hold | None:
        """WhatsApp's lock that ends last; None while there is none."""
        held = [(until, code) for code, until in self._locks.items() if until > now + _EPSILON_S]
        if not held:
            return None
        until, code = max(held)
        return Hold(code=code, until=until)

    def _daily_limit(self, now: float) -> Hold | None:
        limit = self.pacing.new_per_day
        if not limit or self._places_left(now) > 0:
            return None
        counted = [*self._first_contacts, *(now for _ in self._approached)]
        return Hold(code=DAILY_LIMIT, until=counted[-limit] + _DAY_S)

    def _places_left(self, now: float) -> float:
        while self._first_contacts and self._first_contacts[0] <= now - _DAY_S:
            self._first_contacts.popleft()
        if not self.pacing.new_per_day:
            return inf
        return self.pacing.new_per_day - len(self._first_contacts) - len(self._approached)
