"""Commands about chats, people and groups."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from holdfast.cli.exit_codes import NOT_GOOD
from holdfast.cli.requests import AsJson, CompanyArgument, listed, session_path, short, show_list, show_one, with_client
from holdfast.client import Json

Find = Annotated[str, typer.Option("--find", metavar="WORDS", help="only those with this in a name or number")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="show at most so many")]
_CREATION_WAIT_S = 30


def chats(
    company: CompanyArgument,
    limit: Limit = 30,
    unread: Annotated[bool, typer.Option("--unread", help="only chats with unread messages")] = False,
    find: Find = "",
    as_json: AsJson = False,
) -> None:
    """List chats, those with the newest messages first."""
    options = {**({"unread": "true"} if unread else {}), **({"q": find} if find else {})}
    items = _items(company, "/chats", options, limit)

    def row(item: Json) -> tuple[object, ...]:
        last = item["lastMessage"] or {}
        shown = last.get("text") or (f"({last['type']})" if last else "")
        state = last.get("state") if last.get("direction") == "outbound" else ""
        count = item["unread"] or ("marked" if item["markedUnread"] else "")
        return item["lastAt"] and short(item["lastAt"]), item["name"], count, _line(shown), state, item["chat"]

    show_list(
        items,
        ("last message (UTC)", "name", "unread", "text", "state", "chat"),
        row,
        as_json=as_json,
        none="There are no chats.",
    )


def contacts(company: CompanyArgument, limit: Limit = 100, find: Find = "", as_json: AsJson = False) -> None:
    """List the people about whom WhatsApp reported a name or an id."""
    items = _items(company, "/contacts", {"q": find} if find else {}, limit)

    def row(item: Json) -> tuple[object, ...]:
        return item["name"], item["phoneNumber"] and f"+{item['phoneNumber']}", item["chat"]

    show_list(items, ("name", "number", "chat"), row, as_json=as_json, none="There are no contacts.")


def check_numbers(
    company: CompanyArgument,
    numbers: Annotated[list[str], typer.Argument(metavar="NUMBER", help="phone numbers with country code")],
    as_json: AsJson = False,
) -> None:
    """Check which phone numbers are on WhatsApp. Exit code 1 if one of them is not."""
    path = session_path(company, "/contacts/check")
    items = with_client(lambda client: client.post(path, {"numbers": numbers}))["items"]

    def row(item: Json) -> tuple[object, ...]:
        return item["number"], "yes" if item["exists"] else "no", item["chat"]

    show_list(items, ("number", "on WhatsApp", "chat"), row, as_json=as_json, none="There are no numbers.")
    if not all(item["exists"] for item in items):
        raise typer.Exit(NOT_GOOD)


def groups(company: CompanyArgument, as_json: AsJson = False) -> None:
    """List the groups that the account is in."""
    items = _items(company, "/groups", {}, 10_000)

    def row(item: Json) -> tuple[object, ...]:
        return item["subject"], item["size"], item["id"]

    show_list(items, ("name", "members", "id"), row, as_json=as_json, none="There are no groups.")


group = typer.Typer(no_args_is_help=True, help="The members of a group, and new groups.")

GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="the group's id, as `holdfast groups` lists it")]


@group.command("members")
def members(company: CompanyArgument, group_id: GroupArgument, as_json: AsJson = False) -> None:
    """List the members of a group with their roles."""
    path = session_path(company, f"/groups/{quote(group_id, safe='@')}")
    items = with_client(lambda client: client.get(path))["members"]

    def row(item: Json) -> tuple[object, ...]:
        return item["jid"], item["role"]

    show_list(items, ("member", "role"), row, as_json=as_json, none="There are no members.")


@group.command("create")
def create(
    company: CompanyArgument,
    subject: Annotated[str, typer.Argument(metavar="NAME", help="the group's name")],
    people: Annotated[list[str], typer.Argument(metavar="NUMBER", help="its members: phone numbers")],
    key: Annotated[
        str | None, typer.Option("--key", help="a repeated command with the same key creates no second group")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a group.

    Exit code 1 if WhatsApp refused it, or if there is no connection yet: it is then created later.
    """
    headers = {} if key is None else {"Idempotency-Key": key}
    path = session_path(company, f"/groups?wait={_CREATION_WAIT_S}")
    body = {"subject": subject, "members": people}
    operation = with_client(lambda client: client.post(path, body, headers), timeout_s=2 * _CREATION_WAIT_S)
    show_one(operation, as_json=as_json)
    if operation["state"] != "succeeded":
        raise typer.Exit(NOT_GOOD)


def message(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="the message's id, msg_…")], as_json: AsJson = False
) -> None:
    """Show one sent message with its state, times and error."""
    path = f"/v1/messages/{quote(message_id, safe='')}"
    show_one(with_client(lambda client: client.get(path)), as_json=as_json)


def _items(company: str, path: str, options: dict[str, str], limit: int) -> list[Json]:
    return listed(session_path(company, path) + (f"?{urlencode(options)}" if options else ""), limit=limit)


def _line(text: str) -> str:
    return " ".join(text.split())
