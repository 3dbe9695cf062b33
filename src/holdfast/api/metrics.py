"""Metrics for Prometheus, computed from the current state at each scrape; there are no counters of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast.api.webhooks import SeenEndpoint as SeenWebhook
from holdfast.delivery.stores import Backlog
from holdfast.delivery.webhooks import EndpointState
from holdfast.health.verdict import Verdict
from holdfast.runtime.engine_supervisor import HostView
from holdfast.runtime.view import View
from holdfast.session.client_version import ClientVersion, age_s, origin_of, text_of
from holdfast.session.state import State

Seen = tuple[View, Verdict, Backlog]


def exposition(
    seen: Sequence[Seen],
    hosts: Sequence[HostView],
    *,
    webhooks: Sequence[SeenWebhook] = (),
    version: ClientVersion | None = None,
    now: datetime,
) -> bytes:
    """The text format that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Present(seen, hosts))
    registry.register(_Webhooks(webhooks, now))
    registry.register(_Client(version, now))
    return generate_latest(registry)


def merged(texts: Mapping[str, bytes]) -> bytes:
    """The metrics of several nodes, by name, as one text: each series gets a label `node`."""
    families: dict[str, list[str]] = {}
    """By name: its description, then its series."""
    for node, text in texts.items():
        label, family = f'node="{node}"', ""
        described = set(families)
        for line in text.decode().splitlines():
            if line.startswith("#"):
                family = line.split(" ", 3)[2]
                if family not in described:
                    families.setdefault(family, []).append(line)
                continue
            series, _, value = line.rpartition(" ")
            name, brace, labels = series.partition("{")
            families[family].append(f"{name}{{{label}{',' + labels if brace else '}'} {value}")
    return "".join(f"{line}\n" for lines in families.values() for line in lines).encode()


class _Client(Collector):
    """The client version in use; None: the engine's own."""

    def __init__(self, version: ClientVersion | None, now: datetime) -> None:
        self._version = version
        self._now = now

    def collect(self) -> Iterable[Metric]:
        age = GaugeMetricFamily(
            "holdfast_client_version_age_seconds",
            "Age of the client version in use; its origin: setting, whatsapp, stored, engine (Baileys' own)",
            labels=["version", "origin"],
        )
        age.add_metric([text_of(self._version), origin_of(self._version)], age_s(self._version, now=self._now))
        yield age


class _Present(Collector):
    def __init__(self, seen: Sequence[Seen], hosts: Sequence[HostView]) -> None:
        self._shown = seen
        self._hosts = hosts

    def collect(self) -> Iterable[Metric]:
        yield from self._states()
        yield from self._sessions()
        yield from self._engine_hosts()

    def _engine_hosts(self) -> Iterable[Metric]:
        labels = ["host"]
        rss = GaugeMetricFamily("holdfast_engine_host_rss_bytes", "Resident memory of the engine host", labels=labels)
        links = GaugeMetricFamily("holdfast_engine_host_sessions", "Sessions with a link on the host", labels=labels)
        for host in self._hosts:
            label = [f"{host.number}-retiring" if host.retiring else str(host.number)]
            links.add_metric(label, len(host.sessions))
            if host.facts.rss_bytes is not None:
                rss.add_metric(label, host.facts.rss_bytes)
        up = GaugeMetricFamily("holdfast_engine_host_up", "1 while there is an engine host")
        up.add_metric([], 1 if self._hosts else 0)
        yield from (rss, links, up)

    def _states(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("holdfast_sessions", "Sessions by state", labels=["state"])
        for state in State:
            family.add_metric([state.value], sum(view.record.state is state for view, _, _ in self._shown))
        yield family

    def _sessions(self) -> Iterable[Metric]:
        connected = _gauge("connected", "1 while the session's link is open")
        status = _gauge("health", "0 healthy, 1 degraded, 2 unhealthy")
        attempts = _gauge("reconnect_attempts", "Reconnections since the last stable link")
        rate = _gauge("keepalive_success_ratio", "Answered keep-alives over the window")
        trip = _gauge("ping_round_trip_seconds", "The last ping's round trip")
        waiting = _gauge("outbox_messages", "Messages still to be sent")
        sent = CounterMetricFamily("holdfast_session_keepalives_sent", "Keep-alives sent", labels=["company"])
        answered = CounterMetricFamily(
            "holdfast_session_keepalives_answered", "Keep-alives answered", labels=["company"]
        )
        for view, verdict, backlog in self._shown:
            label, alive = [view.record.company], view.keepalives
            connected.add_metric(label, view.record.state is State.CONNECTED)
            status.add_metric(label, verdict.status)
            attempts.add_metric(label, view.session.attempts)
            waiting.add_metric(label, backlog.waiting)
            sent.add_metric(label, alive.sent)
            answered.add_metric(label, alive.answered)
            if alive.success_rate is not None:
                rate.add_metric(label, alive.success_rate)
            if alive.last_s is not None:
                trip.add_metric(label, alive.last_s)
        yield from (connected, status, attempts, rate, trip, waiting, sent, answered)
        yield self._ignored()

    def _ignored(self) -> Metric:
        ignored = CounterMetricFamily(
            "holdfast_session_messages_ignored",
            "Inbound messages that were not stored because the company ignores their kind",
            labels=["company", "kind"],
        )
        for view, _, _ in self._shown:
            for kind, count in view.left_out.items():
                ignored.add_metric([view.record.company, kind], count)
        return ignored


def _gauge(name: str, help_: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"holdfast_session_{name}", help_, labels=["company"])


class _Webhooks(Collector):
    """By endpoint: `default`, or `session-` and the company."""

    def __init__(self, seen: Sequence[SeenWebhook], now: datetime) -> None:
        self._shown = seen
        self._now = now

    def collect(self) -> Iterable[Metric]:
        pending = self._gauge("pending", "Webhook deliveries that are pending")
        failed = self._gauge("failed", "Webhook deliveries that failed and can be replayed")
        age = self._gauge("oldest_pending_age_seconds", "Age of the oldest pending webhook delivery")
        active = self._gauge("active", "1 while webhooks are sent there, 0 while the endpoint is suspended or off")
        for seen in self._shown:
            label, oldest_at = [seen.endpoint.id], seen.counts.oldest_at
            pending.add_metric(label, seen.counts.pending)
            failed.add_metric(label, seen.counts.failed)
            old = 0.0 if oldest_at is None else (self._now - datetime.fromisoformat(oldest_at)).total_seconds()
            age.add_metric(label, max(old, 0.0))
            active.add_metric(label, seen.endpoint.health.state is EndpointState.ACTIVE)
        yield from (pending, failed, age, active)

    def _gauge(self, name: str, help_: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"holdfast_webhooks_{name}", help_, labels=["endpoint"])
