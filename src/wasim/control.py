"""The control interface: plain JSON over HTTP on its own port, for phones, faults, and what the server saw.

It only translates between HTTP and the hub. Errors are `{"error": sentence}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from wasim.authority import Authority
from wasim.clock import iso
from wasim.faults import BadFault, Fault, parse_fault
from wasim.server.core import UnknownNumber
from wasim.server.pairing import BadQr, PairingError, parse_qr
from wasim.server.state import Account, Address, Device, MessageRecord
from wasim.shell import Hub, state_of

HUB = web.AppKey("hub", Hub)
AUTHORITY = web.AppKey("authority", Authority)
Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NUMBER = re.compile(r"[1-9]\d{2,14}")
ROUTES_TEXT = """\
GET    /phones                       phones and their linked devices
POST   /phones                       {"number", "name"?, "autoRead"?, "addressing"?: "lid"|"pn"} makes an account
POST   /phones/{number}/scan         {"qr"} links the device that shows this code
POST   /phones/{number}/code         {"code"} links the device that shows this pairing code
POST   /phones/{number}/unlink       {"device"} removes a linked device
POST   /phones/{number}/send         {"to", "text", "id"?} the phone sends a text
POST   /phones/{number}/read         {"id"} the phone reads a message of its inbox
GET    /phones/{number}/inbox        what the phone decrypted
GET    /messages?from=&to=&id=       messages the server took, with acks and receipts
GET    /links                        connections
GET    /stats                        counts
GET    /certificate                  the key at the root of the server's certificate, for clients that check it
GET    /ca.pem                       the certificate that clients of the media host must trust
GET    /faults                       faults that run; ?all=true also those that ended
POST   /faults                       {"kind", "number"?, "seconds"?, …} begins a fault
DELETE /faults/{id}, /faults         ends one, or all
"""


class ControlError(Exception):
    """A request that can't be served, with its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def make_app(hub: Hub, authority: Authority) -> web.Application:
    app = web.Application(middlewares=[_errors])
    app[HUB], app[AUTHORITY] = hub, authority
    app.router.add_get("/", _help)
    app.router.add_get("/phones", _phones)
    app.router.add_post("/phones", _add_phone)
    app.router.add_post("/phones/{number}/scan", _scan)
    app.router.add_post("/phones/{number}/code", _code)
    app.router.add_post("/phones/{number}/unlink", _unlink)
    app.router.add_post("/phones/{number}/send", _send)
    app.router.add_post("/phones/{number}/read", _read)
    app.router.add_get("/phones/{number}/inbox", _inbox)
    app.router.add_get("/messages", _messages)
    app.router.add_get("/links", _links)
    app.router.add_get("/stats", _stats)
    app.router.add_get("/certificate", _certificate)
    app.router.add_get("/ca.pem", _ca)
    app.router.add_get("/faults", _faults)
    app.router.add_post("/faults", _add_fault)
    app.router.add_delete("/faults", _end_faults)
    app.router.add_delete("/faults/{id}", _end_fault)
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ControlError as error:
        return _error(error.status, str(error))
    except (BadFault, BadQr) as error:
        return _error(400, str(error))
    except (PairingError, UnknownNumber) as error:
        return _error(404, str(error))
    except TimeoutError:
        return _error(504, "the device did not finish in time")
    except web.HTTPException as error:
        return _error(error.status, f"{request.method} {request.path}: {error.reason}; GET / lists what there is")


def _error(status: int, detail: str) -> web.Response:
    return web.json_response({"error": detail}, status=status)


