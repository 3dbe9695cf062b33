"""Which messages of one session may leave now: in order within a chat, chats side by side.

One message of a chat is under way at a time, until WhatsApp's ack or a final failure settles it; so order holds
whatever is lost or retried. Chats in which something urgent waits go before those with bulk only. It must never touch
disk or engine: the outbox sender asks and reports here. Times are monotonic seconds.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message that is to be sent. `seq` orders messages of a session by acceptance."""

    seq: int
    id: str
    whatsapp_id: str
    chat: str
    is_bulk: bool = False
    """It may wait for others."""


@dataclass(slots=True)
class _Chat:
    waiting: deque[Entry] = field(default_factory=deque)
    under_way: Entry | None = None
    reserved: bool = False
    """For a message that is about to be under way."""
    rests_until: float | None = None
    """Its first message is put back until a time."""
    urgent: int = 0
    """Messages waiting that are not bulk."""

    @property
    def is_busy(self) -> bool:
        return self.under_way is not None or self.reserved


class Chats:
    """The messages of one session that are loaded to be sent."""

    def __init__(self, *, most_under_way: int) -> None:
        self._most = most_under_way
        self._chats: dict[str, _Chat] = {}
        self._entries: dict[str, Entry] = {}
        self._ready: tuple[dict[str, None], dict[str, None]] = ({}, {})
        """Chats whose first message may leave, in the order in which they get their turn: urgent ones, and bulk."""
        self._resting: list[tuple[float, int, str]] = []
        self._handed_at: dict[str, float] = {}
        """By WhatsApp id, for messages under way, oldest first."""
        self._unanswered: dict[str, float] = {}
        """Since when they wait for WhatsApp's answer; without those that the engine has still to make."""
        self._reserved = 0

    def __len__(self) -> int:
        """Messages waiting or under way."""
        return len(self._entries)

    def __contains__(self, whatsapp_id: str) -> bool:
        """Is it waiting or under way?"""
        return whatsapp_id in self._entries

    def is_under_way(self, whatsapp_id: str) -> bool:
        """Was it taken, and is its outcome still open on the link that it was taken for?"""
        return whatsapp_id in self._handed_at

    def is_busy(self, name: str) -> bool:
        """Is a message of this chat under way, or about to be?"""
        return name in self._chats and self._chats[name].is_busy

    def could_leave(self, whatsapp_id: str) -> bool:
        """Does it wait, first in a chat that neither rests nor is busy?"""
        entry = self._entries.get(whatsapp_id)
        if entry is None or not any(entry.chat in ready for ready in self._ready):
            return False
        return self._chats[entry.chat].waiting[0] is entry

    def entry(self, whatsapp_id: str) -> Entry | None:
        """One that waits or is under way."""
        return self._entries.get(whatsapp_id)

    def add(self, entry: Entry) -> None:
        """Queue a message by its number, in most cases behind all others of its chat."""
        chat = self._chats.setdefault(entry.chat, _Chat())
        self._entries[entry.whatsapp_id] = entry
        if not chat.waiting or chat.waiting[-1].seq < entry.seq:
            chat.waiting.append(entry)
        else:
            insort(chat.waiting, entry, key=lambda each: each.seq)
        chat.urgent += not entry.is_bulk
        self._review(entry.chat)

    # A message that can leave as soon as it is stored.

    def reserve(self, name: str) -> bool:
        """Keep an idle chat's turn, and a place among those under way, for a message that is being stored."""
        if name in self._chats or self._under_way >= self._most:
            return False
        self._chats[name] = _Chat(reserved=True)
        self._reserved += 1
        return True

    def give_back(self, name: str) -> None:
        """Nothing came of it."""
        self._chats[name].reserved = False
        self._reserved -= 1
        self._review(name)

    def begin(self, entry: Entry, now: float, *, answered_later: bool = False) -> None:
        """The message that the turn was kept for is under way."""
        chat = self._chats[entry.chat]
        chat.reserved = False
        self._reserved -= 1
        if (loaded := self._entries.get(entry.whatsapp_id)) is not None:
            self._withdraw(chat, loaded)
        self._entries[entry.whatsapp_id] = entry
        self._start(chat, entry, now)
        if answered_later:
            self.wait_for_engine(entry.whatsapp_id)

    # Those that wait.

    def take(self, now: float, *, admit: Callable[[Entry], bool] = lambda _: True) -> Iterator[Entry]:
        """The messages that may leave now; each is under way from here on. Those not admitted keep their place."""
        self._wake(now)
        for ready in self._ready:
            for name in list(ready):
                if self._under_way >= self._most:
                    return
                chat = self._chats[name]
                entry = chat.waiting[0]
                if not admit(entry):
                    continue
                chat.waiting.popleft()
                chat.urgent -= not entry.is_bulk
                self._start(chat, entry, now)
                self._review(name)
                yield entry

    def settle(self, whatsapp_id: str) -> None:
        """Sent, failed for good or cancelled: forget it, whether it waits or is under way."""
        entry = self._entries.pop(whatsapp_id, None)
        if entry is None:
            return
        if not self._end(entry):
            self._withdraw(self._chats[entry.chat], entry)
        self._review(entry.chat)

    def put_back(self, whatsapp_id: str, *, until: float) -> None:
        """What is under way is to be sent again, not before `until`; its chat waits with it."""
        entry = self._entries.get(whatsapp_id)
        if entry is None or not self._end(entry):
            return
        chat = self._chats[entry.chat]
        self._first(chat, entry)
        chat.rests_until = until
        self._review(entry.chat)
        heapq.heappush(self._resting, (until, entry.seq, entry.chat))

    def rouse(self) -> None:
        """What was put back until a time may go on now."""
        for _, _, name in self._resting:
            if chat := self._chats.get(name):
                chat.rests_until = None
                self._review(name)
        self._resting.clear()

    def lose_link(self) -> None:
        """The outcome of all that was under way is unknown: it goes first when there is a link again."""
        unsettled = [self._entries[whatsapp_id] for whatsapp_id in self._handed_at]
        waiting = self._ready
        self._ready = ({}, {})
        for entry in unsettled:
            self._end(entry)
            self._first(self._chats[entry.chat], entry)
            self._review(entry.chat)
        for ready, others in zip(self._ready, waiting, strict=True):
            ready |= others

    def wait_for_engine(self, whatsapp_id: str) -> None:
        """The engine has long work with it before WhatsApp could answer: media to upload."""
        self._unanswered.pop(whatsapp_id, None)

    def written(self, whatsapp_id: str, now: float) -> None:
        """From now on WhatsApp could answer."""
        if whatsapp_id in self._handed_at and whatsapp_id not in self._unanswered:
            self._unanswered[whatsapp_id] = now

    def unanswered_by(self, moment: float) -> list[str]:
        """WhatsApp ids of what could have been answered since `moment` or before, and is still under way."""
        return [whatsapp_id for whatsapp_id, since in self._unanswered.items() if since <= moment]

    def handed_by(self, moment: float) -> list[str]:
        """WhatsApp ids of what was handed to the engine by `moment` and is still under way."""
        return [whatsapp_id for whatsapp_id, handed_at in self._handed_at.items() if handed_at <= moment]

    @property
    def is_full(self) -> bool:
        """Are as many under way as may be?"""
        return self._under_way >= self._most

    @property
    def unacked_since(self) -> float | None:
        """Since when the oldest message under way waits for WhatsApp's answer; None when none does."""
        return next(iter(self._unanswered.values()), None)

    @property
    def handed_since(self) -> float | None:
        """When the oldest message under way was handed to the engine; None when there is none."""
        return next(iter(self._handed_at.values()), None)

    @property
    def wakes_at(self) -> float | None:
        """When the next resting chat may go on."""
        return self._resting[0][0] if self._resting else None

    @property
    def _under_way(self) -> int:
        return len(self._handed_at) + self._reserved

    def _start(self, chat: _Chat, entry: Entry, now: float) -> None:
        chat.under_way = entry
        self._handed_at[entry.whatsapp_id] = now
        self._unanswered[entry.whatsapp_id] = now

    def _withdraw(self, chat: _Chat, entry: Entry) -> None:
        """It waits no more; and when it was what rested, its chat rests no more."""
        if chat.waiting[0] is entry:
            chat.rests_until = None
        chat.waiting.remove(entry)
        chat.urgent -= not entry.is_bulk

    def _first(self, chat: _Chat, entry: Entry) -> None:
        chat.waiting.appendleft(entry)
        chat.urgent += not entry.is_bulk

    def _wake(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            until, _, name = heapq.heappop(self._resting)
            chat = self._chats.get(name)
            if chat is not None and chat.rests_until == until:  # not put back once more since
                chat.rests_until = None
                self._review(name)

    def _end(self, entry: Entry) -> bool:
        """False when it was not under way."""
        chat = self._chats[entry.chat]
        if chat.under_way is not entry:
            return False
        chat.under_way = None
        del self._handed_at[entry.whatsapp_id]
        self._unanswered.pop(entry.whatsapp_id, None)
        return True

    def _review(self, name: str) -> None:
        """Is this chat ready – as an urgent one, as bulk –, busy, or of no use any more?"""
        chat = self._chats[name]
        is_ready = bool(chat.waiting) and not chat.is_busy and chat.rests_until is None
        for ready, belongs in zip(self._ready, (chat.urgent > 0, chat.urgent == 0), strict=True):
            if is_ready and belongs:
                ready[name] = None
            else:
                ready.pop(name, None)
        if not chat.waiting and not chat.is_busy:
            del self._chats[name]
