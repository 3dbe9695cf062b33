"""Marks chats as read and unread: the unread count changes at once, and an operation informs WhatsApp."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Protocol

from holdfast.base.clock import Clock
from holdfast.base.errors import NotFound
from holdfast.base.ids import RandomSource
from holdfast.delivery.chats import MARKED_UNREAD, QUIET, Chat, ChatKind, Chats, SentEntry, chat_kind
from holdfast.delivery.stores import Received
from holdfast.session.engine import InboundMessage
from holdfast.session.operation_states import MAX_OPEN, Operation, draft
from holdfast.session.operations import Arguments, ReadChat, UpdateChat
from holdfast.session.stores import Operations

_READ_AUTOMATICALLY = frozenset({ChatKind.PERSON, ChatKind.GROUP})


class AcceptsOperations(Protocol):
    async def repeated(
        self, company: str, arguments: Arguments, *, idempotency_key: str | None, expires_in_s: int | None
    ) -> Operation | None: ...

    async def accept(
        self, company: str, arguments: Arguments, *, idempotency_key: str | None = None, expires_in_s: int | None = None
    ) -> Operation: ...


class ChatReading:
    def __init__(self, chats: Chats, operations: AcceptsOperations) -> None:
        self._chats = chats
        self._operations = operations

    async def mark_read(
        self, company: str, chat: str, *, idempotency_key: str | None = None, expires_in_s: int | None = None
    ) -> Operation:
        """Mark the unread messages of a chat as read. When this returns, the read receipts will be sent, also after a
        restart; those of one chat in the order of the requests. If the chat is marked as unread, an operation of its
        own removes the mark from the phone. A repeated request concerns no newer messages. Raises as
        `Operations.accept`."""
        repeated = await self._operations.repeated(
            company,
            ReadChat(chat=chat, messages=[]),
            idempotency_key=idempotency_key,
            expires_in_s=expires_in_s,
        )
        if repeated is not None:
            await self._finish_reading(repeated, chat)
            return repeated
        found = await self._chats.chat(company, chat)
        if found is not None and found.unread == MARKED_UNREAD:
            await self._operations.accept(company, UpdateChat(chat=chat, unread=False, last=newest_of(found)))
        unread = await self._chats.unread(company, chat)
        arguments = ReadChat(chat=chat, messages=[_named(each) for each in unread])
        operation = await self._operations.accept(
            company, arguments, idempotency_key=idempotency_key, expires_in_s=expires_in_s
        )
        await self._chats.set_read(company, chat, up_to=max((each.seq for each in unread), default=0))
        return operation

    async def _finish_reading(self, operation: Operation, chat: str) -> None:
        """The first request may have failed after its operation was stored, and before its messages were read."""
        named = {each["id"] for each in operation.arguments["messages"]}
        unread = await self._chats.unread(operation.company, chat)
        up_to = max((each.seq for each in unread if each.whatsapp_id in named), default=0)
        await self._chats.set_read(operation.company, chat, up_to=up_to)

    async def mark_unread(
        self, company: str, chat: str, *, idempotency_key: str | None = None, expires_in_s: int | None = None
    ) -> Operation:
        """Mark a chat as unread: in Holdfast's list at once, and on the phone. Raises `NotFound`, and as
        `Operations.accept`."""
        found = await self._chats.chat(company, chat)
        if found is None:
            raise NotFound(f'there is no chat "{chat}": nobody has written in it', field="chat")
        arguments = UpdateChat(chat=chat, unread=True, last=newest_of(found))
        operation = await self._operations.accept(
            company, arguments, idempotency_key=idempotency_key, expires_in_s=expires_in_s
        )
        await self._chats.set_unread(company, chat)
        return operation


def newest_of(chat: Chat) -> dict[str, Any] | None:
    """The newest message of a chat, in the form of `UpdateChat.last`."""
    if chat.last is None:
        return None
    message, at_s = chat.last.message, int(datetime.fromisoformat(chat.last.at).timestamp())
    if isinstance(message, SentEntry):
        return {"id": message.message.whatsapp_id, "fromMe": True, "atS": at_s}
    sender = message.sender_lid or message.sender
    return {"id": message.whatsapp_id, "fromMe": message.from_me, "sender": sender, "atS": at_s}


def _named(message: Received) -> dict[str, str | None]:
    return {"id": message.whatsapp_id, "sender": message.sender, "senderLid": message.sender_lid}


class AutomaticReading:
    """Marks inbound messages as read, for a company with that setting. Messages that arrive while earlier ones are
    being marked share one operation.
    """

    def __init__(
        self,
        company: str,
        *,
        chats: Chats,
        operations: Operations,
        clock: Clock,
        randomness: RandomSource,
        is_on: Callable[[], bool],
        accepted: Callable[[], None],
    ) -> None:
        """`accepted` is called when there is a new operation."""
        self._company = company
        self._chats = chats
        self._operations = operations
        self._clock = clock
        self._randomness = randomness
        self._is_on = is_on
        self._accepted = accepted
        self._waiting: dict[str, None] = {}
        self._wake = asyncio.Event()

    def received(self, messages: Iterable[InboundMessage]) -> None:
        """Add messages that were stored."""
        if not self._is_on():
            return
        for message in messages:
            if not message.from_me and message.type not in QUIET and chat_kind(message.chat) in _READ_AUTOMATICALLY:
                self._waiting[message.chat] = None
                self._wake.set()

    def continue_from(self, before: AutomaticReading) -> None:
        """Mark the chats that the previous instance could not mark any more."""
        self._waiting = {**before._waiting, **self._waiting}
        if self._waiting:
            self._wake.set()

    async def run(self) -> None:
        """Mark chats until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                chat = next(iter(self._waiting))
                del self._waiting[chat]  # before it is read: another message may arrive meanwhile
                try:
                    await self._read(chat)
                except BaseException:
                    self._waiting[chat] = None
                    raise

    async def _read(self, chat: str) -> None:
        unread = await self._chats.unread(self._company, chat)
        if not unread:
            return
        made = draft(
            ReadChat(chat=chat, messages=[_named(each) for each in unread]),
            company=self._company,
            id_=self._randomness.operation_id(),
            idempotency_key=None,
            now=self._clock.now(),
            expires_in_s=None,
        )
        if await self._operations.accept(made, max_open=MAX_OPEN) is None:
            return  # too many are open: the next message of the chat reads these, too
        await self._chats.set_read(self._company, chat, up_to=unread[-1].seq)
        self._accepted()
