"""Accepts and cancels messages for callers; lists come straight from the stores."""

from __future__ import annotations

from holdfast.base.errors import NotFound
from holdfast.base.ids import may_be_id
from holdfast.delivery.recipient import username_in
from holdfast.delivery.stores import Draft, Message, Outbox
from holdfast.runtime.composer import Composer, Repeated, SendRequest, check_request
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.people import People


class Messages:
    def __init__(self, gateway: Gateway, outbox: Outbox, composer: Composer, people: People) -> None:
        self._gateway = gateway
        self._outbox = outbox
        self._composer = composer
        self._people = people
        self._stalls = gateway.stalls

    async def accept(self, company: str, request: SendRequest) -> Message:
        """Commit a message to the outbox. When this returns, Holdfast owes its delivery.

        Needs neither an engine host nor a loaded session, unless WhatsApp must be asked whose username `to` is. Raises
        `NotFound`, `BadInput`, `Conflict` and `DatabaseStalled`; and for a username what a query raises.
        """
        check_request(request)
        if self._gateway.find(company) is None:  # else no database is asked
            await self._stalls.answered(lambda: self._gateway.require(company))
        draft = await self._compose(company, request)
        if isinstance(draft, Repeated):
            return await self.find(draft.message_id)
        accepted = await self._stalls.answered(lambda: self._gateway.accept(draft))
        return accepted.message

    async def _compose(self, company: str, request: SendRequest) -> Draft | Repeated:
        to = request.options.to
        username = None if to is None else username_in(to)
        if username is None:
            return await self._composer.compose(company, request)
        if (repeated := await self._composer.repeated(company, request)) is not None:
            return repeated  # without asking WhatsApp once more whose username it is
        named = await self._people.by_username(company, username, field="to")
        return await self._composer.compose(company, request, named=named)

    async def find(self, message_id: str) -> Message:
        """Raises `NotFound`."""
        message = await self._outbox.message(message_id) if may_be_id(message_id) else None
        if message is None:
            raise unknown_message(message_id)
        return message

    async def cancel(self, message_id: str, *, force: bool = False) -> Message:
        """Raises `NotFound`, and `Conflict` when it may have been sent and `force` is not set."""
        message = await self._outbox.cancel(message_id, force=force)
        if actor := self._gateway.find(message.company):
            actor.work.sender.forget(message.whatsapp_id)
        return message


def unknown_message(message_id: str) -> NotFound:
    """Also raised for a message that the caller's key does not cover."""
    return NotFound(f'message "{message_id[:80]}" is unknown: its id is in the response that accepted it', field="id")
