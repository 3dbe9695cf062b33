"""Routes of the control interface for passkeys: add and remove them, and follow the linking of a device with one."""

from __future__ import annotations

import secrets

from aiohttp import web

from wasim.requests import SIMULATOR, ControlError, Json, body_of, known_phone, text_of
from wasim.server import webauthn
from wasim.server.state import Account
from wasim.server.webauthn import BadCredential, Passkey, base64url

_CHALLENGES = web.AppKey("passkey-challenges", dict)
_CHALLENGE_BYTES = 32


def add_routes(app: web.Application) -> None:
    app[_CHALLENGES] = {}
    app.router.add_get("/phones/{number}/passkey", _show)
    app.router.add_post("/phones/{number}/passkey", _add)
    app.router.add_delete("/phones/{number}/passkey", _remove)
    app.router.add_get("/phones/{number}/passkey/creation", _creation)
    app.router.add_post("/phones/{number}/passkey/confirm", _confirm)


async def _show(request: web.Request) -> web.Response:
    simulator, account = request.app[SIMULATOR], known_phone(request)
    ceremony = simulator.server.pairing_flow.ceremony(account.number)
    pending = None
    if ceremony is not None:
        pending = {"code": ceremony.code or None, "proven": ceremony.is_proven, "answered": bool(ceremony.commitment)}
    return web.json_response({"passkeys": [_passkey_json(known) for known in account.passkeys], "pending": pending})


def _passkey_json(passkey: Passkey) -> Json:
    return {"id": base64url(passkey.id), "publicKey": base64url(passkey.public_key), "counter": passkey.counter}


async def _creation(request: web.Request) -> web.Response:
    account = known_phone(request)
    challenge = secrets.token_bytes(_CHALLENGE_BYTES)
    request.app[_CHALLENGES][account.number] = challenge
    options = webauthn.creation_options(challenge, user=account.lid.encode(), name=account.name or account.number)
    return web.json_response({"options": options})


async def _add(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    try:
        passkey = _from_registration(request, account, body) if "response" in body else _from_public_key(body)
    except BadCredential as error:
        raise ControlError(400, str(error)) from error
    account.passkeys = [*(known for known in account.passkeys if known.id != passkey.id), passkey]
    with request.app[SIMULATOR].update() as (server, _):
        server.directory.touch(account)
    return web.json_response(_passkey_json(passkey), status=201)


def _from_registration(request: web.Request, account: Account, body: Json) -> Passkey:
    challenge = request.app[_CHALLENGES].pop(account.number, None)
    if challenge is None:
        raise ControlError(409, f"GET /phones/{account.number}/passkey/creation first: it creates the challenge")
    return webauthn.registered(body, challenge=challenge)


def _from_public_key(body: Json) -> Passkey:
    id_ = webauthn.from_base64url(text_of(body, "id"), field="id")
    return webauthn.passkey(id_, webauthn.from_base64url(text_of(body, "publicKey"), field="publicKey"))


async def _remove(request: web.Request) -> web.Response:
    account = known_phone(request)
    account.passkeys = []
    with request.app[SIMULATOR].update() as (server, _):
        server.directory.touch(account)
    return web.json_response({"passkeys": []})


async def _confirm(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    simulator, code = request.app[SIMULATOR], text_of(body, "code")
    with simulator.update() as (server, now):
        server.pairing_flow.confirm(account, code, now=now)
    return web.json_response({"number": account.number})
