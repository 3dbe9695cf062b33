"""Commands about messages: send, list what was sent, list what came in."""

from __future__ import annotations

import mimetypes
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from holdfast import terminal
from holdfast.cli.durations import seconds
from holdfast.cli.exit_codes import NOT_GOOD, UsageError
from holdfast.cli.requests import CLOCK, AsJson, CompanyArgument, session_path, short, show_list, show_one, with_client
from holdfast.client import Client, Json


def send(
    company: CompanyArgument,
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="recipient: 7 to 15 digits with country code")],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="the message, or the caption of the file")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="PATH",
            help="send this file: as an image, video or audio message where it is one, else as a document",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="wait until WhatsApp has it or it has failed, at most --timeout")
    ] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="S", help="how long --wait waits: seconds, or a duration such as 5m")
    ] = "60",
    as_json: AsJson = False,
) -> None:
    """Send a message.

    Exit code 0 without --wait: it is accepted and will be sent; with --wait: WhatsApp has it. 1: it was refused, has
    failed, or had not been sent when --timeout was over; it then stays in the outbox and is sent later. 2: wrong use.
    3: no server.
    """
    timeout_s = seconds(f"{timeout}s" if timeout.isdecimal() else timeout, option="--timeout")
    if file is None and text is None:
        raise UsageError("there is nothing to send: give a TEXT, a --file, or both")
    if file is not None and not file.is_file():
        raise UsageError(f'"{file}" is not a file')

    async def work(client: Client) -> Json:
        body = {"text": text} if file is None else await _stored(client, company, file, caption=text)
        message: Json = await client.post(session_path(company, "/messages"), {"to": number, **body})
        return await _until_sent(client, message, timeout_s=timeout_s) if wait else message

    message = with_client(work, timeout_s=600)
    show_one(message, as_json=as_json)
    if wait and message["state"] in _WAITING:
        terminal.complain(
            f"not sent within {timeout_s} s; the message stays in the outbox and is sent as soon as it can be. "
            f"DELETE /v1/messages/{message['id']} cancels it"
        )
    if message["state"] in {"failed", "expired", "cancelled"} or (wait and message["state"] in _WAITING):
        raise typer.Exit(NOT_GOOD)


_KINDS = {
    "image/jpeg": "image",
    "image/png": "image",
    "video/mp4": "video",
    "audio/mpeg": "audio",
    "audio/ogg": "audio",
}


async def _stored(client: Client, company: str, file: Path, *, caption: str | None) -> Json:
    """Upload the file; returns the content of a message with it."""
    mimetype = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    path = session_path(company, f"/media?filename={quote(file.name, safe='')}")
    stored = await client.upload(path, file, mimetype=mimetype)
    kind = _KINDS.get(stored["mimetype"].partition(";")[0], "document")
    body: Json = {"media": stored["id"]}
    if kind == "document":
        body["filename"] = file.name
    if caption is not None:
        if kind == "audio":
            raise UsageError("an audio message has no caption: send the text as a separate message")
        body["caption"] = caption
    return {kind: body}


Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="show at most so many, counted from the newest")
]


def inbox(company: CompanyArgument, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show the newest received messages, the newest last."""

    def row(item: Json) -> tuple[object, ...]:
        media = item["media"] or {}
        shown = item["text"] or media.get("filename") or media.get("mimetype") or f"({item['type']})"
        sender = item["senderName"] or _number(item["sender"])
        chat = item["groupSubject"] or _number(item["chat"])
        return short(item["storedAt"]), sender, chat, item["type"], shown, item["id"]

    _show_newest(
        company, "/inbox", limit, ("received (UTC)", "from", "chat", "kind", "message", "id"), row, as_json=as_json
    )


def messages(company: CompanyArgument, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show the newest messages accepted for sending, the newest last: state, and why one waits or has failed."""

    def row(item: Json) -> tuple[object, ...]:
        why = item["error"] or item["held"] or item["retries"] or {}
        return short(item["acceptedAt"]), item["to"], item["state"], why.get("message"), item["id"]

    _show_newest(company, "/messages", limit, ("accepted (UTC)", "to", "state", "why", "id"), row, as_json=as_json)


def _show_newest(
    company: str,
    path: str,
    limit: int,
    columns: tuple[str, ...],
    row: Callable[[Json], tuple[object, ...]],
    *,
    as_json: bool,
) -> None:
    async def work(client: Client) -> list[Json]:
        found: deque[Json] = deque(maxlen=limit)
        async for item in client.items(session_path(company, path)):
            found.append(item)
        return list(found)

    items = with_client(work)
    show_list(items, columns, row, as_json=as_json, none="There are no messages yet.")


def _number(jid: str) -> str:
    user, _, server = jid.partition("@")
    return f"+{user}" if server == "s.whatsapp.net" else jid


_WAITING = frozenset({"queued", "sending"})
_POLL_INTERVAL_S, _SILENT_S = 0.2, 2.0
"""A message is usually sent within a second. After two seconds the command says what it waits for."""


async def _until_sent(client: Client, message: Json, *, timeout_s: float) -> Json:
    """The message when it is sent or the time is over. Says what it waits for, at the latest at the end."""
    began_at, reported = CLOCK.monotonic(), ""
    while message["state"] in _WAITING and (waited_s := CLOCK.monotonic() - began_at) < timeout_s:
        await CLOCK.sleep(min(_POLL_INTERVAL_S if waited_s < _SILENT_S else 1.0, timeout_s - waited_s))
        message = await client.get(f"/v1/messages/{message['id']}")
        if min(_SILENT_S, timeout_s / 2) <= waited_s:
            reported = await _report_wait(client, message, reported)
    if not reported:
        await _report_wait(client, message, reported)
    return message


async def _report_wait(client: Client, message: Json, reported: str) -> str:
    """Print why the message waits, unless that equals `reported`. Returns what was printed last."""
    if message["state"] not in _WAITING:
        return reported
    reason = waits_for(message, await client.get(session_path(message["companyId"])))
    if reason != reported:
        terminal.print_stderr(f"Waiting: {reason}")
    return reason


def waits_for(message: Json, session: Json) -> str:
    """Why a message has not been sent yet, and what to do about it."""
    company, state = session["companyId"], session["state"]
    reason = (session.get("reason") or {}).get("message")
    why = f" ({reason})" if reason else ""
    match state:
        case "logged_out":
            return f"the session is logged out{why}: link it with `holdfast pair {company}`"
        case "unpaired" | "pairing":
            return f"the session is not linked to a phone yet: link it with `holdfast pair {company}`"
        case "stopped":
            return f"the session is stopped: start it with `holdfast start {company}`"
        case "paused":
            at = session.get("nextAttemptAt")
            return f"the session is paused{why}" + (f" until {short(at)} UTC" if at else f": `holdfast show {company}`")
        case "connected":
            known = message.get("held") or message.get("retries") or {}
            return known.get("message") or "WhatsApp has not answered yet"
        case _:
            return f"the session is {state}{why}"
