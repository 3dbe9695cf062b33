"""Commands about messages."""

from __future__ import annotations

import mimetypes
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from holdfast import terminal
from holdfast.cli.exit_codes import NOT_GOOD, WrongUse
from holdfast.cli.requests import CLOCK, AsJson, CompanyArgument, session_path, show_one, with_client
from holdfast.client import Client, Json


def send(
    company: CompanyArgument,
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="recipient: 7 to 15 digits with country code")],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="the message, or the caption of the file")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="PATH", help="send this file: as picture, film or sound where it is one"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="until WhatsApp has it, or it has failed")] = False,
    as_json: AsJson = False,
) -> None:
    """Send a message. Without --wait, the exit code 0 means that it is accepted and will be sent."""
    if file is None and text is None:
        raise WrongUse("there is nothing to send: give a TEXT, a --file, or both")
    if file is not None and not file.is_file():
        raise WrongUse(f'"{file}" is no file')

    async def work(client: Client) -> Json:
        body = {"text": text} if file is None else await _stored(client, company, file, caption=text)
        return await _send(client, company, {"to": number, **body}, wait=wait)

    message = with_client(work, timeout_s=600)
    show_one(message, as_json=as_json)
    if message["state"] in {"failed", "expired", "cancelled"}:
        raise typer.Exit(NOT_GOOD)


_KINDS = {
    "image/jpeg": "image",
    "image/png": "image",
    "video/mp4": "video",
    "audio/mpeg": "audio",
    "audio/ogg": "audio",
}


async def _stored(client: Client, company: str, file: Path, *, caption: str | None) -> Json:
    """Stores the file; returns the content of a message with it."""
    mimetype = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    path = session_path(company, f"/media?filename={quote(file.name, safe='')}")
    stored = await client.upload(path, file, mimetype=mimetype)
    kind = _KINDS.get(stored["mimetype"].partition(";")[0], "document")
    body: Json = {"media": stored["id"]}
    if kind == "document":
        body["filename"] = file.name
    if caption is not None:
        if kind == "audio":
            raise WrongUse("a sound has no caption: send the text as a message of its own")
        body["caption"] = caption
    return {kind: body}


Newest = Annotated[int, typer.Option("--newest", min=1, max=10_000, help="how many, counted from the newest")]


def inbox(company: CompanyArgument, newest: Newest = 20, as_json: AsJson = False) -> None:
    """Show the newest messages that came in, the newest last."""

    def row(item: Json) -> tuple[object, ...]:
        media = item["media"] or {}
        shown = item["text"] or media.get("filename") or media.get("mimetype") or f"({item['type']})"
        sender = item["senderName"] or _number(item["sender"])
        chat = item["groupSubject"] or _number(item["chat"])
        return _short(item["storedAt"]), sender, chat, item["type"], shown, item["id"]

    _show_newest(company, "/inbox", newest, ("received", "from", "chat", "kind", "message", "id"), row, as_json=as_json)


def messages(company: CompanyArgument, newest: Newest = 20, as_json: AsJson = False) -> None:
    """Show the newest messages that were accepted for sending, the newest last, with their states."""

    def row(item: Json) -> tuple[object, ...]:
        error = item["error"] or {}
        return _short(item["acceptedAt"]), item["to"], item["state"], error.get("message"), item["id"]

    _show_newest(company, "/messages", newest, ("accepted", "to", "state", "why", "id"), row, as_json=as_json)


def _show_newest(
    company: str,
    rest: str,
    newest: int,
    columns: tuple[str, ...],
    row: Callable[[Json], tuple[object, ...]],
    *,
    as_json: bool,
) -> None:
    async def work(client: Client) -> list[Json]:
        found: deque[Json] = deque(maxlen=newest)
        async for item in client.items(session_path(company, rest)):
            found.append(item)
        return list(found)

    items = with_client(work)
    if as_json:
        terminal.show_json({"items": items, "next": None})
    elif items:
        terminal.show_table(columns, (row(item) for item in items))
    else:
        terminal.tell("There is no message yet.")


def _number(jid: str) -> str:
    user, _, server = jid.partition("@")
    return f"+{user}" if server == "s.whatsapp.net" else jid


def _short(at: str) -> str:
    """To the second, in UTC."""
    return at[:19].replace("T", " ")


async def _send(client: Client, company: str, body: Json, *, wait: bool) -> Json:
    message: Json = await client.post(session_path(company, "/messages"), body)
    while wait and message["state"] in {"queued", "sending"}:
        await CLOCK.sleep(0.2)
        message = await client.get(f"/v1/messages/{message['id']}")
    return message
