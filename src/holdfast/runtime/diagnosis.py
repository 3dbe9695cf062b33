"""Gathers everything known about a session for people: its health by evidence, its history, its stability."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from holdfast.base.clock import iso
from holdfast.base.errors import BadInput
from holdfast.delivery.stores import Backlog, Figures
from holdfast.health.signals import Limits, Signals
from holdfast.health.stability import WINDOWS_S, Connectivity, ConnectivityChange, Stability, connectivity_of, stability
from holdfast.health.stores import Undelivered
from holdfast.health.verdict import Verdict, judge
from holdfast.runtime.account_limits import AccountLimits, Restrictions
from holdfast.runtime.client_versions import RefusedVersions
from holdfast.runtime.engine_supervisor import HostView
from holdfast.runtime.evidence import signals_of
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.services import Services
from holdfast.runtime.view import View
from holdfast.session.client_version import ClientVersion
from holdfast.session.reasons import LOGOUT_REQUESTED, RECONNECT_REQUESTED
from holdfast.session.state import budget_left
from holdfast.session.stores import LiveStatus, Transition

_HISTORY_SHOWN = 100
_REQUESTED = {RECONNECT_REQUESTED.name, LOGOUT_REQUESTED.name}
_MAX_TRANSITIONS = 20_000
_UNDER_WAY_S = 60
"""A message younger than this may still be in flight: it does not count for stability yet."""
_UNDER_WAY_PART = 0.1
"""The same limit as a share of the window, for windows of a few minutes."""
REQUESTED = "requested"
"""The name of the window that begins at the caller's `since`."""
_SHORTEST_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    at: datetime
    """The time that the evaluated periods end at."""
    view: View
    label: str | None
    """What people call the company."""
    signals: Signals
    verdict: Verdict
    history: Sequence[Transition]
    """The newest transitions, newest first."""
    stability: Mapping[str, Stability]
    """By window: 5m, 1h, 24h, 7d, and `REQUESTED` when `since` is given."""
    budget_an_hour: int
    budget_left: int
    host: HostView | None
    """The engine host of this session."""
    client_version: ClientVersion | None
    """The client version with which sessions log in; None: the engine's own."""
    client_refusal: RefusedVersions | None
    hosts: Sequence[HostView]
    """All engine hosts of this process."""
    hosts_lost_lately: int
    live: LiveStatus
    alerts: Sequence[Undelivered]
    restrictions: Restrictions


