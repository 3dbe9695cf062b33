"""When an engine host last gave a sign of life."""

from __future__ import annotations


class Silence:
    """How long a host has been silent, not counting time in which this process's own event loop was blocked.

    A blocked loop reads nothing, so a healthy host would seem to hang. Any line counts as a sign of life, not only a
    heartbeat, which may wait behind megabytes of reports.
    """

    def __init__(self, *, now: float) -> None:
        self._since = now

    def end(self, *, now: float) -> None:
        self._since = now

    def excuse(self, late_s: float) -> None:
        """A timer of this process fired this much too late."""
        self._since += max(late_s, 0)

    def lasted_s(self, *, now: float) -> float:
        return max(now - self._since, 0)
