"""Which messages of one session may leave now: in order within a chat, chats side by side.

One message of a chat is under way at a time, until WhatsApp's ack or a final failure settles it; so order holds
whatever is lost or retried. It must never touch disk or engine: the outbox sender asks and reports here.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message that is to be sent. `seq` orders messages of a session by acceptance."""

    seq: int
    id: str
    whatsapp_id: str
    chat: str


class Chats:
    """The messages of one session that are loaded to be sent. Times are monotonic seconds."""

    def __init__(self, *, most_under_way: int) -> None:
        self._most = most_under_way
        self._waiting: dict[str, deque[Entry]] = {}
        self._ready: dict[str, None] = {}
        """Chats whose first waiting message may leave, in the order in which they get their turn."""
        self._resting: list[tuple[float, int, str]] = []
        self._under_way: dict[str, Entry] = {}
        self._handed_at: dict[str, float] = {}

    def __len__(self) -> int:
        """Messages waiting or under way."""
        return sum(map(len, self._waiting.values())) + len(self._under_way)

    def add(self, entry: Entry) -> None:
        """Queue a message behind all others of its chat."""
        if entry.chat in self._waiting:
            self._waiting[entry.chat].append(entry)
            return
        self._waiting[entry.chat] = deque([entry])
        self._ready[entry.chat] = None

    def take(self, now: float) -> Iterator[Entry]:
        """The messages that may leave now; each is under way from here on."""
        self._wake(now)
        while self._ready and len(self._under_way) < self._most:
            chat = next(iter(self._ready))
            del self._ready[chat]
            entry = self._waiting[chat].popleft()
            self._under_way[entry.whatsapp_id] = entry
            self._handed_at[entry.whatsapp_id] = now
            yield entry

    def under_way(self, whatsapp_id: str) -> Entry | None:
        return self._under_way.get(whatsapp_id)

    def settle(self, whatsapp_id: str) -> None:
        """Sent, or failed for good: the next of its chat may leave."""
        entry = self._end(whatsapp_id)
        if entry is None:
            return
        if self._waiting[entry.chat]:
            self._ready[entry.chat] = None
        else:
            del self._waiting[entry.chat]

    def put_back(self, whatsapp_id: str, *, until: float) -> None:
        """It is to be sent again, not before `until`; its chat waits with it."""
        entry = self._end(whatsapp_id)
        if entry is None:
            return
        self._waiting[entry.chat].appendleft(entry)
        heapq.heappush(self._resting, (until, entry.seq, entry.chat))

    def remove(self, whatsapp_id: str) -> bool:
        """Forget a message that waits (cancelled, expired). False when it is under way or unknown."""
        for chat, entries in self._waiting.items():
            for entry in entries:
                if entry.whatsapp_id == whatsapp_id:
                    entries.remove(entry)
                    self._forget_if_empty(chat)
                    return True
        return False

    def lose_link(self) -> None:
        """The outcome of all that was under way is unknown: it goes first when there is a link again."""
        unsettled = sorted(self._under_way.values(), key=lambda entry: entry.seq)
        for entry in unsettled:
            self._waiting[entry.chat].appendleft(entry)
        self._ready = {entry.chat: None for entry in unsettled} | self._ready
        self._under_way.clear()
        self._handed_at.clear()

    @property
    def unacked_since(self) -> float | None:
        """When the oldest message under way was handed to the engine; None when there is none."""
        return next(iter(self._handed_at.values()), None)

    @property
    def wakes_at(self) -> float | None:
        """When the next resting chat may go on."""
        return self._resting[0][0] if self._resting else None

    def _wake(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            _, _, chat = heapq.heappop(self._resting)
            if self._waiting.get(chat) and not self._is_under_way(chat):
                self._ready[chat] = None

    def _end(self, whatsapp_id: str) -> Entry | None:
        self._handed_at.pop(whatsapp_id, None)
        return self._under_way.pop(whatsapp_id, None)

    def _forget_if_empty(self, chat: str) -> None:
        if not self._waiting[chat] and not self._is_under_way(chat):
            del self._waiting[chat]
            self._ready.pop(chat, None)

    def _is_under_way(self, chat: str) -> bool:
        return any(entry.chat == chat for entry in self._under_way.values())
