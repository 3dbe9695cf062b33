"""Builds the running gateway from all packages: the only module that knows all of them."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import resource
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from fastapi import FastAPI
from pydantic.alias_generators import to_camel

from holdfast.api.allowed_hosts import names_of
from holdfast.api.api_keys import add_api_keys
from holdfast.api.backups import add_backups
from holdfast.api.base_path import base_path_of
from holdfast.api.forwarding import Forwarder
from holdfast.api.key_registry import KeyRegistry
from holdfast.api.keys import FILE as API_KEY_FILE
from holdfast.api.media import MediaService
from holdfast.api.routes import make_api
from holdfast.api.server import HttpServer
from holdfast.api.webhooks import WebhookService
from holdfast.app.node_url import node_url
from holdfast.app.running import run_until_stopped, stop_requests
from holdfast.app.startup_claims import StartupClaims
from holdfast.backup.backup_dir import Opener
from holdfast.backup.creating import FOLDER, maker_of
from holdfast.backup.schedule import Schedule
from holdfast.backup.service import BackupService
from holdfast.base.clock import Clock, ClockWatch, SystemClock
from holdfast.base.ids import RandomSource, SystemRandomSource
from holdfast.base.proxy_urls import proxy_place
from holdfast.dashboard.dashboard import add_dashboard
from holdfast.delivery.media import MB
from holdfast.delivery.media_links import MediaLinks
from holdfast.delivery.rate_limits import Pace, Pacing
from holdfast.delivery.retention import Kept
from holdfast.delivery.stores import MediaFiles
from holdfast.delivery.webhooks import GIVE_UP_AFTER_DAYS
from holdfast.engine.host import EngineHost, HostLimits, HostProgram
from holdfast.live.redis import live_state
from holdfast.notify.addresses import read_addresses
from holdfast.notify.alert_sender import AlertSender
from holdfast.notify.apprise_client import AppriseClient, refusal
from holdfast.notify.webhooks import WebhookPost
from holdfast.runtime.account_limits import AccountLimits
from holdfast.runtime.client_versions import ClientVersions
from holdfast.runtime.composer import Composer
from holdfast.runtime.connect_limiter import ConnectLimiter
from holdfast.runtime.contact_catch_up import ContactCatchUp
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.health_monitor import HealthMonitor
from holdfast.runtime.inbound_media import InboundMediaService
from holdfast.runtime.media_spool import MediaSweeper, Spool
from holdfast.runtime.messages import Messages
from holdfast.runtime.operations import OperationService
from holdfast.runtime.outbound_media import OutboundMediaService
from holdfast.runtime.ownership import MARGIN_S, TTL_S, Ownership
from holdfast.runtime.people import People
from holdfast.runtime.quotas import QuotaLimits, Quotas
from holdfast.runtime.rate_limiter import SendShares
from holdfast.runtime.retention import RetentionSweeper
from holdfast.runtime.services import Services
from holdfast.runtime.webhook_sender import WebhookSender
from holdfast.session.backoff import Backoff
from holdfast.session.client_version import pinned_revision
from holdfast.session.engine import Engine, Listener
from holdfast.session.placement import PlacementPolicy
from holdfast.session.state import Policy
from holdfast.session.stores import NodeDescription
from holdfast.settings import Settings, variable
from holdfast.store.account_settings import AccountSettingRows
from holdfast.store.accounts import AccountRows
from holdfast.store.alerts import AlertTable
from holdfast.store.api_keys import ApiKeyRows
from holdfast.store.calls import CallRows
from holdfast.store.chat_rows import ChatRows
from holdfast.store.client_version import ClientVersionRows
from holdfast.store.contacts import ContactRows
from holdfast.store.credentials import EngineRows
from holdfast.store.events import EventRows
from holdfast.store.figures import FigureRows
from holdfast.store.inbox import InboxRows
from holdfast.store.leases import NO_FENCE, LeaseRows
from holdfast.store.lookup import LookupRows
from holdfast.store.media import MediaRows
from holdfast.store.operations import OperationRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.references import ReferenceRows
from holdfast.store.retention import RetentionRows
from holdfast.store.search_indexer import SearchIndexer
from holdfast.store.sessions import SessionRows
from holdfast.store.shared_secrets import shared_secret
from holdfast.store.sign_outs import SignOutRows
from holdfast.store.timeline import TimelineRows
from holdfast.store.usage import UsageRows
from holdfast.store.wakeups import Wakeups
from holdfast.store.webhooks import WebhookRows
from holdfast.web.client import WebClient
from holdfast.web.client_version import read_script

_SWITCH_INTERVAL_S = 0.001
"""How long a busy thread, such as that of a backup, keeps the interpreter lock while others wait for it. Accepting a
message changes threads several times, and Python's default is five times as long."""
_OTHER_FILES = 256
"""Open files for everything but callers: database, engine hosts, logs, outgoing connections."""


