"""Counts since the process started; a restart fault does not reset them."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

_TIMES_KEPT = 1000


@dataclass(slots=True)
class NumberStats:
    logins: int = 0
    refused: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES_KEPT))


@dataclass(slots=True)
class Stats:
    connects: int = 0
    connect_times: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES_KEPT))
    logins: int = 0
    logins_refused: int = 0
    closes: int = 0
    refused: int = 0
    unknown_queries: int = 0
    queries: Counter[str] = field(default_factory=Counter)
    """Queries of logged-in devices by xmlns."""
    failed_queries: Counter[str] = field(default_factory=Counter)
    """Queries that were answered with an error."""
    protocol_errors: int = 0
    numbers: dict[str, NumberStats] = field(default_factory=dict)

    def of(self, number: str) -> NumberStats:
        return self.numbers.setdefault(number, NumberStats())
