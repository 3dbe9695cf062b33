"""A scenario in the terminal: which companies are connected, the active fault, and the states of the messages."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from holdfast import terminal
from holdfast.lab.tally import ARRIVED, Result, RunTally

_COLOURS = {"connected": "green", "reconnecting": "yellow", "connecting": "yellow"}


class RunView(Protocol):
    """What the screen shows of a run."""

    @property
    def tally(self) -> RunTally: ...
    @property
    def states(self) -> Mapping[str, str]: ...
    @property
    def links(self) -> Mapping[str, str]: ...
    @property
    def fault(self) -> str: ...
    @property
    def elapsed_s(self) -> float: ...
    @property
    def seconds(self) -> int:
        """How long the run is to last."""


class Screen:
    """Draws the run. `quiet`: print messages only, to stderr, without a live picture."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=quiet)
        self._quiet = quiet
        self._live: Live | None = None

    def print_line(self, text: str) -> None:
        self._console.print(text, highlight=False)

    @contextlib.contextmanager
    def live(self, watched: RunView) -> Iterator[None]:
        if self._quiet:
            yield
            return
        with Live(picture(watched), console=self._console, refresh_per_second=8) as self._live:
            yield
        self._live = None

    def refresh(self, watched: RunView) -> None:
        if self._live is not None:
            self._live.update(picture(watched))

    def show_result(self, result: Result) -> None:
        """The table of success, and the verdict."""
        table = terminal.goals((row.what, row.measured, row.goal, row.holds) for row in result.table())
        kinds = ", ".join(f"{count} × {kind}" for kind, count in result.faults.items()) or "none"
        self._console.print(
            Group(
                f"\n{result.accepted} messages accepted, {result.delivered} delivered in {result.seconds:.0f} s, "
                f"through {result.faults.total()} injected disconnections ({kinds}); "
                f"connected {result.uptime_percent:.1f} % of the time.\n",
                table,
                Text("\npassed", "bold green") if result.passed else Text("\nnot passed", "bold red"),
            ),
            highlight=False,
        )


def picture(watched: RunView) -> Group:
    """The present moment."""
    return Group(_companies(watched), "", _messages(watched.tally), "", _faults(watched))


def _companies(watched: RunView) -> Table:
    table = Table("company", "Holdfast says", "the server says", box=None, pad_edge=False, header_style="bold")
    for company, state in sorted(watched.states.items()):
        up = company in watched.links
        seen = Text("linked", "green") if up else Text("no working link", "red")
        table.add_row(company, Text(state, _COLOURS.get(state, "red")), seen)
    return table


def _messages(tally: RunTally) -> Text:
    states = Counter(sent.state for sent in tally.sent.values())
    arrived = sum(states[state] for state in ARRIVED)
    acked = arrived + states["sent"]
    return Text(f"messages  accepted {len(tally.sent)}   acked {acked}   delivered {arrived}")


def _faults(watched: RunView) -> Text:
    on = watched.fault or "none"
    over = _durations([fault.reconnect_s for fault in watched.tally.faults if fault.reconnect_s is not None])
    return Text(f"fault now  {on}\nback in    {over}\ntime       {watched.elapsed_s:.0f} s of {watched.seconds} s")


def _durations(times: Sequence[float]) -> str:
    return "  ".join(f"{seconds:.1f} s" for seconds in times) or "–"
