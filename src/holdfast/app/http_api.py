"""Builds API, dashboard and HTTP server, from the settings."""

from __future__ import annotations

import resource
import shutil

from fastapi import FastAPI
from pydantic.alias_generators import to_camel

from holdfast.api.allowed_hosts import names_of
from holdfast.api.base_path import base_path_of
from holdfast.api.forwarding import Forwarder
from holdfast.api.key_registry import KeyRegistry
from holdfast.api.media import MediaService
from holdfast.api.routes import make_api
from holdfast.api.server import HttpServer
from holdfast.api.webhooks import WebhookService
from holdfast.app.startup_claims import StartupClaims
from holdfast.backup.service import BackupService
from holdfast.dashboard.assets import Assets
from holdfast.dashboard.attention import AttentionList
from holdfast.dashboard.context import AppContext
from holdfast.dashboard.dashboard import add_dashboard
from holdfast.dashboard.fleet import Fleet
from holdfast.dashboard.logins import Logins
from holdfast.dashboard.rendering import Templates
from holdfast.delivery.media import MB
from holdfast.notify.alert_sender import AlertSender
from holdfast.runtime.account_limits import AccountLimits
from holdfast.runtime.chat_reading import ChatReading
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.health_monitor import HealthMonitor
from holdfast.runtime.messages import Messages
from holdfast.runtime.operations import OperationService
from holdfast.runtime.people import People
from holdfast.runtime.quotas import QuotaLimits, Quotas
from holdfast.runtime.services import Services
from holdfast.settings import Settings
from holdfast.store.account_settings import AccountSettingRows
from holdfast.store.chat_rows import ChatRows
from holdfast.store.contacts import ContactRows
from holdfast.store.events import EventRows
from holdfast.store.figures import FigureRows
from holdfast.store.inbox import InboxRows
from holdfast.store.lookup import LookupRows
from holdfast.store.search_indexer import SearchIndexer
from holdfast.store.sign_outs import SignOutRows
from holdfast.store.usage import UsageRows

_OTHER_FILES = 256
"""Open files for everything but callers: database, engine hosts, logs, outgoing connections."""


def make_http_api(
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
    quotas, base_path = _quotas(held, parts), base_path_of(held.settings.public_url)
    chats, contacts = ChatRows(held.database), ContactRows(held.database, clock=parts.clock)
    events, figures = EventRows(held.database), FigureRows(held.database)
    limits = AccountLimits(gateway, parts.accounts, default=parts.pacing, clock=parts.clock)
    diagnoser = Diagnoser(gateway, parts, figures=figures, limits=limits, undelivered=lambda: alert_sink.undelivered)
    operations = OperationService(
        gateway, parts.operations, events=events, clock=parts.clock, randomness=parts.randomness
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
        chat_rows=chats,
        contact_rows=contacts,
        labels=AccountSettingRows(held.database),
        call_rows=parts.calls,
        limits=limits,
        events=events,
        webhooks=webhooks,
        media=media,
        quotas=quotas,
        settings=_shown_settings(held.settings),
        is_writable=lambda: held.database.is_writable,
        base_path=base_path,
        allowed_hosts=_allowed_hosts(held.settings),
        forwarder=forwarder,
    )
    lookup, assets = LookupRows(held.database, indexer), Assets()
    add_dashboard(
        api,
        AppContext(
            gateway=gateway,
            diagnoser=diagnoser,
            lookup=lookup,
            chats=chats,
            reading=ChatReading(chats, operations),
            logins=Logins(
                registry,
                secret=dashboard_secret,
                sign_outs=SignOutRows(held.database),
                clock=parts.clock,
                randomness=parts.randomness,
            ),
            attention=AttentionList(lambda: monitor.open_alerts, webhooks.rows, clock=parts.clock),
            fleet=Fleet(gateway, diagnoser, lookup, clock=parts.clock),
            assets=assets,
            templates=Templates(assets, clock=parts.clock, base_path=base_path),
            sending=sending,
            contacts=contacts,
            events=events,
            files=media.outbound,
            operations=operations,
            webhooks=webhooks.rows,
            webhook_settings=webhooks,
            limits=limits,
            removal=removal,
            media=media,
            key_management=registry,
            quotas=quotas,
            shutdown=api.state.shutdown,
            clock=parts.clock,
            randomness=parts.randomness,
            base_path=base_path,
        ),
    )
    return api


def make_server(api: FastAPI, settings: Settings) -> HttpServer:
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(settings.http_connections, max(64, open_files - _OTHER_FILES))
    return HttpServer(api, max_connections=limit, trusted_proxies=settings.trusted_proxies)


def _allowed_hosts(settings: Settings) -> list[str]:
    return [settings.host, *names_of([settings.public_url, settings.url], settings.allowed_hosts)]


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


def _shown_settings(settings: Settings) -> dict[str, object]:
    """What is in force, camelCase as all JSON here; secrets only as set or not."""
    return {to_camel(name): value for name, value in settings.model_dump(mode="json").items()}
