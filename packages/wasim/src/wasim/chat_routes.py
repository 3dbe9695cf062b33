"""Routes of the control interface for messages and calls of phones, and what their owners read."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from wasim import attachments
from wasim.attachments import EncryptedMedia
from wasim.clock import iso
from wasim.media import MAX_BYTES, direct_path
from wasim.requests import (
    MEDIA_FOLDER,
    SIMULATOR,
    ControlError,
    Json,
    body_of,
    known_phone,
    number_of,
    numbers_of,
    text_of,
)
from wasim.server.calls import ENDS, Call
from wasim.server.message_builder import MessageRequest
from wasim.server.phone_inbox import MediaAttachment, PhoneMessage, PhonePoll
from wasim.wire.attachments import Audio, Document, Image, Media, Sticker, Video
from wasim.wire.jids import STATUS

T = TypeVar("T")
_MEDIA_TYPES: dict[str, type[Media]] = {
    "image": Image,
    "video": Video,
    "audio": Audio,
    "document": Document,
    "sticker": Sticker,
}
_MIMETYPES = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/octet-stream",
    "sticker": "image/webp",
}
_TYPING = ("composing", "recording", "paused")


class MediaRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Media to send: its bytes by one of base64, file (a path on this machine) and sizeBytes (that many filler
    bytes)."""

    base64: str | None = None
    file: str | None = None
    size_bytes: int | None = None
    mimetype: str | None = None
    caption: str | None = None
    filename: str | None = None
    seconds: int | None = None
    voice: bool = False
    gif: bool = False


def add_routes(app: web.Application) -> None:
    app.router.add_post("/phones/{number}/send", _send)
    app.router.add_post("/phones/{number}/typing", _set_typing)
    app.router.add_post("/phones/{number}/presence", _set_presence)
    app.router.add_get("/phones/{number}/calls", _calls)
    app.router.add_post("/phones/{number}/calls", _call)
    app.router.add_post("/phones/{number}/calls/{id}", _end_call)
    app.router.add_post("/phones/{number}/read", _read)
    app.router.add_get("/phones/{number}/inbox", _inbox)
    app.router.add_get("/phones/{number}/inbox/{id}/media", _media)


# Sending


