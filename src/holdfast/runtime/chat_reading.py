"""Marks chats as read and unread: the unread count changes at once, and WhatsApp is told by an operation."""

from __future__ import annotations

from holdfast.base.errors import NotFound
from holdfast.delivery.calls import CALL
from holdfast.delivery.chats import Chats
from holdfast.runtime.operations import Operations
from holdfast.session.operation_states import Operation
from holdfast.session.operations import ReadChat


class ChatReading:
    def __init__(self, chats: Chats, operations: Operations) -> None:
        self._chats = chats
        self._operations = operations

    async def mark_read(
        self, company: str, chat: str, *, idempotency_key: str | None = None, expires_in_s: int | None = None
    ) -> Operation:
        """Mark the unread messages of a chat as read. When this returns, the read receipts will be sent, also after a
        restart; those of one chat in the order of the requests. Raises as `Operations.accept`."""
        unread = await self._chats.unread(company, chat)
        arguments = ReadChat(
            chat=chat,
            messages=[
                {"id": each.whatsapp_id, "sender": each.sender, "senderLid": each.sender_lid}
                for each in unread
                if each.type != CALL
            ],
        )
        operation = await self._operations.accept(
            company, arguments, idempotency_key=idempotency_key, expires_in_s=expires_in_s
        )
        await self._chats.set_read(company, chat, up_to=max((each.seq for each in unread), default=0))
        return operation

    async def mark_unread(self, company: str, chat: str) -> None:
        """Raises `NotFound`."""
        if not await self._chats.set_unread(company, chat):
            raise NotFound(f'there is no chat "{chat}": nobody has written in it', field="chat")
