"""May this message leave now? Pacing, the daily limit of new contacts, and WhatsApp's reach-out lock, for one session.

A chat is *known* when the company was heard from in it, or WhatsApp took a message to it. Known chats pass every limit
that concerns new contacts. Groups are known. Times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from holdfast.delivery.chats import Entry
from holdfast.delivery.pacing import Bucket, Pacing

_DAY_S = 86_400.0
_NEAR_S = 1e-6
"""A moment that is as good as now: floats of a bucket are not exact."""

REACH_OUT_LOCK = "reach-out-lock"
DAILY_LIMIT = "daily-limit"


@dataclass(frozen=True, slots=True)
class Hold:
    """Messages to new contacts wait, for a reason with a stable code, until a time."""

    code: str
    until: float


class Admission:
    """`admit` takes what it admits into account; a message that is refused costs nothing."""

    def __init__(self, pacing: Pacing, *, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._known: set[str] = set()
        self._locked_until = -inf
        self._first_contacts: deque[float] = deque()
        self._approached: set[str] = set()
        """Chats that are not known, and to which a message is on its way."""
        self._gap_ends = -inf
        self.wakes_at: float | None = None
        """When something that was refused since the last `begin` may be admitted."""
        self._set(pacing)

    def set_pacing(self, pacing: Pacing) -> None:
        """Other limits from now on; what was used up of equal ones stays used."""
        if pacing != self.pacing:
            self._set(pacing)

    def _set(self, pacing: Pacing) -> None:
        self.pacing = pacing
        self._every, self._bulk, self._new = Bucket(pacing.every), Bucket(pacing.bulk), Bucket(pacing.new)

    # What is known.

    def know(self, chats: Iterable[str]) -> None:
        """These chats are known from now on."""
        self._known.update(chats)

    def knows(self, chat: str) -> bool:
        return chat in self._known or chat.endswith("@g.us")

    def first_contacts(self, moments: Iterable[float]) -> None:
        """When people were written to for the first time, oldest first: all of the last 24 hours."""
        self._first_contacts = deque(moments)

    def acked(self, chat: str, now: float) -> None:
        """WhatsApp took a message to this chat."""
        if not self.knows(chat):
            self._first_contacts.append(now)
            self._known.add(chat)
        self._approached.discard(chat)

    def failed(self, chat: str) -> None:
        """A message to this chat did not arrive and will not."""
        self._approached.discard(chat)

    # What holds.

    def lock(self, until: float) -> None:
        """WhatsApp takes no messages to new contacts until then; a moment that is past ends the lock."""
        self._locked_until = until

    def hold(self, now: float) -> Hold | None:
        """What holds messages to new contacts now."""
        if self._locked_until > now:
            return Hold(REACH_OUT_LOCK, self._locked_until)
        while self._first_contacts and self._first_contacts[0] <= now - _DAY_S:
            self._first_contacts.popleft()
        most = self.pacing.new_per_day
        counted = [*self._first_contacts, *(now for _ in self._approached)]
        if most and len(counted) >= most:
            return Hold(DAILY_LIMIT, counted[-most] + _DAY_S)
        return None

    def holds(self, entry: Entry, now: float) -> bool:
        """Is it to a new contact, and held as such?"""
        if self.knows(entry.chat):
            return False
        return self._locked_until > now or (entry.chat not in self._approached and self.hold(now) is not None)

    # Admitting.

    def begin(self) -> None:
        """A new round of `admit`."""
        self.wakes_at = None

    def is_open(self, now: float) -> bool:
        """Could any message leave now?"""
        ready_at = max(self._every.ready_at(now), self._gap_ends)
        return self._is_now(ready_at, now)

    def admit(self, entry: Entry, now: float) -> bool:
        """May it leave now? Then it counts as left."""
        buckets = [self._every]
        if entry.is_bulk:
            buckets.append(self._bulk)
        is_new = not self.knows(entry.chat) and entry.chat not in self._approached
        if self._locked_until > now and not self.knows(entry.chat):
            return self._is_now(self._locked_until, now)
        if is_new:
            held = self.hold(now)
            if held is not None:
                return self._is_now(held.until, now)
            buckets.append(self._new)
        if not self._is_now(max(self._gap_ends, *(bucket.ready_at(now) for bucket in buckets)), now):
            return False
        for bucket in buckets:
            bucket.take(now)
        if is_new:
            self._approached.add(entry.chat)
        self._gap_ends = now + self.pacing.gap_ms / 1000 * (1 + self._jitter()) if self.pacing.gap_ms else -inf
        return True

    def _is_now(self, moment: float, now: float) -> bool:
        if moment <= now + _NEAR_S:
            return True
        self.wakes_at = moment if self.wakes_at is None else min(self.wakes_at, moment)
        return False
