"""Settings of chats that the account's devices share: archive, mute, pin, unread, timers; labels and stars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from fastapi import Path, Query, Request
from pydantic import Field

from holdfast.api.description import problem
from holdfast.api.operations import STARTING, OperationModel, OperationStarter, StarterDependency
from holdfast.api.queries import QUERY_FAILURES, ChatJid, ask
from holdfast.api.routing import CompanyPath, Limit, LoadedGateway, Moment, from_state, keyed_router
from holdfast.api.schemas import ApiModel, ListPage, RequestModel, Text
from holdfast.base.errors import BadInput, NotFound
from holdfast.delivery.chats import Chats
from holdfast.delivery.labels import Labels
from holdfast.runtime.chat_reading import newest_of
from holdfast.session import operations as kinds
from holdfast.session.queries import chat_history

COLORS = 20
_FOREVER_S = -1
_TIMERS = "0 (never), a day, a week or 90 days"
DisappearingSeconds = Literal[0, 86_400, 604_800, 7_776_000]

router = keyed_router("chats")
LabelsDependency = Annotated[Labels, from_state("labels")]
LabelPath = Annotated[str, Path(description="id of a label", min_length=1, max_length=50)]
FromMe = Annotated[bool, Query(alias="fromMe", description="whether the account itself sent the message")]
MessagePath = Annotated[str, Path(description="WhatsApp id of a message", min_length=1, max_length=200)]


class DisappearingRequest(ApiModel):
    seconds: Annotated[DisappearingSeconds, Field(description=_TIMERS)]


class ChangeChatRequest(RequestModel):
    """Fields that are left out stay unchanged."""

    archived: bool | None = None
    muted: Annotated[bool | None, Field(description="true: forever, unless `mutedUntil` sets an end")] = None
    muted_until: Annotated[Moment, Field(strict=False)] | None = None
    pinned: bool | None = None
    unread: Annotated[
        bool | None, Field(description="the mark that the owner sees on the phone; `…/read` sends read receipts")
    ] = None
    disappearing_s: Annotated[
        DisappearingSeconds | None, Field(description=f"after how many seconds new messages disappear: {_TIMERS}")
    ] = None
    cleared: Annotated[Literal[True] | None, Field(description="remove its messages from the account's devices")] = None

    def check(self) -> None:
        if not self.model_fields_set:
            raise BadInput("the body names nothing to change: give at least one field", field="body")
        if self.muted_until is not None and self.muted is False:
            raise BadInput("mutedUntil and muted: false can't be combined: give one of them", field="mutedUntil")

    @property
    def muted_until_s(self) -> int | None:
        if self.muted_until is not None:
            return int(self.muted_until.timestamp())
        return None if self.muted is None else _FOREVER_S if self.muted else 0


class LabelModel(ApiModel):
    id: str
    name: str
    color: Annotated[int | None, Field(description=f"number in WhatsApp's palette, 0 to {COLORS - 1}")]


class LabelRequest(ApiModel):
    name: Annotated[Text, Field(min_length=1, max_length=100)]
    color: Annotated[int, Field(ge=0, lt=COLORS, description="number in WhatsApp's palette")] = 0


class LabelledChatModel(ApiModel):
    chat: str


@router.patch("/v1/sessions/{company}/chats/{chat}", status_code=202, responses=STARTING)
async def change_chat(
    company: CompanyPath, chat: ChatJid, body: ChangeChatRequest, request: Request, starter: StarterDependency
) -> OperationModel:
    """Change settings of a chat, on all devices of the account."""
    change = kinds.UpdateChat(
        chat=chat,
        archived=body.archived,
        muted_until_s=body.muted_until_s,
        pinned=body.pinned,
        unread=body.unread,
        disappearing_s=body.disappearing_s,
        cleared=body.cleared,
    )
    return await _start(request, company, change, starter)


def _add_change(name: str, change: Mapping[str, bool | int], does: str) -> None:
    """Add `POST …/chats/{chat}/{name}`, the short form of a `PATCH`."""

    async def change_one(
        company: CompanyPath, chat: ChatJid, request: Request, starter: StarterDependency
    ) -> OperationModel:
        return await _start(request, company, kinds.UpdateChat(chat=chat, **change), starter)  # type: ignore[arg-type]  # by name

    router.post(
        f"/v1/sessions/{{company}}/chats/{{chat}}/{name}",
        status_code=202,
        responses=STARTING,
        name=f"{name}_chat",
        description=does,
    )(change_one)


for _name, _change, _does in (
    ("archive", {"archived": True}, "Archive a chat, on all devices of the account."),
    ("unarchive", {"archived": False}, "Unarchive a chat, on all devices of the account."),
    ("mute", {"muted_until_s": _FOREVER_S}, "Mute a chat forever, on all devices of the account."),
    ("unmute", {"muted_until_s": 0}, "Stop muting a chat, on all devices of the account."),
    ("pin", {"pinned": True}, "Pin a chat to the top of the list, on all devices of the account."),
    ("unpin", {"pinned": False}, "Stop pinning a chat, on all devices of the account."),
):
    _add_change(_name, _change, _does)


@router.put("/v1/sessions/{company}/chats/{chat}/disappearing", status_code=202, responses=STARTING)
async def set_disappearing(
    company: CompanyPath, chat: ChatJid, body: DisappearingRequest, request: Request, starter: StarterDependency
) -> OperationModel:
    """Set after how many seconds new messages of a chat disappear."""
    change = kinds.UpdateChat(chat=chat, disappearing_s=body.seconds)
    return await _start(request, company, change, starter)


@router.delete("/v1/sessions/{company}/chats/{chat}", status_code=202, responses=STARTING)
async def delete_chat(
    company: CompanyPath, chat: ChatJid, request: Request, starter: StarterDependency
) -> OperationModel:
    """Delete a chat on the account's devices. Holdfast keeps its stored messages."""
    return await _start(request, company, kinds.UpdateChat(chat=chat, deleted=True), starter)


