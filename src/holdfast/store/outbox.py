"""Outbound messages as rows. Unique indexes guarantee that a request is accepted once; Python only asks."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    TextClause,
    func,
    select,
    text,
    update,
)

from holdfast.base.ascii_json import ascii_json
from holdfast.base.clock import Clock, iso
from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import Conflict, NotFound
from holdfast.delivery.content import Content
from holdfast.delivery.message import OPEN, MessageState, StatusUpdate
from holdfast.delivery.rate_limits import Allowance, ContactStatus
from holdfast.delivery.stores import (
    Accepted,
    Deferral,
    Draft,
    MemberReceipt,
    Message,
    MessageChange,
    Taken,
    disappearing,
)
from holdfast.session.stores import LeaseLost
from holdfast.session.untrusted import bounded_id
from holdfast.store import chat_merge
from holdfast.store import outbox_queue as queue
from holdfast.store.admission import known_chat
from holdfast.store.aliases import canonical, is_same_chat
from holdfast.store.chat_updates import is_shown, note_sent, target_of
from holdfast.store.clock_steps import moved_with_clock
from holdfast.store.company_locks import lock_company
from holdfast.store.connection import Prepared
from holdfast.store.database import Database, Refusal
from holdfast.store.events import record_message
from holdfast.store.leases import NO_FENCE, Check, Fence
from holdfast.store.member_receipts import receipts_of
from holdfast.store.message_rows import READ, message_of
from holdfast.store.outbox_updates import apply_all, apply_one
from holdfast.store.tables import IS_OPEN, IS_SETTLED, outbox

_EXPIRED_AT_ONCE = 100
"""Messages of one transaction: thousands may expire at the same moment, and all companies share the writer."""
_ACCEPT = Prepared(lambda insert: insert(outbox))


class OutboxRows:
    """Implements `holdfast.delivery.stores.Outbox`."""

    def __init__(self, database: Database, *, clock: Clock, fence: Fence = NO_FENCE) -> None:
        self._database = database
        self._clock = clock
        self._fence = fence

    async def accept(self, draft: Draft, *, begin: bool = False) -> Accepted:
        check = self._fence.check(draft.company) if begin else None
        now = iso(self._clock.now())
        values = _accepted(draft, now)

        def work(connection: Connection) -> Accepted | Refusal:
            # Before the number is drawn: the order of numbers is that of commits.
            lock_company(connection, draft.company)
            found = known_chat(connection, draft.company, draft.chat, idempotency_key=draft.idempotency_key)
            if found.company is None:
                return Refusal(
                    NotFound(f'company "{draft.company}" is unknown: create it with PUT /v1/sessions/{draft.company}')
                )
            if found.repeated is not None:
                return _replayed(connection, draft)
            chat = chat_merge.admit(connection, draft.company, found, now=now)
            if chat != found.chat:
                found = known_chat(connection, draft.company, chat)
            values["chat"], contact = chat, found.contact
            placed = queue.place(connection, draft.company, found, priority=draft.priority, now=now)
            is_next = placed["next_at"] is not None and contact is ContactStatus.KNOWN
            begins = check is not None and is_next and _is_owner(check, connection)
            state = {"state": MessageState.SENDING.value, "attempts": 1} if begins else {}
            timer_s = found.timer_s if is_shown(draft.kind, chat) else None
            # Stored, so that a message that is sent again is the same message.
            timed = {"content": ascii_json(disappearing(draft.content, timer_s))} if timer_s else {}
            seq = _ACCEPT.seq(connection, values | placed | state | timed)
            note_sent(connection, draft.company, chat, kind=draft.kind, seq=seq, at=now)
            message = _queued(draft, seq, chat, is_to_new_contact=contact is not ContactStatus.KNOWN, now=now)
            record_message(connection, message, at=message.accepted_at)
            return Accepted(message=message, is_new=True, has_begun=begins, timer_s=timer_s)

        return await self._database.write(work, company=draft.company)

    async def take(
        self,
        company: str,
        allowance: Allowance,
        *,
        exclude: Collection[str],
        alone: bool = False,
        updates: Sequence[MessageChange | Deferral] = (),
    ) -> Taken:
        taken = await self._take(company, allowance, exclude=exclude, alone=alone, updates=updates)
        assert taken is not None
        return taken

    async def take_made_due(
        self,
        company: str,
        allowance: Allowance,
        *,
        exclude: Collection[str],
        updates: Sequence[MessageChange | Deferral],
    ) -> Taken | None:
        return await self._take(company, allowance, exclude=exclude, updates=updates, only_if_made_due=True)

    async def _take(
        self,
        company: str,
        allowance: Allowance,
        *,
        exclude: Collection[str],
        alone: bool = False,
        updates: Sequence[MessageChange | Deferral],
        only_if_made_due: bool = False,
    ) -> Taken | None:
        check = self._fence.check(company)
        now = iso(self._clock.now())

        def work(connection: Connection) -> Taken | LeaseLost | None:
            applied = apply_all(connection, company, updates)
            if only_if_made_due and not applied.makes_due:
                return None
            if not _is_owner(check, connection):
                return LeaseLost(company)
            return queue.take_due(connection, company, allowance, exclude=exclude, alone=alone, now=now)

        taken = await self._database.write(work, company=company)
        if isinstance(taken, LeaseLost):
            raise taken
        return taken

    async def reschedule_held(self, company: str, *, code: str, until: str | None) -> None:
        now = iso(self._clock.now())
        await self._database.write(
            lambda connection: queue.reschedule_held(connection, company, code=code, until=until, now=now),
            company=company,
        )

    async def make_due(self, company: str) -> None:
        now = iso(self._clock.now())
        await self._database.write(lambda connection: queue.make_due(connection, company, now=now), company=company)

    async def move_expiries(self, company: str, step: ClockStep) -> None:
        def work(connection: Connection) -> None:
            moved = moved_with_clock(connection, outbox.c.expires_at, step, made_at=outbox.c.accepted_at)
            connection.execute(update(outbox).where(*_can_expire(company), moved.which).values(expires_at=moved.to))

        await self._database.write(work, company=company)

    async def expire(self, company: str, *, at: str) -> list[Message]:
        due = select(outbox.c.whatsapp_id).where(*_can_expire(company), outbox.c.expires_at <= at)
        due = due.order_by(outbox.c.expires_at).limit(_EXPIRED_AT_ONCE)

        def work(connection: Connection) -> list[Message]:
            changes = [
                MessageChange(whatsapp_id=id_, update=StatusUpdate.EXPIRED, at=at)
                for id_ in connection.scalars(due).all()
            ]
            return apply_all(connection, company, changes).messages

        return await self._database.write(work, company=company)

    async def next_expiry(self, company: str) -> str | None:
        statement = select(func.min(outbox.c.expires_at)).where(*_can_expire(company))

        def work(connection: Connection) -> str | None:
            first: str | None = connection.scalar(statement)
            return first

        return await self._database.read(work)

    async def apply_updates(self, company: str, changes: Sequence[MessageChange | Deferral]) -> list[Message]:
        def work(connection: Connection) -> list[Message]:
            return apply_all(connection, company, changes).messages

        return await self._database.write(work, company=company)

    async def cancel(self, message_id: str, *, force: bool = False) -> Message:
        now = iso(self._clock.now())

        def work(connection: Connection) -> Message | Refusal:
            message = _first(connection, select(*READ).where(outbox.c.id == message_id))
            if message is None:
                return Refusal(NotFound(f'message "{message_id}" is unknown'))
            change = MessageChange(
                whatsapp_id=message.whatsapp_id, update=StatusUpdate.CANCELLED, at=now, is_forced=force
            )
            cancelled = apply_one(connection, message.company, change)
            return Refusal(Conflict(_not_cancelled(message))) if cancelled is None else cancelled[0]

        return await self._database.write(work)

    async def message(self, message_id: str) -> Message | None:
        statement = select(*READ).where(outbox.c.id == message_id)
        return await self._database.read(lambda connection: _first(connection, statement))

    async def receipts(self, message: Message) -> list[MemberReceipt]:
        return await self._database.read(lambda connection: receipts_of(connection, message.company, message.id))

    async def messages(
        self, company: str, *, state: MessageState | None, after: int, limit: int, chat: str | None = None
    ) -> list[Message]:
        statement = select(*READ).where(outbox.c.company_id == company, outbox.c.seq > after)
        if state is not None:
            statement = statement.where(*in_state(state))
        statement = statement.order_by(outbox.c.seq).limit(limit)

        def work(connection: Connection) -> list[Message]:
            mine = statement
            if chat is not None:
                mine = mine.where(outbox.c.chat == canonical(connection, company, chat))
            return [message_of(row) for row in connection.execute(mine).mappings()]

        return await self._database.read(work)

    async def sent_content(self, company: str, whatsapp_id: str, *, chat: str) -> tuple[Content | None, str | None]:
        columns, id_ = outbox.c["chat", "content", "made"], bounded_id(whatsapp_id)
        statement = select(*columns).where(outbox.c.company_id == company, outbox.c.whatsapp_id == id_)

        def work(connection: Connection) -> tuple[Content | None, str | None]:
            row = connection.execute(statement).first()
            if row is None or not is_same_chat(connection, company, addressed=row.chat, reported=bounded_id(chat)):
                return None, None
            return json.loads(row.content), row.made

        return await self._database.read(work)


def in_state(state: MessageState) -> tuple[ColumnElement[bool] | TextClause, ...]:
    """Conditions for messages in a state, written so that the database uses the partial index for it."""
    return outbox.c.state == state.value, IS_OPEN if state in OPEN else IS_SETTLED


def _accepted(draft: Draft, now: str) -> dict[str, Any]:
    return {
        "id": draft.id,
        "company_id": draft.company,
        "whatsapp_id": draft.whatsapp_id,
        "chat": draft.chat,
        "recipient": draft.recipient,
        "content": ascii_json(draft.content),
        "kind": draft.kind,
        "priority": draft.priority,
        "state": MessageState.QUEUED.value,
        "attempts": 0,
        "accepted_at": now,
        "expires_at": draft.expires_at,
        "idempotency_key": draft.idempotency_key,
        "request_hash": draft.request_hash,
        "target": target_of(draft.kind, draft.content),
    }


def _queued(draft: Draft, seq: int, chat: str, *, is_to_new_contact: bool, now: str) -> Message:
    """The message that was accepted, without reading its row again."""
    return Message(
        seq=seq,
        id=draft.id,
        whatsapp_id=draft.whatsapp_id,
        company=draft.company,
        recipient=draft.recipient,
        chat=chat,
        state=MessageState.QUEUED,
        attempts=0,
        accepted_at=now,
        sent_at=None,
        delivered_at=None,
        read_at=None,
        played_at=None,
        error_code=None,
        error=None,
        kind=draft.kind,
        priority=draft.priority,
        expires_at=draft.expires_at,
        is_to_new_contact=is_to_new_contact,
    )


def _is_owner(check: Check, connection: Connection) -> bool:
    """Whether this process owns the session. A message of another one is only stored."""
    try:
        check(connection)
    except LeaseLost:
        return False
    return True


def _can_expire(company: str) -> tuple[ColumnElement[bool] | TextClause, ...]:
    return outbox.c.company_id == company, text("expires_at IS NOT NULL"), IS_OPEN, queue.NOT_LEFT


def _replayed(connection: Connection, draft: Draft) -> Accepted | Refusal:
    """The answer to a request whose Idempotency-Key was used before."""
    table = outbox.c
    key = draft.idempotency_key
    mine = (table.company_id == draft.company, table.idempotency_key == key)
    if connection.scalar(select(table.request_hash).where(*mine)) != draft.request_hash:
        sentence = (
            f'Idempotency-Key "{key}" was used for another message of this company: give each message a key of its own'
        )
        return Refusal(Conflict(sentence, field="Idempotency-Key"))
    message = _one(connection, select(*READ).where(*mine))
    return Accepted(message=message, is_new=False, has_begun=False)


def _not_cancelled(message: Message) -> str:
    if message.state is MessageState.SENDING:
        return (
            "the message is sending: it may already have been sent; "
            "to cancel it anyway, use ?force=true, but it may still arrive"
        )
    return f"the message is {message.state}: only a message that has not been sent can be cancelled"


def _one(connection: Connection, statement: Select[Any]) -> Message:
    return message_of(connection.execute(statement).mappings().one())


def _first(connection: Connection, statement: Select[Any]) -> Message | None:
    row = connection.execute(statement).mappings().first()
    return None if row is None else message_of(row)
