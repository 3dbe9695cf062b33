"""People: which phone numbers are on WhatsApp, and their pictures."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.routing import APIRoute
from pydantic import Field

from holdfast.api.description import problem
from holdfast.api.operations import STARTING, OperationModel, StarterDependency
from holdfast.api.queries import ASKING, ChatPath, Company, queries_of
from holdfast.api.schemas import ApiModel, ListPage, Text
from holdfast.base.errors import BadInput
from holdfast.delivery.phone_numbers import phone_number
from holdfast.delivery.recipient import parse_recipient
from holdfast.session import operations as kinds
from holdfast.session import queries as asked

MOST_NUMBERS = 500


class NumbersRequest(ApiModel):
    numbers: Annotated[
        list[Annotated[Text, Field(max_length=100)]],
        Field(min_length=1, max_length=MOST_NUMBERS, description="phone numbers in any usual spelling"),
    ]


class CheckedNumberModel(ApiModel):
    number: Annotated[str, Field(description="as it was given")]
    exists: Annotated[bool, Field(description="whether the number is on WhatsApp")]
    chat: Annotated[str | None, Field(description="the chat, in WhatsApp's own spelling of the number")]
    lid: Annotated[str | None, Field(description="the id that hides the number, where WhatsApp reports it")] = None


class PictureModel(ApiModel):
    chat: str
    url: str


def make_router(route_class: type[APIRoute], *, dependencies: Any, responses: Any) -> APIRouter:
    """The routes about people; all need a key."""
    router = APIRouter(tags=["contacts"], route_class=route_class, dependencies=dependencies, responses=responses)

    @router.post("/v1/sessions/{company}/contacts/check", responses=dict(ASKING))
    async def check_numbers(company: Company, body: NumbersRequest, request: Request) -> ListPage[CheckedNumberModel]:
        """Which of these numbers are on WhatsApp. Answers are cached for an hour, and for five minutes where there is
        no account."""
        digits = [phone_number(text, field="numbers") for text in body.numbers]
        async with queries_of(request, company) as queries:
            found = await queries.check(digits)
        rows = zip(body.numbers, found, strict=True)
        items = [
            CheckedNumberModel(number=given, exists=row.chat is not None, chat=row.chat, lid=row.lid)
            for given, row in rows
        ]
        return ListPage(items=items, next=None)

    @router.get(
        "/v1/sessions/{company}/contacts/{chat}/picture",
        responses={**ASKING, 404: problem("it has no picture, or hides it from this account")},
    )
    async def get_picture(
        company: Company,
        chat: ChatPath,
        request: Request,
        size: Annotated[Literal["preview", "full"], Query(description="preview: 96 pixels wide")] = "preview",
    ) -> PictureModel:
        """The address of the picture of a person or group at WhatsApp. It needs no key and expires after some days."""
        _, jid = parse_recipient(chat, field="chat")
        async with queries_of(request, company) as queries:
            return PictureModel(chat=jid, url=(await queries.ask(asked.picture(jid, size=size))).url)

    @router.post("/v1/sessions/{company}/contacts/{chat}/block", status_code=202, responses=dict(STARTING))
    async def block(company: Company, chat: ChatPath, starter: StarterDependency) -> OperationModel:
        """Block a person: this account gets no more messages and calls from there."""
        return await starter.start(company, kinds.Block(jid=_person(chat), blocked=True))

    @router.post("/v1/sessions/{company}/contacts/{chat}/unblock", status_code=202, responses=dict(STARTING))
    async def unblock(company: Company, chat: ChatPath, starter: StarterDependency) -> OperationModel:
        """End the block of a person."""
        return await starter.start(company, kinds.Block(jid=_person(chat), blocked=False))

    return router


def _person(chat: str) -> str:
    _, jid = parse_recipient(chat, field="chat")
    if jid.endswith("@g.us"):
        raise BadInput(f'chat "{chat[:60]}" is a group: only people can be blocked', field="chat")
    return jid