async def _send(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    to, id_ = _chat(body.pop("to", None)), text_of(body, "id") if "id" in body else None
    body.pop("id", None)
    audience = numbers_of(body, "audience") if "audience" in body else None
    body.pop("audience", None)
    kinds = [kind for kind in _MEDIA_TYPES if kind in body]
    if len(kinds) > 1:
        raise ControlError(400, f"a message is one kind of media, not {' and '.join(kinds)}")
    media_request = {kind: body.pop(kind) for kind in kinds}
    message = _converted(body, MessageRequest)
    encrypted, media = (None, None)
    for kind, requested in media_request.items():
        encrypted, media = await _store_media(request, kind, _converted(requested, MediaRequest))
    with request.app[SIMULATOR].update() as (server, now):
        sent = server.phone_actions.send(account.number, to, message, id_, media=media, audience=audience, now=now)
    description = {} if encrypted is None else {"sha256": encrypted.sha256.hex(), "sizeBytes": encrypted.length}
    return web.json_response({"id": sent} | description, status=202)


def _converted(value: object, type_: type[T]) -> T:
    try:
        return msgspec.convert(value, type=type_)
    except msgspec.ValidationError as error:
        raise ControlError(400, str(error)) from error


def _chat(to: object) -> str:
    """The account of a number, the group of an address, or the status of the phone's owner."""
    return to if isinstance(to, str) and (to.endswith("@g.us") or to == str(STATUS)) else number_of(to)


async def _store_media(request: web.Request, kind: str, media_request: MediaRequest) -> tuple[EncryptedMedia, Media]:
    folder, simulator = request.app[MEDIA_FOLDER], request.app[SIMULATOR]
    encrypted = await asyncio.to_thread(attachments.encrypt, folder, kind, _content(media_request))
    path = direct_path("image" if kind == "sticker" else kind, encrypted.name)
    values: dict[str, Any] = {
        "url": f"https://{simulator.server.media_host}{path}",
        "direct_path": path,
        "mimetype": media_request.mimetype or _MIMETYPES[kind],
        "sha256": encrypted.sha256,
        "encrypted_sha256": encrypted.encrypted_sha256,
        "length": encrypted.length,
        "key": encrypted.key,
        "key_timestamp": int(simulator.now()),
        "caption": media_request.caption,
        "filename": media_request.filename,
        "seconds": media_request.seconds,
        "voice": int(media_request.voice) or None,
        "gif": int(media_request.gif) or None,
    }
    media_type = _MEDIA_TYPES[kind]
    fields = media_type.__dataclass_fields__
    supported = {name for name in fields if "number" in fields[name].metadata}
    unsupported = [
        name for name in ("caption", "filename", "seconds", "voice", "gif") if values[name] and name not in supported
    ]
    if unsupported:
        raise ControlError(400, f"{kind} has no {' and no '.join(unsupported)}")
    return encrypted, media_type(**values)


def _content(media_request: MediaRequest) -> Iterator[bytes]:
    """The requested bytes. Raises ControlError unless exactly one source is given."""
    sources = [name for name in ("base64", "file", "size_bytes") if getattr(media_request, name) is not None]
    if len(sources) != 1:
        raise ControlError(400, f"media is given by one of base64, file and sizeBytes, not by {len(sources)} of them")
    if media_request.size_bytes is not None:
        if not 0 <= media_request.size_bytes <= MAX_BYTES:
            raise ControlError(400, f"sizeBytes {media_request.size_bytes}: media has 0 to {MAX_BYTES} bytes")
        return attachments.filler(media_request.size_bytes)
    if media_request.file is not None:
        path = Path(media_request.file)
        if not path.is_file():
            raise ControlError(400, f"file {media_request.file!r} does not exist")
        return attachments.file_chunks(path)
    try:
        return iter([base64.b64decode(media_request.base64 or "", validate=True)])
    except binascii.Error as error:
        raise ControlError(400, f"base64 can't be read: {error}") from error


async def _set_typing(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    state = body.get("state", "composing")
    if state not in _TYPING:
        raise ControlError(400, f"state {state!r}: give one of {', '.join(_TYPING)}")
    simulator, to = request.app[SIMULATOR], _chat(body.get("to"))
    with simulator.update() as (server, now):
        server.phone_actions.send_typing(account.number, to, state, now=now)
    return web.json_response({"state": state})


async def _set_presence(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    available = body.get("available")
    if not isinstance(available, bool):
        raise ControlError(400, f"available {available!r} must be true or false")
    with request.app[SIMULATOR].update() as (server, now):
        server.presences.set(account.number, available=available, now=now)
    return web.json_response({"available": available})


# Calls


async def _calls(request: web.Request) -> web.Response:
    calls = request.app[SIMULATOR].server.calls.of(known_phone(request).number)
    return web.json_response([_call_json(call) for call in calls])


def _call_json(call: Call) -> Json:
    return {"id": call.id, "from": call.caller, "to": call.callee, "video": call.video, "state": call.state}


async def _call(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    video = body.get("video", False)
    if not isinstance(video, bool):
        raise ControlError(400, f"video {video!r} must be true or false")
    simulator, callee = request.app[SIMULATOR], number_of(body.get("to"))
    with simulator.update() as (server, now):
        call = server.calls.start(account.number, callee, video=video, now=now)
    return web.json_response(_call_json(call), status=201)


async def _end_call(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    how = body.get("state")
    if how not in ENDS:
        raise ControlError(400, f"state {how!r}: give one of {', '.join(ENDS)}")
    with request.app[SIMULATOR].update() as (server, now):
        call = server.calls.end(request.match_info["id"], account.number, how, now=now)
    return web.json_response(_call_json(call))


# Reading


async def _read(request: web.Request) -> web.Response:
    account, body = known_phone(request), await body_of(request)
    simulator, id_ = request.app[SIMULATOR], text_of(body, "id")
    with simulator.update() as (server, now):
        server.phone_actions.read(account.number, id_, now=now)
    return web.json_response({"id": id_})


async def _inbox(request: web.Request) -> web.Response:
    phone_messages = request.app[SIMULATOR].server.phone_clients.inbox(known_phone(request).number)
    after = request.query.get("after", "0")
    if not after.isdecimal():
        raise ControlError(400, f"after {after!r} must be a number: that many messages are skipped")
    return web.json_response([_inbox_entry(phone_message) for phone_message in phone_messages[int(after) :]])


def _inbox_entry(phone_message: PhoneMessage) -> Json:
    return {
        "id": phone_message.id,
        "from": phone_message.sender,
        "group": phone_message.reply_to if phone_message.participant is not None else None,
        "kind": phone_message.kind,
        "text": phone_message.text,
        "target": phone_message.target,
        "emoji": phone_message.emoji,
        "quoted": phone_message.quoted,
        "mentions": list(phone_message.mentions),
        "disappearsAfterS": phone_message.disappears_after_s,
        "media": _media_json(phone_message.media) if phone_message.media is not None else None,
        "location": msgspec.to_builtins(phone_message.location),
        "contact": msgspec.to_builtins(phone_message.contact),
        "poll": _poll(phone_message.poll),
        "chosen": msgspec.to_builtins(phone_message.chosen),
        "edited": phone_message.edited,
        "deleted": phone_message.deleted,
        "count": phone_message.count,
        "undecryptable": phone_message.undecryptable,
        "read": phone_message.read,
        "firstAt": iso(phone_message.first_at),
    }


def _poll(poll: PhonePoll | None) -> Json | None:
    return None if poll is None else {"options": list(poll.options), "selectable": poll.selectable}


def _media_json(media: MediaAttachment) -> Json:
    """The media as the message describes it; `…/media` checks the description."""
    return {
        "mimetype": media.mimetype,
        "sizeBytes": media.length,
        "sha256": media.sha256.hex(),
        "filename": media.filename,
        "seconds": media.seconds,
        "voice": media.voice,
        "gif": media.gif,
    }


async def _media(request: web.Request) -> web.StreamResponse:
    """The media after download and decryption; `?content=true`: its bytes."""
    number, id_ = known_phone(request).number, request.match_info["id"]
    phone_message = request.app[SIMULATOR].server.phone_clients.phone_message(number, id_)
    if phone_message is None or phone_message.media is None:
        raise ControlError(404, f"the phone {number} has no message {id_} with media")
    media = phone_message.media
    path = request.app[MEDIA_FOLDER].path(media.direct_path.rpartition("/")[2].partition("?")[0])
    try:
        size, digest = await asyncio.to_thread(attachments.measure, path, media.kind, media.key)
    except attachments.UnreadableMedia as error:
        raise ControlError(404, str(error)) from error
    if request.query.get("content") == "true":
        return await _stream_content(request, media, path, size)
    genuine = digest == media.sha256.hex() and size == media.length
    return web.json_response({"mimetype": media.mimetype, "sizeBytes": size, "sha256": digest, "genuine": genuine})


async def _stream_content(request: web.Request, media: MediaAttachment, path: Path, size: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": media.mimetype, "Content-Length": str(size)})
    await response.prepare(request)
    for chunk in attachments.decrypt(path, media.kind, media.key):
        await response.write(chunk)
    await response.write_eof()
    return response
