"""Runs gateway, HTTP server and background services until a stop is requested, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from holdfast.api.server import HttpServer
from holdfast.base.errors import Misconfigured
from holdfast.runtime.gateway import Gateway

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STDIN = 0


async def run_until_stopped(
    gateway: Gateway,
    watchers: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    server: HttpServer,
    listener: socket.socket,
    stop_requested: asyncio.Event,
    *,
    ready: Callable[[], None],
) -> None:
    """Run HTTP server and gateway. Whatever ends them, HTTP stops first, then the sessions, then the engine hosts."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[listener]), name="http")
        try:
            async with asyncio.TaskGroup() as inner:
                running = inner.create_task(gateway.run(ready=ready), name="gateway")
                stopping = inner.create_task(stop_requested.wait(), name="stop request")
                watching = [inner.create_task(watch(), name=watch.__qualname__) for watch in watchers]
                await asyncio.wait([running, serving, stopping], return_when=asyncio.FIRST_COMPLETED)
                await gateway.announce_stop()
                await _end_http(server, serving)
                for task in (running, stopping, *watching):
                    task.cancel()
        finally:
            await _end_http(server, serving)


async def _end_http(server: HttpServer, serving: asyncio.Task[None]) -> None:
    server.stop()
    await asyncio.wait([serving])


@contextlib.contextmanager
def stop_requests(*, until_stdin_closes: bool) -> Iterator[asyncio.Event]:
    """An event that is set at SIGTERM and SIGINT and, if asked for, when standard input ends."""
    loop = asyncio.get_running_loop()
    stop_requested = asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _stop, stop_requested)
    try:
        with _stdin_watched(stop_requested) if until_stdin_closes else contextlib.nullcontext():
            yield stop_requested
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _stop(stop_requested: asyncio.Event) -> None:
    """From now on Ctrl-C ends this process at once; the engine host notices and ends too."""
    log.info(
        "Holdfast is stopping: links are being closed, accepted messages stay in the outbox; press Ctrl-C again to "
        "end it at once"
    )
    stop_requested.set()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def _stdin_watched(stop_requested: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(_STDIN, _read_stdin, stop_requested)
    except OSError as error:
        raise Misconfigured(
            "--until-stdin-closes needs standard input to be a pipe or a terminal: a file or /dev/null can't be watched"
        ) from error
    try:
        yield
    finally:
        loop.remove_reader(_STDIN)


def _read_stdin(stop_requested: asyncio.Event) -> None:
    """Only the end of the input matters. Reading from a terminal that is gone fails, which counts as the end."""
    typed = b""
    with contextlib.suppress(OSError):
        typed = os.read(_STDIN, 4096)
    if not typed:
        asyncio.get_running_loop().remove_reader(_STDIN)
        _stop(stop_requested)
