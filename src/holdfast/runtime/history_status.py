"""The progress of storing a phone's history."""

from __future__ import annotations

from holdfast.session.engine import HistoryProgress


class HistoryStatus:
    def __init__(self) -> None:
        self.messages = 0
        """Messages of the history that the phone sent, since the session's start in this process."""
        self.progress = HistoryProgress()
        """The progress that the engine reported last."""

    def add(self, progress: HistoryProgress, messages: int) -> None:
        """The engine reported progress, with messages of the history."""
        self.messages += messages
        self.progress = progress

    @property
    def percent(self) -> int | None:
        """The share of the history that the phone says it has sent."""
        percent = self.progress.percent
        return None if percent is None else min(max(percent, 0), 100)

    @property
    def lost(self) -> int:
        return self.progress.lost

    def retrying(self, *, is_connected: bool) -> int:
        """Parts that are read again when the session next connects. Those that were being read are, too."""
        return self.progress.retrying + (0 if is_connected else self.progress.reading)

    def state(self, *, is_connected: bool) -> str:
        """`waiting`: the phone has sent nothing yet; `storing`, `retrying`, `idle`, `complete`; `incomplete`: the phone
        has sent everything, and a part of it was lost."""
        if self.progress.reading and is_connected:
            return "storing"
        if self.retrying(is_connected=is_connected):
            return "retrying"
        if self.percent is None and not self.messages:
            return "incomplete" if self.lost else "waiting"
        if self.percent != 100:
            return "idle"
        return "incomplete" if self.lost else "complete"
