"""The live screen of the demo and the lab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console

from holdfast.lab.screen import picture
from holdfast.lab.tally import RunTally


@dataclass(kw_only=True)
class _Run:
    """What the screen shows."""

    tally: RunTally = field(default_factory=RunTally)
    states: Mapping[str, str] = field(default_factory=lambda: {"962302": "reconnecting"})
    links: Mapping[str, str] = field(default_factory=dict)
    fault: str = "failure (962302)"
    elapsed_s: float = 43.2
    seconds: int = 60


def test_the_screen_shows_the_elapsed_time() -> None:
    """Beside the fault, and what Holdfast and the server say of the connection."""
    console = Console(width=100)
    with console.capture() as shown:
        console.print(picture(_Run()))
    lines = [" ".join(line.split()) for line in shown.get().splitlines()]
    assert "time 43 s of 60 s" in lines
    assert "fault now failure (962302)" in lines
    assert "962302 reconnecting no working link" in lines
