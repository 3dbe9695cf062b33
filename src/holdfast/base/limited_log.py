"""Log lines that anybody on the network can cause: bounded, so that nobody fills the disk or hides what matters."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

WINDOW_S = 60.0
LINES_PER_ADDRESS = 10
LINES_IN_ALL = 100


class LimitedLog:
    """Warnings about remote addresses: in a minute at most 10 for each and 100 in all, and then how many were left out.

    Tools such as fail2ban count lines by address, so each line up to the bound names one.
    """

    def __init__(self, log: logging.Logger, *, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._monotonic = monotonic
        self._window_ends = 0.0
        self._written: Counter[str] = Counter()
        self._left_out = 0

    def warning(self, text: str, address: str) -> None:
        """Log `text`, which has one `%s` for the address."""
        self._start_window()
        if self._written[address] >= LINES_PER_ADDRESS or self._written.total() >= LINES_IN_ALL:
            self._left_out += 1
            return
        self._written[address] += 1
        self._log.warning(text, address)

    def _start_window(self) -> None:
        now = self._monotonic()
        if now < self._window_ends:
            return
        if self._left_out:
            self._log.warning("%d more lines about refused requests were left out", self._left_out)
        self._window_ends, self._left_out = now + WINDOW_S, 0
        self._written.clear()
