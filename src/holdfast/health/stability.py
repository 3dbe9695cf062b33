"""How stable a session was: uptime, disconnections, reconnection times and delivery, over windows of time.

Computed from the history of state changes (connected, disconnected, excluded), never from samples. Time before
the first state change, and time in which the session was not supposed to be connected, is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType

from holdfast.delivery.stores import DeliveryTally
from holdfast.health.goals import (
    LEAST_PERCENT,
    MAX_DISCONNECTIONS_AN_HOUR,
    MAX_RECONNECT_S,
    GoalResult,
    percent_of,
    percentile,
)
from holdfast.session.state import State

_HOUR_S = 3600
WINDOWS_S: Mapping[str, int] = MappingProxyType({"5m": 300, "1h": 3600, "24h": 86_400, "7d": 604_800})


class Connectivity(StrEnum):
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    """Supposed to be connected, but not connected."""
    EXCLUDED = "excluded"
    """Not supposed to be connected: stopped on purpose, or no phone is linked yet."""


def connectivity_of(state: State) -> Connectivity:
    """How a state counts. A logout by WhatsApp and a pause count as disconnected: no messages arrive."""
    match state:
        case State.CONNECTED:
            return Connectivity.CONNECTED
        case State.STOPPED | State.UNPAIRED | State.PAIRING:
            return Connectivity.EXCLUDED
        case _:
            return Connectivity.DISCONNECTED


@dataclass(frozen=True, slots=True)
class ConnectivityChange:
    """The connectivity from `at` on, in seconds of a clock that continues across restarts."""

    at: float
    connectivity: Connectivity


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """One session over one window that ends now."""

    observed_s: float
    """Time in which the session was supposed to be connected and Holdfast observed whether it was."""
    connected_s: float
    disconnections: int
    reconnects_s: tuple[float, ...]
    """Times from the loss of a link to the next open link, for reconnections within the window; sorted."""
    disconnected_s: float | None
    """How long the session has been disconnected at the end of the window; None if it is not."""
    messages: DeliveryTally

    @property
    def uptime_percent(self) -> float | None:
        """None while nothing was observed."""
        return percent_of(self.connected_s, self.observed_s)

    @property
    def disconnections_an_hour(self) -> float:
        """An observation shorter than an hour counts as one: one loss in five minutes is one an hour, not twelve."""
        return self.disconnections / max(self.observed_s / _HOUR_S, 1)

    @property
    def reconnect_p50_s(self) -> float | None:
        return percentile(self.reconnects_s, 50)

    @property
    def reconnect_p95_s(self) -> float | None:
        return percentile(self.reconnects_s, 95)

    @property
    def delivery_percent(self) -> float | None:
        """Share of the accepted messages that WhatsApp took; None without messages."""
        return percent_of(self.messages.taken, self.messages.accepted)

    @property
    def arrival_percent(self) -> float | None:
        return percent_of(self.messages.arrived, self.messages.accepted)

    @property
    def holds(self) -> bool:
        return all(row.holds for row in self.table())

    def table(self) -> tuple[GoalResult, ...]:
        """The measurements compared with the goals (M26)."""
        return (self._uptime(), self._delivery(), self._reconnection(), self._disconnections())

    def _uptime(self) -> GoalResult:
        percent = self.uptime_percent
        measured = "not observed" if percent is None else _shown(percent)
        return GoalResult("connection uptime", measured, "> 95 %", percent is not None and percent > LEAST_PERCENT)

    def _delivery(self) -> GoalResult:
        taken, arrived = self.delivery_percent, self.arrival_percent
        if taken is None or arrived is None:
            return GoalResult("message delivery", "no messages to evaluate", "> 95 %", holds=True)
        measured = f"{_shown(taken)} accepted by WhatsApp, {_shown(arrived)} on phones"
        return GoalResult("message delivery", measured, "> 95 %", taken > LEAST_PERCENT)

    def _reconnection(self) -> GoalResult:
        """A session that is disconnected now counts with the time so far."""
        times = tuple(sorted((*self.reconnects_s, *(() if self.disconnected_s is None else (self.disconnected_s,)))))
        p95_s = percentile(times, 95)
        measured = "none needed" if p95_s is None else f"{p95_s:.1f} s"
        is_back_soon = self.disconnected_s is None or self.disconnected_s < MAX_RECONNECT_S
        return GoalResult("reconnection, p95", measured, "< 10 s", is_back_soon and (p95_s or 0) < MAX_RECONNECT_S)

    def _disconnections(self) -> GoalResult:
        rate = self.disconnections_an_hour
        return GoalResult("disconnections an hour", f"{rate:.1f}", "< 1", rate < MAX_DISCONNECTIONS_AN_HOUR)


def stability(
    history: Sequence[ConnectivityChange], messages: DeliveryTally, *, now: float, window_s: float
) -> Stability:
    """Measure the `window_s` seconds before `now`.

    `history` is in order of occurrence. Time before its first entry is unknown, so it should begin before the window.
    An entry with an earlier time than its predecessor (the clock was set back) counts from the predecessor's time. At a
    start, the recorder adds an entry that the session has been disconnected since Holdfast's last sign of life.
    """
    begin = now - window_s
    spans = list(_spans(history, now))
    losses = [span for before, span in pairwise(spans) if _is_loss(before, span)]
    within = [(max(span.begin, begin), span.end, span.connectivity) for span in spans if span.end > begin]
    connected_s = sum(end - start for start, end, connectivity in within if connectivity is Connectivity.CONNECTED)
    disconnected_s = sum(
        end - start for start, end, connectivity in within if connectivity is Connectivity.DISCONNECTED
    )
    last = spans[-1] if spans else None
    return Stability(
        observed_s=connected_s + disconnected_s,
        connected_s=connected_s,
        disconnections=sum(loss.begin > begin for loss in losses),
        reconnects_s=tuple(sorted(_reconnects(spans, begin))),
        disconnected_s=last.end - last.begin
        if last is not None and last.connectivity is Connectivity.DISCONNECTED
        else None,
        messages=messages,
    )


@dataclass(frozen=True, slots=True)
class _Span:
    begin: float
    end: float
    connectivity: Connectivity


def _spans(history: Sequence[ConnectivityChange], now: float) -> Iterator[_Span]:
    """The entries as spans that end at the next change or now. Entries that change nothing are merged."""
    open_span: ConnectivityChange | None = None
    for change in history:
        if open_span is None:
            open_span = ConnectivityChange(min(change.at, now), change.connectivity)
        elif change.connectivity is not open_span.connectivity:
            at = min(max(open_span.at, change.at), now)
            yield _Span(open_span.at, at, open_span.connectivity)
            open_span = ConnectivityChange(at, change.connectivity)
    if open_span is not None:
        yield _Span(open_span.at, now, open_span.connectivity)


def _is_loss(before: _Span, span: _Span) -> bool:
    return before.connectivity is Connectivity.CONNECTED and span.connectivity is Connectivity.DISCONNECTED


def _reconnects(spans: Sequence[_Span], begin: float) -> Iterator[float]:
    """Durations of disconnections that began with a loss and ended in an open link within the window."""
    for before, span, after in zip(spans, spans[1:], spans[2:], strict=False):
        if _is_loss(before, span) and after.connectivity is Connectivity.CONNECTED and after.begin > begin:
            yield span.end - span.begin


def _shown(percent: float) -> str:
    """A percentage, rounded down so that a missed goal is never shown as met."""
    return f"{int(percent * 10) / 10:.1f} %"