async def serve(
    held: StartupClaims,
    program: HostProgram,
    *,
    ready: Callable[[str], None],
    qr_shown: Callable[[str, str], None],
    until_stdin_closes: bool = False,
) -> None:
    """Run until SIGTERM or SIGINT, or the end of standard input if asked.

    `ready` is called with the URL when the sessions are loaded; `qr_shown` with company and code of each new QR code.
    Raises `Misconfigured` and `EngineUnavailable` with the cure, alone or in groups.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    clock, randomness, settings = SystemClock(), SystemRandomSource(), held.settings
    media = MediaRows(held.database, clock=clock)
    spool = Spool(media, folder=settings.spool_dir, clock=clock)
    sweeper = MediaSweeper(media, clock=clock, keep_days=settings.media_keep_days)
    with stop_requests(until_stdin_closes=until_stdin_closes) as asked_to_stop:
        async with WebClient(held.allowed) as web, contextlib.AsyncExitStack() as stack:
            links = await _links(held, randomness)
            versions = _client_versions(held, clock=clock, randomness=randomness)
            await versions.prepare()
            parts = _parts(held, program, files=spool, links=links, clock=clock, randomness=randomness)
            parts = replace(
                parts,
                client_versions=versions,
                device_name=settings.device_name,
                proxy_url=settings.proxy_url,
                proxy_addresses=lambda url: web.addresses(f"http://{proxy_place(url)}"),
            )
            wakeups = Wakeups(held.database, clock=clock) if held.database.is_shared else None
            if wakeups is not None:
                parts = replace(parts, wake_owner=wakeups.wake)
            composer = _composer(held, media, web, parts)
            gateway = Gateway(replace(parts, qr_shown=qr_shown))
            contacts = ContactRows(held.database, clock=clock)
            people = People(gateway, contacts)
            sending = Messages(gateway, parts.outbox, composer, people)
            versions.newer = gateway.client_updated
            inbound = InboundMediaService(
                media, outbound_media=composer.outbound_media, gateway=gateway, folder=spool.folder
            )
            backup_service = _backup_service(held, gateway, clock=clock)
            schedule = Schedule(backup_service, every_h=settings.backup_every_h, keep=settings.backup_keep)
            alert_sink = _alert_sender(held, clock=clock)
            webhooks = WebhookRows(held.database)
            await webhooks.set_default(settings.webhook_url, held.webhook_secret)
            sender = _webhook_sender(held, gateway, webhooks, web, parts)
            monitor = _monitor(held, gateway, webhooks, parts, alert_sink, schedule)
            webhook_service = WebhookService(webhooks, randomness=randomness, web=web)
            secret = await shared_secret(held.database, "dashboard", randomness=randomness)
            media_service = MediaService(
                inbound=inbound,
                outbound=composer.outbound_media,
                inbox=InboxRows(held.database),
                links=links,
                clock=clock,
            )
            forwarder = await _forwarder(held, parts, stack)
            indexer = SearchIndexer(held.database, clock=clock)
            registry = await _key_registry(held, parts)
            api = _http(
                held,
                registry,
                gateway,
                sending,
                people,
                webhook_service,
                parts,
                alert_sink,
                media_service,
                secret.encode(),
                monitor,
                backup_service,
                forwarder,
                indexer,
            )
            add_backups(api, backup_service)
            add_api_keys(api, registry)
            watchers = [versions.run, monitor.run, alert_sink.run, sender.run, schedule.run, spool.run, sweeper.run]
            watchers += [
                _retention_sweeper(held, clock=clock).run,
                indexer.run,
                registry.run,
                ContactCatchUp(contacts, clock=clock).run,
            ]
            if wakeups is not None:
                wakeups.woken = gateway.work_waits
                watchers.append(wakeups.run)
            tell = functools.partial(ready, f"http://{_shown(held.listener)}")
            server = _server(api, settings)
            gc.collect()
            gc.freeze()  # what exists now stays: looking through it for garbage takes a tenth of a second
            await run_until_stopped(gateway, watchers, server, held.listener, asked_to_stop, ready=tell)


async def _forwarder(held: StartupClaims, parts: Services, stack: contextlib.AsyncExitStack) -> Forwarder | None:
    """Forwards requests to other nodes until `stack` ends; None: no other process can use the database."""
    if parts.ownership is None:
        return None
    secret = await shared_secret(held.database, "cluster", randomness=parts.randomness)
    return await stack.enter_async_context(Forwarder(parts.ownership, secret=secret.encode(), clock=parts.clock))


def _client_versions(held: StartupClaims, *, clock: Clock, randomness: RandomSource) -> ClientVersions:
    return ClientVersions(
        pinned=pinned_revision(held.settings.whatsapp_version),
        read=functools.partial(read_script, held.settings.version_url, proxy_url=held.settings.proxy_url),
        store=ClientVersionRows(held.database, clock=clock),
        clock=clock,
        jitter=randomness.jitter,
    )


def _retention_sweeper(held: StartupClaims, *, clock: Clock) -> RetentionSweeper:
    settings = held.settings
    inbox_days = settings.inbox_keep_days and max(settings.inbox_keep_days, GIVE_UP_AFTER_DAYS)
    keep_days: dict[Kept, float] = {
        Kept.MESSAGES: settings.messages_keep_days,
        Kept.INBOX: inbox_days,
        Kept.OPERATIONS: settings.operations_keep_days,
        Kept.TIMELINE: settings.timeline_keep_days,
        Kept.QUARANTINE: settings.quarantine_keep_days,
    }
    return RetentionSweeper(RetentionRows(held.database), clock=clock, keep_days=keep_days)


def _webhook_sender(
    held: StartupClaims, gateway: Gateway, webhooks: WebhookRows, web: WebClient, parts: Services
) -> WebhookSender:
    return WebhookSender(
        webhooks,
        EventRows(held.database),
        companies=lambda: gateway.running,
        post=WebhookPost(web, clock=parts.clock),
        clock=parts.clock,
        clock_watch=parts.clock_watch,
        randomness=parts.randomness,
        keep_days=held.settings.events_keep_days,
    )


def _monitor(
    held: StartupClaims,
    gateway: Gateway,
    webhooks: WebhookRows,
    parts: Services,
    alert_sink: AlertSender,
    schedule: Schedule,
) -> HealthMonitor:
    return HealthMonitor(
        gateway,
        parts,
        figures=FigureRows(held.database),
        alert_sink=alert_sink,
        interval_s=held.settings.health_interval_s,
        backup_failing_s=lambda: schedule.failing_s,
        webhooks=webhooks.endpoints,
    )


async def _key_registry(held: StartupClaims, parts: Services) -> KeyRegistry:
    registry = KeyRegistry(
        held.known,
        ApiKeyRows(held.database),
        source=variable("api_key") if held.settings.api_key is not None else f"the file {API_KEY_FILE}",
        is_shared=held.database.is_shared,
        clock=parts.clock,
        randomness=parts.randomness,
    )
    await registry.load()
    return registry


def _http(
    held: StartupClaims,
    registry: KeyRegistry,
    gateway: Gateway,
    sending: Messages,
    people: People,
    webhooks: WebhookService,
    parts: Services,
    alert_sink: AlertSender,
    media: MediaService,
    dashboard_secret: bytes,
    monitor: HealthMonitor,
    removal: BackupService,
    forwarder: Forwarder | None,
    indexer: SearchIndexer,
) -> FastAPI:
    """API and dashboard."""
    quotas = _quotas(held, parts)
    figures = FigureRows(held.database)
    limits = AccountLimits(gateway, parts.accounts, default=parts.pacing, clock=parts.clock)
    diagnoser = Diagnoser(gateway, parts, figures=figures, limits=limits, undelivered=lambda: alert_sink.undelivered)
    operations = OperationService(
        gateway, parts.operations, events=EventRows(held.database), clock=parts.clock, randomness=parts.randomness
    )
    api = make_api(
        gateway,
        registry,
        diagnoser,
        sending=sending,
        people=people,
        operations=operations,
        outbox=parts.outbox,
        inbox=InboxRows(held.database),
        chat_rows=ChatRows(held.database),
        contact_rows=ContactRows(held.database, clock=parts.clock),
        labels=AccountSettingRows(held.database),
        call_rows=parts.calls,
        limits=limits,
        events=EventRows(held.database),
        webhooks=webhooks,
        media=media,
        quotas=quotas,
        settings=_shown_settings(held.settings),
        is_writable=lambda: held.database.is_writable,
        base_path=base_path_of(held.settings.public_url),
        allowed_hosts=_allowed_hosts(held.settings),
        forwarder=forwarder,
    )
    add_dashboard(
        api,
        gateway,
        diagnoser,
        sending=sending,
        chats=ChatRows(held.database),
        contacts=ContactRows(held.database, clock=parts.clock),
        events=EventRows(held.database),
        files=media.outbound,
        lookup=LookupRows(held.database, indexer),
        operations=operations,
        webhooks=webhooks.rows,
        webhook_settings=webhooks,
        limits=limits,
        removal=removal,
        media=media,
        keys=registry,
        key_management=registry,
        shutdown=api.state.shutdown,
        secret=dashboard_secret,
        sign_outs=SignOutRows(held.database),
        open_alerts=lambda: monitor.open_alerts,
        quotas=quotas,
        clock=parts.clock,
        randomness=parts.randomness,
        base_path=base_path_of(held.settings.public_url),
    )
    return api


def _cpu_cores() -> int:
    """Those that this process may use, where the system says so (macOS does not)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _allowed_hosts(settings: Settings) -> list[str]:
    return [settings.host, *names_of([settings.public_url, settings.url], settings.allowed_hosts)]


