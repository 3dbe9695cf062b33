"""Commands about messages."""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast.cli.exit_codes import NOT_GOOD
from holdfast.cli.requests import CLOCK, AsJson, CompanyArgument, session_path, show_one, with_client
from holdfast.client import Client, Json


def send(
    company: CompanyArgument,
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="recipient: 7 to 15 digits with country code")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="the message")],
    wait: Annotated[bool, typer.Option("--wait", help="until WhatsApp has it, or it has failed")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a message. Without --wait, the exit code 0 means that it is accepted and will be sent."""
    message = with_client(lambda client: _send(client, company, {"to": number, "text": text}, wait=wait))
    show_one(message, as_json=as_json)
    if message["state"] in {"failed", "expired", "cancelled"}:
        raise typer.Exit(NOT_GOOD)


async def _send(client: Client, company: str, body: Json, *, wait: bool) -> Json:
    message: Json = await client.post(session_path(company, "/messages"), body)
    while wait and message["state"] in {"queued", "sending"}:
        await CLOCK.sleep(0.2)
        message = await client.get(f"/v1/messages/{message['id']}")
    return message
