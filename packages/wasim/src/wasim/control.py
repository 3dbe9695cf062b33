"""The control interface: plain JSON over HTTP on its own port, for phones, faults, and what the server recorded.

It only translates between HTTP and the simulator. Errors are `{"error": sentence}`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from wasim import chat_routes, group_routes, passkeys, phone_routes, settings_routes, stanza_routes
from wasim.authority import Authority
from wasim.clock import iso
from wasim.faults import BadFault, Fault, parse_fault
from wasim.media import MediaFolder
from wasim.phone_routes import jids
from wasim.requests import AUTHORITY, MEDIA_FOLDER, SIMULATOR, ControlError, Json, body_of
from wasim.server.calls import CallError
from wasim.server.groups import GroupError
from wasim.server.link import Link, Phase
from wasim.server.message_builder import BadMessageRequest
from wasim.server.pairing import BadQr, PairingError
from wasim.server.phone_actions import UnknownNumber
from wasim.server.phone_settings import BadChange
from wasim.server.state import MessageRecord
from wasim.shell import Simulator

BODY_BYTES = 32 * 1024 * 1024
"""Maximum size of a request's body. Media may be sent as base64."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROUTES_TEXT = """\
GET    /phones                       phones and their linked devices
POST   /phones                       {"number", "name"?, "autoRead"?, "addressing"?: "lid"|"pn", "picture"?: URL|true,
                                      "addedBy"?: "all"|"contacts"|"none", "username"?, "hidesNumber"?, "about"?,
                                      "business"?: {"description"?, "category"?, "address"?, "email"?, "website"?}}
POST   /phones/{number}/scan         {"qr"} links the device that shows this code
POST   /phones/{number}/code         {"code"} links the device that shows this pairing code
POST   /phones/{number}/unlink       {"device"} removes a linked device
GET    /phones/{number}/passkey      its passkeys, and the ceremony in progress
GET    /phones/{number}/passkey/creation   options to make one, for PublicKeyCredential.parseCreationOptionsFromJSON
POST   /phones/{number}/passkey      {"id", "publicKey"} or a registration's toJSON(): from now on linking requires it
POST   /phones/{number}/passkey/confirm    {"code"} the owner compares the code that the device shows
DELETE /phones/{number}/passkey      linking no longer requires one
POST   /phones/{number}/send         {"to", "id"?, "text" | "image" | … | "delete" | "payload"} the phone sends;
                                     payload: any message of WAProto, encoded, in base64
                                     plaintext: any bytes, encrypted unchanged, in base64
                                     to status@broadcast: a status, for "audience"? or all its contacts
GET    /phones/{number}/stanzas      stanzas waiting for its linked devices
POST   /phones/{number}/stanzas      {"stanzas": [{"tag", "attrs"?, "content"?} | {"base64"}]} delivers them, as they
                                     are, to the linked devices; content: text, {"base64"} or stanzas
GET    /phones/{number}/settings     the account's settings as the phone shows them: names, chats, labels, stars
POST   /phones/{number}/settings     {"changes": [{"pushName" | "contact" | "archive" | "pin" | "unread" | "mute" |
                                     "label" | "labelled" | "star", "on"?, "name"?, "chat"?, "color"?, "untilMs"?}]}
POST   /phones/{number}/history      {"chats": [{"chat", "count", "name"?, "everyS"?, "expiration"?}]} the phone has
                                     texts of chats, for devices that are linked later or ask for them