def _server(api: FastAPI, settings: Settings) -> HttpServer:
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(settings.http_connections, max(64, open_files - _OTHER_FILES))
    return HttpServer(api, most_connections=most, trusted_proxies=settings.trusted_proxies)


def _quotas(held: StartupClaims, parts: Services) -> Quotas:
    settings = held.settings
    limits = QuotaLimits(
        requests_per_minute=settings.quota_requests_per_minute,
        streams=settings.quota_streams,
        outbox_messages=settings.quota_outbox_messages,
        outbox_bytes=settings.quota_outbox_mb * MB,
        media_bytes=settings.quota_media_mb * MB,
        free_disk_bytes=settings.disk_free_mb * MB,
    )
    return Quotas(
        limits,
        UsageRows(held.database),
        clock=parts.clock,
        free_disk_bytes=lambda: shutil.disk_usage(settings.data_dir).free,
    )


async def _links(held: StartupClaims, randomness: RandomSource) -> MediaLinks:
    own_url = held.settings.own_url(held.listener.getsockname()[1])
    secret = await shared_secret(held.database, "media links", randomness=randomness)
    return MediaLinks(secret=secret, base_url=held.settings.public_url or own_url)


def _composer(held: StartupClaims, media: MediaRows, web: WebClient, parts: Services) -> Composer:
    limit_bytes = held.settings.media_max_mb * MB
    outbound_media = OutboundMediaService(media, web=web, randomness=parts.randomness, limit_bytes=limit_bytes)
    references = ReferenceRows(held.database)
    return Composer(
        references=references, outbound_media=outbound_media, clock=parts.clock, randomness=parts.randomness
    )


