"""What others see of the account – name, about, picture –, pictures of groups, and whom it blocks."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Request
from pydantic import Field

from holdfast.api.access import message_quota
from holdfast.api.groups import GroupId
from holdfast.api.operations import STARTING, OperationModel, OperationStarter, StarterDependency
from holdfast.api.queries import QUERY_FAILURES, ask
from holdfast.api.routing import CompanyPath, keyed_router
from holdfast.api.schemas import ApiModel, ListPage, RequestModel, Text
from holdfast.base.errors import BadInput
from holdfast.delivery.kinds import Image
from holdfast.runtime.outbound_media import OutboundMediaService
from holdfast.session import operations as kinds
from holdfast.session import queries as asked

MAX_BYTES = 512 * 1024
"""Of a picture. Phones make squares of 640 pixels, which have about 100 kB."""


class ProfileModel(ApiModel):
    name: str | None
    about: str | None
    picture: Annotated[str | None, Field(description="its address at WhatsApp, which expires after some days")]


class ProfileRequest(RequestModel):
    """Fields that are left out stay unchanged."""

    name: Annotated[
        Text | None, Field(min_length=1, max_length=25, description="the name that others see next to its messages")
    ] = None
    about: Annotated[Text | None, Field(max_length=139, description="the text about the account; empty: none")] = None

    def check(self) -> None:
        if self.name is None and self.about is None:
            raise BadInput("nothing to change: give name or about", field="body")


class PictureSourceModel(RequestModel):
    """A JPEG, given in exactly one of three ways."""

    url: Annotated[Text | None, Field(description="where Holdfast fetches it; http or https")] = None
    base64: Annotated[str | None, Field(description="the file itself")] = None
    media: Annotated[Text | None, Field(description="id of a file that was stored with POST …/media")] = None

    def check(self) -> None:
        self.body().check()

    def body(self) -> Image:
        return Image(url=self.url, base64=self.base64, media=self.media)


class PictureRequest(ApiModel):
    image: Annotated[PictureSourceModel, Field(description="a JPEG up to 512 kB, preferably a square of 640 pixels")]


class BlockedModel(ApiModel):
    chat: Annotated[str, Field(description="by phone number where it is known")]


router = keyed_router("profile")


@router.get("/v1/sessions/{company}/profile", responses=QUERY_FAILURES)
async def get_profile(company: CompanyPath, request: Request) -> ProfileModel:
    """What others see of the account."""
    found = await ask(request, company, asked.profile())
    return ProfileModel.from_fields(found)


@router.patch("/v1/sessions/{company}/profile", status_code=202, responses=STARTING)
async def change_profile(company: CompanyPath, body: ProfileRequest, starter: StarterDependency) -> OperationModel:
    """Change the account's name, or the text about it."""
    return await starter.start(company, kinds.SetProfile(name=body.name, about=body.about))


@router.put("/v1/sessions/{company}/profile/picture", status_code=202, responses=STARTING)
async def set_profile_picture(
    company: CompanyPath, body: PictureRequest, request: Request, starter: StarterDependency
) -> OperationModel:
    """Set the account's picture."""
    return await _set_picture(request, company, None, body.image, starter)


@router.delete("/v1/sessions/{company}/profile/picture", status_code=202, responses=STARTING)
async def remove_profile_picture(company: CompanyPath, starter: StarterDependency) -> OperationModel:
    """Remove the account's picture."""
    return await starter.start(company, kinds.SetPicture())


@router.put("/v1/sessions/{company}/groups/{id}/picture", status_code=202, responses=STARTING)
async def set_group_picture(
    company: CompanyPath, id: GroupId, body: PictureRequest, request: Request, starter: StarterDependency
) -> OperationModel:
    """Set the picture of a group."""
    return await _set_picture(request, company, id, body.image, starter)


@router.delete("/v1/sessions/{company}/groups/{id}/picture", status_code=202, responses=STARTING)
async def remove_group_picture(company: CompanyPath, id: GroupId, starter: StarterDependency) -> OperationModel:
    """Remove the picture of a group."""
    return await starter.start(company, kinds.SetPicture(jid=id))


@router.get("/v1/sessions/{company}/blocklist", responses=QUERY_FAILURES)
async def list_blocked(company: CompanyPath, request: Request) -> ListPage[BlockedModel]:
    """The people that the account blocks."""
    found = await ask(request, company, asked.blocklist())
    return ListPage(items=[BlockedModel(chat=jid) for jid in sorted(found)], next=None)


async def _set_picture(
    request: Request, company: str, group: str | None, image: PictureSourceModel, starter: OperationStarter
) -> OperationModel:
    """A repeated request stores no second picture, which would be another one by its id."""
    hashed = {"jid": group, "image": hashlib.sha256(image.model_dump_json().encode()).hexdigest()}
    repeated = await starter.repeated(company, kinds.SetPicture(), hashed=hashed)
    if repeated is not None:
        return repeated
    arguments = kinds.SetPicture(jid=group, media_id=await _stored(request, company, image))
    return await starter.start(company, arguments, hashed=hashed)


async def _stored(request: Request, company: str, image: PictureSourceModel) -> str:
    """Store a picture; returns its id. Raises `BadInput` for what WhatsApp would not accept."""
    body = image.body()
    service: OutboundMediaService = request.app.state.media.outbound
    async with message_quota(request, company, body, body_bytes=0):
        stored = await service.take(company, body)
    if stored.mimetype != "image/jpeg":
        raise BadInput(f"image is {stored.mimetype}: WhatsApp accepts only JPEG pictures, convert it", field="image")
    if stored.size_bytes > MAX_BYTES:
        raise BadInput(
            f"image has {stored.size_bytes} bytes, and may have {MAX_BYTES}: make it a square of 640 pixels",
            field="image",
        )
    return stored.id
