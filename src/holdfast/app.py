"""Joins the rooms into a running gateway: the only place that knows all of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from holdfast.api import keys
from holdfast.api.backups import add_backups
from holdfast.api.media import MediaDesk
from holdfast.api.routes import make_api
from holdfast.api.server import Server
from holdfast.api.webhooks import WebhookDesk
from holdfast.backup.custody import Custody
from holdfast.backup.making import FOLDER, maker_of
from holdfast.backup.schedule import Schedule
from holdfast.backup.shelf import Opener
from holdfast.base.clock import Clock, SystemClock
from holdfast.base.errors import BadInput, Misconfigured
from holdfast.base.ids import Chance, SystemChance
from holdfast.base.private import kept_private
from holdfast.dashboard.dashboard import add_dashboard
from holdfast.dashboard.logins import kept_secret
from holdfast.delivery.links import MediaLinks
from holdfast.delivery.media import MB
from holdfast.delivery.pacing import Pace, Pacing
from holdfast.delivery.ports import MediaFiles
from holdfast.engine.host import EngineHost, HostLimits, HostProgram
from holdfast.live.redis import live_state
from holdfast.notify.addresses import read_addresses
from holdfast.notify.courier import AppriseCourier, refusal
from holdfast.notify.sender import AlertSender
from holdfast.notify.signing import checked_secret
from holdfast.notify.webhooks import WebhookPost
from holdfast.runtime.actor import Parts
from holdfast.runtime.composer import Composer
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gate import ConnectGate
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.hub import EngineHub
from holdfast.runtime.inbound import InboundDesk
from holdfast.runtime.media import MediaShelf
from holdfast.runtime.monitor import HealthMonitor
from holdfast.runtime.ownership import MARGIN_S, TTL_S, Ownership
from holdfast.runtime.spool import MediaSweeper, Spool
from holdfast.runtime.webhooks import WebhookSender
from holdfast.session.backoff import Backoff
from holdfast.session.life import Policy
from holdfast.session.port import Engine, Listener
from holdfast.settings import Settings, variable
from holdfast.store.accounts import AccountRows
from holdfast.store.alerts import AlertTable
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.events import EventRows
from holdfast.store.figures import FigureRows
from holdfast.store.leases import NO_FENCE, LeaseRows
from holdfast.store.lookup import LookupRows
from holdfast.store.media import MediaRows
from holdfast.store.notes import shared_secret
from holdfast.store.outbox import InboxRows, OutboxRows
from holdfast.store.place import open_database
from holdfast.store.references import ReferenceRows
from holdfast.store.sessions import SessionRows
from holdfast.store.timeline import TimelineRows
from holdfast.store.webhooks import WebhookRows
from holdfast.web.addresses import Allowed, parse_allowed
from holdfast.web.client import WebClient

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STDIN = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a gateway holds for itself alone while it runs."""

    settings: Settings
    database: Database
    listener: socket.socket
    known: keys.Keys
    allowed: Allowed
    """Private addresses that media and webhooks may reach."""
    webhook_secret: str | None
    """Signs the webhooks of sessions that have none of their own."""


@contextlib.contextmanager
def claim(settings: Settings, *, key_made: Callable[[str, Path], None]) -> Iterator[Claim]:
    """Take data folder, database and port before anything slow is begun: what is wrong with them is said at once.

    `key_made` hears of an API key that was generated just now and of the file that keeps it. Raises `Misconfigured`.
    """
    allowed = parse_allowed(settings.allowed_addresses or "")
    make_folder(settings.data_dir)
    webhook_secret = _webhook_secret(settings)
    with contextlib.closing(open_database(settings)) as database, _listen(settings) as listener:
        known = _keys(settings, key_made)
        yield Claim(
            settings=settings,
            database=database,
            listener=listener,
            known=known,
            allowed=allowed,
            webhook_secret=webhook_secret,
        )