def _alert_sender(held: StartupClaims, *, clock: Clock) -> AlertSender:
    urls = held.settings.alert_urls
    addresses = () if urls is None else read_addresses(urls, refusal=refusal)
    return AlertSender(
        addresses,
        rows=AlertTable(held.database, node=_node(held) if held.database.is_shared else None),
        transport=AppriseClient(clock=clock),
        clock=clock,
        public_url=held.settings.public_url,
    )


def _shown_settings(settings: Settings) -> dict[str, object]:
    """What is in force, camelCase as all JSON here; secrets only as set or not."""
    return {to_camel(name): value for name, value in settings.model_dump(mode="json").items()}


def _backup_service(held: StartupClaims, gateway: Gateway, *, clock: Clock) -> BackupService:
    folder = held.settings.data_dir / FOLDER
    return BackupService(
        gateway=gateway,
        database=held.database,
        maker=maker_of(held.settings, held.database, folder=folder),
        folder=folder,
        opener=Opener(passphrase=held.settings.backup_passphrase),
        clock=clock,
    )


def _parts(
    held: StartupClaims,
    program: HostProgram,
    *,
    files: MediaFiles,
    links: MediaLinks,
    clock: Clock,
    randomness: RandomSource,
) -> Services:
    settings, database = held.settings, held.database
    backoff = Backoff(base_ms=settings.backoff_base_ms, factor=settings.backoff_factor, cap_ms=settings.backoff_cap_ms)
    node = _node(held)
    leases = None
    if database.is_shared:
        description = NodeDescription(name=node, url=node_url(settings, held.listener.getsockname()[1]))
        leases = LeaseRows(database, node=description, randomness=randomness, ttl_s=TTL_S)
    fence = NO_FENCE if leases is None else leases
    ownership = None if leases is None else Ownership(leases, clock=clock, restart_grace_s=settings.restart_grace_s)
    may_speak = (lambda: True) if ownership is None else ownership.is_held
    start_host = _host_starter(program, ownership, clock)
    return Services(
        supervisor=EngineSupervisor(
            start_host,
            clock=clock,
            backoff=backoff,
            may_speak=may_speak,
            policy=PlacementPolicy(hosts=settings.engine_hosts or _cpu_cores()),
            memory_bytes=settings.engine_host_memory_mb * MB or None,
        ),
        connect_limiter=ConnectLimiter(clock=clock, connects_per_s=settings.connects_per_second),
        shares=SendShares(clock=clock),
        sessions=SessionRows(database, fence=fence),
        timeline=TimelineRows(database, fence=fence),
        live=live_state(settings.redis_url, node=node, clock=clock),
        store=EngineRows(
            database,
            clock=clock,
            randomness=randomness,
            fence=fence,
            media_url=lambda id_: links.url(id_, now=clock.now()),
        ),
        outbox=OutboxRows(database, clock=clock, fence=fence),
        operations=OperationRows(database, clock=clock, fence=fence),
        calls=CallRows(database, clock=clock),
        chats=ChatRows(database),
        event_log=EventRows(database),
        accounts=AccountRows(database),
        files=files,
        clock=clock,
        clock_watch=ClockWatch(clock),
        randomness=randomness,
        policy=Policy(
            backoff=backoff,
            keepalive_interval_s=settings.keepalive_interval_s,
            presence=settings.keepalive_presence,
        ),
        whatsapp_url=settings.whatsapp_url,
        pacing=_pacing(settings),
        node=node,
        ownership=ownership,
    )


