"""Outbound and inbound messages as rows. Unique indexes keep the promises; Python only asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, TextClause, bindparam, select, text, update

from holdfast.base.clock import Clock, iso
from holdfast.base.errors import Conflict, NotFound
from holdfast.delivery.chats import Entry
from holdfast.delivery.message import OPEN, MessageState, News, advance
from holdfast.delivery.ports import Change, Content, Draft, Message, Outgoing, Received
from holdfast.store.database import Database
from holdfast.store.leases import NO_FENCE, Fence
from holdfast.store.opened import insert
from holdfast.store.tables import inbox, outbox, sessions

_TIME_OF = {
    MessageState.SENT: ("sent_at",),
    MessageState.DELIVERED: ("sent_at", "delivered_at"),
    MessageState.READ: ("sent_at", "delivered_at", "read_at"),
    MessageState.PLAYED: ("sent_at", "delivered_at", "read_at", "played_at"),
}
"""The times that a state implies: a message that was read was delivered, whatever receipts were lost."""

_IS_OPEN = text("state IN ('queued','sending')")
"""As the index of open messages has it: only so a database sees that this index will do."""
_NOT_SHOWN = {
    "content",
    "expires_at",
    "idempotency_key",
    "request_hash",
    "made",
    "held_code",
    "held_until",
    "kind",
    "priority",
}
_SHOWN = [column for column in outbox.c if column.name not in _NOT_SHOWN]
_BY_WHATSAPP_ID = select(*_SHOWN).where(
    outbox.c.company_id == bindparam("company"), outbox.c.whatsapp_id == bindparam("id")
)
_TO_BE_CHANGED = _BY_WHATSAPP_ID.with_for_update()
"""Between looking and changing, no other process may change it."""


class OutboxRows:
    """Keeps `holdfast.delivery.ports.Outbox`."""

    def __init__(self, database: Database, *, clock: Clock, fence: Fence = NO_FENCE) -> None:
        self._database = database
        self._clock = clock
        self._fence = fence

    async def accept(self, draft: Draft) -> Message:
        now = iso(self._clock.now())
        values = {
            "id": draft.id,
            "company_id": draft.company,
            "whatsapp_id": draft.whatsapp_id,
            "chat": draft.chat,
            "recipient": draft.recipient,
            "content": json.dumps(draft.content),
            "state": MessageState.QUEUED.value,
            "accepted_at": now,
            "idempotency_key": draft.idempotency_key,
            "request_hash": draft.request_hash,
        }

        def work(connection: Connection) -> Message:
            if connection.scalar(select(sessions.c.company_id).where(sessions.c.company_id == draft.company)) is None:
                raise NotFound(f'company "{draft.company}" is unknown: create it with PUT /v1/sessions/{draft.company}')
            row = insert(connection, outbox).values(values)
            row = row.on_conflict_do_nothing(index_elements=["company_id", "idempotency_key"])
            if connection.scalar(row.returning(outbox.c.seq)) is None:
                return _replayed(connection, draft)
            return _one(connection, select(*_SHOWN).where(outbox.c.id == draft.id))

        return await self._database.write(work)

    async def open_entries(self, company: str, *, after: int, most: int) -> list[Entry]:
        return await self._entries(outbox.c.company_id == company, outbox.c.seq > after, _IS_OPEN, most=most)

    async def late_entries(self, company: str, *, up_to: int, most: int) -> list[Entry]:
        queued = outbox.c.state == MessageState.QUEUED.value
        return await self._entries(outbox.c.company_id == company, outbox.c.seq <= up_to, _IS_OPEN, queued, most=most)

    async def _entries(self, *which: ColumnElement[bool] | TextClause, most: int) -> list[Entry]:
        columns = outbox.c["seq", "id", "whatsapp_id", "chat"]
        statement = select(*columns).where(*which).order_by(outbox.c.seq).limit(most)

        def work(connection: Connection) -> list[Entry]:
            return [Entry(**row) for row in connection.execute(statement).mappings()]

        return await self._database.read(work)

    async def begin(self, company: str, entries: Sequence[Entry]) -> list[Outgoing]:
        by_id = {entry.id: entry for entry in entries}
        check = self._fence.check(company)

        def work(connection: Connection) -> list[Outgoing]:
            check(connection)
            open_ones = (outbox.c.id.in_(by_id), outbox.c.state.in_(OPEN))
            connection.execute(
                update(outbox)
                .where(*open_ones)
                .values(state=MessageState.SENDING.value, attempts=outbox.c.attempts + 1)
            )
            rows = connection.execute(
                select(outbox.c.id, outbox.c.content, outbox.c.attempts).where(*open_ones).order_by(outbox.c.seq)
            )
            return [
                Outgoing(entry=by_id[row.id], content=json.loads(row.content), attempts=row.attempts) for row in rows
            ]

        return await self._database.write(work)

    async def learn(self, company: str, changes: Sequence[Change]) -> list[Message]:
        def work(connection: Connection) -> list[Message]:
            changed = [_apply(connection, company, change) for change in changes]
            return [message for message in changed if message is not None]

        return await self._database.write(work)

    async def cancel(self, message_id: str) -> Message:
        """Cancel a message that has not left. Raises `NotFound`, and `Conflict` when it may have left."""
        now = iso(self._clock.now())

        def work(connection: Connection) -> Message:
            message = _first(connection, select(*_SHOWN).where(outbox.c.id == message_id))
            if message is None:
                raise NotFound(f'message "{message_id}" is unknown')
            change = Change(whatsapp_id=message.whatsapp_id, news=News.CANCELLED, at=now)
            cancelled = _apply(connection, message.company, change)
            if cancelled is None:
                raise Conflict(f"the message is {message.state}: only a queued message can be cancelled")
            return cancelled

        return await self._database.write(work)

    async def message(self, message_id: str) -> Message | None:
        statement = select(*_SHOWN).where(outbox.c.id == message_id)
        return await self._database.read(lambda connection: _first(connection, statement))

    async def messages(self, company: str, *, state: MessageState | None, after: int, most: int) -> list[Message]:
        statement = select(*_SHOWN).where(outbox.c.company_id == company, outbox.c.seq > after)
        if state is not None:
            statement = statement.where(outbox.c.state == state.value)
        statement = statement.order_by(outbox.c.seq).limit(most)

        def work(connection: Connection) -> list[Message]:
            return [_message(row) for row in connection.execute(statement).mappings()]

        return await self._database.read(work)

    async def sent_content(self, company: str, whatsapp_id: str) -> Content | None:
        statement = select(outbox.c.content).where(outbox.c.company_id == company, outbox.c.whatsapp_id == whatsapp_id)

        def work(connection: Connection) -> Content | None:
            content = connection.scalar(statement)
            return None if content is None else json.loads(content)

        return await self._database.read(work)


class InboxRows:
    """Keeps `holdfast.delivery.ports.Inbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def received(self, company: str, *, after: int, most: int) -> list[Received]:
        hidden = {"push_name", "content", "target", "media", "media_keys", "media_id", "completed_at"}
        shown = [column for column in inbox.c if column.name not in hidden]
        statement = select(*shown).where(inbox.c.company_id == company, inbox.c.seq > after)
        statement = statement.order_by(inbox.c.seq).limit(most)

        def work(connection: Connection) -> list[Received]:
            return [
                Received(company=company, **{name: value for name, value in row.items() if name != "company_id"})
                for row in connection.execute(statement).mappings()
            ]

        return await self._database.read(work)


def _replayed(connection: Connection, draft: Draft) -> Message:
    table = outbox.c
    key = draft.idempotency_key
    mine = (table.company_id == draft.company, table.idempotency_key == key)
    if connection.scalar(select(table.request_hash).where(*mine)) != draft.request_hash:
        raise Conflict(
            f'Idempotency-Key "{key}" was used for another message of this company: give each message a key of its own',
            field="Idempotency-Key",
        )
    return _one(connection, select(*_SHOWN).where(*mine))


def _apply(connection: Connection, company: str, change: Change) -> Message | None:
    row = connection.execute(_TO_BE_CHANGED, {"company": company, "id": change.whatsapp_id}).mappings().first()
    if row is None:
        return None
    before = MessageState(row["state"])
    after = advance(before, change.news)
    if after is before:
        return None
    values: dict[str, Any] = {"state": after.value}
    values |= {name: change.at for name in _TIME_OF.get(after, ()) if row[name] is None}
    values |= {"error_code": change.error_code, "error": change.error}
    connection.execute(update(outbox).where(outbox.c.seq == row["seq"]).values(values))
    return _message({**row, **values})


def _one(connection: Connection, statement: Select[Any]) -> Message:
    return _message(connection.execute(statement).mappings().one())


def _first(connection: Connection, statement: Select[Any]) -> Message | None:
    row = connection.execute(statement).mappings().first()
    return None if row is None else _message(row)


def _message(row: RowMapping | dict[Any, Any]) -> Message:
    values = {str(name): value for name, value in row.items()}
    return Message(company=values.pop("company_id"), state=MessageState(values.pop("state")), **values)
