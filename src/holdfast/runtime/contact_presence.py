"""Presence of contacts: who is online, typing or recording, for one session.

The latest state of each contact is in memory. Changes become events at a bounded rate: contacts decide how often they
change, and events are rows. Subscriptions live as long as the session runs in this process; each link subscribes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from holdfast.base.clock import Clock, iso
from holdfast.base.errors import Conflict
from holdfast.delivery.events import PRESENCE, Body
from holdfast.delivery.rate_limits import Bucket, Pace
from holdfast.session.engine import PresenceSeen

MAX_SUBSCRIBED = 200
MAX_KNOWN = 2_000
PACE = Pace(per_minute=120, burst=60)
"""Events about the presence of all contacts of one session."""


class EventLog(Protocol):
    """Durable events that report no other stored change."""

    async def add(self, company: str, type_: str, body: Body, *, chat: str, at: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPresence:
    """The presence of one contact in one chat."""

    chat: str
    sender: str
    state: str
    at: str
    last_seen_at: str | None


class ContactPresence:
    def __init__(
        self, company: str, *, events: EventLog, clock: Clock, subscribe: Callable[[Sequence[str]], None]
    ) -> None:
        """`subscribe` asks WhatsApp, if there is a link."""
        self._company = company
        self._events = events
        self._clock = clock
        self._subscribe = subscribe
        self._bucket = Bucket(PACE)
        self._subscribed: dict[str, None] = {}
        self._known: dict[tuple[str, str], SeenPresence] = {}
        self._changes: asyncio.Queue[SeenPresence] = asyncio.Queue()

    @property
    def subscribed(self) -> Sequence[str]:
        return tuple(self._subscribed)

    def subscribe(self, chat: str) -> None:
        """Subscribe to the presence of a contact from now on, on every link. Raises `Conflict` past the limit."""
        if chat not in self._subscribed and len(self._subscribed) >= MAX_SUBSCRIBED:
            raise Conflict(
                f"company {self._company} is subscribed to the presence of {MAX_SUBSCRIBED} contacts: end one "
                "(DELETE …/contacts/{chat}/presence) before another",
                field="chat",
            )
        self._subscribed[chat] = None
        self._subscribe([chat])

    def unsubscribe(self, chat: str) -> None:
        """End the subscription: the next link does not request it any more. WhatsApp has no way to end it on the
        current link.
        """
        self._subscribed.pop(chat, None)

    def continue_from(self, before: ContactPresence) -> None:
        """Subscribe, from the next link on, to the contacts that the previous instance was subscribed to."""
        self._subscribed = dict(before._subscribed)

    def link_up(self) -> None:
        """WhatsApp forgets subscriptions with each link, and a contact may have come or gone meanwhile."""
        self._known.clear()
        if self._subscribed:
            self._subscribe(self.subscribed)

    def seen(self, chat: str) -> list[SeenPresence]:
        """The latest state of the people in a chat, as far as WhatsApp reported it on this link."""
        return [each for each in self._known.values() if each.chat == chat]

    def handle(self, report: PresenceSeen) -> None:
        now = self._clock.monotonic()
        last = report.last_seen_s
        seen = SeenPresence(
            chat=report.chat,
            sender=report.sender,
            state=report.state,
            at=iso(self._clock.now()),
            last_seen_at=None if last is None else iso(datetime.fromtimestamp(last, UTC)),
        )
        self._known.pop((seen.chat, seen.sender), None)
        self._known[seen.chat, seen.sender] = seen
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        if self._bucket.available(now) >= 1:
            self._bucket.spend(now)
            self._changes.put_nowait(seen)

    async def run(self) -> None:
        """Store events until cancelled."""
        while True:
            seen = await self._changes.get()
            body = {
                "companyId": self._company,
                "chat": seen.chat,
                "sender": seen.sender,
                "state": seen.state,
                "lastSeenAt": seen.last_seen_at,
            }
            await self._events.add(self._company, PRESENCE, body, chat=seen.chat, at=seen.at)
