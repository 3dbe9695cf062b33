"""`holdfast serve`, and the preparation of the engine."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast import terminal
from holdfast.base.clock import process_age_s
from holdfast.cli.exit_codes import GOOD
from holdfast.cli.requests import read_settings
from holdfast.store.restart_notice import announce_restart

if TYPE_CHECKING:
    from holdfast.engine.host import HostProgram
    from holdfast.settings import Settings

log = logging.getLogger(__name__)


_OPEN_FILES = 65_536
"""The same number as in the systemd unit."""


def serve(
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="also stop when standard input ends")
    ] = False,
) -> None:
    """Run the gateway until Ctrl-C."""
    from importlib.metadata import version

    settings = read_settings()
    terminal.log_to_stderr(settings.log_level)
    log.info("Starting Holdfast %s; data folder %s", version("holdfast"), settings.data_dir.absolute())
    if settings.database_url is not None:  # before anything slow
        announce_restart(settings.database_url, node=settings.node_at(settings.port))
    # Modules are never garbage: looking for it takes a fifth of the import, and much of every later full collection.
    gc.disable()
    import uvloop

    from holdfast import app

    gc.freeze()
    gc.enable()
    terminal.filter_log(app.DatabaseFailures())

    loading_s = process_age_s()
    allow_open_files(_OPEN_FILES)
    os.umask(0o077)  # database, key and caches are readable by their owner only
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the gateway handles both signals
    try:
        first_start = FirstStart()
        with app.claim(settings, key_made=first_start.show_key) as held:
            running = app.serve(
                held,
                engine_program(settings),
                ready=first_start.show_url,
                qr_shown=draw_qr,
                loading_s=loading_s,
                until_stdin_closes=until_stdin_closes,
            )
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(running)
        log.info("Holdfast has stopped")
    except KeyboardInterrupt:
        raise typer.Exit(GOOD) from None


def allow_open_files(limit: int) -> None:
    """Raise the limit of open files as far as this process may: 1,024, a common default, is low for many clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def engine_program(settings: Settings) -> HostProgram:
    """The program of engine hosts. Installs Baileys when it is not installed yet."""
    from holdfast.engine.baileys.install import install
    from holdfast.engine.node import find_node
    from holdfast.engine.sandbox import sandboxed
    from holdfast.settings import process_environment

    node = find_node(settings.node_bin)
    cache = None if settings.npm_cache is None else settings.npm_cache.absolute()
    bridge = install(settings.cache_dir.absolute(), node=node, progress=terminal.print_stderr, npm_cache=cache)
    return sandboxed(node, bridge, spool=settings.spool_dir, environment=process_environment())


class FirstStart:
    """What `holdfast serve` prints about the API key and the next steps; a later start prints its address only."""

    def __init__(self) -> None:
        self._key_file: Path | None = None

    def show_key(self, key: str, file: Path) -> None:
        """Show a generated key, on a terminal only: a log file or journal would keep it forever."""
        self._key_file = file
        if terminal.out.is_terminal:
            terminal.print_stdout(f"API key, generated now and shown only this once: {key}")
        terminal.print_stdout(f"The API key is in {file}; commands on this machine read it from there.")

    def show_url(self, url: str) -> None:
        terminal.print_stdout(f"Holdfast listens on {url}")
        if self._key_file is not None:
            terminal.print_stdout(f"Next: open the dashboard at {url} and sign in with the API key,")
            terminal.print_stdout(
                "or link a phone in another terminal: holdfast pair COMPANY, such as holdfast pair 962302"
            )


def draw_qr(company: str, code: str) -> None:
    """Draw the QR code on a terminal only: anybody who reads it in a log file could link a phone."""
    if terminal.out.is_terminal:
        terminal.print_stdout(f"Company {company}: WhatsApp → Linked devices → Link a device")
        terminal.show_qr(code)


def fill_npm_cache(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="created when it does not exist")],
) -> None:
    """Download Baileys into a folder, for a machine without access to a package registry (HOLDFAST_NPM_CACHE)."""
    from holdfast.engine.baileys.install import fill_cache
    from holdfast.engine.node import find_node

    fill_cache(folder.absolute(), node=find_node(read_settings().node_bin), progress=terminal.print_stderr)
