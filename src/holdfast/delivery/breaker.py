"""The circuit breaker of one session: when WhatsApp refuses one message after another, whatever they contain.

Errors such as 429 or 503 say nothing about a message. After refusals in several chats in a row the breaker opens:
nothing is sent for a while. Then one message probes, and its answer closes the breaker or prolongs the pause. Times are
monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable

_CHATS = 3
"""Different chats refused in a row, without an accepted message between, that open it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0


class Breaker:
    def __init__(self, *, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._refused: set[str] = set()
        self._pauses = 0
        self._open_until: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the session is pausing or probing."""
        return self._open_until is not None

    def refused(self, chat: str, now: float) -> bool:
        """WhatsApp refused a message for a general reason; True when that opens the breaker."""
        self._refused.add(chat)
        if self._open_until is None and len(self._refused) < _CHATS:
            return False
        if self._open_until is not None and now < self._open_until:
            return False  # sent before the breaker opened
        opens = self._open_until is None
        pause_s = min(_FIRST_PAUSE_S * 2**self._pauses, _LONGEST_PAUSE_S)
        self._pauses = min(self._pauses + 1, 10)
        self._open_until = now + pause_s * (1 + 0.1 * self._jitter())
        return opens

    def accepted(self) -> bool:
        """WhatsApp accepted a message; True when that closes the breaker."""
        was_open = self.is_open
        self._refused.clear()
        self._pauses = 0
        self._open_until = None
        return was_open

    def room(self, now: float, *, room: int, is_idle: bool) -> int:
        """How many messages may be sent, `room` at most; one at a time while it probes."""
        if self._open_until is None:
            return room
        return min(room, 1) if is_idle and now >= self._open_until else 0

    def probes_at(self, now: float) -> float | None:
        """When the next probe may be sent; None if it may be sent now."""
        return self._open_until if self._open_until is not None and self._open_until > now else None