@router.put("/v1/sessions/{company}/chats/{chat}/messages/{message}/star", status_code=202, responses=STARTING)
async def star_message(
    company: CompanyPath, chat: ChatJid, message: MessagePath, starter: StarterDependency, from_me: FromMe = False
) -> OperationModel:
    """Star a message on all devices of the account."""
    arguments = kinds.StarMessage(chat=chat, message=message, from_me=from_me, starred=True)
    return await starter.start(company, arguments)


@router.delete("/v1/sessions/{company}/chats/{chat}/messages/{message}/star", status_code=202, responses=STARTING)
async def unstar_message(
    company: CompanyPath, chat: ChatJid, message: MessagePath, starter: StarterDependency, from_me: FromMe = False
) -> OperationModel:
    """Remove the star of a message."""
    arguments = kinds.StarMessage(chat=chat, message=message, from_me=from_me, starred=False)
    return await starter.start(company, arguments)


class HistoryRequest(ApiModel):
    count: Annotated[int, Field(ge=1, le=50, description="how many messages to ask for")] = 50


class HistoryAnswerModel(ApiModel):
    chat: str
    messages: Annotated[int, Field(description="how many messages the phone sent; they are in the inbox")]


@router.post("/v1/sessions/{company}/chats/{chat}/history", responses=QUERY_FAILURES)
async def fetch_history(
    company: CompanyPath, chat: ChatJid, body: HistoryRequest, labels: LabelsDependency, request: Request
) -> HistoryAnswerModel:
    """Ask the phone for the messages of a chat before the oldest one that is stored. 503 when the phone does not
    answer.
    """
    oldest = await labels.oldest_in(company, chat)
    if oldest is None:
        raise NotFound(
            f'no message of the chat "{chat}" is stored: the phone is asked for what came before one', field="chat"
        )
    wanted = chat_history(
        chat, oldest={"id": oldest.id, "fromMe": oldest.from_me, "atS": oldest.at_s}, count=body.count
    )
    answer = await ask(request, company, wanted)
    return HistoryAnswerModel(chat=chat, messages=answer.messages)


