"""Which messages of one session may leave now: in order within a chat, chats side by side.

One message of a chat is under way at a time, until WhatsApp's ack or a final failure settles it; so order holds
whatever is lost or retried. It must never touch disk or engine: the outbox sender asks and reports here.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message that is to be sent. `seq` orders messages of a session by acceptance."""

    seq: int
    id: str
    whatsapp_id: str
    chat: str


@dataclass(slots=True)
class _Chat:
    waiting: deque[Entry] = field(default_factory=deque)
    under_way: Entry | None = None
    rests: bool = False
    """Its first message is put back until a time."""


class Chats:
    """The messages of one session that are loaded to be sent. Times are monotonic seconds."""

    def __init__(self, *, most_under_way: int) -> None:
        self._most = most_under_way
        self._chats: dict[str, _Chat] = {}
        self._entries: dict[str, Entry] = {}
        self._ready: dict[str, None] = {}
        """Chats whose first message may leave, in the order in which they get their turn."""
        self._resting: list[tuple[float, int, str]] = []
        self._handed_at: dict[str, float] = {}
        """By WhatsApp id, for messages under way, oldest first."""

    def __len__(self) -> int:
        """Messages waiting or under way."""
        return len(self._entries)

    def __contains__(self, whatsapp_id: str) -> bool:
        """Is it waiting or under way?"""
        return whatsapp_id in self._entries

    def is_under_way(self, whatsapp_id: str) -> bool:
        """Was it taken, and is its outcome still open on the link that it was taken for?"""
        return whatsapp_id in self._handed_at

    def add(self, entry: Entry) -> None:
        """Queue a message behind all others of its chat."""
        self._entries[entry.whatsapp_id] = entry
        self._chats.setdefault(entry.chat, _Chat()).waiting.append(entry)
        self._review(entry.chat)

    def take(self, now: float) -> Iterator[Entry]:
        """The messages that may leave now; each is under way from here on."""
        self._wake(now)
        while self._ready and len(self._handed_at) < self._most:
            name = next(iter(self._ready))
            chat = self._chats[name]
            chat.under_way = entry = chat.waiting.popleft()
            self._handed_at[entry.whatsapp_id] = now
            self._review(name)
            yield entry

    def settle(self, whatsapp_id: str) -> None:
        """Sent, failed for good or cancelled: forget it, whether it waits or is under way."""
        entry = self._entries.pop(whatsapp_id, None)
        if entry is None:
            return
        if not self._end(entry):
            self._chats[entry.chat].waiting.remove(entry)
        self._review(entry.chat)

    def put_back(self, whatsapp_id: str, *, until: float) -> None:
        """What is under way is to be sent again, not before `until`; its chat waits with it."""
        entry = self._entries.get(whatsapp_id)
        if entry is None or not self._end(entry):
            return
        chat = self._chats[entry.chat]
        chat.waiting.appendleft(entry)
        chat.rests = True
        heapq.heappush(self._resting, (until, entry.seq, entry.chat))

    def lose_link(self) -> None:
        """The outcome of all that was under way is unknown: it goes first when there is a link again."""
        unsettled = [self._entries[whatsapp_id] for whatsapp_id in self._handed_at]
        waiting = self._ready
        self._ready = {}
        for entry in unsettled:
            self._end(entry)
            self._chats[entry.chat].waiting.appendleft(entry)
            self._review(entry.chat)
        self._ready |= waiting

    def handed_by(self, moment: float) -> list[str]:
        """WhatsApp ids of what was handed to the engine by `moment` and is still under way."""
        return [whatsapp_id for whatsapp_id, handed_at in self._handed_at.items() if handed_at <= moment]

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
            _, _, name = heapq.heappop(self._resting)
            if chat := self._chats.get(name):
                chat.rests = False
                self._review(name)

    def _end(self, entry: Entry) -> bool:
        """False when it was not under way."""
        chat = self._chats[entry.chat]
        if chat.under_way is not entry:
            return False
        chat.under_way = None
        del self._handed_at[entry.whatsapp_id]
        return True

    def _review(self, name: str) -> None:
        """Is this chat ready, busy, or of no use any more?"""
        chat = self._chats[name]
        if chat.waiting and chat.under_way is None and not chat.rests:
            self._ready[name] = None
            return
        self._ready.pop(name, None)
        if not chat.waiting and chat.under_way is None:
            del self._chats[name]
