"""Routes of the control interface for stanzas: those that wait for linked devices, and those to be sent unchanged.

Sending arbitrary stanzas tests how a client handles what a modified client or a faulty server may send.
"""

from __future__ import annotations

import base64
import binascii

from aiohttp import web

from wasim.requests import SIMULATOR, ControlError, Json, body_of, known_phone
from wasim.server.state import PHONE
from wasim.wire import nodes
from wasim.wire.errors import WireError
from wasim.wire.nodes import Node

MAX_DEPTH = 200


def add_routes(app: web.Application) -> None:
    app.router.add_get("/phones/{number}/stanzas", _waiting)
    app.router.add_post("/phones/{number}/stanzas", _send_stanzas)


async def _waiting(request: web.Request) -> web.Response:
    number, directory = known_phone(request).number, request.app[SIMULATOR].server.directory
    queues = [directory.queue(device.address) for device in directory.devices_of(number) if device.device != PHONE]
    return web.json_response([_stanza_json(nodes.decode(entry.stanza)) for queue in queues for _, entry in queue])


def _stanza_json(node: Node) -> Json:
    content: object = node.content
    if isinstance(node.content, bytes):
        content = {"base64": base64.b64encode(node.content).decode()}
    elif isinstance(node.content, list):
        content = [_stanza_json(each) for each in node.content]
    return {"tag": node.tag, "attrs": node.attrs, "content": content}


async def _send_stanzas(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    stanzas = body.get("stanzas")
    if not isinstance(stanzas, list):
        raise ControlError(400, f"'stanzas' must be a list of stanzas, not {stanzas!r}")
    simulator, parsed = request.app[SIMULATOR], [parse_stanza(each) for each in stanzas]
    with simulator.update() as (server, now):
        devices = [server.delivery.send_unchanged(account.number, each, now=now) for each in parsed]
    return web.json_response({"devices": max(devices, default=0)}, status=202)


def parse_stanza(value: object) -> Node | bytes:
    """A stanza, or the bytes of a frame. Raises ControlError."""
    if isinstance(value, dict) and value.keys() == {"base64"}:
        return _bytes(value["base64"])
    node = _node(value, 0)
    try:
        return nodes.decode(nodes.encode(node))
    except (WireError, OverflowError) as error:
        raise ControlError(400, f"the stanza can't be written in WhatsApp's binary format: {error}") from error


def _node(value: object, depth: int) -> Node:
    if not isinstance(value, dict) or not value.keys() <= {"tag", "attrs", "content"} or depth > MAX_DEPTH:
        raise ControlError(400, "a stanza must be an object of 'tag', 'attrs' and 'content', nested 200 deep at most")
    attrs = value.get("attrs", {})
    if not isinstance(attrs, dict):
        raise ControlError(400, f"'attrs' must be an object of texts, not {attrs!r}")
    content = value.get("content")
    return Node(_text(value.get("tag")), {_text(k): _text(v) for k, v in attrs.items()}, _content(content, depth))


def _content(value: object, depth: int) -> bytes | str | list[Node] | None:
    match value:
        case None:
            return None
        case str():
            return _text(value)
        case list():
            return [_node(each, depth + 1) for each in value]
        case {"base64": data, **rest} if not rest:
            return _bytes(data)
        case _:
            raise ControlError(400, "the content of a stanza must be null, a text, {'base64'} or a list of stanzas")


def _text(value: object) -> str:
    if not isinstance(value, str) or not _is_unicode(value):
        raise ControlError(400, f"tags and attributes must be valid Unicode texts, not {value!a:.80}")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bytes(data: object) -> bytes:
    try:
        return base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except binascii.Error as error:
        raise ControlError(400, f"base64 can't be read: {error}") from error