# Labels


@router.get("/v1/sessions/{company}/labels")
async def list_labels(company: CompanyPath, _: LoadedGateway, labels: LabelsDependency) -> ListPage[LabelModel]:
    """The labels of a WhatsApp Business account, as the phone last reported them."""
    found = await labels.labels(company)
    items = [LabelModel.from_fields(each) for each in found]
    return ListPage(items=items, next=None)


@router.post("/v1/sessions/{company}/labels", status_code=202, responses=STARTING)
async def create_label(
    company: CompanyPath, body: LabelRequest, labels: LabelsDependency, starter: StarterDependency
) -> OperationModel:
    """Create a label. Its id is in the result."""
    numbers = [int(each.id) for each in await labels.labels(company) if each.id.isdecimal()]
    arguments = kinds.EditLabel(label=str(max(numbers, default=0) + 1), name=body.name, color=body.color)
    return await starter.start(company, arguments, hashed={"new": True, "name": body.name, "color": body.color})


@router.put("/v1/sessions/{company}/labels/{label}", status_code=202, responses=STARTING)
async def change_label(
    company: CompanyPath, label: LabelPath, body: LabelRequest, starter: StarterDependency
) -> OperationModel:
    """Set the name and color of a label."""
    return await starter.start(company, kinds.EditLabel(label=label, name=body.name, color=body.color))


@router.delete(
    "/v1/sessions/{company}/labels/{label}",
    status_code=202,
    responses={**STARTING, 404: problem("there is no such label")},
)
async def delete_label(
    company: CompanyPath, label: LabelPath, labels: LabelsDependency, starter: StarterDependency
) -> OperationModel:
    """Delete a label. Chats lose it."""
    hashed = {"label": label, "deleted": True}
    repeated = await starter.repeated(company, kinds.EditLabel(label=label, name="", deleted=True), hashed=hashed)
    if repeated is not None:
        return repeated
    known = next((each for each in await labels.labels(company) if each.id == label), None)
    if known is None:
        raise NotFound(f'there is no label "{label}": GET …/labels lists them', field="label")
    return await starter.start(company, kinds.EditLabel(label=label, name=known.name, deleted=True), hashed=hashed)


@router.get("/v1/sessions/{company}/labels/{label}/chats")
async def list_labelled_chats(
    company: CompanyPath,
    label: LabelPath,
    _: LoadedGateway,
    labels: LabelsDependency,
    after: Annotated[str | None, Query(description="`next` of the previous page", max_length=200)] = None,
    limit: Limit = 50,
) -> ListPage[LabelledChatModel]:
    """The chats with a label, by JID."""
    found = await labels.chats_with(company, label, after=after or "", limit=limit + 1)
    items = [LabelledChatModel(chat=chat) for chat in found[:limit]]
    return ListPage(items=items, next=found[limit - 1] if len(found) > limit else None)


@router.put("/v1/sessions/{company}/chats/{chat}/labels/{label}", status_code=202, responses=STARTING)
async def label_chat(
    company: CompanyPath, chat: ChatJid, label: LabelPath, starter: StarterDependency
) -> OperationModel:
    """Give a chat a label."""
    return await starter.start(company, kinds.LabelChat(chat=chat, label=label, labelled=True))


@router.delete("/v1/sessions/{company}/chats/{chat}/labels/{label}", status_code=202, responses=STARTING)
async def unlabel_chat(
    company: CompanyPath, chat: ChatJid, label: LabelPath, starter: StarterDependency
) -> OperationModel:
    """Remove a label from a chat."""
    return await starter.start(company, kinds.LabelChat(chat=chat, label=label, labelled=False))


async def _start(request: Request, company: str, change: kinds.UpdateChat, starter: OperationStarter) -> OperationModel:
    chats: Chats = request.app.state.chats
    chat = await chats.chat(company, change.chat)
    last = None if chat is None else newest_of(chat)
    return await starter.start(company, msgspec.structs.replace(change, last=last))
