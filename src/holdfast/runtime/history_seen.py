"""How far the storage of a phone's history is, since the session's start in this process."""

from __future__ import annotations

from holdfast.session.engine import HistoryProgress


class HistorySeen:
    def __init__(self) -> None:
        self.messages = 0
        """Messages of the history that the phone sent."""
        self.percent: int | None = None
        """How much of the history the phone says it has sent."""
        self.is_running = False
        """A part is being stored."""

    def add(self, progress: HistoryProgress, messages: int) -> None:
        """A batch of a part of the history was reported."""
        self.messages += messages
        self.is_running = not progress.finished
        if progress.percent is not None:
            self.percent = min(max(progress.percent, 0), 100)

    @property
    def state(self) -> str:
        """`waiting`: the phone has sent nothing yet; `storing`, `idle`, `complete`."""
        if self.is_running:
            return "storing"
        if self.percent is None:
            return "idle" if self.messages else "waiting"
        return "complete" if self.percent == 100 else "idle"
