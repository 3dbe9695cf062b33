"""`holdfast keys …`: list, create and revoke API keys."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from holdfast import terminal
from holdfast.cli.requests import AsJson, short, with_client
from holdfast.client import Json

keys = typer.Typer(help="List, create and revoke API keys.", no_args_is_help=True)


@keys.command(name="list")
def list_keys(as_json: AsJson = False) -> None:
    """List the API keys, without the keys themselves: name, companies, last use."""
    page = with_client(lambda client: client.get("/v1/keys"))
    if as_json:
        terminal.show_json(page)
    else:
        terminal.show_table(("id", "name", "companies", "created (UTC)", "last used (UTC)"), map(_row, page["items"]))


@keys.command(name="create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="who or what uses the key")],
    companies: Annotated[list[str], typer.Argument(metavar="COMPANY", help="the companies that the key may access")],
    as_json: AsJson = False,
) -> None:
    """Create an API key for some companies, and print it. It can't be shown again."""
    created = with_client(lambda client: client.post("/v1/keys", {"name": name, "companies": companies}))
    if as_json:
        terminal.show_json(created)
    else:
        terminal.print_stdout(created["key"])
        terminal.print_stderr(f"This is the key of {created['id']}. It is not shown again.")


@keys.command(name="revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="ID", help="as `holdfast keys list` shows it")], as_json: AsJson = False
) -> None:
    """Revoke an API key that was created here. Programs that use it are refused at once."""
    revoked = with_client(lambda client: client.delete(f"/v1/keys/{quote(key, safe='')}"))
    if as_json:
        terminal.show_json(revoked)
    else:
        terminal.print_stdout(f"{revoked['id']} ({revoked['name']}) is revoked.")


def _row(item: Json) -> tuple[object, ...]:
    companies = "all" if item["companies"] is None else ", ".join(item["companies"])
    created, used = (None if item[name] is None else short(item[name]) for name in ("createdAt", "lastUsedAt"))
    return (item["id"], item["name"], companies, created, used)
