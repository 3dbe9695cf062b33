"""Shared by the commands about a running Holdfast: arguments, the client of its API, and the output of one object."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from holdfast import terminal
from holdfast.api.keys import first_key, stored_key
from holdfast.base.clock import SystemClock
from holdfast.base.ids import COMPANY_RULE, is_company_id
from holdfast.cli.exit_codes import UsageError
from holdfast.client import Client, Json, Refused, connect
from holdfast.health.advice import needed_advice

if TYPE_CHECKING:
    from holdfast.settings import Settings

T = TypeVar("T")

CLOCK = SystemClock()

CompanyArgument = Annotated[str, typer.Argument(metavar="COMPANY", help="the company id, such as 962302")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document")]


def read_settings() -> Settings:
    """The settings of this environment and folder. Raises `BadSetting`."""
    from holdfast import settings

    return settings.load()


def with_client(work: Callable[[Client], Awaitable[T]], *, timeout_s: float = 60) -> T:
    """Call `work` with a client of the running Holdfast, which uses the key that is set or stored.

    `timeout_s`: for each request.
    """
    settings = read_settings()
    key = stored_key(settings.data_dir) if settings.api_key is None else first_key(settings.api_key)

    async def run() -> T:
        async with connect(settings.server_url, key, timeout_s=timeout_s, only_holdfast=True) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except Refused as refused:
        if refused.status != HTTPStatus.UNAUTHORIZED:
            raise Refused(refused.status, _for_commands(refused.sentence)) from refused
        raise Refused(refused.status, _without_access(refused.sentence, key, settings.data_dir)) from refused


def _without_access(sentence: str, key: str | None, data_dir: Path) -> str:
    if key is None:
        return (
            f'there is no API key for this command: HOLDFAST_API_KEY is not set, and "{data_dir.absolute()}" has no '
            "file api-key. Run the command in the folder in which Holdfast runs, or set HOLDFAST_DATA_DIR to its data "
            "folder"
        )
    return f"{sentence}; commands take it from HOLDFAST_API_KEY, or from the file api-key in HOLDFAST_DATA_DIR"


_REQUESTS = {
    r"create it with PUT /v1/sessions/(\S+)": r"`holdfast pair \1` creates it",
    r"GET /v1/webhooks lists all": "`holdfast webhooks list` lists all",
    r"the list of keys has its id": "`holdfast keys list` shows the ids",
    r"GET /v1/backups lists all backups": "`holdfast backup list` lists all",
}
"""Commands for what sentences of the API say about requests."""


def _for_commands(sentence: str) -> str:
    """A sentence of the API, with commands in place of the requests that it names."""
    for request, command in _REQUESTS.items():
        sentence = re.sub(request, command, sentence)
    return sentence


def session_path(company: str, suffix: str = "") -> str:
    """The path of a session. Raises `UsageError` for an invalid company id, which could form another path."""
    if not is_company_id(company):
        raise UsageError(f'company "{company}" is not usable: {COMPANY_RULE}')
    return f"/v1/sessions/{company}{suffix}"


def listed(path: str, *, limit: int | None = None) -> list[Json]:
    """The first `limit` items of a list; None: all."""

    async def work(client: Client) -> list[Json]:
        found: list[Json] = []
        async for item in client.items(path):
            found.append(item)
            if len(found) == limit:
                break
        return found

    return with_client(work)


def show_list(
    items: list[Json], columns: Sequence[str], row: Callable[[Json], Sequence[object]], *, as_json: bool, none: str
) -> None:
    """Print items as a table, as JSON, or the sentence `none` where there are none."""
    if as_json:
        terminal.show_json({"items": items, "next": None})
    elif items:
        terminal.show_table(columns, map(row, items))
    else:
        terminal.print_stderr(none)


def show_one(item: Json, *, as_json: bool) -> None:
    """Print an object with its fields, one on a line."""
    if as_json:
        terminal.show_json(item)
    else:
        terminal.show_table(("", ""), ((name, _readable(value)) for name, value in item.items()))


def moment(at: str) -> str:
    """`2026-11-28 07:10:03 UTC` for a time of the API."""
    return f"{short(at)} UTC"


def short(at: str) -> str:
    """`2026-11-28 07:10:03`, in UTC, for a time of the API."""
    return at[:19].replace("T", " ")


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def _readable(value: object) -> object:
    """Times to the second; a reason, an error or a verdict as a sentence; yes and no; a list or another object as its
    values; everything else unchanged."""
    if isinstance(value, str) and _TIME.fullmatch(value):
        return moment(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(_readable(each)) for each in value) or None
    if not isinstance(value, dict):
        return value
    if "reasons" in value:
        return "; ".join([value["status"], *map(_sentence, value["reasons"])])
    if "code" in value:
        return _sentence(value)
    return ", ".join(f"{name} {_readable(each)}" for name, each in value.items() if each is not None)


def _sentence(reason: Json) -> str:
    action = reason.get("action")
    advice = None if action is None else needed_advice(action, reason["code"])
    explanation = f"{reason.get('message') or reason['code']} ({reason['code']})"
    return explanation if advice is None else f"{explanation}. What to do: {advice}"
