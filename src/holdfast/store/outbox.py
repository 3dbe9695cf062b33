"""Outbound and inbound messages as rows. Unique indexes keep the promises; Python only asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Table,
    TextClause,
    bindparam,
    func,
    select,
    text,
    update,
)

from holdfast.base.clock import Clock, iso
from holdfast.base.errors import Conflict, NotFound
from holdfast.delivery.chats import Entry
from holdfast.delivery.message import OPEN, MessageState, News, advance
from holdfast.delivery.ports import BULK, Accepted, Change, Content, Draft, Message, Outgoing, Received
from holdfast.session.stores import LeaseLost
from holdfast.store.database import Database, Refused
from holdfast.store.events import record_message, record_received
from holdfast.store.leases import NO_FENCE, Check, Fence
from holdfast.store.opened import Insert, Prepared
from holdfast.store.tables import chats as known_chats
from holdfast.store.tables import groups, inbox, outbox, sessions

_TIME_OF = {
    MessageState.SENT: ("sent_at",),
    MessageState.DELIVERED: ("sent_at", "delivered_at"),
    MessageState.READ: ("sent_at", "delivered_at", "read_at"),
    MessageState.PLAYED: ("sent_at", "delivered_at", "read_at", "played_at"),
}
"""The times that a state implies: a message that was read was delivered, whatever receipts were lost."""

_IS_OPEN = text("state IN ('queued','sending')")
"""As the index of open messages has it: only so a database sees that this index will do."""
_IS_SETTLED = text("state NOT IN ('queued','sending')")
"""As the index of settled messages has it."""
_NOT_SHOWN = {"content", "idempotency_key", "request_hash", "made"}
_SHOWN = [column for column in outbox.c if column.name not in _NOT_SHOWN]
_SHOWN_NAMES = [column.name for column in _SHOWN]
RECEIVED = [column for column in inbox.c if column.name not in {"media_keys", "media_id"}]
_BY_WHATSAPP_ID = select(*_SHOWN).where(
    outbox.c.company_id == bindparam("company"), outbox.c.whatsapp_id == bindparam("id")
)
_TO_BE_CHANGED = Prepared(lambda _: _BY_WHATSAPP_ID.with_for_update())
"""Between looking and changing, no other process may change it."""

_ACCEPT = Prepared(
    lambda insert: (
        insert(outbox).on_conflict_do_nothing(index_elements=["company_id", "idempotency_key"]).returning(outbox.c.seq)
    )
)
_REFUSED = outbox.c.held_code.is_not(None) & (outbox.c.attempts <= 1)
"""WhatsApp refused its only try: nothing of it is on the way. Of an earlier try nobody knows what became."""
_UNKNOWN_OUTCOME = (outbox.c.state == MessageState.SENDING.value) & ~_REFUSED
_MAY_LEAVE = outbox.c.expires_at.is_(None) | (outbox.c.expires_at > bindparam("now")) | _UNKNOWN_OUTCOME
"""Not expired; one whose outcome is unknown must be settled all the same."""
_BEGIN = (
    update(outbox)
    .where(outbox.c.id.in_(bindparam("ids", expanding=True)), outbox.c.state.in_(OPEN), _MAY_LEAVE)
    .values(state=MessageState.SENDING.value, attempts=outbox.c.attempts + 1, held_code=None, held_until=None)
    .returning(*outbox.c["seq", "id", "content", "attempts", "made"])
)
_CHANGE = Prepared(lambda _: update(outbox).where(outbox.c.seq == bindparam("changed")))
_TIMES = _TIME_OF[MessageState.PLAYED]
_NOT_YET = dict.fromkeys((*_TIMES, "error_code", "error"))


def _first_time(insert: Callable[[Table], Any], name: str) -> Insert:
    row: Insert = insert(known_chats)
    first = func.coalesce(known_chats.c[name], row.excluded[name])
    return row.on_conflict_do_update(index_elements=["company_id", "chat"], set_={name: first})


_KNOW = {
    "first_sent_at": Prepared(lambda insert: _first_time(insert, "first_sent_at")),
    "first_received_at": Prepared(lambda insert: _first_time(insert, "first_received_at")),
}


class OutboxRows:
    """Keeps `holdfast.delivery.ports.Outbox`."""

    def __init__(self, database: Database, *, clock: Clock, fence: Fence = NO_FENCE) -> None:
        self._database = database
        self._clock = clock
        self._fence = fence

    async def accept(self, draft: Draft, *, begin: bool = False) -> Accepted:
        check = self._fence.check(draft.company) if begin else None
        values = _accepted(draft, iso(self._clock.now()))

        def work(connection: Connection) -> Accepted | Refused:
            if _KNOWN_COMPANY.scalar(connection, {"company": draft.company}) is None:
                return Refused(
                    NotFound(f'company "{draft.company}" is unknown: create it with PUT /v1/sessions/{draft.company}')
                )
            begins = check is not None and _holds(check, connection)
            state = {"state": MessageState.SENDING.value, "attempts": 1} if begins else {}
            seq = _ACCEPT.scalar(connection, values | state)
            if seq is None:
                return _replayed(connection, draft)
            shown = {name: value for name, value in values.items() if name not in _NOT_SHOWN}
            message = _message({**_NOT_YET, **shown, "seq": seq})
            record_message(connection, message, at=message.accepted_at)
            return Accepted(message=message, is_new=True, has_begun=begins)

        return await self._database.write(work)

    async def open_entries(self, company: str, *, after: int, most: int) -> list[Entry]:
        return await self._entries(outbox.c.company_id == company, outbox.c.seq > after, _IS_OPEN, most=most)

    async def urgent_entries(self, company: str, *, after: int, most: int) -> list[Entry]:
        mine = (outbox.c.company_id == company, _IS_OPEN)
        urgent = select(outbox.c.chat, outbox.c.seq).where(*mine, outbox.c.seq > after, outbox.c.priority < BULK)
        first = urgent.order_by(outbox.c.seq).limit(most).subquery()
        ends = select(first.c.chat, func.max(first.c.seq).label("up_to")).group_by(first.c.chat).subquery()
        up_to = select(ends.c.up_to).where(ends.c.chat == outbox.c.chat).scalar_subquery()
        return await self._entries(*mine, outbox.c.seq <= up_to, most=None)

    async def late_entries(self, company: str, *, up_to: int, most: int) -> list[Entry]:
        mine = (outbox.c.company_id == company, _IS_OPEN)
        newest = select(outbox.c.seq).where(*mine, outbox.c.seq <= up_to).order_by(outbox.c.seq.desc()).limit(most)
        return await self._entries(*mine, outbox.c.seq.in_(newest), most=None)

    async def _entries(self, *which: ColumnElement[bool] | TextClause, most: int | None) -> list[Entry]:
        columns = outbox.c["seq", "id", "whatsapp_id", "chat", "priority"]
        statement = select(*columns).where(*which).order_by(outbox.c.seq).limit(most)

        def work(connection: Connection) -> list[Entry]:
            return [_entry(row) for row in connection.execute(statement).mappings()]

        return await self._database.read(work)

    async def begin(self, company: str, entries: Sequence[Entry]) -> list[Outgoing]:
        by_id = {entry.id: entry for entry in entries}
        check = self._fence.check(company)
        now = iso(self._clock.now())

        def work(connection: Connection) -> list[Outgoing]:
            check(connection)
            rows = connection.execute(_BEGIN, {"ids": list(by_id), "now": now}).all()
            return [
                Outgoing(entry=by_id[row.id], content=json.loads(row.content), attempts=row.attempts, made=row.made)
                for row in sorted(rows, key=lambda row: row.seq)
            ]

        return await self._database.write(work)

    async def known(self, company: str, chats: Collection[str]) -> set[str]:
        statement = select(known_chats.c.chat).where(known_chats.c.company_id == company, known_chats.c.chat.in_(chats))

        def work(connection: Connection) -> set[str]:
            return set(connection.scalars(statement))

        return await self._database.read(work)

    async def hold(self, company: str, whatsapp_ids: Collection[str], *, code: str, until: str) -> None:
        await self._hold(company, outbox.c.whatsapp_id.in_(whatsapp_ids), code=code, until=until)

    async def hold_new(self, company: str, *, code: str, until: str) -> None:
        chats = select(known_chats.c.chat).where(known_chats.c.company_id == company)
        is_new = outbox.c.chat.not_in(chats) & ~outbox.c.chat.endswith("@g.us")
        is_held_so = outbox.c.held_code == code
        is_queued = outbox.c.state == MessageState.QUEUED.value
        await self._hold(company, is_held_so | (is_new & is_queued), code=code, until=until)

    async def _hold(self, company: str, which: ColumnElement[bool], *, code: str, until: str) -> None:
        held = update(outbox).where(outbox.c.company_id == company, _IS_OPEN, which)

        def work(connection: Connection) -> None:
            connection.execute(held.values(held_code=code, held_until=until))

        await self._database.write(work)

    async def release(self, company: str, *, code: str) -> None:
        held = update(outbox).where(outbox.c.company_id == company, _IS_OPEN, outbox.c.held_code == code)

        def work(connection: Connection) -> None:
            queued = outbox.c.state == MessageState.QUEUED.value
            connection.execute(held.where(queued).values(held_code=None, held_until=None))
            connection.execute(held.values(held_until=None))

        await self._database.write(work)

    async def expire(self, company: str, *, at: str) -> list[Message]:
        due = select(outbox.c.whatsapp_id).where(*_can_expire(company), outbox.c.expires_at <= at)

        def work(connection: Connection) -> list[Message]:
            changes = [Change(whatsapp_id=id_, news=News.EXPIRED, at=at) for id_ in connection.scalars(due).all()]
            return _apply_all(connection, company, changes)

        return await self._database.write(work)

    async def next_expiry(self, company: str) -> str | None:
        statement = select(func.min(outbox.c.expires_at)).where(*_can_expire(company))

        def work(connection: Connection) -> str | None:
            first: str | None = connection.scalar(statement)
            return first

        return await self._database.read(work)

    async def learn(self, company: str, changes: Sequence[Change]) -> list[Message]:
        def work(connection: Connection) -> list[Message]:
            return _apply_all(connection, company, changes)

        return await self._database.write(work)

    async def cancel(self, message_id: str) -> Message:
        """Cancel a message that has not left. Raises `NotFound`, and `Conflict` when it may have left."""
        now = iso(self._clock.now())

        def work(connection: Connection) -> Message | Refused:
            message = _first(connection, select(*_SHOWN).where(outbox.c.id == message_id))
            if message is None:
                return Refused(NotFound(f'message "{message_id}" is unknown'))
            change = Change(whatsapp_id=message.whatsapp_id, news=News.CANCELLED, at=now)
            cancelled = _apply(connection, message.company, change)
            if cancelled is None:
                return Refused(Conflict(f"the message is {message.state}: only a queued message can be cancelled"))
            return cancelled

        return await self._database.write(work)

    async def message(self, message_id: str) -> Message | None:
        statement = select(*_SHOWN).where(outbox.c.id == message_id)
        return await self._database.read(lambda connection: _first(connection, statement))

    async def messages(
        self, company: str, *, state: MessageState | None, after: int, most: int, chat: str | None = None
    ) -> list[Message]:
        statement = select(*_SHOWN).where(outbox.c.company_id == company, outbox.c.seq > after)
        if state is not None:
            statement = statement.where(*in_state(state))
        if chat is not None:
            statement = statement.where(outbox.c.chat == chat)
        statement = statement.order_by(outbox.c.seq).limit(most)

        def work(connection: Connection) -> list[Message]:
            return [_message(row) for row in connection.execute(statement).mappings()]

        return await self._database.read(work)

    async def sent_content(self, company: str, whatsapp_id: str) -> tuple[Content | None, str | None]:
        columns = outbox.c["content", "made"]
        statement = select(*columns).where(outbox.c.company_id == company, outbox.c.whatsapp_id == whatsapp_id)

        def work(connection: Connection) -> tuple[Content | None, str | None]:
            row = connection.execute(statement).first()
            return (None, None) if row is None else (json.loads(row.content), row.made)

        return await self._database.read(work)


def in_state(state: MessageState) -> tuple[ColumnElement[bool] | TextClause, ...]:
    """Messages in a state, said so that a database sees which partial index has them."""
    return outbox.c.state == state.value, _IS_OPEN if state in OPEN else _IS_SETTLED


MediaUrl = Callable[[str], str | None]
"""Where the medium of an inbound message (by id) can be fetched without a key."""


def no_media_url(inbox_id: str) -> str | None:
    """For who gives out no media."""
    return None


class InboxRows:
    """Keeps `holdfast.delivery.ports.Inbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def received(self, company: str, *, after: int, most: int, chat: str | None = None) -> list[Received]:
        statement = select(*RECEIVED).where(inbox.c.company_id == company, inbox.c.seq > after)
        if chat is not None:
            statement = statement.where(inbox.c.chat == chat)
        statement = statement.order_by(inbox.c.seq).limit(most)

        def work(connection: Connection) -> list[Received]:
            rows = connection.execute(statement).mappings().all()
            subjects = subjects_of(connection, company, {row["chat"] for row in rows})
            return [received(row, subjects) for row in rows]

        return await self._database.read(work)

    async def find(self, inbox_id: str) -> Received | None:
        statement = select(*RECEIVED).where(inbox.c.id == inbox_id)

        def work(connection: Connection) -> Received | None:
            row = connection.execute(statement).mappings().first()
            if row is None:
                return None
            return received(row, subjects_of(connection, row["company_id"], {row["chat"]}))

        return await self._database.read(work)


_SUBJECTS = Prepared(
    lambda _: select(groups.c.jid, groups.c.subject).where(
        groups.c.company_id == bindparam("company"), groups.c.jid.in_(bindparam("jids", expanding=True))
    )
)


def subjects_of(connection: Connection, company: str, chats: Collection[str]) -> dict[str, str]:
    """Subjects of those of the chats that are groups, as far as they are known."""
    jids = [chat for chat in chats if chat.endswith("@g.us")]
    if not jids:
        return {}
    found = connection.execute(_SUBJECTS.on(connection), {"company": company, "jids": jids})
    return {row.jid: row.subject for row in found}


def received(row: RowMapping, subjects: Mapping[str, str]) -> Received:
    """An inbox row as it is shown."""
    values = {str(name): value for name, value in row.items()}
    for name in ("content", "media"):
        values[name] = None if values[name] is None else json.loads(values[name])
    company, sender_name = values.pop("company_id"), values.pop("push_name")
    return Received(company=company, sender_name=sender_name, group_subject=subjects.get(values["chat"]), **values)


def keep_received(
    connection: Connection, statement: Prepared, row: dict[str, Any], *, at: str, media_url: MediaUrl
) -> bool:
    """Add an inbox row, or complete one, and keep the event of it; False when there was nothing to change.

    statement: an insert that returns `RECEIVED`.
    """
    stored = connection.execute(statement.on(connection), row).mappings().first()
    if stored is None:
        return False
    found = received(stored, subjects_of(connection, stored["company_id"], {stored["chat"]}))
    record_received(connection, found, at=at, media_url=media_url(found.id))
    return True


_KNOWN_COMPANY = Prepared(lambda _: select(sessions.c.company_id).where(sessions.c.company_id == bindparam("company")))


def _accepted(draft: Draft, now: str) -> dict[str, Any]:
    return {
        "id": draft.id,
        "company_id": draft.company,
        "whatsapp_id": draft.whatsapp_id,
        "chat": draft.chat,
        "recipient": draft.recipient,
        "content": json.dumps(draft.content),
        "kind": draft.kind,
        "priority": draft.priority,
        "state": MessageState.QUEUED.value,
        "attempts": 0,
        "accepted_at": now,
        "expires_at": draft.expires_at,
        "idempotency_key": draft.idempotency_key,
        "request_hash": draft.request_hash,
    }


def _holds(check: Check, connection: Connection) -> bool:
    """Is the session this process's own? Another's message is only stored."""
    try:
        check(connection)
    except LeaseLost:
        return False
    return True


def _can_expire(company: str) -> tuple[ColumnElement[bool] | TextClause, ...]:
    """What surely has not left: queued, or refused by WhatsApp with a word that lets it wait."""
    waits = (outbox.c.state == MessageState.QUEUED.value) | _REFUSED
    return outbox.c.company_id == company, _IS_OPEN, waits


def _replayed(connection: Connection, draft: Draft) -> Accepted | Refused:
    """The answer to a request whose Idempotency-Key was used before."""
    table = outbox.c
    key = draft.idempotency_key
    mine = (table.company_id == draft.company, table.idempotency_key == key)
    if connection.scalar(select(table.request_hash).where(*mine)) != draft.request_hash:
        sentence = (
            f'Idempotency-Key "{key}" was used for another message of this company: give each message a key of its own'
        )
        return Refused(Conflict(sentence, field="Idempotency-Key"))
    message = _one(connection, select(*_SHOWN).where(*mine))
    return Accepted(message=message, is_new=False, has_begun=False)


def _apply_all(connection: Connection, company: str, changes: Sequence[Change]) -> list[Message]:
    changed = [_apply(connection, company, change) for change in changes]
    return [message for message in changed if message is not None]


def _apply(connection: Connection, company: str, change: Change) -> Message | None:
    found = _TO_BE_CHANGED.rows(connection, {"company": company, "id": change.whatsapp_id})
    if not found:
        return None
    row = dict(zip(_SHOWN_NAMES, found[0], strict=True))
    before = MessageState(row["state"])
    if row["held_code"] is not None and row["attempts"] <= 1 and change.news in {News.EXPIRED, News.CANCELLED}:
        before = MessageState.QUEUED  # refused, as `_REFUSED` has it
    after = advance(before, change.news)
    if after is before:
        return None
    values: dict[str, Any] = {"state": after.value, "held_code": None, "held_until": None}
    values |= {name: row[name] for name in _TIMES}
    values |= {name: change.at for name in _TIME_OF.get(after, ()) if row[name] is None}
    values |= {"error_code": change.error_code, "error": change.error}
    _CHANGE.rows(connection, {"changed": row["seq"], **values})
    if change.makes_known and after in _TIME_OF:
        know_chat(connection, company, row["chat"], first_sent_at=change.at)
    message = _message({**row, **values})
    record_message(connection, message, at=change.at)
    return message


def know_chat(connection: Connection, company: str, chat: str, **first: str) -> None:
    """Note when a chat was first written to (`first_sent_at`), or heard from (`first_received_at`)."""
    for name in first:
        row = {"company_id": company, "chat": chat, name: first[name]}
        _KNOW[name].rows(connection, row)


def _entry(row: RowMapping) -> Entry:
    values = {str(name): value for name, value in row.items()}
    return Entry(is_bulk=values.pop("priority") >= BULK, **values)


def _one(connection: Connection, statement: Select[Any]) -> Message:
    return _message(connection.execute(statement).mappings().one())


def _first(connection: Connection, statement: Select[Any]) -> Message | None:
    row = connection.execute(statement).mappings().first()
    return None if row is None else _message(row)


def _message(row: RowMapping | dict[Any, Any]) -> Message:
    values = {str(name): value for name, value in row.items()}
    return Message(company=values.pop("company_id"), state=MessageState(values.pop("state")), **values)
