"""Chats: the overview, the timeline of each, read receipts and typing indicators."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from pydantic import Field

from holdfast.api.chat_models import ChatMessageModel, ChatModel, TimelinePageModel
from holdfast.api.description import problem
from holdfast.api.media import MediaDependency
from holdfast.api.operations import STARTING, OperationModel, StarterDependency
from holdfast.api.queries import QUERY_FAILURES, ChatJid, ask
from holdfast.api.routing import CompanyPath, Limit, LoadedGateway, from_state, keyed_router
from holdfast.api.schemas import SHORT_PAGES, ApiModel, ListPage, Text, checked_by
from holdfast.base.errors import BadInput, NotFound
from holdfast.delivery.chats import ChatCursor, Chats, TimelineCursor
from holdfast.runtime.chat_reading import ChatReading
from holdfast.session import queries as asked


class TypingRequest(ApiModel):
    state: Annotated[
        Literal["composing", "recording", "paused"],
        Field(
            description="composing: typing; recording: recording a voice message; paused: neither. WhatsApp hides it "
            "after some seconds"
        ),
    ] = "composing"


class TypingModel(ApiModel):
    chat: str
    state: str


ChatsDependency = Annotated[Chats, from_state("chats")]


async def _reading(request: Request, chats: ChatsDependency) -> ChatReading:
    return ChatReading(chats, request.app.state.operations)


Reading = Annotated[ChatReading, Depends(_reading)]
router = keyed_router("chats")


@router.get("/v1/sessions/{company}/chats")
async def list_chats(
    company: CompanyPath,
    _: LoadedGateway,
    chats: ChatsDependency,
    media: MediaDependency,
    after: Annotated[str | None, Query(description="`next` of the previous page"), checked_by(ChatCursor.parse)] = None,
    limit: Limit = 50,
    unread: Annotated[bool, Query(description="only chats with unread messages, or marked as unread")] = False,
    q: Annotated[Text, Query(description=f"a part of the name or of the number{SHORT_PAGES}", max_length=100)] = "",
) -> ListPage[ChatModel]:
    """The chats of a company, those with the newest messages first."""
    start = None if after is None else ChatCursor.parse(after)
    found = await chats.overview(company, after=start, limit=limit, unread=unread, words=q.strip())
    items = [ChatModel.of(chat, media.url) for chat in found.chats]
    return ListPage(items=items, next=None if found.next is None else str(found.next))


@router.get("/v1/sessions/{company}/chats/{chat}", responses={404: problem("there is no such chat")})
async def get_chat(company: CompanyPath, jid: ChatJid, chats: ChatsDependency, media: MediaDependency) -> ChatModel:
    """One chat, as the list shows it."""
    found = await chats.chat(company, jid)
    if found is None:
        raise NotFound(f'there is no chat "{jid}": nobody has written in it', field="chat")
    return ChatModel.of(found, media.url)


_Older = Annotated[str | None, Query(description="`next` of the previous page"), checked_by(TimelineCursor.parse)]
_Newer = Annotated[
    str | None,
    Query(description="`previous` of a page: what is newer than that page"),
    checked_by(TimelineCursor.parse),
]


async def _check_direction(after: _Older = None, before: _Newer = None) -> None:
    if after is not None and before is not None:
        raise BadInput("after and before can't be combined: give one of them", field="before")


@router.get("/v1/sessions/{company}/chats/{chat}/messages")
async def list_chat_messages(
    company: CompanyPath,
    jid: ChatJid,
    chats: ChatsDependency,
    media: MediaDependency,
    _: Annotated[None, Depends(_check_direction)],
    after: _Older = None,
    before: _Newer = None,
    limit: Limit = 50,
) -> TimelinePageModel:
    """The messages of a chat in both directions, newest first. Reactions, edits and deletions are merged into the
    messages that they change.
    """
    page = await chats.timeline(
        company,
        jid,
        before=None if after is None else TimelineCursor.parse(after),
        after=None if before is None else TimelineCursor.parse(before),
        limit=limit,
    )
    return TimelinePageModel(
        items=[ChatMessageModel.of(entry, media.url) for entry in page.entries],
        next=None if page.older is None else str(page.older),
        previous=str(page.newer),
    )


@router.post("/v1/sessions/{company}/chats/{chat}/read", status_code=202, responses=STARTING)
async def mark_read(company: CompanyPath, jid: ChatJid, starter: StarterDependency, reading: Reading) -> OperationModel:
    """Mark the newest 100 unread messages of a chat as read. The unread count is 0 at once; the senders see it,
    unless the account hides it, as soon as the session is connected."""
    operation = await reading.mark_read(
        company, jid, idempotency_key=starter.idempotency_key, expires_in_s=starter.expires_in_s
    )
    return await starter.answer(operation)


@router.post(
    "/v1/sessions/{company}/chats/{chat}/unread",
    status_code=202,
    responses={**STARTING, 404: problem("there is no such chat")},
)
async def mark_unread(
    company: CompanyPath, jid: ChatJid, starter: StarterDependency, reading: Reading
) -> OperationModel:
    """Mark a chat as unread, as a reminder: in Holdfast's list at once, and on the phone
    as soon as the session is connected."""
    operation = await reading.mark_unread(
        company, jid, idempotency_key=starter.idempotency_key, expires_in_s=starter.expires_in_s
    )
    return await starter.answer(operation)


@router.post("/v1/sessions/{company}/chats/{chat}/typing", status_code=202, responses=QUERY_FAILURES)
async def show_typing(company: CompanyPath, jid: ChatJid, body: TypingRequest, request: Request) -> TypingModel:
    """Show a typing or recording indicator to the people of a chat, or remove it. WhatsApp does not confirm it."""
    await ask(request, company, asked.typing(jid, body.state))
    return TypingModel(chat=jid, state=body.state)
