"""What is kept for a number of days, and the store that removes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class RetainedRows(Enum):
    """Rows that are removed by age; each value is the end of "old …" in the log."""

    MESSAGES = "outbound messages"
    INBOX = "inbound messages"
    OPERATIONS = "operations"
    TIMELINE = "entries of the sessions' history"
    QUARANTINE = "credentials in quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one short transaction did."""

    removed: int
    continue_after: int | None
    """Where the next batch begins; None when no older row is left."""


class Retention(Protocol):
    async def remove_batch(self, retained: RetainedRows, *, before: str, now: str, after: int) -> Batch:
        """Remove rows older than `before` among the next few hundred row numbers after `after`.

        Rows of the future, from a time when the clock was wrong, are passed over.

        Never removed: messages and operations that are not settled yet, and each session's newest entry of its history.
        """

    async def reclaim_space(self) -> None:
        """After removals: give some space back, and let the database know how its tables have changed."""
