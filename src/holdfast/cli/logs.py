"""`holdfast logs`: one line for each event of sessions and messages, the same events that webhooks carry.

The lines name people by their numbers and never show message texts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from holdfast import terminal
from holdfast.base.clock import Clock, iso
from holdfast.base.ids import COMPANY_RULE, is_company_id
from holdfast.cli.durations import seconds
from holdfast.cli.exit_codes import UsageError
from holdfast.cli.requests import CLOCK, AsJson, short, with_client
from holdfast.client import Client, Json, NoServer, Refused, may_pass
from holdfast.health.advice import format_duration, needed_advice

_POLL_INTERVAL_S = 1.0


def logs(
    company: Annotated[
        str | None, typer.Argument(metavar="COMPANY", help="only this company; without it, all of them")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="keep printing new events until Ctrl-C")] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="how far back: 30m, 24h or 7d, or a time in ISO 8601")
    ] = "24h",
    as_json: AsJson = False,
) -> None:
    """Show what happened to sessions and messages, the newest last.

    Events are kept for HOLDFAST_EVENTS_KEEP_DAYS. With --follow and --json, each event is a document on a line.
    """
    if company is not None and not is_company_id(company):
        raise UsageError(f'company "{company}" is not usable: {COMPANY_RULE}')
    begin = _begin(since)

    async def work(client: Client) -> int:
        shown: list[Json] = []
        count = 0
        show: Callable[[Json], None] = shown.append if as_json and not follow else _show_json if as_json else _show
        async for event in events(client, company, since=begin, follow=follow, clock=CLOCK):
            show(event)
            count += 1
        if company is not None and not count:
            await client.get(f"/v1/sessions/{company}")  # a misspelt company has no events either
        if as_json and not follow:
            terminal.show_json({"items": shown, "next": None})
        return count

    try:
        if not with_client(work) and not as_json:
            terminal.print_stderr(f"Nothing happened since {begin:%Y-%m-%d %H:%M:%S} UTC.")
    except KeyboardInterrupt:
        raise typer.Exit from None


def _begin(since: str) -> datetime:
    """The time that `--since` means: an ISO 8601 time, or a duration before now."""
    try:
        at = datetime.fromisoformat(since)
    except ValueError:
        try:
            return CLOCK.now() - timedelta(seconds=seconds(since))
        except typer.BadParameter as error:
            sentence = f"{error.message}, or a time in ISO 8601, such as 2026-11-28T07:10:00Z"
            raise typer.BadParameter(sentence, param_hint="'--since'") from error
    return at if at.tzinfo else at.replace(tzinfo=CLOCK.now().tzinfo)


async def events(
    client: Client, company: str | None, *, since: datetime, follow: bool, clock: Clock
) -> AsyncIterator[Json]:
    """The events from `since` on, oldest first; with `follow` also those to come, over restarts of the server."""
    query = {"format": "json", "limit": "500"} | ({} if company is None else {"company": company})
    place = {"since": iso(since)}
    is_known = False
    while True:
        try:
            page = await client.get("/v1/events", **query, **place)
        except (NoServer, Refused) as error:
            if not (follow and is_known and may_pass(error)):
                raise
            await clock.sleep(_POLL_INTERVAL_S)
            continue
        is_known = True
        for event in page["items"]:
            yield event
        if page["items"]:
            place = {"after": str(page["items"][-1]["seq"])}
        if page["next"] is None:
            if not follow:
                return
            await clock.sleep(_POLL_INTERVAL_S)


def _show(event: Json) -> None:
    terminal.print_stdout(line(event))


def _show_json(event: Json) -> None:
    terminal.print_stdout(terminal.json_text(event))


def line(event: Json) -> str:
    """`2026-11-28 07:10:03 962302 connected → reconnecting: the connection was closed (428)`."""
    at, type_, data = short(event["timestamp"]), event["type"], event["data"]
    describe = _DESCRIBED.get(type_, _sent if type_.startswith("message.") else _other)
    return terminal.printable(f"{at} {data['companyId']} {describe(type_, data)}")


def _session(_: str, data: dict[str, Any]) -> str:
    reason = data.get("reason") or {}
    parts = [f"{data['before']} → {data['state']}"]
    if reason:
        number = "" if reason.get("number") is None else f" ({reason['number']})"
        parts.append(f": {reason.get('message') or reason['code']}{number}")
    if at := data.get("nextAttemptAt"):
        wait_s = (datetime.fromisoformat(at) - datetime.fromisoformat(data["since"])).total_seconds()
        parts.append(f"; next attempt in {format_duration(wait_s)}" if wait_s >= 0.1 else "; next attempt at once")
    if advice := needed_advice(reason.get("action", "none"), reason.get("code", "")):
        parts.append(f". What to do: {advice}")
    return "".join(parts)


def _received(type_: str, data: dict[str, Any]) -> str:
    verb = "received" if type_ == "message.received" else "now readable"
    sender = data["senderName"] or _person(data["sender"])
    group = "" if data["chat"] == data["sender"] else f" in {data['groupSubject'] or _person(data['chat'])}"
    whose = "written on the phone" if data["fromMe"] else f"from {sender}"
    return f"{data['type']} {verb}: {whose}{group} ({data['id']})"


def _sent(type_: str, data: dict[str, Any]) -> str:
    return f"{data['type']} to {_person(data['chat'])} {type_.removeprefix('message.')}{_why(data)} ({data['id']})"


def _receipt(_: str, data: dict[str, Any]) -> str:
    return f"{data['receipt']} by {_person(data['member'])} in {_person(data['chat'])} ({data['messageId']})"


def _call(type_: str, data: dict[str, Any]) -> str:
    caller = data["senderName"] or _person(data["sender"])
    state = (data.get("content") or {}).get("call", {}).get("state")
    end = f", {state}" if type_ == "call.ended" and state else ""
    return f"call {type_.removeprefix('call.')}: from {caller}{end} ({data['id']})"


def _group(_: str, data: dict[str, Any]) -> str:
    actor = data.get("actor") or {}
    by = f" by {actor.get('name') or _person(actor['jid'])}" if actor.get("jid") else ""
    return f"group {data['subject'] or data['group']}: {data['change'].replace('_', ' ')}{by}"


def _operation(_: str, data: dict[str, Any]) -> str:
    return f"operation {data['kind']} {data['state']}{_why(data)} ({data['id']})"


def _why(data: dict[str, Any]) -> str:
    error = data.get("error")
    return f": {error.get('message') or error['code']}" if error else ""


def _presence(_: str, data: dict[str, Any]) -> str:
    where = "" if data["chat"] == data["sender"] else f" in {_person(data['chat'])}"
    return f"{_person(data['sender'])} is {data['state']}{where}"


def _other(type_: str, _: dict[str, Any]) -> str:
    """An event of a newer server."""
    return str(type_)


_DESCRIBED = {
    "session.state": _session,
    "message.received": _received,
    "message.completed": _received,
    "message.receipt": _receipt,
    "call.received": _call,
    "call.ended": _call,
    "group.updated": _group,
    "operation.updated": _operation,
    "presence.updated": _presence,
}


def _person(jid: str) -> str:
    user, _, server = jid.partition("@")
    return f"+{user}" if server == "s.whatsapp.net" else jid