async def _body(request: web.Request) -> Json:
    try:
        body = await request.json() if request.can_read_body else {}
    except json.JSONDecodeError as error:
        raise ControlError(400, f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise ControlError(400, "the body must be a JSON object")
    return body


def _text(body: Json, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ControlError(400, f"{name!r} must be a text that is not empty, not {value!r}")
    return value


def _number(text: object) -> str:
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        raise ControlError(400, f"phone number {text!r}: it must be 3 to 15 digits that don't begin with 0")
    return text


def _known(request: web.Request) -> Account:
    number = _number(request.match_info["number"])
    account = request.app[HUB].server.directory.accounts.get(number)
    if account is None:
        raise ControlError(404, f"there is no phone {number}; POST /phones makes one")
    return account


async def _help(request: web.Request) -> web.Response:
    return web.Response(text="wasim, a simulated WhatsApp. Control interface:\n\n" + ROUTES_TEXT)


# Phones


async def _phones(request: web.Request) -> web.Response:
    hub = request.app[HUB]
    return web.json_response([_phone(hub, account) for account in hub.server.directory.accounts.values()])


def _phone(hub: Hub, account: Account) -> Json:
    devices = [device for device in hub.server.directory.devices_of(account.number) if device.device]
    tally = hub.server.handsets.tally(account.number)
    return {
        "number": account.number,
        "lid": f"{account.lid}@lid",
        "name": account.name,
        "autoRead": account.auto_read,
        "addressing": account.addressing,
        "devices": [_device(hub, device) for device in devices],
        "signal": {
            "decrypted": tally.decrypted,
            "undecryptable": tally.undecryptable,
            "redelivered": tally.redelivered,
            "reusedKeys": tally.reused_keys,
        },
    }


def _device(hub: Hub, device: Device) -> Json:
    jid, lid = hub.server.jid_of(device.address)
    link = hub.server.link_of(device.address)
    return {
        "device": device.device,
        "jid": jid,
        "lid": lid,
        "connected": link is not None,
        "since": iso(link.since) if link is not None else None,
        "linkedAt": iso(device.linked_at),
        "waiting": len(hub.server.directory.queue(device.address)),
        "prekeys": len(hub.server.directory.prekeys(device.address)),
    }


async def _add_phone(request: web.Request) -> web.Response:
    hub, body = request.app[HUB], await _body(request)
    account = hub.phone(_number(body.get("number")), name=str(body.get("name", "")))
    if "autoRead" in body:
        account.auto_read = body["autoRead"] is True
    if "addressing" in body:
        if body["addressing"] not in ("lid", "pn"):
            raise ControlError(400, f"addressing {body['addressing']!r}: it is 'lid' or 'pn'")
        account.addressing = body["addressing"]
    hub.keep(account)
    return web.json_response(_phone(hub, account), status=201)


async def _scan(request: web.Request) -> web.Response:
    hub, body = request.app[HUB], await _body(request)
    number = _number(request.match_info["number"])
    return _linked(hub, await hub.scan(number, parse_qr(_text(body, "qr"))))


async def _code(request: web.Request) -> web.Response:
    hub, body = request.app[HUB], await _body(request)
    number = _number(request.match_info["number"])
    code = _text(body, "code").replace("-", "").upper()
    return _linked(hub, await hub.enter_code(number, code))


def _linked(hub: Hub, address: Address) -> web.Response:
    jid, lid = hub.server.jid_of(address)
    return web.json_response({"jid": jid, "lid": lid, "device": address.device})


async def _unlink(request: web.Request) -> web.Response:
    account, body = _known(request), await _body(request)
    device = body.get("device")
    if not isinstance(device, int):
        raise ControlError(400, f"'device' must be a number, not {device!r}")
    request.app[HUB].unlink(Address(account.number, device))
    return web.json_response({"number": account.number, "device": device})


async def _send(request: web.Request) -> web.Response:
    account, body = _known(request), await _body(request)
    id_ = _text(body, "id") if "id" in body else None
    sent = request.app[HUB].write(account.number, _number(body.get("to")), _text(body, "text"), id_)
    return web.json_response({"id": sent}, status=202)


async def _read(request: web.Request) -> web.Response:
    account, body = _known(request), await _body(request)
    request.app[HUB].read(account.number, _text(body, "id"))
    return web.json_response({"id": body["id"]})


async def _inbox(request: web.Request) -> web.Response:
    letters = request.app[HUB].server.handsets.inbox(_known(request).number)
    return web.json_response(
        [
            {
                "id": letter.id,
                "from": letter.sender,
                "text": letter.text,
                "kind": letter.kind,
                "count": letter.count,
                "undecryptable": letter.undecryptable,
                "firstAt": iso(letter.first_at),
            }
            for letter in letters
        ]
    )


# What the server saw


async def _messages(request: web.Request) -> web.Response:
    wanted = {name: request.query.get(name) for name in ("from", "to", "id")}
    records = request.app[HUB].server.directory.messages.values()
    return web.json_response([_message(record) for record in records if _matches(record, wanted)])


def _matches(record: MessageRecord, wanted: dict[str, str | None]) -> bool:
    values = {"from": record.sender, "to": record.to, "id": record.id}
    return all(value is None or values[name] == value for name, value in wanted.items())


def _message(record: MessageRecord) -> Json:
    return {
        "id": record.id,
        "from": record.sender,
        "to": record.to,
        "count": record.count,
        "resends": record.resends,
        "acked": record.acked,
        "error": record.error,
        "firstAt": iso(record.first_at),
        "lastAt": iso(record.last_at),
        "receipts": {"delivered": record.delivered, "read": record.read},
    }


async def _links(request: web.Request) -> web.Response:
    hub = request.app[HUB]
    return web.json_response(
        [
            {
                "id": link.id,
                "number": link.address.number if link.address else None,
                "device": link.address.device if link.address else None,
                "jid": hub.server.jid_of(link.address)[0] if link.address else None,
                "state": state_of(link),
                "since": iso(link.since),
                "frozen": hub.is_frozen(link.id),
                "available": link.available,
                "frames": {"in": link.frames_in, "out": link.frames_out},
            }
            for link in hub.server.links.values()
        ]
    )


async def _stats(request: web.Request) -> web.Response:
    hub = request.app[HUB]
    stats, records = hub.stats, hub.server.directory.messages.values()
    return web.json_response(
        {
            "connects": stats.connects,
            "connectTimes": [iso(at) for at in stats.connect_times],
            "logins": stats.logins,
            "loginsRefused": stats.logins_refused,
            "closes": stats.closes,
            "refused": stats.refused,
            "accepted": sum(record.count for record in records),
            "messages": len(records),
            "unknownQueries": stats.unknown_queries,
            "protocolErrors": stats.protocol_errors,
            "links": len(hub.server.links),
            "numbers": {
                number: {"logins": one.logins, "refused": one.refused, "times": [iso(at) for at in one.times]}
                for number, one in stats.numbers.items()
            },
        }
    )


async def _certificate(request: web.Request) -> web.Response:
    return web.json_response({"rootKey": request.app[HUB].server.identity.root.hex()})


async def _ca(request: web.Request) -> web.Response:
    return web.Response(body=request.app[AUTHORITY].pem, content_type="application/x-pem-file")


# Faults


def _fault(fault: Fault) -> Json:
    return {
        "id": fault.id,
        "kind": fault.kind,
        "number": fault.request.number,
        "startedAt": iso(fault.started_at),
        "endsAt": iso(fault.ends_at),
        "endedAt": iso(fault.ended_at),
        "links": fault.links,
        "hits": fault.hits,
    }


async def _faults(request: web.Request) -> web.Response:
    faults = request.app[HUB].faults
    ended = faults.ended if request.query.get("all") == "true" else []
    return web.json_response([_fault(fault) for fault in [*ended, *faults.active.values()]])


async def _add_fault(request: web.Request) -> web.Response:
    fault = request.app[HUB].start_fault(parse_fault(await _body(request)))
    return web.json_response(_fault(fault), status=201)


async def _end_fault(request: web.Request) -> web.Response:
    text = request.match_info["id"]
    if not text.isdecimal() or not request.app[HUB].end_fault(int(text)):
        raise ControlError(404, f"no fault {text} runs")
    return web.json_response({"ended": [int(text)]})


async def _end_faults(request: web.Request) -> web.Response:
    hub = request.app[HUB]
    running = list(hub.faults.active)
    for fault_id in running:
        hub.end_fault(fault_id)
    return web.json_response({"ended": running})