class Diagnoser:
    def __init__(
        self,
        gateway: Gateway,
        services: Services,
        *,
        figures: Figures,
        limits: AccountLimits,
        undelivered: Callable[[], Sequence[Undelivered]] = tuple,
    ) -> None:
        """`undelivered` returns the alerts that have not been delivered to an address yet."""
        self._undelivered = undelivered
        self._gateway = gateway
        self._services = services
        self._figures = figures
        self._limits = limits
        self._thresholds = Limits.of(services.policy)

    @property
    def is_ready(self) -> bool:
        return self._gateway.is_ready

    @property
    def running(self) -> Collection[str]:
        """Companies whose session runs in this process."""
        return self._gateway.running

    @property
    def node(self) -> str | None:
        """The name of this process in a cluster."""
        return self._services.node

    @property
    def client_version(self) -> ClientVersion | None:
        """The client version with which sessions log in from now on; None: the engine's own."""
        versions = self._services.client_versions
        return None if versions is None else versions.current

    @property
    def client_refusal(self) -> RefusedVersions | None:
        """Set while WhatsApp refuses every known client version."""
        versions = self._services.client_versions
        return None if versions is None else versions.refusal

    async def health(self, company: str) -> tuple[View, Verdict]:
        """The verdict, the same as in diagnostics, dashboard and alerts. Raises `NotFound`."""
        view = (await self._gateway.actor(company)).view
        return view, self.verdict(view, await self._figures.backlogs(company), self._gateway.connected)

    def verdict(self, view: View, backlogs: Mapping[str, Backlog], connected: Collection[str]) -> Verdict:
        """The verdict on a session of this process, given the backlogs in the outbox and the connected companies."""
        return judge(signals_of(view, self._services, backlogs=backlogs, connected=connected), self._thresholds)

    async def verdicts(self, views: Iterable[View]) -> Mapping[str, Verdict]:
        """The verdicts on those of these sessions that this process runs, by company."""
        mine = {view.record.company: view for view in views if view.record.company in self._gateway.running}
        if not mine:
            return {}
        backlogs = await self._figures.backlogs(next(iter(mine)) if len(mine) == 1 else None)
        connected = self._gateway.connected
        return {company: self.verdict(view, backlogs, connected) for company, view in mine.items()}

    async def backlogs(self) -> Mapping[str, Backlog]:
        return await self._figures.backlogs()

    async def transitions(self, company: str, *, seconds: int) -> list[Transition]:
        """The transitions of the last `seconds`, and the one before them, oldest first."""
        since = _ago(self._services.clock.now(), seconds)
        return await self._services.timeline.last(company, since=since, limit=_MAX_TRANSITIONS)

    async def all_health(self) -> list[tuple[View, Verdict, Backlog]]:
        """The verdicts on all sessions of this process."""
        backlogs = await self._figures.backlogs()
        views, connected = self._gateway.views(), self._gateway.connected
        return [
            (view, self.verdict(view, backlogs, connected), backlogs.get(view.record.company, Backlog()))
            for view in views
        ]

    async def diagnose(self, company: str, *, since: datetime | None = None) -> Diagnosis:
        """Everything about one session, with its stability from `since` to now where given. The session's history
        goes back 7 days. Raises `NotFound`, and `BadInput` for a `since` in the future."""
        view = (await self._gateway.actor(company)).view
        backlogs, connected = await self._figures.backlogs(company), self._gateway.connected
        signals = signals_of(view, self._services, backlogs=backlogs, connected=connected)
        now = self._services.clock.now()
        windows = WINDOWS_S if since is None else {**WINDOWS_S, REQUESTED: _window_s(since, now)}
        transitions = await self._services.timeline.last(
            company, since=_ago(now, max(WINDOWS_S.values())), limit=_MAX_TRANSITIONS
        )
        policy = self._services.policy
        return Diagnosis(
            at=now,
            view=view,
            label=(await self._gateway.labels()).get(company),
            signals=signals,
            verdict=judge(signals, self._thresholds),
            history=list(reversed(transitions[-_HISTORY_SHOWN:])),
            stability={
                name: await self._stability(company, transitions, now, seconds) for name, seconds in windows.items()
            },
            budget_an_hour=policy.budget_an_hour,
            budget_left=budget_left(view.session, now=self._services.clock.monotonic(), policy=policy),
            host=self._services.supervisor.host_of(company),
            client_version=self.client_version,
            client_refusal=self.client_refusal,
            hosts=self._services.supervisor.hosts(),
            hosts_lost_lately=self._services.supervisor.hosts_lost_lately,
            live=self._services.live.status,
            alerts=self._undelivered(),
            restrictions=await self._limits.restrictions(company),
        )

    async def _stability(
        self, company: str, transitions: Sequence[Transition], now: datetime, seconds: float
    ) -> Stability:
        under_way_s = min(_UNDER_WAY_S, seconds * _UNDER_WAY_PART)
        tally = await self._figures.tally(company, since=_ago(now, seconds), until=_ago(now, under_way_s))
        return stability(_changes(transitions), tally, now=now.timestamp(), window_s=seconds)

    @property
    def hosts(self) -> Sequence[HostView]:
        return self._services.supervisor.hosts()

    def now(self) -> datetime:
        return self._services.clock.now()

    def wall(self, moment: float | None) -> datetime | None:
        """A moment of the monotonic clock as a wall-clock time."""
        if moment is None:
            return None
        return self._services.clock.now() + timedelta(seconds=moment - self._services.clock.monotonic())


def _changes(transitions: Sequence[Transition]) -> list[ConnectivityChange]:
    """The transitions as changes of connectivity. Time after a person's request does not count against the session."""
    return [
        ConnectivityChange(datetime.fromisoformat(transition.at).timestamp(), connectivity_after(transition))
        for transition in transitions
    ]


def connectivity_after(transition: Transition) -> Connectivity:
    """Like a stop, a requested reconnection or logout does not count against the session."""
    return (
        Connectivity.EXCLUDED
        if transition.reason in _REQUESTED and transition.before is not transition.after
        else connectivity_of(transition.after)
    )


def _ago(now: datetime, seconds: float) -> str:
    return iso(now - timedelta(seconds=seconds))


def _window_s(since: datetime, now: datetime) -> float:
    """How many seconds before `now` the window begins."""
    if since > now + timedelta(seconds=_SHORTEST_S):
        raise BadInput(f"since {iso(since)} is in the future: it is {iso(now)} now", field="since")
    return min(max((now - since).total_seconds(), _SHORTEST_S), max(WINDOWS_S.values()))
