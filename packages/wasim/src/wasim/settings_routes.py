"""Routes of the control interface for an account's settings (app state) and history."""

from __future__ import annotations

import zlib
from typing import Annotated

import msgspec
from aiohttp import web

from wasim.requests import SIMULATOR, ControlError, body_of, known_phone
from wasim.server.phone_history import text_message
from wasim.server.phone_settings import Change
from wasim.wire.content import Conversation


def add_routes(app: web.Application) -> None:
    app.router.add_get("/phones/{number}/settings", _settings)
    app.router.add_post("/phones/{number}/settings", _change)
    app.router.add_post("/phones/{number}/history", _history)


async def _settings(request: web.Request) -> web.Response:
    view = request.app[SIMULATOR].server.phone_settings.view(known_phone(request).number)
    return web.json_response(msgspec.to_builtins(view))


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A chat that the phone has, with texts, every third one its owner's."""

    chat: str
    count: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    name: str | None = None
    every_s: Annotated[int, msgspec.Meta(ge=1)] = 60
    expiration: int | None = None


async def _history(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    try:
        chats = msgspec.convert(body.get("chats"), type=list[HistoryRequest])
    except msgspec.ValidationError as error:
        raise ControlError(400, f"chats: {error}") from error
    simulator = request.app[SIMULATOR]
    for chat in chats:
        last = int(simulator.now()) - 3600
        messages = tuple(
            text_message(
                chat.chat,
                f"3AH{zlib.crc32(chat.chat.encode()):08X}{n:07}",
                f"message {n} of the history",
                at=last - (chat.count - n) * chat.every_s,
                from_me=n % 3 == 2,
                name=None if n % 3 == 2 else chat.name,
            )
            for n in range(chat.count)
        )
        conversation = Conversation(id=chat.chat, messages=messages, name=chat.name, expiration=chat.expiration)
        simulator.server.phone_clients.phone_sender.histories.add(account.number, conversation)
    return web.json_response({"messages": sum(chat.count for chat in chats)})


async def _change(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    try:
        changes = msgspec.convert(body.get("changes"), type=list[Change])
    except msgspec.ValidationError as error:
        raise ControlError(400, f"changes: {error}") from error
    with request.app[SIMULATOR].update() as (server, now):
        server.change_settings(account.number, changes, now=now)
    return web.json_response(msgspec.to_builtins(server.phone_settings.view(account.number)))
