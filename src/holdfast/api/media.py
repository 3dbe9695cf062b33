"""Media by HTTP: uploads before the messages that use them, and downloads for inbound messages.

A received file must never run in a browser under this address. It is served with its stated type, never a guessed
one, in a sandbox, and as a download unless it is an image, audio or video.
"""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from holdfast.api.access import media_quota
from holdfast.api.description import Answers, problem
from holdfast.api.message_models import ReceivedModel
from holdfast.api.routing import CompanyPath, LoadedGateway, from_state, keyed_router, keyless_router
from holdfast.api.schemas import ApiModel, checked_by
from holdfast.base.clock import Clock
from holdfast.base.errors import BadInput, NotFound
from holdfast.base.ids import may_be_id
from holdfast.delivery.content import LONGEST_NAME, check_filename
from holdfast.delivery.media import bare_mimetype
from holdfast.delivery.media_links import MediaLinks
from holdfast.delivery.stores import Inbox, Received
from holdfast.http.startup import until_loaded
from holdfast.runtime.inbound_media import InboundMediaService, unknown_inbound
from holdfast.runtime.outbound_media import OpenedMedia, OutboundMediaService

_SHOWN_IN_PLACE = re.compile(r"image/(jpeg|png|webp|gif)|audio/[a-z0-9.+-]+|video/[a-z0-9.+-]+")
_SAFE = {  # the server adds `nosniff` to every response
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=3600",
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "the file; Content-Type is its MIME type",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_FILE: Answers = {
    200: {"description": "the file", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
    410: problem("WhatsApp no longer has it"),
}

_NOT_NOW: Answers = {
    413: problem("it is larger than the limit"),
    422: problem("a value can't be used; `field` names it"),
    503: problem("it can't be downloaded just now: try again after `Retry-After` seconds"),
}


class MediaService:
    """What the media routes need besides the gateway."""

    def __init__(
        self,
        *,
        inbound: InboundMediaService,
        outbound: OutboundMediaService,
        inbox: Inbox,
        links: MediaLinks,
        clock: Clock,
    ) -> None:
        self.inbound = inbound
        self.outbound = outbound
        self._inbox = inbox
        self._links = links
        self._clock = clock

    @property
    def limit_bytes(self) -> int:
        """The maximum size of a media file."""
        return self.outbound.limit_bytes

    async def received(self, inbox_id: str) -> Received:
        """An inbound message. Raises `NotFound`."""
        found = await self._inbox.find(inbox_id) if may_be_id(inbox_id) else None
        if found is None:
            raise unknown_inbound(inbox_id)
        return found

    def url(self, received: Received) -> str | None:
        """The URL for downloading an inbound media file without a key."""
        return None if received.media is None else self._links.url(received.id, now=self._clock.now())

    def is_signed(self, inbox_id: str, *, expires: int, token: str) -> bool:
        """Whether the URL was made here and has not expired."""
        return self._links.is_good(inbox_id, expires=expires, token=token, now=self._clock.now())

    async def is_revoked(self, inbox_id: str, *, expires: int) -> bool:
        return self._links.is_revoked(expires=expires, revoked_at=await self.inbound.links_revoked_at(inbox_id))

    async def revoke_links(self, company: str) -> None:
        """Revoke the URLs of the company's media that were given so far."""
        now = self._clock.now()
        self._links.revoke(now=now)
        await self.inbound.revoke_links(company, now=now)


class StoredModel(ApiModel):
    id: Annotated[str, Field(description='for use in messages, such as {"image": {"media": id}}')]
    mimetype: str
    filename: str | None
    size_bytes: int
    sha256: Annotated[str, Field(description="hexadecimal")]


MediaDependency = Annotated[MediaService, from_state("media")]
MediaId = Annotated[str, Path(description="`id` of the message in the inbox")]


router = keyed_router("media")
open_router = keyless_router("media", responses={404: problem("the address has expired, or is not valid"), **_NOT_NOW})
"""For the only media route without an API key: its URL is signed instead."""


async def _file_type(request: Request) -> str | None:
    """The type of the file in the body, as the caller names it."""
    _check_is_file(request)
    return request.headers.get("Content-Type")


def _check_filename(name: str) -> None:
    check_filename(name, field="filename")


@router.post("/v1/sessions/{company}/media", status_code=201, openapi_extra=_BODY)
async def store_media(
    company: CompanyPath,
    request: Request,
    _: LoadedGateway,
    service: MediaDependency,
    mimetype: Annotated[str | None, Depends(_file_type)],
    filename: Annotated[
        str | None, Query(description="shown for documents", max_length=LONGEST_NAME), checked_by(_check_filename)
    ] = None,
) -> StoredModel:
    """Store a file for later messages, for at least a day. The body is the file itself; it is streamed, so its
    size needs no memory."""
    async with media_quota(request, company):
        stored = await service.outbound.put(company, request.stream(), mimetype=mimetype, filename=filename)
    return StoredModel.from_fields(stored)


@router.get("/v1/sessions/{company}/inbox/{id}")
async def get_received(company: CompanyPath, id: MediaId, _: LoadedGateway, service: MediaDependency) -> ReceivedModel:
    """One inbound message."""
    received = await service.received(id)
    if received.company != company:
        raise unknown_inbound(id)
    return ReceivedModel.of(received, service.url(received))


@router.get("/v1/sessions/{company}/inbox/{id}/media", response_class=Response, responses=_FILE)
async def get_media(company: CompanyPath, id: MediaId, _: LoadedGateway, service: MediaDependency) -> Response:
    """Download the media file of an inbound message. The first time it is fetched from WhatsApp, which takes a
    moment."""
    return _file_response(await service.inbound.open(id, may_touch=lambda owner: owner == company))


@router.delete("/v1/sessions/{company}/media-links", status_code=204)
async def revoke_media_links(company: CompanyPath, _: LoadedGateway, service: MediaDependency) -> None:
    """Revoke the signed URLs of inbound media that were given so far, in webhooks and inbox. The inbox has new
    ones. Use it when URLs have leaked; the media themselves stay."""
    await service.revoke_links(company)


@open_router.get("/v1/media/{id}", response_class=Response, responses=_FILE)
async def get_linked_media(
    id: MediaId,
    request: Request,
    service: MediaDependency,
    expires: Annotated[int, Query(ge=0, le=1 << 40)] = 0,
    token: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The medium of an inbound message, by its signed URL (`media.url` in webhooks and inbox; valid for 7 days)."""
    invalid = NotFound(
        "this media address has expired or is not valid: the inbox has a new one, `media.url`", field="id"
    )
    if not service.is_signed(id, expires=expires, token=token):
        raise invalid
    await until_loaded(request, request.app.state.gateway)
    if await service.is_revoked(id, expires=expires):
        raise invalid
    return _file_response(await service.inbound.open(id))


def _check_is_file(request: Request) -> None:
    """Raises `BadInput` for a body that is not the file itself: its recipient would get what is around the file."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {"", "identity"}:
        raise BadInput(
            f'the body has the Content-Encoding "{coding[:40]}": send the file as it is', field="Content-Encoding"
        )
    if request.headers.get("Content-Type", "").strip().lower().startswith("multipart/"):
        raise BadInput(
            "the body is a form: send the file itself and its own Content-Type "
            "(with curl: --data-binary @a.jpg -H 'Content-Type: image/jpeg')",
            field="Content-Type",
        )


def _file_response(opened: OpenedMedia) -> Response:
    mimetype = bare_mimetype(opened.mimetype)
    kind = "inline" if _SHOWN_IN_PLACE.fullmatch(mimetype.partition(";")[0]) else "attachment"
    name = "" if opened.filename is None else f"; filename*=UTF-8''{quote(opened.filename, safe='')}"
    headers = {**_SAFE, "Content-Disposition": kind + name, "Content-Length": str(opened.size_bytes)}
    return StreamingResponse(opened.pieces, media_type=mimetype, headers=headers)
