"""Chats: read receipts and typing indicators, which the account's own devices and the people in a chat see."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import Field

from holdfast.api.queries import ASKING, ChatPath, Company, queries_of
from holdfast.api.schemas import ApiModel
from holdfast.delivery.recipient import parse_recipient
from holdfast.delivery.stores import Inbox
from holdfast.session import queries as asked

MOST_READ = 100
"""Messages that one request marks as read."""


class TypingRequest(ApiModel):
    state: Annotated[
        Literal["composing", "recording", "paused"],
        Field(
            description="composing: writing; recording: speaking; paused: neither. WhatsApp hides it after some seconds"
        ),
    ] = "composing"


class TypingModel(ApiModel):
    chat: str
    state: str


class ReadModel(ApiModel):
    chat: str
    messages: Annotated[int, Field(description="how many messages were marked as read")]


def make_router(route_class: type[APIRoute], *, dependencies: Any, responses: Any) -> APIRouter:
    """The routes about chats; all need a key."""
    router = APIRouter(tags=["chats"], route_class=route_class, dependencies=dependencies, responses=responses)

    @router.post("/v1/sessions/{company}/chats/{chat}/read", responses=dict(ASKING))
    async def mark_read(company: Company, chat: ChatPath, request: Request) -> ReadModel:
        """Mark the newest 100 inbound messages of a chat as read. Their senders see it unless the account hides it."""
        _, jid = parse_recipient(chat, field="chat")
        inbox: Inbox = request.app.state.inbox
        async with queries_of(request, company) as queries:
            newest = await inbox.newest(company, most=MOST_READ, chat=jid)
            messages = [
                {"id": each.whatsapp_id, "sender": each.sender, "senderLid": each.sender_lid}
                for each in newest
                if not each.from_me
            ]
            if messages:
                await queries.ask(asked.read(jid, messages))
        return ReadModel(chat=jid, messages=len(messages))

    @router.post("/v1/sessions/{company}/chats/{chat}/typing", status_code=202, responses=dict(ASKING))
    async def show_typing(company: Company, chat: ChatPath, body: TypingRequest, request: Request) -> TypingModel:
        """Show the people of a chat that somebody is writing, speaking, or has stopped. WhatsApp does not confirm
        it."""
        _, jid = parse_recipient(chat, field="chat")
        async with queries_of(request, company) as queries:
            await queries.ask(asked.typing(jid, body.state))
        return TypingModel(chat=jid, state=body.state)

    return router
