"""Keep-alive statistics of one session, in a sliding window of bounded size: pings sent, pings answered, round trips.

`follow` derives them from the state changes of the session machine, so that nothing else has to report pings.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import takewhile

from holdfast.health.goals import percentile
from holdfast.session.state import Link, Session

WINDOW = 120
"""Outcomes kept: an hour of keep-alives every 30 s."""


@dataclass(frozen=True, slots=True)
class KeepAlives:
    """`sent` and `answered` count since the process started; rates and round trips cover the window."""

    sent: int = 0
    answered: int = 0
    outcomes: tuple[float | None, ...] = ()
    """Round trips in seconds, oldest first; None for an unanswered ping."""

    @property
    def success_rate(self) -> float | None:
        """Share of answered pings, 0 to 1; None while there is no outcome."""
        return len(self._round_trips) / len(self.outcomes) if self.outcomes else None

    @property
    def missed_in_a_row(self) -> int:
        return sum(1 for _ in takewhile(lambda outcome: outcome is None, reversed(self.outcomes)))

    @property
    def last_s(self) -> float | None:
        """Round trip of the last answered ping."""
        return self._round_trips[-1] if self._round_trips else None

    @property
    def p50_s(self) -> float | None:
        return percentile(sorted(self._round_trips), 50)

    @property
    def p95_s(self) -> float | None:
        return percentile(sorted(self._round_trips), 95)

    @property
    def _round_trips(self) -> list[float]:
        return [outcome for outcome in self.outcomes if outcome is not None]

    def with_sent(self) -> KeepAlives:
        return replace(self, sent=self.sent + 1)

    def with_answer(self, round_trip_s: float) -> KeepAlives:
        return replace(self, answered=self.answered + 1, outcomes=(*self.outcomes, round_trip_s)[-WINDOW:])

    def with_miss(self) -> KeepAlives:
        return replace(self, outcomes=(*self.outcomes, None)[-WINDOW:])


def follow(known: KeepAlives, before: Session, after: Session) -> KeepAlives:
    """The statistics after one step of the session machine.

    A ping counts as missed when its link ended before the answer, unless the link was ended on purpose.
    """
    was, link = before.link, after.link
    is_same = was is not None and link is not None and was.number == link.number
    if was is not None and was.pinged_at is not None:
        if not is_same:
            known = known if _was_meant(after) else known.with_miss()
        elif link is not None and link.pinged_at is None and link.round_trip_s is not None:
            known = known.with_answer(link.round_trip_s)
    return known.with_sent() if _pings(link) > (_pings(was) if is_same else 0) else known


def _was_meant(after: Session) -> bool:
    """Whether the link was ended on purpose: there is no reason, or a reason that is nobody's fault."""
    return after.reason is None or after.reason.fault == "nobody"


def _pings(link: Link | None) -> int:
    return 0 if link is None else link.ping


_FINE = 120
"""Outcomes stored individually: an hour of keep-alives every 30 s."""
_SPAN_S = 300
_COARSE = 288
"""Number of five-minute spans in a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PingOutcome:
    """The outcome of one ping, or of several pings in one time span."""

    at: float
    """Unix time in seconds of the first ping."""
    worst_s: float | None
    """The longest round trip; None when no ping was answered."""
    missed: int


class RoundTrips:
    """The ping outcomes of one session over a day, in bounded memory at any interval."""

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
        """Outcomes since `at`, oldest first: five-minute spans, then the latest ones individually."""
        fine = [outcome for outcome in self._fine if outcome.at >= at]
        fine_from = fine[0].at if fine else float("inf")
        return [*(span for span in self._coarse if at <= span.at < fine_from), *fine]


def _joined(span: PingOutcome, outcome: PingOutcome) -> PingOutcome:
    answered = [known for known in (span.worst_s, outcome.worst_s) if known is not None]
    return replace(span, worst_s=max(answered, default=None), missed=span.missed + outcome.missed)
