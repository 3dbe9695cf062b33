"""What a lab run counts, and its result. Pure: it gets the observations as arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.health.goals import LEAST_PERCENT, MAX_RECONNECT_S, GoalResult, percent_of, percentile

ARRIVED = frozenset({"delivered", "read", "played"})


@dataclass(slots=True)
class Sent:
    """An accepted message."""

    id: str
    text: str
    company: str
    to: str
    state: str = "queued"


@dataclass(slots=True, kw_only=True)
class InjectedFault:
    """An injected disconnection. Times in seconds of one clock."""

    kind: str
    company: str
    at: float
    reachable_at: float
    """When the server could be reached again; `at` where it always could."""
    back_at: float | None = None

    @property
    def reconnect_s(self) -> float | None:
        return None if self.back_at is None else max(self.back_at - max(self.at, self.reachable_at), 0)


@dataclass(slots=True)
class Uptime:
    """A company's time, sampled from the server's side: connected, not frozen."""

    up_s: float = 0
    down_s: float = 0
    excused_s: float = 0
    """Part of `down_s` that falls within a fault's first `MAX_RECONNECT_S`."""

    def add(self, seconds: float, *, up: bool, excused: bool) -> None:
        if up:
            self.up_s += seconds
            return
        self.down_s += seconds
        self.excused_s += seconds if excused else 0


@dataclass(slots=True)
class RunTally:
    """Everything observed in one run."""

    sent: dict[str, Sent] = field(default_factory=dict)
    received: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(receiving company or contact, text) → how often it was shown."""
    faults: list[InjectedFault] = field(default_factory=list)
    uptime: dict[str, Uptime] = field(default_factory=dict)
    unprovoked: int = 0
    """Links that were lost without an injected fault."""

    def result(self, receivers: dict[str, str], *, seconds: float) -> Result:
        """The verdict; `receivers` gives the receiver's name in `received` for a phone number."""
        missing = [sent for sent in self.sent.values() if not self._is_delivered(sent, receivers)]
        times = sorted(fault.reconnect_s for fault in self.faults if fault.reconnect_s is not None)
        up = sum(each.up_s for each in self.uptime.values())
        down = sum(each.down_s for each in self.uptime.values())
        excused = sum(each.excused_s for each in self.uptime.values())
        return Result(
            seconds=seconds,
            accepted=len(self.sent),
            delivered=len(self.sent) - len(missing),
            duplicates=sum(count - 1 for count in self.received.values() if count > 1),
            uptime_percent=_percent(up, up + down),
            uptime_outside_faults_percent=_percent(up, up + down - excused),
            reconnects=times,
            faults=Counter(fault.kind for fault in self.faults),
            not_recovered=sum(fault.back_at is None for fault in self.faults),
            unprovoked=self.unprovoked,
            states=Counter(sent.state for sent in self.sent.values()),
        )

    def _is_delivered(self, sent: Sent, receivers: dict[str, str]) -> bool:
        """By WhatsApp's receipt, and by the receiver's own inbox."""
        return sent.state in ARRIVED and self.received[receivers[sent.to], sent.text] > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    seconds: float
    accepted: int
    delivered: int
    duplicates: int
    uptime_percent: float
    uptime_outside_faults_percent: float
    reconnects: Sequence[float]
    faults: Counter[str]
    not_recovered: int
    unprovoked: int
    states: Counter[str]

    @property
    def lost(self) -> int:
        return self.accepted - self.delivered

    @property
    def delivery_percent(self) -> float:
        return _percent(self.delivered, self.accepted)

    @property
    def passed(self) -> bool:
        return all(row.holds for row in self.table())

    def table(self) -> list[GoalResult]:
        """The four goals of `holdfast watch`, as far as this run can measure them."""
        p95 = percentile(self.reconnects, 95)
        return [
            GoalResult(
                "message delivery", f"{self.delivery_percent:.1f} %", "> 95 %", self.delivery_percent > LEAST_PERCENT
            ),
            GoalResult("messages lost", str(self.lost), "0", self.lost == 0 and self.accepted > 0),
            GoalResult("messages shown twice", str(self.duplicates), "0", self.duplicates == 0),
            GoalResult(
                "reconnection, p95", "–" if p95 is None else f"{p95:.1f} s", "< 10 s", self._reconnects_hold(p95)
            ),
            GoalResult(
                "connection uptime, a fault excuses 10 s",
                f"{self.uptime_outside_faults_percent:.1f} %",
                "> 95 %",
                self.uptime_outside_faults_percent > LEAST_PERCENT,
            ),
            GoalResult("disconnections not injected", str(self.unprovoked), "0", self.unprovoked == 0),
        ]

    def _reconnects_hold(self, p95: float | None) -> bool:
        return self.not_recovered == 0 and (p95 is None or p95 < MAX_RECONNECT_S)

    def as_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "accepted": self.accepted,
            "delivered": self.delivered,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "uptimePercent": round(self.uptime_percent, 2),
            "uptimeOutsideFaultsPercent": round(self.uptime_outside_faults_percent, 2),
            "deliveryPercent": round(self.delivery_percent, 2),
            "reconnectSeconds": {
                "p50": _rounded(percentile(self.reconnects, 50)),
                "p95": _rounded(percentile(self.reconnects, 95)),
                "max": _rounded(max(self.reconnects, default=None)),
            },
            "disconnectionsInjected": self.faults.total(),
            "disconnectionsByKind": dict(self.faults),
            "disconnectionsUnprovoked": self.unprovoked,
            "messageStates": dict(self.states),
            "passed": self.passed,
        }


def _percent(part: float, total: float) -> float:
    """A share in percent; 100 when there was nothing to count."""
    share = percent_of(part, total)
    return 100.0 if share is None else share


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
