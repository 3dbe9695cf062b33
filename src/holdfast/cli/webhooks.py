"""`holdfast webhooks …`: list endpoints and failed deliveries, replay deliveries, resume endpoints."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from holdfast import terminal
from holdfast.cli.exit_codes import NOT_GOOD, UsageError
from holdfast.cli.requests import AsJson, listed, short, show_list, with_client
from holdfast.client import Json

webhooks = typer.Typer(help="List webhook endpoints and failed deliveries, and deliver again.", no_args_is_help=True)

OfCompany = Annotated[
    str | None, typer.Option("--company", metavar="COMPANY", help="only those of this company, such as 962302")
]


@webhooks.command(name="list")
def list_endpoints(as_json: AsJson = False) -> None:
    """List the endpoints: state, pending deliveries, last error. Exit code 1 when one is suspended or switched off."""
    page = with_client(lambda client: client.get("/v1/webhooks"))
    if as_json:
        terminal.show_json(page)
    elif not page["items"]:
        terminal.print_stderr("There are no webhooks: set HOLDFAST_WEBHOOK_URL, or the webhookUrl of a session.")
    else:
        columns = ("endpoint", "state", "pending", "failed", "oldest (UTC)", "last success (UTC)", "last error", "url")
        terminal.show_table(columns, (_endpoint(item) for item in page["items"]))
    if any(item["state"] != "active" for item in page["items"]):
        raise typer.Exit(NOT_GOOD)


@webhooks.command(name="failed")
def list_failed(company: OfCompany = None, as_json: AsJson = False) -> None:
    """List deliveries that failed: given up, or still retried. Exit code 1 when there are any."""
    found = listed("/v1/webhooks/failed" + ("" if company is None else f"?company={quote(company)}"))
    columns = ("id", "company", "type", "state", "attempts", "next attempt (UTC)", "last error")
    show_list(found, columns, _failed, as_json=as_json, none="No delivery has failed.")
    if found:
        raise typer.Exit(NOT_GOOD)


@webhooks.command()
def replay(
    webhook: Annotated[
        str | None, typer.Argument(metavar="ID", help="one delivery; without it, all that failed")
    ] = None,
    company: OfCompany = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="everything since this time, delivered or not, such as 2026-11-22T00:00:00Z"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deliver again what failed, or everything since a time. Receivers recognise repeated events by their id."""
    if webhook is not None and (company is not None or since is not None):
        raise UsageError("an ID names one delivery: omit either the ID, or --company and --since")
    path = "/v1/webhooks/replay" if webhook is None else f"/v1/webhooks/{quote(webhook, safe='')}/replay"
    body = None if webhook is not None else {"company": company, "since": since}
    done = with_client(lambda client: client.post(path, body))
    if as_json:
        terminal.show_json(done)
    else:
        terminal.print_stdout(f"Deliveries queued again: {done['replayed']}")


@webhooks.command()
def resume(
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="as `holdfast webhooks list` shows it")],
    as_json: AsJson = False,
) -> None:
    """Resume an endpoint that is off or suspended; its pending deliveries are sent at once."""
    path = f"/v1/webhooks/endpoints/{quote(endpoint, safe='')}/resume"
    resumed = with_client(lambda client: client.post(path))
    if as_json:
        terminal.show_json(resumed)
    else:
        terminal.print_stdout(
            f"Endpoint {resumed['id']} is {resumed['state']}; pending deliveries: {resumed['pending']}."
        )


def _endpoint(item: Json) -> tuple[object, ...]:
    counted = (item[name] for name in ("id", "state", "pending", "failed"))
    oldest, success = (_short(item[name]) for name in ("oldestPendingAt", "lastSuccessAt"))
    problem = item["lastError"] if (item["lastFailureAt"] or "") > (item["lastSuccessAt"] or "") else None
    return (*counted, oldest, success, problem, item["url"])


def _failed(item: Json) -> tuple[object, ...]:
    counted = (item[name] for name in ("id", "companyId", "type", "state", "attempts"))
    return (*counted, _short(item["nextAttemptAt"]), item["lastError"])


def _short(at: str | None) -> str | None:
    return None if at is None else short(at)
