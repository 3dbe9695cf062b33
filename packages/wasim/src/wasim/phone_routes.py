"""Routes of the control interface for phones: create and change them, link and unlink devices."""

from __future__ import annotations

import re
import secrets

from aiohttp import web

from wasim.clock import iso
from wasim.requests import SIMULATOR, ControlError, Json, body_of, known_phone, number_of, text_of
from wasim.server import privacy, profiles
from wasim.server.entropy import new_id
from wasim.server.pairing import parse_qr
from wasim.server.state import Account, Address, Device
from wasim.shell import Simulator

_USERNAME = re.compile(r"(?=.*[a-z])[a-z0-9_.]{3,35}")


def add_routes(app: web.Application) -> None:
    app.router.add_get("/phones", _phones)
    app.router.add_post("/phones", _add_phone)
    app.router.add_post("/phones/{number}/scan", _scan)
    app.router.add_post("/phones/{number}/code", _code)
    app.router.add_post("/phones/{number}/unlink", _unlink)


async def _phones(request: web.Request) -> web.Response:
    simulator = request.app[SIMULATOR]
    return web.json_response([_phone(simulator, account) for account in simulator.server.directory.accounts.values()])


def _phone(simulator: Simulator, account: Account) -> Json:
    devices = [device for device in simulator.server.directory.devices_of(account.number) if device.device]
    counts = simulator.server.phone_clients.decryption_counts(account.number)
    return {
        "number": account.number,
        "lid": f"{account.lid}@lid",
        "name": account.name,
        "autoRead": account.auto_read,
        "picture": account.picture or account.picture_id or None,
        "about": account.about or None,
        "aboutChanges": account.about_changes,
        "business": account.business or None,
        "privacy": privacy.settings(account),
        "blocked": sorted(account.blocked),
        "addressing": account.addressing,
        "username": account.username or None,
        "hidesNumber": account.hides_number,
        "devices": [_device(simulator, device) for device in devices],
        "typing": _typing(simulator, account.number),
        "signal": {
            "decrypted": counts.decrypted,
            "undecryptable": counts.undecryptable,
            "redelivered": counts.redelivered,
            "reusedKeys": counts.reused_keys,
        },
    }


def _typing(simulator: Simulator, number: str) -> Json | None:
    """The last typing indicator that this phone received."""
    typing = simulator.server.phone_clients.typing(number)
    if typing is None:
        return None
    group = typing.chat if typing.chat.endswith("@g.us") else None
    return {"from": typing.sender, "group": group, "state": typing.state, "at": iso(typing.at)}


def _device(simulator: Simulator, device: Device) -> Json:
    link = simulator.server.links.of(device.address)
    return {
        "device": device.device,
        "name": device.name,
        **jids(simulator, device.address),
        "connected": link is not None,
        "since": iso(link.since) if link is not None else None,
        "linkedAt": iso(device.linked_at),
        "waiting": len(simulator.server.directory.queue(device.address)),
        "prekeys": len(simulator.server.directory.prekeys(device.address)),
    }


async def _add_phone(request: web.Request) -> web.Response:
    simulator, body = request.app[SIMULATOR], await body_of(request)
    number = number_of(body.get("number"))
    with simulator.update() as (server, now):
        account = server.phone(number, name=str(body.get("name", "")), now=now)
    if "autoRead" in body:
        account.auto_read = body["autoRead"] is True
    if "picture" in body:
        _set_picture(simulator, account, body["picture"])
    if "about" in body:
        account.about = str(body["about"] or "")
    if "business" in body:
        account.business = _business(body["business"])
    if "addedBy" in body:
        if body["addedBy"] not in privacy.VALUES[privacy.GROUP_ADD]:
            raise ControlError(400, f"addedBy {body['addedBy']!r}: give 'all', 'contacts' or 'none'")
        account.privacy[privacy.GROUP_ADD] = body["addedBy"]
    if "addressing" in body:
        if body["addressing"] not in ("lid", "pn"):
            raise ControlError(400, f"addressing {body['addressing']!r}: give 'lid' or 'pn'")
        account.addressing = body["addressing"]
    if "hidesNumber" in body:
        account.hides_number = body["hidesNumber"] is True
    if "username" in body:
        account.username = _username(simulator, account, str(body["username"] or ""))
    with simulator.update() as (server, _):
        server.directory.touch(account)
    return web.json_response(_phone(simulator, account), status=201)


def _set_picture(simulator: Simulator, account: Account, picture: object) -> None:
    """`picture`: an address, True for a picture that wasim makes, or nothing."""
    account.picture = picture if isinstance(picture, str) else ""
    account.picture_id = new_id(secrets.token_bytes) if picture is True else ""
    account.picture_file = ""


def _business(profile: object) -> dict[str, str]:
    if not isinstance(profile, dict) or not all(isinstance(value, str) for value in profile.values()):
        raise ControlError(400, "business: give an object of texts")
    unknown = sorted(set(profile) - set(profiles.BUSINESS))
    if unknown:
        raise ControlError(400, f"business has no {unknown[0]!r}: its fields are {', '.join(profiles.BUSINESS)}")
    return dict(profile)


def _username(simulator: Simulator, account: Account, requested: str) -> str:
    """Check a username by WhatsApp's rules: 3 to 35 letters, digits, dots, underscores, a letter among them, unique."""
    username = requested.lower()
    if username and _USERNAME.fullmatch(username) is None:
        raise ControlError(400, f"username {requested!r}: give 3 to 35 of a-z, 0-9, _ and ., with a letter among them")
    owner = simulator.server.directory.by_username(username)
    if owner is not None and owner is not account:
        raise ControlError(400, f"username {requested!r} belongs to {owner.number}")
    return username


async def _scan(request: web.Request) -> web.Response:
    simulator, body = request.app[SIMULATOR], await body_of(request)
    number = number_of(request.match_info["number"])
    return _linked(simulator, await simulator.pairings.scan(number, parse_qr(text_of(body, "qr"))))


async def _code(request: web.Request) -> web.Response:
    simulator, body = request.app[SIMULATOR], await body_of(request)
    number = number_of(request.match_info["number"])
    code = text_of(body, "code").replace("-", "").upper()
    return _linked(simulator, await simulator.pairings.enter_code(number, code))


def _linked(simulator: Simulator, address: Address | None) -> web.Response:
    if address is None:
        return web.json_response({"passkey": "required"}, status=202)
    return web.json_response({**jids(simulator, address), "device": address.device})


def jids(simulator: Simulator, address: Address) -> Json:
    """The two forms of a device's address: by phone number, and by hidden id."""
    directory = simulator.server.directory
    return {"jid": str(directory.jid(address, "pn")), "lid": str(directory.jid(address, "lid"))}


async def _unlink(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    device = body.get("device")
    if not isinstance(device, int):
        raise ControlError(400, f"'device' must be a number, not {device!r}")
    with request.app[SIMULATOR].update() as (server, now):
        server.unlink(Address(account.number, device), now=now)
    return web.json_response({"number": account.number, "device": device})
