"""Builds the running gateway from all packages, and runs it.

`session_services` and `http_api` build the two largest parts. No other package knows all of them.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import socket
import sys
from collections.abc import Callable
from dataclasses import replace

from holdfast.api.api_keys import add_api_keys
from holdfast.api.backups import add_backups
from holdfast.api.forwarding import Forwarder
from holdfast.api.key_registry import KeyRegistry
from holdfast.api.keys import FILE as API_KEY_FILE
from holdfast.api.media import MediaService
from holdfast.api.webhooks import WebhookService
from holdfast.app.http_api import make_http_api, make_server
from holdfast.app.running import run_until_stopped, stop_requests
from holdfast.app.session_services import make_services, node_name
from holdfast.app.startup_claims import StartupClaims
from holdfast.backup.backup_dir import Opener
from holdfast.backup.creating import FOLDER, maker_of
from holdfast.backup.schedule import Schedule
from holdfast.backup.service import BackupService
from holdfast.base.clock import Clock, SystemClock
from holdfast.base.ids import RandomSource, SystemRandomSource
from holdfast.base.proxy_urls import proxy_address
from holdfast.delivery.media import MB
from holdfast.delivery.media_links import MediaLinks
from holdfast.delivery.retention import RetainedRows
from holdfast.delivery.webhooks import GIVE_UP_AFTER_DAYS
from holdfast.engine.host import HostProgram
from holdfast.notify.addresses import read_addresses
from holdfast.notify.alert_sender import AlertSender
from holdfast.notify.apprise_client import AppriseClient, refusal
from holdfast.notify.webhooks import WebhookPost
from holdfast.runtime.client_versions import ClientVersions
from holdfast.runtime.composer import Composer
from holdfast.runtime.contact_catch_up import ContactCatchUp
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.health_monitor import HealthMonitor
from holdfast.runtime.inbound_media import InboundMediaService
from holdfast.runtime.media_spool import MediaSweeper, Spool
from holdfast.runtime.messages import Messages
from holdfast.runtime.outbound_media import OutboundMediaService
from holdfast.runtime.people import People
from holdfast.runtime.retention import RetentionSweeper
from holdfast.runtime.services import Services
from holdfast.runtime.webhook_sender import WebhookSender
from holdfast.session.client_version import pinned_revision
from holdfast.settings import variable
from holdfast.store.alerts import AlertTable
from holdfast.store.api_keys import ApiKeyRows
from holdfast.store.client_version import ClientVersionRows
from holdfast.store.contacts import ContactRows
from holdfast.store.events import EventRows
from holdfast.store.figures import FigureRows
from holdfast.store.inbox import InboxRows
from holdfast.store.media import MediaRows
from holdfast.store.references import ReferenceRows
from holdfast.store.retention import RetentionRows
from holdfast.store.search_indexer import SearchIndexer
from holdfast.store.shared_secrets import shared_secret
from holdfast.store.wakeups import Wakeups
from holdfast.store.webhooks import WebhookRows
from holdfast.web.client import WebClient
from holdfast.web.client_version import read_script

_SWITCH_INTERVAL_S = 0.001
"""How long a busy thread, such as that of a backup, keeps the interpreter lock while others wait for it. Accepting a
message changes threads several times, and Python's default is five times as long."""


async def serve(
    held: StartupClaims,
    program: HostProgram,
    *,
    ready: Callable[[str], None],
    qr_shown: Callable[[str, str], None],
    loading_s: float,
    until_stdin_closes: bool = False,
) -> None:
    """Run until SIGTERM or SIGINT, or the end of standard input if asked.

    `ready` is called with the URL when the sessions are loaded; `qr_shown` with company and code of each new QR code.
    `loading_s`: how long this process took to load its code.
    Raises `Misconfigured` and `EngineUnavailable` with the cure, alone or in groups.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    clock, randomness, settings = SystemClock(), SystemRandomSource(), held.settings
    media = MediaRows(held.database, clock=clock)
    spool = Spool(media, folder=settings.spool_dir, clock=clock)
    sweeper = MediaSweeper(media, clock=clock, keep_days=settings.media_keep_days)
    with stop_requests(until_stdin_closes=until_stdin_closes) as stop_requested:
        async with WebClient(held.allowed) as web, contextlib.AsyncExitStack() as stack:
            links = await _links(held, randomness)
            parts = make_services(
                held, program, files=spool, links=links, clock=clock, randomness=randomness, loading_s=loading_s
            )
            if parts.ownership is not None:  # before anything slow: others take its sessions when the grace is over
                await stack.enter_async_context(parts.ownership.starting())
            versions = _client_versions(held, clock=clock, randomness=randomness)
            await versions.prepare()
            parts = replace(
                parts,
                client_versions=versions,
                device_name=settings.device_name,
                proxy_url=settings.proxy_url,
                proxy_addresses=lambda url: web.addresses(f"http://{proxy_address(url)}"),
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
            registry = await _key_registry(held, parts)
            backup_service = _backup_service(held, gateway, registry, clock=clock)
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
            api = make_http_api(
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
            server = make_server(api, settings)
            gc.collect()
            gc.freeze()  # what exists now stays: looking through it for garbage takes a tenth of a second
            await run_until_stopped(gateway, watchers, server, held.listener, stop_requested, ready=tell)


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
    keep_days: dict[RetainedRows, float] = {
        RetainedRows.MESSAGES: settings.messages_keep_days,
        RetainedRows.INBOX: inbox_days,
        RetainedRows.OPERATIONS: settings.operations_keep_days,
        RetainedRows.TIMELINE: settings.timeline_keep_days,
        RetainedRows.QUARANTINE: settings.quarantine_keep_days,
    }
    return RetentionSweeper(RetentionRows(held.database), clock=clock, keep_days=keep_days)


def _webhook_sender(
    held: StartupClaims, gateway: Gateway, webhooks: WebhookRows, web: WebClient, parts: Services
) -> WebhookSender:
    return WebhookSender(
        webhooks,
        EventRows(held.database),
        companies=lambda: gateway.running,
        post=WebhookPost(web, clock=parts.clock, timeout_s=held.settings.webhook_timeout_s),
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
        rows=AlertTable(held.database, node=node_name(held) if held.database.is_shared else None),
        transport=AppriseClient(clock=clock),
        clock=clock,
        public_url=held.settings.public_url,
    )


def _backup_service(held: StartupClaims, gateway: Gateway, registry: KeyRegistry, *, clock: Clock) -> BackupService:
    folder = held.settings.data_dir / FOLDER
    return BackupService(
        gateway=gateway,
        database=held.database,
        maker=maker_of(held.settings, held.database, folder=folder),
        folder=folder,
        opener=Opener(passphrase=held.settings.backup_passphrase),
        clock=clock,
        load_api_keys=registry.reload,
    )


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
