"""Commands that prove Holdfast against a simulated WhatsApp."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from holdfast import settings as settings_module
from holdfast import terminal
from holdfast.cli.asking import AsJson
from holdfast.cli.ending import GOOD, NOT_GOOD
from holdfast.cli.serving import engine_program


def demo(
    seconds: Annotated[int, typer.Option(min=20, max=3600, help="how long messages are sent and links broken")] = 60,
    as_json: AsJson = False,
) -> None:
    """Show the main job without a phone: a simulated WhatsApp, two companies, messages, faults, the result."""
    from holdfast.lab.demo import run_demo
    from holdfast.lab.screen import Screen

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way what was started is ended
    screen = Screen(quiet=as_json)
    settings = settings_module.load()
    engine_program(settings)
    environment = settings_module.process_environment()
    result = asyncio.run(run_demo(seconds=seconds, environment=environment, screen=screen))
    if as_json:
        terminal.show_json(result.as_json())
    else:
        screen.show_result(result)
    raise typer.Exit(GOOD if result.passed else NOT_GOOD)
