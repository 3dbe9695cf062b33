"""Joins the rooms into a running gateway: the only place that knows all of them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from holdfast.api import keys
from holdfast.api.routes import make_api
from holdfast.base.clock import Clock, SystemClock
from holdfast.base.errors import Misconfigured
from holdfast.base.ids import Chance, SystemChance
from holdfast.engine.host import EngineHost, HostProgram
from holdfast.runtime.actor import Parts
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.hub import EngineHub
from holdfast.session.backoff import Backoff
from holdfast.session.life import Policy
from holdfast.session.port import Engine, Listener
from holdfast.settings import Settings, variable
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.outbox import InboxRows, OutboxRows
from holdfast.store.sessions import SessionRows

log = logging.getLogger(__name__)

_STOP_S = 5
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a person who started Holdfast wants to know."""

    url: str
    new_key: str | None
    """The key that was generated just now; shown once."""


async def serve(
    settings: Settings,
    program: HostProgram,
    *,
    started: Callable[[Started], None],
    qr_shown: Callable[[str, str], None],
    until_stdin_closes: bool = False,
) -> None:
    """Run until SIGTERM or SIGINT, or the end of standard input if asked.

    `qr_shown` gets company and QR code whenever a new one is shown.

    Raises `Misconfigured` and `EngineUnavailable` with the cure.
    """
    clock, chance = SystemClock(), SystemChance()
    _make_folder(settings.data_dir)
    database = Database(settings.data_dir / "holdfast.db")
    try:
        known, new_key = _keys(settings, chance)
        with _listen(settings) as listener:
            parts = _parts(settings, database, program, clock=clock, chance=chance)
            gateway = Gateway(replace(parts, qr_shown=qr_shown), inbox=InboxRows(database))
            url = f"http://{_shown(listener)}"
            with _stop_wishes(until_stdin_closes=until_stdin_closes) as asked_to_stop:
                ready = functools.partial(started, Started(url=url, new_key=new_key))
                await _run(gateway, known, listener, asked_to_stop, ready=ready)
    finally:
        database.close()


def _parts(settings: Settings, database: Database, program: HostProgram, *, clock: Clock, chance: Chance) -> Parts:
    backoff = Backoff(base_ms=settings.backoff_base_ms, factor=settings.backoff_factor, cap_ms=settings.backoff_cap_ms)
    return Parts(
        hub=EngineHub(_host_starter(program, clock), clock=clock, backoff=backoff),
        sessions=SessionRows(database),
        store=EngineRows(database, clock=clock, chance=chance),
        outbox=OutboxRows(database, clock=clock),
        clock=clock,
        chance=chance,
        policy=Policy(
            backoff=backoff,
            keepalive_interval_s=settings.keepalive_interval_s,
            presence=settings.keepalive_presence,
        ),
        whatsapp_url=settings.whatsapp_url,
    )


def _host_starter(program: HostProgram, clock: Clock) -> Callable[[Listener], AbstractAsyncContextManager[Engine]]:
    @contextlib.asynccontextmanager
    async def start(listener: Listener) -> AsyncIterator[Engine]:
        async with EngineHost(program, listener=listener, clock=clock) as host:
            yield host

    return start


async def _run(
    gateway: Gateway,
    known: keys.Keys,
    listener: socket.socket,
    asked_to_stop: asyncio.Event,
    *,
    ready: Callable[[], None],
) -> None:
    """HTTP and gateway side by side; when asked to stop, HTTP goes first, then the sessions, then the engine host."""
    server = _Server(
        uvicorn.Config(
            make_api(gateway, known),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_STOP_S,
            server_header=False,
        )
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(gateway.run(ready=ready), name="gateway")
        serving = tasks.create_task(server.serve(sockets=[listener]), name="http")
        stopping = tasks.create_task(asked_to_stop.wait(), name="wish to stop")
        await asyncio.wait([running, serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        log.info("Holdfast stops: links are closed, what was accepted stays in the outbox")
        server.should_exit = True
        await asyncio.wait([serving])
        running.cancel()
        stopping.cancel()


class _Server(uvicorn.Server):
    """Signals are ours: uvicorn would take them for itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def _stop_wishes(*, until_stdin_closes: bool) -> Iterator[asyncio.Event]:
    """Set at SIGTERM and SIGINT, and where asked for when standard input ends."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, asked.set)
    if until_stdin_closes:
        loop.add_reader(sys.stdin, _read_stdin, asked)
    try:
        yield asked
    finally:
        if until_stdin_closes:
            loop.remove_reader(sys.stdin)
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _read_stdin(asked: asyncio.Event) -> None:
    """What is typed means nothing; the end of it does."""
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin)
        asked.set()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Misconfigured(
            f'the data folder "{folder}" can\'t be made ({error.strerror}): '
            f"give its user the right to, or set {variable('data_dir')} to another folder",
            field=variable("data_dir"),
        ) from error


def _keys(settings: Settings, chance: Chance) -> tuple[keys.Keys, str | None]:
    """The keys in force, and the one that was generated just now."""
    if settings.api_key is not None:
        return keys.parse(settings.api_key), None
    stored = keys.stored_key(settings.data_dir)
    if stored is not None:
        return keys.parse(stored), None
    made = keys.make_key(settings.data_dir, chance)
    return keys.parse(made), made


@contextlib.contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket, bound before anything is started: a taken port is said at once."""
    where = f"{settings.host} port {settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise Misconfigured(
            f"{where} is no address to listen on ({error.strerror}): set {variable('host')}", field=variable("host")
        ) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            raise Misconfigured(
                f"{where} can't be listened on ({error.strerror}): "
                f"stop what uses it, or set {variable('port')} to another port",
                field=variable("port"),
            ) from error
        yield listener


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