async def serve(
    held: Claim,
    program: HostProgram,
    *,
    ready: Callable[[str], None],
    qr_shown: Callable[[str, str], None],
    until_stdin_closes: bool = False,
) -> None:
    """Run until SIGTERM or SIGINT, or the end of standard input if asked.

    `ready` gets the URL when sessions are in hand; `qr_shown`, company and QR code whenever a new one is shown.
    Raises `Misconfigured` and `EngineUnavailable` with the cure, alone or in groups.
    """
    clock, chance, settings = SystemClock(), SystemChance(), held.settings
    media = MediaRows(held.database, clock=clock)
    spool = Spool(media, folder=settings.data_dir / "spool", clock=clock)
    sweeper = MediaSweeper(media, clock=clock, keep_days=settings.media_keep_days)
    with _stop_wishes(until_stdin_closes=until_stdin_closes) as asked_to_stop:
        async with WebClient(held.allowed) as web:
            links = await _links(held, chance)
            parts = _parts(held, program, files=spool, links=links, clock=clock, chance=chance)
            composer = _composer(held, media, web, parts)
            gateway = Gateway(replace(parts, qr_shown=qr_shown), inbox=InboxRows(held.database), composer=composer)
            inbound = InboundDesk(media, shelf=composer.shelf, downloads=gateway, folder=spool.folder)
            tell = functools.partial(ready, f"http://{_shown(held.listener)}")
            figures, webhooks = FigureRows(held.database), WebhookRows(held.database)
            custody = _custody(held, gateway, clock=parts.clock)
            schedule = Schedule(custody, every_h=settings.backup_every_h, keep=settings.backup_keep)
            teller = _alert_sender(held, clock=parts.clock)
            monitor = HealthMonitor(
                gateway,
                parts,
                figures=figures,
                teller=teller,
                interval_s=settings.health_interval_s,
                backup_failing_s=lambda: schedule.failing_s,
                webhooks=webhooks.endpoints,
            )
            diagnoser = Diagnoser(gateway, parts, figures=figures, undelivered=lambda: teller.undelivered)
            events = EventRows(held.database)
            await webhooks.set_default(settings.webhook_url, held.webhook_secret)
            desk = WebhookDesk(webhooks, chance=parts.chance)
            shown = _shown_settings(settings)
            given_out = MediaDesk(inbound, links, clock=clock)
            api = make_api(
                gateway, held.known, diagnoser, events=events, webhooks=desk, media=given_out, settings=shown
            )
            add_backups(api, custody)
            add_dashboard(
                api,
                gateway,
                diagnoser,
                lookup=LookupRows(held.database),
                webhooks=webhooks,
                keys=held.known,
                waits=api.state.waits,
                secret=kept_secret(settings.data_dir, parts.chance),
                clock=parts.clock,
                chance=parts.chance,
            )
            sender = WebhookSender(
                webhooks,
                events,
                companies=lambda: gateway.running,
                post=WebhookPost(web, clock=clock),
                clock=clock,
                chance=parts.chance,
                keep_days=settings.events_keep_days,
            )
            watchers = [monitor.run, teller.run, sender.run, schedule.run, spool.run, sweeper.run]
            await _run(gateway, watchers, Server(api), held.listener, asked_to_stop, ready=tell)


def _webhook_secret(settings: Settings) -> str | None:
    """That of the settings, or one that is made for this data folder; None where there is no webhook."""
    name, file = variable("webhook_secret"), settings.data_dir / "webhook-secret"
    if settings.webhook_secret is None and settings.webhook_url is not None:
        return kept_private(file, SystemChance().webhook_secret, what="the secret of webhooks")
    if settings.webhook_secret is not None:
        try:
            checked_secret(settings.webhook_secret, field=name)
        except BadInput as error:
            raise Misconfigured(error.sentence, field=error.field) from error
    return settings.webhook_secret


async def _links(held: Claim, chance: Chance) -> MediaLinks:
    own_url = held.settings.own_url(held.listener.getsockname()[1])
    secret = await shared_secret(held.database, "media links", chance=chance)
    return MediaLinks(secret=secret, base_url=held.settings.public_url or own_url)


