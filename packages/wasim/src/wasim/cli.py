"""The `wasim` command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import ssl
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from aiohttp import web

from wasim.authority import Authority, BadAuthority, open_authority
from wasim.clock import Clock
from wasim.compatibility_routes import make_compatibility_app
from wasim.control import make_app
from wasim.media import MediaFolder, MediaHost
from wasim.shell import Simulator, running
from wasim.sockets import PATH
from wasim.store import Store, StoreInUse

app = typer.Typer(add_completion=False, no_args_is_help=True, help="A simulated WhatsApp to connect clients to.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddresses:
    """Addresses to listen on; port 0 means any free port."""

    host: str
    port: int
    has_tls: bool
    """Clients connect to that port with TLS (wss)."""
    control_port: int
    media_port: int
    media_name: str
    """The host name of the media host that clients get; its certificate is issued to it."""


@app.callback()
def _root() -> None:
    """A simulated WhatsApp to connect clients to."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for clients; 0: any free one.")] = 8090,
    tls: Annotated[bool, typer.Option(help="Clients connect with TLS: wss:// instead of ws://.")] = False,
    control_port: Annotated[int, typer.Option(help="Port of the control interface; 0: any free one.")] = 8091,
    media_port: Annotated[int, typer.Option(help="HTTPS port of the media host; 0: any free one.")] = 0,
    media_name: Annotated[str, typer.Option(help="Host name of the media host for clients; default: --host.")] = "",
    ca_file: Annotated[
        Path | None, typer.Option(help="Also write the certificate that media clients must trust here.")
    ] = None,
    state_dir: Annotated[Path, typer.Option(help="Folder with the stored accounts, devices and queues.")] = Path(
        "wasim-state"
    ),
    minimum_revision: Annotated[int, typer.Option(help="Clients of an older revision are refused with 405.")] = 0,
    until_stdin_closes: Annotated[bool, typer.Option(help="End when standard input does.")] = False,
    verbose: Annotated[bool, typer.Option(help="Log every login and fault.")] = False,
) -> None:
    """Serve until SIGTERM or SIGINT. Prints one JSON line with all addresses when ready."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s wasim %(message)s"
    )
    logging.getLogger("websockets").setLevel(logging.WARNING)
    addresses = ListenAddresses(
        host=host,
        port=port,
        has_tls=tls,
        control_port=control_port,
        media_port=media_port,
        media_name=media_name or host,
    )
    try:
        with Store(state_dir) as store:
            authority = open_authority(state_dir, now=Clock().now())
            if ca_file is not None:
                ca_file.write_bytes(authority.pem)
            asyncio.run(_serve(store, authority, addresses, until_stdin_closes, minimum_revision))
    except (StoreInUse, BadAuthority) as error:
        _exit_with(str(error), error)
    except OSError as error:
        ports = f"ports {port} (clients), {control_port} (control), {media_port} (media)"
        _exit_with(f"wasim can't listen on {host}, {ports}: {error.strerror}", error)


def _exit_with(sentence: str, cause: Exception) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1) from cause


async def _serve(
    store: Store, authority: Authority, addresses: ListenAddresses, until_stdin_closes: bool, minimum_revision: int
) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    clock = Clock()
    link_tls = authority.server_context(addresses.host, now=clock.now()) if addresses.has_tls else None
    simulator = Simulator(store=store, clock=clock, host=addresses.host, port=addresses.port, tls=link_tls)
    simulator.faults.base_minimum_revision = minimum_revision
    folder = MediaFolder(authority.directory / "media")
    media = MediaHost(
        folder,
        clock=clock,
        authorize=lambda auth: simulator.server.media_account(auth),
        fault_hook=simulator.faults.on_media,
    )
    tls = authority.server_context(addresses.media_name, now=clock.now())
    async with (
        _serving(media.app(), addresses.host, addresses.media_port, tls) as media_port,
        _serving(make_app(simulator, authority, folder), addresses.host, addresses.control_port, None) as control_port,
    ):
        simulator.set_media_host(f"{addresses.media_name}:{media_port}", folder)
        async with _compatibility_routes(simulator), running(simulator):
            ready = {
                "url": f"{'wss' if addresses.has_tls else 'ws'}://{addresses.host}:{simulator.port}{PATH}",
                "control": f"http://{addresses.host}:{control_port}",
                "media": f"https://{addresses.media_name}:{media_port}",
                "ca": str(authority.file.absolute()),
            }
            print(json.dumps(ready), flush=True)  # noqa: T201 – the one line that is promised
            await stop.wait()


@contextlib.asynccontextmanager
async def _serving(app: web.Application, host: str, port: int, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    """Serve an application for the duration of the block; yields the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _compatibility_routes(simulator: Simulator) -> AsyncIterator[None]:
    """Answer the HTTP requests that test suites for other servers send to the clients' port."""
    runner = web.AppRunner(make_compatibility_app(simulator), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    simulator.make_web_handler = runner.server
    try:
        yield
    finally:
        await runner.cleanup()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock, held by this thread, would break the interpreter's shutdown
        pass
    loop.call_soon_threadsafe(stop.set)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
