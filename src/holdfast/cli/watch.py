"""`holdfast watch`: a live line about a session, and at the end a table of goals for the watched time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from holdfast import terminal
from holdfast.cli.durations import clock, seconds
from holdfast.cli.exit_codes import GOOD, NOT_GOOD
from holdfast.cli.requests import CLOCK, AsJson, CompanyArgument, session_path, with_client
from holdfast.cli.watching import Sample, Show, Watch
from holdfast.client import Client

_COLOURS = {"connected": "green", "connecting": "yellow", "reconnecting": "yellow"}


def watch(
    company: CompanyArgument,
    for_s: Annotated[
        int,
        typer.Option("--for", metavar="TIME", parser=seconds, help="how long, 1s to 7d: such as 30s, 5m, 1h or 24h"),
    ] = "5m",  # type: ignore[assignment]  # typer parses the default as if it had been typed
    as_json: AsJson = False,
) -> None:
    """Watch a session for some time, then compare uptime, delivery, reconnections and disconnections with the goals.

    Ctrl-C stops it early and reports on the time until then. Exit code 0: every goal was met. 1: some were missed; the
    last line names them.
    """
    session_path(company)  # refuses an invalid company id

    def print_start() -> None:
        terminal.print_stderr(f"Watching {company} for {clock(for_s)}; Ctrl-C stops early and shows the result so far.")

    async def watch_session(client: Client) -> Sample:
        with _live(company, moving=not as_json and terminal.out.is_terminal) as show:
            return await Watch(client, company, for_s=for_s, clock=CLOCK, show=show, began=print_start).run()

    seen = with_client(watch_session)
    if as_json:
        terminal.show_json(seen.as_json(company))
    else:
        terminal.out.print(_verdict(company, seen), highlight=False)
    raise typer.Exit(GOOD if seen.holds else NOT_GOOD)


@contextmanager
def _live(company: str, *, moving: bool) -> Iterator[Show]:
    """Yields a function that shows a sample as a line that changes in place, or shows nothing."""
    if not moving:
        yield lambda _: None
        return
    with Live(Text(f"{company}  looking …"), console=terminal.out, refresh_per_second=4, transient=True) as live:
        yield lambda seen: live.update(line(company, seen))


def line(company: str, sample: Sample) -> Text:
    """`962302  connected  1:23 of 5:00  up 100.0 %  delivery 98.3 %  disconnections 1  back in 1.2 s`."""
    measured = sample.stability
    parts = [
        f"{clock(sample.watched_s)} of {clock(sample.of_s)}",
        f"up {_percent(measured['uptimePercent'])}",
        f"delivery {_percent(measured['deliveryPercent'])}",
        f"disconnections {measured['disconnections']}",
        f"back in {_seconds(measured['reconnectP95S'])}",
    ]
    state = Text(sample.state, _COLOURS.get(sample.state, "red"))
    shown = Text("  ").join([Text(company), state, *map(Text, parts)])
    return shown.append(f"  {sample.problem}", "red") if sample.problem else shown


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{int(value * 10) / 10:.1f} %"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} s"


def _verdict(company: str, sample: Sample) -> Group:
    rows = [(row["what"], row["measured"], row["goal"], row["holds"]) for row in sample.stability["table"]]
    verdict = Text(f"{company} met every goal over {clock(sample.watched_s)}", "bold green")
    if not sample.holds:
        failing = "; ".join(sample.failing)  # the name of a goal may have a comma
        verdict = Text(f"{company} missed goals over {clock(sample.watched_s)}: {failing}", "bold red")
    transitions = [Text(_format_transition(each)) for each in sample.history]
    return Group(*transitions, *([Text()] if transitions else []), terminal.goals(rows), Text(), verdict)


def _format_transition(transition: dict[str, object]) -> str:
    cause = "" if transition["cause"] is None else f": {transition['cause']}"
    code = "" if transition["code"] is None else f" ({transition['code']})"
    change = f"{transition['before']} → {transition['after']}"
    return f"{transition['at']}  {change}{cause}{code}, after {transition['lastedS']} s"
