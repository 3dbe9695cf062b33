"""Messages: accept, show, list and cancel outbound ones; list inbound ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Header, Query, Request

from holdfast.api import access, description
from holdfast.api.bodies import read_message
from holdfast.api.fast_send import LONGEST_KEY
from holdfast.api.keys import KeyGrant
from holdfast.api.media import MediaService
from holdfast.api.message_models import AcceptedModel, MessageModel, ReceiptModel, ReceivedModel
from holdfast.api.routing import (
    After,
    Chat,
    CompanyPath,
    KeyDependency,
    Limit,
    Limits,
    LoadedGateway,
    Sending,
    StoredMessages,
    keyed_router,
)
from holdfast.api.schemas import ListPage, cursor
from holdfast.delivery.message import MessageState
from holdfast.delivery.recipient import reaches_several
from holdfast.delivery.requests import MessageOptions, MessageRequest, body_of
from holdfast.delivery.stores import Inbox, Message
from holdfast.runtime.account_limits import AccountLimits, Restrictions, hold_notice
from holdfast.runtime.composer import SendRequest, check_request
from holdfast.runtime.messages import Messages, unknown_message

MESSAGES = "/v1/sessions/{company}/messages"

router = keyed_router("messages")


async def _message_in_body(request: Request) -> MessageOptions:
    """Runs the checks of `Messages.accept` early: the company is looked up before `accept` is called."""
    message = await read_message(await request.body(), content_type=request.headers.get("Content-Type"))
    check_request(SendRequest(body=body_of(message), options=message))
    return message


@router.post(MESSAGES, status_code=202, openapi_extra=description.body(MessageRequest.__name__))
async def send_message(
    request: Request,
    company: CompanyPath,
    message: Annotated[MessageOptions, Depends(_message_in_body)],
    idempotency_key: Annotated[str | None, Header(max_length=LONGEST_KEY, min_length=1)] = None,
) -> AcceptedModel:
    """Accept a message. 202 means that it is stored on disk and will be sent."""
    body_bytes = len(await request.body())
    return await accept(request, company, message, body_bytes=body_bytes, idempotency_key=idempotency_key)


async def accept(
    request: Request, company: str, message: MessageOptions, *, body_bytes: int, idempotency_key: str | None
) -> AcceptedModel:
    sending: Messages = request.app.state.sending
    body = SendRequest(body=body_of(message), options=message, idempotency_key=idempotency_key)
    async with access.message_quota(request, company, body.body, body_bytes=body_bytes):
        return AcceptedModel.from_fields(await sending.accept(company, body))


@router.get("/v1/sessions/{company}/messages")
async def list_messages(
    company: CompanyPath,
    gateway: LoadedGateway,
    stored: StoredMessages,
    limits: Limits,
    chat: Chat,
    state: MessageState | None = None,
    after: After = None,
    limit: Limit = 100,
) -> ListPage[MessageModel]:
    """Messages of a company, oldest first."""
    rows = await stored.messages(company, state=state, after=cursor(after), limit=limit + 1, chat=chat)
    found, next_ = _part(rows, limit)
    view, restrictions = await gateway.cluster_view(company), await _restrictions(limits, found)
    items = [MessageModel.of(message, hold_notice(message, view, restrictions)) for message in found]
    return ListPage(items=items, next=next_)


@router.get("/v1/messages/{id}")
async def get_message(
    id: str, grant: KeyDependency, gateway: LoadedGateway, sending: Sending, outbox: StoredMessages, limits: Limits
) -> MessageModel:
    """One message in its current state."""
    message = await _message(id, grant, sending)
    view, restrictions = await gateway.cluster_view(message.company), await _restrictions(limits, [message])
    receipts = await outbox.receipts(message) if reaches_several(message.chat) else None
    return MessageModel.of(message, hold_notice(message, view, restrictions), receipts)


@router.get("/v1/messages/{id}/receipts")
async def get_receipts(
    id: str, grant: KeyDependency, sending: Sending, outbox: StoredMessages
) -> ListPage[ReceiptModel]:
    """What each member of a group has confirmed about a message; empty for a message to a person.

    Members who have not confirmed anything are missing. The message itself is `read` when all members have read it.
    """
    found = await outbox.receipts(await _message(id, grant, sending))
    return ListPage(items=[ReceiptModel.from_fields(each) for each in found], next=None)


@router.delete("/v1/messages/{id}")
async def cancel_message(
    id: str,
    grant: KeyDependency,
    _: LoadedGateway,
    sending: Sending,
    force: Annotated[bool, Query(description="also cancel one that was sent but never acked; it may still arrive")] = (
        False
    ),
) -> MessageModel:
    """Cancel a message that has not been sent (409 if it may have been)."""
    await _message(id, grant, sending)
    return MessageModel.of(await sending.cancel(id, force=force))


async def _restrictions(limits: AccountLimits, messages: Sequence[Message]) -> Restrictions | None:
    """The restrictions of the account that sends these messages, if one of them is a waiting first message."""
    waits = next((message for message in messages if message.is_to_new_contact), None)
    return None if waits is None else await limits.restrictions(waits.company)


async def _message(id: str, grant: KeyGrant, sending: Messages) -> Message:
    """The message, if the key may access it; for another key it does not exist."""
    message = await sending.find(id)
    if not grant.covers(message.company):
        raise unknown_message(id)
    return message


@router.get("/v1/sessions/{company}/inbox")
async def list_inbox(
    request: Request, company: CompanyPath, _: LoadedGateway, chat: Chat, after: After = None, limit: Limit = 100
) -> ListPage[ReceivedModel]:
    """Inbound messages of a company, in the order in which they were stored."""
    inbox: Inbox = request.app.state.inbox
    await access.wait_for_page(request)
    found = await inbox.received(company, after=cursor(after), limit=limit, chat=chat)
    next_ = str(found[-1].seq) if found.has_more else None
    media: MediaService = request.app.state.media
    return ListPage(items=[ReceivedModel.of(received, media.url(received)) for received in found], next=next_)


def _part(found: Sequence[Message], limit: int) -> tuple[Sequence[Message], str | None]:
    """One page of a list, and where the next one starts. `found` has `limit` + 1 rows if there is a next page."""
    shown = found[:limit]
    return shown, str(shown[-1].seq) if len(found) > limit else None
