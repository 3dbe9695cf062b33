"""Routes of the control interface for an account's settings (app state)."""

from __future__ import annotations

import msgspec
from aiohttp import web

from wasim.requests import HUB, ControlError, body_of, known_phone
from wasim.server.phone_settings import Change


def add_routes(app: web.Application) -> None:
    app.router.add_get("/phones/{number}/settings", _settings)
    app.router.add_post("/phones/{number}/settings", _change)


async def _settings(request: web.Request) -> web.Response:
    view = request.app[HUB].server.phone_settings.view(known_phone(request).number)
    return web.json_response(msgspec.to_builtins(view))


async def _change(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    try:
        changes = msgspec.convert(body.get("changes"), type=list[Change])
    except msgspec.ValidationError as error:
        raise ControlError(400, f"changes: {error}") from error
    request.app[HUB].change_settings(account.number, changes)
    return web.json_response(msgspec.to_builtins(request.app[HUB].server.phone_settings.view(account.number)))