POST   /phones/{number}/typing       {"to", "state"?: "composing"|"recording"|"paused"} the owner is typing
POST   /phones/{number}/presence     {"available"} the owner opens WhatsApp or leaves it
GET    /channels                     channels with the roles of their followers, and posts
POST   /channels                     {"name", "owner", "description"?, "admins"?} creates one
GET    /phones/{number}/calls        its calls
POST   /phones/{number}/calls        {"to", "video"?} calls another account
POST   /phones/{number}/calls/{id}   {"state": "accepted"|"rejected"|"timeout"|"ended"} ends a call that rings
POST   /phones/{number}/read         {"id"} the owner reads a message; linked devices are notified
GET    /phones/{number}/inbox        messages that the phone decrypted; ?after= skips that many
GET    /phones/{number}/inbox/{id}/media   its media, decrypted; ?content=true: the bytes
GET    /groups                       groups with their members
POST   /groups                       {"subject", "members", "addressing"?: "lid"|"pn"} creates one; the first is admin
PATCH  /groups/{id}                  {"subject"?, "add"?, "remove"?, "requests"?} changes it
GET    /messages?from=&to=&id=       messages that the server accepted, with acks and receipts
GET    /links                        connections
GET    /stats                        counts
GET    /version                      the client revision in /sw.js, and the oldest one that may log in
POST   /version                      {"published"?, "minimum"?} changes them
GET    /certificate                  the key at the root of the server's certificate, for clients that check it
GET    /ca.pem                       the certificate that clients of the media host must trust
GET    /faults                       active faults; ?all=true: ended ones too
POST   /faults                       {"kind", "number"?, "seconds"?, …} starts a fault
DELETE /faults/{id}, /faults         ends one, or all
"""


def make_app(simulator: Simulator, authority: Authority, folder: MediaFolder) -> web.Application:
    app = web.Application(middlewares=[_errors], client_max_size=BODY_BYTES)
    app[SIMULATOR], app[AUTHORITY], app[MEDIA_FOLDER] = simulator, authority, folder
    chat_routes.add_routes(app)
    stanza_routes.add_routes(app)
    settings_routes.add_routes(app)
    passkeys.add_routes(app)
    phone_routes.add_routes(app)
    group_routes.add_routes(app)
    app.router.add_get("/", _help)
    app.router.add_get("/messages", _messages)
    app.router.add_get("/links", _links)
    app.router.add_get("/stats", _stats)
    app.router.add_get("/version", _version)
    app.router.add_post("/version", _set_version)
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
    except (BadChange, BadFault, BadQr, BadMessageRequest, CallError, GroupError) as error:
        return _error(400, str(error))
    except (PairingError, UnknownNumber) as error:
        return _error(404, str(error))
    except TimeoutError:
        return _error(504, "the device did not finish in time")
    except web.HTTPException as error:
        return _error(error.status, f"{request.method} {request.path}: {error.reason}; GET / lists all routes")


def _error(status: int, detail: str) -> web.Response:
    return web.json_response({"error": detail}, status=status)


async def _help(request: web.Request) -> web.Response:
    return web.Response(text="wasim, a simulated WhatsApp. Control interface:\n\n" + ROUTES_TEXT)


# What the server recorded


async def _messages(request: web.Request) -> web.Response:
    filters = {name: request.query.get(name) for name in ("from", "to", "id")}
    records = request.app[SIMULATOR].server.directory.messages.values()
    return web.json_response([_message(record) for record in records if _matches(record, filters)])


def _matches(record: MessageRecord, filters: dict[str, str | None]) -> bool:
    values = {"from": record.sender, "to": record.to, "id": record.id}
    return all(value is None or values[name] == value for name, value in filters.items())


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
    simulator = request.app[SIMULATOR]
    return web.json_response(
        [
            {
                "id": link.id,
                "number": link.address.number if link.address else None,
                "device": link.address.device if link.address else None,
                "jid": jids(simulator, link.address)["jid"] if link.address else None,
                "state": _state_of(link),
                "handshake": link.responder.pattern,
                "since": iso(link.since),
                "frozen": simulator.is_frozen(link.id),
                "available": link.available,
                "frames": {"in": link.frames_in, "out": link.frames_out},
            }
            for link in simulator.server.links
        ]
    )


def _state_of(link: Link) -> str:
    match link.phase:
        case Phase.OPEN:
            return "open"
        case Phase.PAIRING:
            return "pairing"
        case Phase.CLOSING:
            return "closing"
    return "handshake"


async def _stats(request: web.Request) -> web.Response:
    simulator = request.app[SIMULATOR]
    stats, records = simulator.stats, simulator.server.directory.messages.values()
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
            "queries": dict(stats.queries),
            "failedQueries": dict(stats.failed_queries),
            "protocolErrors": stats.protocol_errors,
            "links": len(simulator.server.links),
            "numbers": {
                number: {"logins": one.logins, "refused": one.refused, "times": [iso(at) for at in one.times]}
                for number, one in stats.numbers.items()
            },
        }
    )


async def _certificate(request: web.Request) -> web.Response:
    return web.json_response({"rootKey": request.app[SIMULATOR].server.identity.root.hex()})


async def _version(request: web.Request) -> web.Response:
    simulator = request.app[SIMULATOR]
    return web.json_response({"published": simulator.published_revision, "minimum": simulator.faults.minimum_revision})


async def _set_version(request: web.Request) -> web.Response:
    simulator, body = request.app[SIMULATOR], await body_of(request)
    for name, value in body.items():
        if name not in ("published", "minimum") or not isinstance(value, int):
            raise ControlError(400, f"{name!r} is {value!r}: give 'published' or 'minimum' as a number")
    simulator.published_revision = body.get("published", simulator.published_revision)
    simulator.faults.base_minimum_revision = body.get("minimum", simulator.faults.base_minimum_revision)
    return await _version(request)


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
    faults = request.app[SIMULATOR].faults
    ended = faults.ended if request.query.get("all") == "true" else []
    return web.json_response([_fault(fault) for fault in [*ended, *faults.active.values()]])


async def _add_fault(request: web.Request) -> web.Response:
    fault = request.app[SIMULATOR].start_fault(parse_fault(await body_of(request)))
    return web.json_response(_fault(fault), status=201)


async def _end_fault(request: web.Request) -> web.Response:
    text = request.match_info["id"]
    if not text.isdecimal() or not request.app[SIMULATOR].end_fault(int(text)):
        raise ControlError(404, f"fault {text} is not active")
    return web.json_response({"ended": [int(text)]})


async def _end_faults(request: web.Request) -> web.Response:
    simulator = request.app[SIMULATOR]
    active = list(simulator.faults.active)
    for fault_id in active:
        simulator.end_fault(fault_id)
    return web.json_response({"ended": active})