def _pacing(settings: Settings) -> Pacing:
    return Pacing(
        every=Pace(per_minute=settings.pacing_per_minute, burst=settings.pacing_burst),
        bulk=Pace(per_minute=settings.pacing_bulk_per_minute, burst=settings.pacing_bulk_burst),
        new=Pace(per_minute=settings.pacing_new_per_minute, burst=settings.pacing_new_burst),
        new_per_day=settings.pacing_new_per_day,
        gap_ms=settings.pacing_gap_ms,
    )


def _node(held: StartupClaims) -> str:
    """The name of this process. Several may share a machine, so a name that is not configured includes the port."""
    name = held.settings.node
    return name if "node" in held.settings.model_fields_set else f"{name}:{held.listener.getsockname()[1]}"


def _host_starter(
    program: HostProgram, ownership: Ownership | None, clock: Clock
) -> Callable[[Listener], AbstractAsyncContextManager[Engine]]:
    """With leases, a host is limited in how long it runs without its parent: its sockets close before a lease ends."""
    limits, lifetime_s = HostLimits(), _unlimited
    if ownership is not None:
        program = replace(program, argv=[*program.argv, str(TTL_S - MARGIN_S)])
        limits, lifetime_s = HostLimits(heartbeat_interval_s=1), ownership.host_lifetime_s

    @contextlib.asynccontextmanager
    async def start(listener: Listener) -> AsyncIterator[Engine]:
        async with EngineHost(program, listener=listener, clock=clock, limits=limits, lifetime_s=lifetime_s) as host:
            yield host

    return start


def _unlimited() -> float | None:
    return None


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
