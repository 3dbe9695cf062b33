"""The `wasim` command."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from aiohttp import web

from wasim.clock import Clock
from wasim.control import make_app
from wasim.shell import Hub, running
from wasim.sockets import PATH
from wasim.store import Store, StoreInUse

app = typer.Typer(add_completion=False, no_args_is_help=True, help="A simulated WhatsApp to connect clients to.")


@app.callback()
def _root() -> None:
    """A simulated WhatsApp to connect clients to."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for clients; 0: any free one.")] = 8090,
    control_port: Annotated[int, typer.Option(help="Port of the control interface; 0: any free one.")] = 8091,
    state_dir: Annotated[Path, typer.Option(help="Where accounts, devices and queues are kept.")] = Path("wasim-state"),
    until_stdin_closes: Annotated[bool, typer.Option(help="End when standard input does.")] = False,
    verbose: Annotated[bool, typer.Option(help="Log every login and fault.")] = False,
) -> None:
    """Serve until SIGTERM or SIGINT. Prints one JSON line with both addresses when ready."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s wasim %(message)s"
    )
    logging.getLogger("websockets").setLevel(logging.WARNING)
    try:
        with Store(state_dir) as store:
            asyncio.run(_serve(store, host, port, control_port, until_stdin_closes))
    except StoreInUse as error:
        _give_up(str(error), error)
    except OSError as error:
        _give_up(f"wasim can't listen on {host}, ports {port} and {control_port}: {error.strerror}", error)


def _give_up(sentence: str, cause: Exception) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1) from cause


async def _serve(store: Store, host: str, port: int, control_port: int, until_stdin_closes: bool) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    hub = Hub(store=store, clock=Clock(), host=host, port=port)
    runner = web.AppRunner(make_app(hub), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, control_port).start()
        async with running(hub):
            control = runner.addresses[0][1]
            ready = {"url": f"ws://{host}:{hub.port}{PATH}", "control": f"http://{host}:{control}"}
            print(json.dumps(ready), flush=True)  # noqa: T201 – the one line that is promised
            await stop.wait()
    finally:
        await runner.cleanup()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 4096):  # not by sys.stdin: its lock, held by this thread, breaks the interpreter's end
        pass
    loop.call_soon_threadsafe(stop.set)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
