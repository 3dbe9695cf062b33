"""The overview of all companies, as rows; those that need attention come first.

The state of sessions is read every two seconds while someone watches. Counts from the database are refreshed less
often, once for all watchers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from holdfast.base.clock import Clock, iso
from holdfast.delivery.lookup import Lookup
from holdfast.delivery.stores import Backlog, DeliveryTally
from holdfast.health.advice import Remedy, because, needed_advice
from holdfast.health.goals import percent_of
from holdfast.health.verdict import Status, Verdict
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.view import View
from holdfast.session.reasons import Action, stored_reason
from holdfast.session.state import State
from holdfast.session.stores import Record

POLL_INTERVAL_S = 2.0
_BACKLOGS_EVERY_S = 4.0
_TALLIES_EVERY_S = 15.0
_DAY_S = 86_400
_UNDER_WAY_S = 60
"""Younger messages may still be in transit, so they don't count for the delivery rate yet."""


class Tone(StrEnum):
    """Severity of a row, in the order in which rows are shown."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"
    SUCCESS = "success"
    NEUTRAL = "neutral"


TONES = tuple(Tone)
LABELS: Mapping[Tone, str] = {
    Tone.CRITICAL: "Unhealthy",
    Tone.WARNING: "Degraded",
    Tone.INFO: "Not linked",
    Tone.SUCCESS: "Healthy",
    Tone.NEUTRAL: "Stopped",
}


_ADVICE: Mapping[str, str] = {
    Action.SCAN_QR: "open the company and scan its QR code with the phone",
    Action.SIGN_PASSKEY: "open the company together with the account's owner and follow the steps for the passkey",
    Remedy.CHECK_OUTBOX: "open the company's messages to see why they are waiting",
}
"""Advice that is more specific on a page than in an alert."""


def advice_on(action: str, cause: str = "") -> str:
    """What to do, for users of the dashboard; empty when no action is needed."""
    needed = needed_advice(action, cause)
    return "" if needed is None else _ADVICE.get(action, needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One company. Equal rows look the same, so only changed rows are sent to browsers."""

    company: str
    label: str | None
    """Display name of the company."""
    phone_number: str | None
    state: State
    tone: Tone
    since: str
    sentence: str | None
    """The problem; None when there is none."""
    advice: str | None
    keepalive_percent: float | None
    delivery_percent: float | None
    accepted: int
    arrived: int
    """Messages accepted within 24 hours, and how many of them were delivered to phones."""
    waiting: int
    oldest_at: str | None
    node: str | None
    """The node that runs the session; None when it is this one."""

    @property
    def rank(self) -> tuple[int, str]:
        return TONES.index(self.tone), self.company


def tone_of(state: State, status: Status) -> Tone:
    match state:
        case State.STOPPED:
            return Tone.NEUTRAL
        case State.UNPAIRED | State.PAIRING:
            return Tone.INFO
    return {Status.HEALTHY: Tone.SUCCESS, Status.DEGRADED: Tone.WARNING, Status.UNHEALTHY: Tone.CRITICAL}[status]


def ranked(rows: Iterable[FleetRow]) -> list[FleetRow]:
    """Sorted by severity, then by company."""
    return sorted(rows, key=lambda row: row.rank)


def counted(rows: Iterable[FleetRow]) -> dict[Tone, int]:
    counts = dict.fromkeys(TONES, 0)
    for row in rows:
        counts[row.tone] += 1
    return counts


