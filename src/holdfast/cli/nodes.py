"""`holdfast nodes` and `holdfast drain`: the nodes of a cluster, and emptying one before it is stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast import terminal
from holdfast.cli.durations import seconds
from holdfast.cli.exit_codes import NOT_GOOD
from holdfast.cli.requests import CLOCK, AsJson, listed, moment, with_client
from holdfast.client import Client, Json

_POLL_INTERVAL_S = 0.5


def nodes(as_json: AsJson = False) -> None:
    """List the nodes that share the database, and how many sessions each runs."""
    found = listed("/v1/nodes")
    if as_json:
        terminal.show_json(found)
        return
    if not found:
        terminal.print_stderr(
            "This Holdfast does not share its database with other nodes: it runs all sessions itself."
        )
        return
    rows = ((each["name"], each["state"], each["sessions"], each["url"], moment(each["startedAt"])) for each in found)
    terminal.show_table(("node", "state", "sessions", "address", "started"), rows)


def drain(
    undo: Annotated[bool, typer.Option("--undo", help="let it accept sessions again")] = False,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="how long to wait, such as 2m")] = "5m",
    as_json: AsJson = False,
) -> None:
    """Move all sessions of this node to the others, and wait until none is left. Then it can be stopped.

    Ends with 1 if sessions are left after the timeout; they go on moving.
    """
    at_most_s = seconds(timeout, option="--timeout")

    async def act(client: Client) -> Json:
        if undo:
            undone: Json = await client.delete("/v1/drain")
            return undone
        until = CLOCK.monotonic() + at_most_s
        found: Json = await client.post("/v1/drain")
        shown = found["sessions"]
        while found["sessions"] and CLOCK.monotonic() < until:
            await CLOCK.sleep(_POLL_INTERVAL_S)
            found = await client.get("/v1/drain")
            if not as_json and found["sessions"] // 10 != shown // 10:
                terminal.print_stderr(f"Sessions left: {found['sessions']}")
                shown = found["sessions"]
        return found

    found = with_client(act)
    if as_json:
        terminal.show_json(found)
    elif undo:
        terminal.print_stdout(f"Node {found['node']} accepts sessions again.")
    else:
        terminal.print_stdout(f"Sessions left on node {found['node']}: {found['sessions']}")
    if found["sessions"] and not undo:
        raise typer.Exit(NOT_GOOD)
