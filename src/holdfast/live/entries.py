"""The live-state records of this process, and when each must be written next. Pure: time is an argument.

A change is due at once; a change of the last activity alone a little later, so that a busy session costs few writes;
a record that doesn't change, long before its lifetime ends. The latest record wins; none is queued.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from holdfast.live.encoding import LIFETIME_S
from holdfast.session.stores import Record

ACTIVITY_S = 5
"""Minimum time between two writes of a record in which only the last activity changed."""
RENEW_S = LIFETIME_S / 3


@dataclass(frozen=True, slots=True)
class EntryChange:
    """What is to be written; without a record, its removal."""

    company: str
    record: Record | None


@dataclass(slots=True)
class _Entry:
    record: Record | None
    """None: to be removed."""
    written: Record | None = None
    """What Redis was last given; None when that is not known."""
    written_at: float = -math.inf
    due_at: float = -math.inf


class Entries:
    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def put(self, record: Record, *, now: float) -> bool:
        """True when it is due at once."""
        entry = self._entries.setdefault(record.company, _Entry(record))
        entry.record = record
        entry.due_at = _due_at(entry)
        return entry.due_at <= now

    def remove(self, company: str) -> None:
        self._entries[company] = _Entry(None)

    def release(self, company: str) -> None:
        self._entries.pop(company, None)

    def record(self, company: str) -> Record | None:
        entry = self._entries.get(company)
        return None if entry is None else entry.record

    def is_due(self, company: str, *, now: float) -> bool:
        entry = self._entries.get(company)
        return entry is not None and entry.due_at <= now

    def due(self, *, now: float) -> list[EntryChange]:
        return [EntryChange(company, entry.record) for company, entry in self._entries.items() if entry.due_at <= now]

    def is_current(self, change: EntryChange) -> bool:
        """Nothing was put, removed or released since `change` was due."""
        entry = self._entries.get(change.company)
        return entry is not None and entry.record is change.record

    @property
    def next_due(self) -> float:
        return min((entry.due_at for entry in self._entries.values()), default=math.inf)

    def wrote(self, change: EntryChange, *, now: float) -> None:
        """`change` was written to Redis; a record that was put since stays due."""
        entry = self._entries.get(change.company)
        if entry is None:
            return
        if entry.record is None and change.record is None:
            del self._entries[change.company]
            return
        entry.written, entry.written_at = change.record, now
        entry.due_at = _due_at(entry)

    @property
    def written(self) -> list[str]:
        """Companies whose record must be in Redis."""
        return [company for company, entry in self._entries.items() if entry.record and entry.written]

    def rewrite(self, companies: Iterable[str]) -> None:
        """Redis may have lost these: they are due at once."""
        for company in companies:
            if (entry := self._entries.get(company)) is not None:
                entry.written = None
                entry.due_at = _due_at(entry)

    def rewrite_all(self) -> None:
        self.rewrite(self._entries)


def _due_at(entry: _Entry) -> float:
    if entry.record is None or entry.written is None:
        return -math.inf
    if entry.record == entry.written:
        return entry.written_at + RENEW_S
    if replace(entry.record, last_activity=entry.written.last_activity) == entry.written:
        return entry.written_at + ACTIVITY_S
    return -math.inf
