"""How long pings took over a day, in little room: each of the last hour, and before that the worst of five minutes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

_FINE = 120
"""Outcomes kept one by one: an hour of keep-alives every 30 s."""
_SPAN_S = 300
_COARSE = 288
"""Spans of five minutes in a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PingOutcome:
    """One ping, or several close to each other."""

    at: float
    """Seconds of the epoch; of several, the first."""
    worst_s: float | None
    """None: none was answered."""
    missed: int


class RoundTrips:
    """The outcomes of one session's pings. Bounded, whatever the interval."""

    def __init__(self) -> None:
        self._fine: deque[PingOutcome] = deque(maxlen=_FINE)
        self._coarse: deque[PingOutcome] = deque(maxlen=_COARSE)

    def add(self, at: float, round_trip_s: float | None) -> None:
        outcome = PingOutcome(at=at, worst_s=round_trip_s, missed=round_trip_s is None)
        self._fine.append(outcome)
        if self._coarse and self._coarse[-1].at // _SPAN_S == at // _SPAN_S:
            self._coarse[-1] = _joined(self._coarse[-1], outcome)
        else:
            self._coarse.append(outcome)

    def since(self, at: float) -> list[PingOutcome]:
        """Oldest first: coarse as far as there is nothing finer."""
        fine = [outcome for outcome in self._fine if outcome.at >= at]
        fine_from = fine[0].at if fine else float("inf")
        return [*(span for span in self._coarse if at <= span.at < fine_from), *fine]


def _joined(span: PingOutcome, outcome: PingOutcome) -> PingOutcome:
    answered = [known for known in (span.worst_s, outcome.worst_s) if known is not None]
    return replace(span, worst_s=max(answered, default=None), missed=span.missed + outcome.missed)