def make_row(
    view: View, verdict: Verdict | None, backlog: Backlog, tally: DeliveryTally | None, *, label: str | None = None
) -> FleetRow:
    """The row of a session. verdict: None for a session of another node, which alone has its verdict; the row is made
    of the stored record."""
    record = view.record
    status, sentence, advice = _stored_problem(record) if verdict is None else _problem(verdict)
    rate = None if verdict is None else view.keepalives.success_rate
    return FleetRow(
        company=record.company,
        label=label,
        phone_number=record.phone_number,
        state=record.state,
        tone=tone_of(record.state, status),
        since=record.since,
        sentence=sentence,
        advice=advice,
        keepalive_percent=None if rate is None else rate * 100,
        delivery_percent=None if tally is None else percent_of(tally.taken, tally.accepted),
        accepted=0 if tally is None else tally.accepted,
        arrived=0 if tally is None else tally.arrived,
        waiting=backlog.waiting,
        oldest_at=backlog.oldest_at,
        node=(view.node or "another node") if verdict is None else None,
    )


def _problem(verdict: Verdict) -> tuple[Status, str | None, str | None]:
    """Status, sentence and advice of a session of this process."""
    if not verdict.reasons:
        return verdict.status, None, None
    worst = verdict.reasons[0]
    return verdict.status, worst.message, advice_on(worst.action, worst.code)


def _stored_problem(record: Record) -> tuple[Status, str | None, str | None]:
    """Status, sentence and advice of a session that runs elsewhere."""
    if record.state is State.CONNECTED:
        return Status.HEALTHY, None, None
    if record.reason is None:
        return Status.UNHEALTHY, None, None
    reason = stored_reason(record.reason, record.code)
    return Status.UNHEALTHY, because(reason), advice_on(reason.action, reason.name)


class Fleet:
    """Rows of all companies, refreshed at most every two seconds and shared by all watchers."""

    def __init__(self, gateway: Gateway, diagnoser: Diagnoser, lookup: Lookup, *, clock: Clock) -> None:
        self._gateway = gateway
        self._lookup = lookup
        self._diagnoser = diagnoser
        self._clock = clock
        self._lock = asyncio.Lock()
        self._rows: list[FleetRow] = []
        self._looked_at = self._backlogs_at = self._tallies_at = float("-inf")
        self._backlogs: Mapping[str, Backlog] = {}
        self._labels: Mapping[str, str] = {}
        self._tallies: Mapping[str, DeliveryTally] = {}

    async def rows(self) -> list[FleetRow]:
        async with self._lock:
            if self._is_older(self._looked_at, POLL_INTERVAL_S * 0.9):
                await self._count()
                views, connected = await self._gateway.cluster_views(), self._gateway.connected
                self._rows = [self._row(view, connected) for view in views]
                self._looked_at = self._clock.monotonic()
            return self._rows

    async def row(self, company: str) -> FleetRow:
        """The current row of one company. Raises `NotFound`."""
        view = await self._gateway.cluster_view(company)
        async with self._lock:
            await self._count()
            return self._row(view, self._gateway.connected)

    def forget(self) -> None:
        """Invalidate the cached rows after a change."""
        self._looked_at = self._backlogs_at = float("-inf")

    async def _count(self) -> None:
        now = self._clock.now()
        if self._is_older(self._backlogs_at, _BACKLOGS_EVERY_S):
            self._backlogs, self._labels = await self._diagnoser.backlogs(), await self._gateway.labels()
            self._backlogs_at = self._clock.monotonic()
        if self._is_older(self._tallies_at, _TALLIES_EVERY_S):
            since, until = (iso(now - timedelta(seconds=ago_s)) for ago_s in (_DAY_S, _UNDER_WAY_S))
            self._tallies = await self._lookup.tallies(since=since, until=until)
            self._tallies_at = self._clock.monotonic()

    def _is_older(self, at: float, seconds: float) -> bool:
        return self._clock.monotonic() - at >= seconds

    def _row(self, view: View, connected: Collection[str]) -> FleetRow:
        company = view.record.company
        backlog, tally = self._backlogs.get(company, Backlog()), self._tallies.get(company)
        label = self._labels.get(company)
        is_here = company in self._gateway.running
        verdict = self._diagnoser.verdict(view, self._backlogs, connected) if is_here else None
        return make_row(view, verdict, backlog, tally, label=label)
