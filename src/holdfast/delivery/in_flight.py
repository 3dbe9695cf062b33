"""The messages of one session that the engine has now, at most one of each chat. Times are monotonic seconds.

All other messages are in the outbox. A message is in flight from the moment in which it is taken from the outbox until
WhatsApp's answer, a refusal, or the end of the link.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from holdfast.delivery.stores import Outgoing

UNANSWERED_S = 30
"""A message that is unacked for this long, on a link that acks others, is sent again under its id."""
UNWRITTEN_S = 900
"""The same timeout before a message has a frame: uploading large media takes long on a slow line."""


@dataclass(slots=True)
class _Flight:
    message: Outgoing
    taken_at: float
    is_slow: bool
    written_at: float | None = None
    """When its frame left."""

    @property
    def answerable_since(self) -> float | None:
        """Since when WhatsApp could have answered; None while the engine still prepares a slow message."""
        return self.written_at if self.is_slow else self.taken_at


class InFlight:
    """At most `limit` messages, oldest first."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._flights: dict[str, _Flight] = {}
        self._reserved: set[str] = set()

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def room(self) -> int:
        """How many more messages may be taken."""
        return self._limit - len(self._flights) - len(self._reserved)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in flight or reserved."""
        return self.room == self._limit

    @property
    def whatsapp_ids(self) -> Collection[str]:
        """Messages that must not be taken from the outbox again: in flight, or being stored with a reservation."""
        return self._flights.keys() | self._reserved

    @property
    def messages(self) -> list[Outgoing]:
        return [flight.message for flight in self._flights.values()]

    @property
    def unwritten(self) -> list[Outgoing]:
        """Messages whose frame has not left yet."""
        return [flight.message for flight in self._flights.values() if flight.written_at is None]

    def get(self, whatsapp_id: str) -> Outgoing | None:
        flight = self._flights.get(whatsapp_id)
        return None if flight is None else flight.message

    # Changes.

    def reserve(self, whatsapp_id: str) -> None:
        """Reserve room for a message that is being stored and may be sent in the same transaction."""
        self._reserved.add(whatsapp_id)

    def release(self, whatsapp_id: str) -> None:
        """Release a reservation; the message was not stored, or must wait."""
        self._reserved.discard(whatsapp_id)

    def add(self, message: Outgoing, now: float, *, is_slow: bool = False) -> None:
        """The engine gets this message. A slow one (media, typing) can be answered only after `written`."""
        self.release(message.whatsapp_id)
        self._flights[message.whatsapp_id] = _Flight(message, now, is_slow)

    def written(self, whatsapp_id: str, now: float) -> None:
        """Its frame left: from now on WhatsApp can answer."""
        flight = self._flights.get(whatsapp_id)
        if flight is not None and flight.written_at is None:
            flight.written_at = now

    def remove(self, whatsapp_id: str) -> Outgoing | None:
        """The message is settled, refused or put back into the outbox; None when it was not in flight."""
        flight = self._flights.pop(whatsapp_id, None)
        return None if flight is None else flight.message

    def clear(self) -> None:
        """The link ended: the outcome of every message in flight is unknown."""
        self._flights.clear()

    # Waits for answers.

    def overdue(self, now: float) -> list[tuple[str, int]]:
        """WhatsApp ids of messages that have waited too long, and for how many seconds that is."""
        waits = ((self._answerable, UNANSWERED_S), (self._unanswerable, UNWRITTEN_S))
        return [(id_, seconds) for since, seconds in waits for id_, at in since.items() if at <= now - seconds]

    @property
    def overdue_at(self) -> float | None:
        """When the next message will be overdue; None when nothing is in flight."""
        waits = ((self._answerable, UNANSWERED_S), (self._unanswerable, UNWRITTEN_S))
        return min((at + seconds for since, seconds in waits for at in since.values()), default=None)

    def answerable_after(self, moment: float) -> list[Outgoing]:
        """Messages whose frame left at `moment` or later."""
        return [self._flights[id_].message for id_, since in self._answerable.items() if since >= moment]

    @property
    def unacked_since(self) -> float | None:
        """Since when the oldest message waits for WhatsApp's answer; None when none does."""
        return min(self._answerable.values(), default=None)

    @property
    def _answerable(self) -> dict[str, float]:
        return {
            id_: flight.answerable_since for id_, flight in self._flights.items() if flight.answerable_since is not None
        }

    @property
    def _unanswerable(self) -> dict[str, float]:
        return {id_: flight.taken_at for id_, flight in self._flights.items() if flight.answerable_since is None}
