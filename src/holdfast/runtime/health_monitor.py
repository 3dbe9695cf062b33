"""The health monitor: checks every session at an interval, independently of its own logic, and acts on evidence.

It pings silent links, replaces what hangs, and raises alerts about what only a person can fix. It must never end a link
because there is no traffic.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Protocol, TypeVar

from holdfast.base.clock import iso
from holdfast.base.errors import HoldfastError
from holdfast.delivery.stores import Backlog, Figures
from holdfast.delivery.webhooks import OF_ALL, Endpoint
from holdfast.health.actions import Nothing, Probe, Reconnect, ReplaceActor, ReplaceHost, decide
from holdfast.health.alerts import Alert, AlertPolicy, Book, update
from holdfast.health.conditions import Condition, SystemSignals, conditions_of, system_conditions
from holdfast.health.signals import Limits, Signals
from holdfast.health.webhooks import conditions_of_webhooks
from holdfast.runtime.evidence import age_s, signals_of
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.services import Services
from holdfast.session import events
from holdfast.session.placement import HostNumber
from holdfast.session.stores import Availability

log = logging.getLogger(__name__)

T = TypeVar("T")

PLAINTEXT_DAYS = 30
"""WhatsApp keeps a message for an absent device about this long, and delivers it again until it has a receipt."""

_PRUNE_INTERVAL_S = 3600
_DATABASE_TIMEOUT_S = 10.0
"""Longer than the database waits for a server that accepts no connections."""


class AlertSink(Protocol):
    """Delivers alerts to people."""

    async def begin(self) -> Book:
        """Load the alerts that were not delivered before a restart; returns the alert book."""

    async def send(self, book: Book, alerts: Sequence[Alert], labels: Mapping[str, str]) -> None:
        """Store the book, and deliver the alerts soon. `labels`: the labels of the companies."""

    async def run(self) -> None:
        """Deliver until cancelled."""

    @property
    def undelivered_s(self) -> float | None:
        """Age of the oldest alert that an address did not accept."""


class HealthMonitor:
    def __init__(
        self,
        gateway: Gateway,
        services: Services,
        *,
        figures: Figures,
        alert_sink: AlertSink,
        interval_s: float,
        limits: Limits | None = None,
        backup_failing_s: Callable[[], float | None] = lambda: None,
        webhooks: Callable[[], Awaitable[Sequence[Endpoint]]] | None = None,
    ) -> None:
        """`limits`: limits for the verdict other than those that follow from the session machine's policy.
        `backup_failing_s`: since when backups fail, while they do. `webhooks`: their endpoints.
        """
        self._gateway = gateway
        self._services = services
        self._figures = figures
        self._alert_sink = alert_sink
        self._interval_s = interval_s
        self._backup_failing_s = backup_failing_s
        self._webhooks = webhooks
        self._limits = limits or Limits.of(services.policy)
        self._alert_policy = AlertPolicy()
        self._database_failing_since: float | None = None
        self._book: Book | None = None
        self._prune_at = services.clock.monotonic()

    @property
    def open_alerts(self) -> Sequence[Condition]:
        """The alerts that were sent and are not over, as of the last check."""
        standing = () if self._book is None else self._book.open_problems
        return [each.condition for each in standing if each.gone_at is None]

    async def run(self) -> None:
        """Check until cancelled. A check that fails is logged, and the next one follows."""
        clock = self._services.clock
        due_at = clock.monotonic()
        while True:
            due_at += self._interval_s
            await clock.sleep(due_at - clock.monotonic())
            late_s = clock.monotonic() - due_at
            try:
                await self.check(late_s=late_s)
            except Exception:
                log.exception("Health monitor: a check failed; the next one is in %.0f s", self._interval_s)
            due_at = max(due_at, clock.monotonic() - self._interval_s)

    async def check(self, *, late_s: float = 0) -> None:
        """Judge every session once, act, and raise alerts."""
        self._services.clock_watch.check()
        backlogs = await self._ask_database()
        views, connected = self._gateway.views(), self._gateway.connected
        seen = [
            signals_of(view, self._services, backlogs=backlogs, connected=connected, check_late_s=late_s)
            for view in views
        ]
        self._act(seen)
        conditions = [condition for signals in seen for condition in conditions_of(signals, self._limits)]
        around = system_conditions(self._surroundings(), self._limits)
        await self._alert([*conditions, *around, *await self._webhook_conditions()])

    async def _ask_database(self) -> Mapping[str, Backlog]:
        """The backlogs in the outbox; also records that Holdfast is alive. A failing database is a finding, not an
        error."""
        clock = self._services.clock
        try:
            await self._in_time(self._services.timeline.seen_alive(iso(clock.now())))
            await self._forget_old()
            backlogs = await self._in_time(self._figures.backlogs())
        except Exception as error:  # noqa: BLE001 – whatever it is, a person must get an alert
            if self._database_failing_since is None:
                self._database_failing_since = clock.monotonic()
                log.error("Database failure: %s", error)  # noqa: TRY400 – a sentence, not a trace
            return {}
        if self._database_failing_since is not None:
            log.info("Database works again")
        self._database_failing_since = None
        return backlogs

    async def _in_time(self, query: Awaitable[T]) -> T:
        """The result of a query of the database. Raises `TimeoutError`: no check may wait for a database that hangs."""
        clock = self._services.clock
        async with clock.until(clock.monotonic() + _DATABASE_TIMEOUT_S):
            return await query
        raise TimeoutError(f"it did not answer within {_DATABASE_TIMEOUT_S:g} s")

    async def _webhook_conditions(self) -> list[Condition]:
        """Conditions of the webhook endpoints of this process's sessions, and of the endpoint of all companies."""
        if self._webhooks is None or self._database_failing_since is not None:
            return []
        mine = {OF_ALL, *self._gateway.running}
        endpoints = [endpoint for endpoint in await self._in_time(self._webhooks()) if endpoint.company in mine]
        return list(conditions_of_webhooks(endpoints, now=self._services.clock.now()))

    async def _forget_old(self) -> None:
        """Remove old plaintexts once an hour. What takes longer than a check may wait for is continued at the next."""
        clock = self._services.clock
        if clock.monotonic() < self._prune_at:
            return
        before = iso(clock.now() - timedelta(days=PLAINTEXT_DAYS))
        async with clock.until(clock.monotonic() + _DATABASE_TIMEOUT_S):
            await self._services.store.forget_plaintexts(before=before)
            self._prune_at = clock.monotonic() + _PRUNE_INTERVAL_S

    def _act(self, all_signals: Sequence[Signals]) -> None:
        supervisor = self._services.supervisor
        replaced: set[HostNumber] = set()
        for signals in all_signals:
            company = signals.company
            match decide(signals, self._limits):
                case Nothing():
                    pass
                case Probe(because=because):
                    log.info("Keep-alive %s: %s; a ping is sent now", company, because)
                    self._probe(company)
                case Reconnect(because=because):
                    log.warning("Session %s: %s; it reconnects", company, because)
                    self._gateway.post(company, events.ReconnectAsked())
                case ReplaceActor(because=because):
                    self._gateway.replace_actor(company, because)
                case ReplaceHost(because=because):
                    host = supervisor.host_of(company)
                    if host is not None and host.number not in replaced:
                        replaced.add(host.number)
                        log.error("Engine host %d of session %s: %s; it is replaced", host.number, company, because)
                        supervisor.replace_host(company, because)

    def _probe(self, company: str) -> None:
        link = self._gateway.view(company).session.link
        if link is not None:
            self._gateway.post(company, events.ProbeAsked(link.number))

    def _surroundings(self) -> SystemSignals:
        supervisor, status = self._services.supervisor, self._services.live.status
        failing_since = self._database_failing_since
        versions = self._services.client_versions
        refusal = None if versions is None else versions.refusal
        return SystemSignals(
            redis_down_s=age_s(status.since, self._services.clock)
            if status.availability is Availability.DOWN
            else None,
            database_failing_s=None if failing_since is None else self._services.clock.monotonic() - failing_since,
            host_down_s=supervisor.host_down_s,
            host_restarts=supervisor.hosts_lost_lately,
            undelivered_s=self._alert_sink.undelivered_s,
            backup_failing_s=self._backup_failing_s(),
            versions_refused_s=None if refusal is None else refusal.lasting_s,
            versions_refused=() if refusal is None else refusal.tried,
            version_is_pinned=refusal is not None and refusal.is_pinned,
        )

    async def _labels(self) -> Mapping[str, str]:
        """The label of each company; none while the database fails."""
        if self._database_failing_since is not None:
            return {}
        return await self._in_time(self._gateway.labels())

    async def _alert(self, conditions: Collection[Condition]) -> None:
        """Store the book together with the alerts that it led to. While that fails, the next check decides again."""
        try:
            if self._book is None:
                self._book = await self._alert_sink.begin()
            book, alerts = update(self._book, conditions, now=self._services.clock.now(), policy=self._alert_policy)
            if alerts or book != self._book:
                await self._alert_sink.send(book, alerts, await self._labels() if alerts else {})
        except HoldfastError as error:
            log.error("Alerts can't be stored: %s", error)  # noqa: TRY400 – a sentence, not a trace
            return
        self._book = book
