"""`holdfast check`: checks the whole installation and says what to do."""

from __future__ import annotations

import asyncio

import typer
from rich.table import Table
from rich.text import Text

from holdfast import terminal
from holdfast.cli.exit_codes import GOOD, NOT_GOOD
from holdfast.cli.requests import CLOCK, AsJson, read_settings

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def check(as_json: AsJson = False) -> None:
    """Check the whole installation: folder, database, Redis, Node, Baileys, clock, network, alerts, backups.

    Changes nothing, and can run beside a running Holdfast, as its user and in its folder. Exit code 1 when there is a
    problem; warnings alone give 0.
    """
    from holdfast.checkup.check_result import CheckResult, CheckState
    from holdfast.checkup.checkup import check as run_checks

    found: list[CheckResult] = asyncio.run(run_checks(read_settings(), clock=CLOCK))
    count = {state: sum(each.state is state for each in found) for state in CheckState}
    if as_json:
        rows = [
            {"what": each.what, "state": str(each.state), "sentence": each.sentence, "cure": each.cure or None}
            for each in found
        ]
        terminal.show_json({"good": not count[CheckState.PROBLEM], "findings": rows})
    else:
        table = Table("", "", "", box=None, pad_edge=False, show_header=False)
        for each in found:
            text = Text(each.sentence).append(f"\n→ {each.cure}" if each.cure else "", _COLOURS[each.state])
            table.add_row(Text(each.state, _COLOURS[each.state]), each.what, text)
        terminal.out.print(table)
        terminal.print_stdout(
            f"\nproblems: {count[CheckState.PROBLEM]}, warnings: {count[CheckState.WARNING]}, "
            f"ok: {count[CheckState.OK]}"
        )
    raise typer.Exit(NOT_GOOD if count[CheckState.PROBLEM] else GOOD)