def _composer(held: Claim, media: MediaRows, web: WebClient, parts: Parts) -> Composer:
    limit_bytes = held.settings.media_max_mb * MB
    shelf = MediaShelf(media, web=web, chance=parts.chance, limit_bytes=limit_bytes)
    references = ReferenceRows(held.database)
    return Composer(references=references, shelf=shelf, clock=parts.clock, chance=parts.chance)


def _alert_sender(held: Claim, *, clock: Clock) -> AlertSender:
    urls = held.settings.alert_urls
    addresses = () if urls is None else read_addresses(urls, refusal=refusal)
    return AlertSender(
        addresses,
        rows=AlertTable(held.database, node=_node(held) if held.database.is_shared else None),
        courier=AppriseCourier(clock=clock),
        clock=clock,
    )


def _shown_settings(settings: Settings) -> dict[str, object]:
    """What is in force, camelCase as all JSON here; secrets only as set or not."""
    return {to_camel(name): value for name, value in settings.model_dump(mode="json").items()}


def _custody(held: Claim, gateway: Gateway, *, clock: Clock) -> Custody:
    folder = held.settings.data_dir / FOLDER
    return Custody(
        gateway=gateway,
        database=held.database,
        maker=maker_of(held.settings, held.database, folder=folder),
        folder=folder,
        opener=Opener(passphrase=held.settings.backup_passphrase),
        clock=clock,
    )


