"""What the sender of one session knows about the queue in its outbox, and when it must query the queue again.

The queue is in the database, so the sender queries it only when something may be due. Times are monotonic
seconds.
"""

from __future__ import annotations

from enum import StrEnum, auto

SUSPECT_WAITS_S = 30.0
"""When a suspect has been due for this long, everything else pauses until it has been sent alone."""
SUSPECT_LINK_S = 5.0
"""A suspect is sent only on a link that has been open for this long. If it were sent at once, it would be in flight,
and be blamed, each time a link ends soon after opening for an unrelated reason."""
SUSPECT_PATIENCE_S = 600.0
"""A suspect that has been due for this long is sent on any link, because perhaps none of them lasts longer."""


class QueueKnowledge(StrEnum):
    """What the last query found, and whether that still holds."""

    EMPTY = auto()
    """Every open message is in flight."""
    WAITING = auto()
    """Messages wait, and none of them is due and allowed."""
    QUERYING = auto()
    """A query is in progress, and nothing has changed since it began."""
    UNKNOWN = auto()
    """Something may have become due or allowed."""


class QueueQuery(StrEnum):
    """Whether to query the queue."""

    NONE = auto()
    """Nothing can be due."""
    IF_MADE_DUE = auto()
    """Only a message can be due that became the first of its chat by the updates that are about to be committed."""
    FULL = auto()


class QueueWatch:
    def __init__(self) -> None:
        self._knows = QueueKnowledge.UNKNOWN
        self._due_at: float | None = None
        """When the next waiting chat becomes due, or a limit allows more."""
        self._suspect_since: float | None = None
        """Since when a message that may end links has been due while others were sent first."""
        self._suspects_from = 0.0
        """When the present link has been open for long enough to send one."""

    @property
    def is_empty(self) -> bool:
        return self._knows is QueueKnowledge.EMPTY

    @property
    def may_be_due(self) -> bool:
        """Whether a message may be due and allowed. No message that is accepted now may overtake it."""
        return self._knows in {QueueKnowledge.UNKNOWN, QueueKnowledge.QUERYING}

    def changed(self) -> None:
        """Record that messages were added, or that something may have become due or allowed."""
        self._knows = QueueKnowledge.UNKNOWN

    def link_opened(self, now: float) -> None:
        """Messages can be sent now; suspects have to wait, unless one has waited for too long."""
        has_waited = self._suspect_since is not None and now - self._suspect_since >= SUSPECT_PATIENCE_S
        self._suspects_from = now if has_waited else now + SUSPECT_LINK_S
        self.changed()

    def advance(self, now: float) -> None:
        """Update the knowledge with what has become due by now."""
        if self._due_at is not None and self._due_at <= now:
            self._due_at = None
            self.changed()

    def next_query(self, *, has_updates: bool, drains: bool) -> QueueQuery:
        """`has_updates`: status updates are about to be committed. `drains`: a suspect must be sent next."""
        if self.may_be_due or drains:
            return QueueQuery.FULL
        if not has_updates or self.is_empty:
            return QueueQuery.NONE
        # A suspect is sent when nothing is in flight, whatever chat it is in.
        return QueueQuery.IF_MADE_DUE if self._suspect_since is None else QueueQuery.FULL

    def expect(self, moment: float | None) -> None:
        """Something may be due or allowed at that moment."""
        self._due_at = earliest(self._due_at, moment)

    def query_begins(self) -> None:
        self._knows = QueueKnowledge.QUERYING

    def query_found_nothing_due(self) -> None:
        """`QueueQuery.IF_MADE_DUE`, and the updates made nothing due: what was known before still holds."""
        if self._knows is QueueKnowledge.QUERYING:
            self._knows = QueueKnowledge.WAITING

    def query_ended(self, now: float, *, has_more: bool, is_limited: bool, suspect_waits: bool) -> None:
        """`is_limited`: as much was taken as a limit allows, so that more may be due."""
        self._suspect_since = (self._suspect_since or now) if suspect_waits else None
        if suspect_waits and not self.allows_suspects(now):
            self.expect(self._suspects_from)
        if is_limited:
            self.changed()
        elif self._knows is QueueKnowledge.QUERYING:
            self._knows = QueueKnowledge.WAITING if has_more else QueueKnowledge.EMPTY

    # Messages that may end links.

    def allows_suspects(self, now: float) -> bool:
        """Whether the link has been open for long enough to send a suspect."""
        return now >= self._suspects_from

    def suspect_is_overdue(self, now: float) -> bool:
        """Whether a suspect has waited so long that everything else must pause until it has been sent alone."""
        return self._suspect_due_at is not None and now >= self._suspect_due_at

    @property
    def _suspect_due_at(self) -> float | None:
        """When everything else pauses for a suspect."""
        return None if self._suspect_since is None else max(self._suspect_since + SUSPECT_WAITS_S, self._suspects_from)

    def wakes_at(self, *, drains: bool) -> float | None:
        """When the sender must query again if nothing happens before. `drains`: only messages in flight may be
        settled."""
        return earliest(self._due_at, None if drains else self._suspect_due_at)


def earliest(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)
