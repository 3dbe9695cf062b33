"""Commands that run Holdfast against a simulated WhatsApp: the demo, and the scenarios of the lab."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from holdfast import terminal
from holdfast.cli.exit_codes import GOOD, NOT_GOOD, UsageError
from holdfast.cli.requests import AsJson, read_settings
from holdfast.cli.serving import engine_program

if TYPE_CHECKING:
    from holdfast.lab.scenarios import Scenario

Seconds = Annotated[
    int, typer.Option(metavar="N", min=20, max=3600, help="inject faults and send messages for 20 to 3600 s")
]


def _names(begun: str) -> list[str]:
    from holdfast.lab.scenarios import SCENARIOS

    return [name for name in SCENARIOS if name.startswith(begun)]


ScenarioName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="as `holdfast lab list` shows it, such as cuts", autocompletion=_names),
]

lab = typer.Typer(
    no_args_is_help=True, help="Run scenarios against a simulated WhatsApp, and show the outcome of every message."
)


def demo(seconds: Seconds = 60, as_json: AsJson = False) -> None:
    """Show what Holdfast does, without a phone: a simulated WhatsApp, two companies, messages, faults, the result."""
    from holdfast.lab.scenarios import SCENARIOS

    _play(SCENARIOS["demo"], seconds, as_json=as_json)


@lab.command("list")
def list_scenarios(as_json: AsJson = False) -> None:
    """List the scenarios and their faults."""
    from holdfast.lab.scenarios import SCENARIOS

    rows = [(each.name, len(each.steps), each.sentence) for each in SCENARIOS.values()]
    if as_json:
        terminal.show_json([dict(zip(("name", "faults", "sentence"), row, strict=True)) for row in rows])
    else:
        terminal.show_table(("scenario", "faults", "what happens"), rows)


@lab.command("run")
def run_scenario(name: ScenarioName, seconds: Seconds = 60, as_json: AsJson = False) -> None:
    """Run one scenario. Exit code 1 when a message was lost or duplicated, or a goal was missed."""
    from holdfast.lab.scenarios import SCENARIOS

    if name not in SCENARIOS:
        raise UsageError(f'there is no scenario "{name}": choose {", ".join(SCENARIOS)}')
    _play(SCENARIOS[name], seconds, as_json=as_json)


def _play(scenario: Scenario, seconds: int, *, as_json: bool) -> NoReturn:
    from holdfast.lab.runner import play
    from holdfast.lab.screen import Screen
    from holdfast.settings import process_environment

    if importlib.util.find_spec("wasim") is None:
        raise UsageError(
            "the simulated WhatsApp (wasim) is not installed: "
            "in the checkout of Holdfast, run `uv sync --extra lab` or `pip install ./packages/wasim .`"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends child processes as Ctrl-C does
    screen = Screen(quiet=as_json)
    engine_program(read_settings())
    environment = process_environment()
    result = asyncio.run(play(scenario, seconds=seconds, environment=environment, screen=screen))
    if as_json:
        terminal.show_json({"scenario": scenario.name, **result.as_json()})
    else:
        screen.show_result(result)
    raise typer.Exit(GOOD if result.passed else NOT_GOOD)