def _parts(
    held: Claim, program: HostProgram, *, files: MediaFiles, links: MediaLinks, clock: Clock, chance: Chance
) -> Parts:
    settings, database = held.settings, held.database
    backoff = Backoff(base_ms=settings.backoff_base_ms, factor=settings.backoff_factor, cap_ms=settings.backoff_cap_ms)
    node = _node(held)
    leases = LeaseRows(database, node=node, chance=chance, ttl_s=TTL_S) if database.is_shared else None
    fence = NO_FENCE if leases is None else leases
    ownership = None if leases is None else Ownership(leases, clock=clock)
    may_speak = (lambda: True) if ownership is None else ownership.is_held
    start_host = _host_starter(program, ownership, clock)
    return Parts(
        hub=EngineHub(start_host, clock=clock, backoff=backoff, may_speak=may_speak),
        gate=ConnectGate(clock=clock),
        sessions=SessionRows(database, fence=fence),
        timeline=TimelineRows(database, fence=fence),
        live=live_state(settings.redis_url, node=node, clock=clock),
        store=EngineRows(
            database, clock=clock, chance=chance, fence=fence, media_url=lambda id_: links.url(id_, now=clock.now())
        ),
        outbox=OutboxRows(database, clock=clock, fence=fence),
        accounts=AccountRows(database),
        files=files,
        clock=clock,
        chance=chance,
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


def _node(held: Claim) -> str:
    """Several processes may run on one machine: one that was given no name is told apart by its port."""
    name = held.settings.node
    return name if "node" in held.settings.model_fields_set else f"{name}:{held.listener.getsockname()[1]}"


def _host_starter(
    program: HostProgram, ownership: Ownership | None, clock: Clock
) -> Callable[[Listener], AbstractAsyncContextManager[Engine]]:
    """Where leases end, sockets end before them: the host is told how long it may live without its parent."""
    limits, lifetime_s = HostLimits(), _unlimited
    if ownership is not None:
        program = replace(program, argv=[*program.argv, str(int(TTL_S - MARGIN_S))])
        limits, lifetime_s = HostLimits(heartbeat_interval_s=1), ownership.left_s

    @contextlib.asynccontextmanager
    async def start(listener: Listener) -> AsyncIterator[Engine]:
        async with EngineHost(program, listener=listener, clock=clock, limits=limits, lifetime_s=lifetime_s) as host:
            yield host

    return start


def _unlimited() -> float | None:
    return None


async def _run(
    gateway: Gateway,
    watchers: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    server: Server,
    listener: socket.socket,
    asked_to_stop: asyncio.Event,
    *,
    ready: Callable[[], None],
) -> None:
    """HTTP and gateway side by side. HTTP goes first, whatever the end is, then the sessions, then the engine host."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[listener]), name="http")
        try:
            async with asyncio.TaskGroup() as inner:
                running = inner.create_task(gateway.run(ready=ready), name="gateway")
                stopping = inner.create_task(asked_to_stop.wait(), name="wish to stop")
                watching = [inner.create_task(watch(), name=watch.__qualname__) for watch in watchers]
                await asyncio.wait([running, serving, stopping], return_when=asyncio.FIRST_COMPLETED)
                await _end_http(server, serving)
                for task in (running, stopping, *watching):
                    task.cancel()
        finally:
            await _end_http(server, serving)


async def _end_http(server: Server, serving: asyncio.Task[None]) -> None:
    server.stop()
    await asyncio.wait([serving])


@contextlib.contextmanager
def _stop_wishes(*, until_stdin_closes: bool) -> Iterator[asyncio.Event]:
    """Set at SIGTERM and SIGINT, and where asked for when standard input ends."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, asked)
    try:
        with _stdin_watched(asked) if until_stdin_closes else contextlib.nullcontext():
            yield asked
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _stop(asked: asyncio.Event) -> None:
    """From now on Ctrl-C ends this process at once; the engine host notices and ends too."""
    log.info("Holdfast stops: links are closed, what was accepted stays in the outbox; Ctrl-C ends it at once")
    asked.set()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def _stdin_watched(asked: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(_STDIN, _read_stdin, asked)
    except OSError as error:
        raise Misconfigured(
            "--until-stdin-closes needs standard input to be a pipe or a terminal: a file or /dev/null can't be watched"
        ) from error
    try:
        yield
    finally:
        loop.remove_reader(_STDIN)


def _read_stdin(asked: asyncio.Event) -> None:
    """What is typed means nothing; the end of it does. A terminal that is gone fails to be read."""
    typed = b""
    with contextlib.suppress(OSError):
        typed = os.read(_STDIN, 4096)
    if not typed:
        asyncio.get_running_loop().remove_reader(_STDIN)
        _stop(asked)


def make_folder(folder: Path) -> None:
    """The data folder, its owner's alone. Raises `Misconfigured`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        why, cure = str(error.strerror), "give its user the right to"
        if error.errno in {errno.EEXIST, errno.ENOTDIR}:
            why, cure = "a file is in its place", "move that away"
        raise Misconfigured(
            f'the data folder "{folder}" can\'t be made ({why}): {cure}, '
            f"or set {variable('data_dir')} to another folder",
            field=variable("data_dir"),
        ) from error


def _keys(settings: Settings, key_made: Callable[[str, Path], None]) -> keys.Keys:
    if settings.api_key is not None:
        return keys.parse(settings.api_key)
    file = settings.data_dir / keys.FILE
    key = keys.stored_key(settings.data_dir)
    if key is None:
        key = keys.make_key(settings.data_dir, SystemChance())
        key_made(key, file)
    return keys.parse(key, source=str(file))


@contextlib.contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket, bound before anything is started: a taken port is said at once."""
    where = f"{settings.host} port {settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it can't be a name"
        raise Misconfigured(
            f"{where} is no address to listen on ({why}): set {variable('host')}", field=variable("host")
        ) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            raise _deaf(where, error) from error
        yield listener


def _deaf(where: str, error: OSError) -> Misconfigured:
    name, cure = "port", "set HOLDFAST_PORT to another port"
    if error.errno == errno.EADDRINUSE:
        cure = f"stop what uses it, or {cure}"
    elif error.errno == errno.EADDRNOTAVAIL:
        name, cure = "host", "set HOLDFAST_HOST to an address of this machine"
    return Misconfigured(f"{where} can't be listened on ({error.strerror}): {cure}", field=variable(name))


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
