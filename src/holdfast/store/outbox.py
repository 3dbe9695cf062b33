"""Outbound messages as rows. Unique indexes guarantee that a request is accepted once; Python only asks."""

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
    case,
    false,
    func,
    literal,
    select,
    text,
    update,
)

from holdfast.base.clock import Clock, iso
from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import Conflict, NotFound
from holdfast.delivery.message import OPEN, MessageState, StatusUpdate, advance, is_suspect
from holdfast.delivery.rate_limits import Allowance, ContactStatus
from holdfast.delivery.stores import Accepted, Content, Deferral, Draft, Message, MessageChange, Taken
from holdfast.session.stores import LeaseLost
from holdfast.session.untrusted import bounded_id
from holdfast.store import outbox_queue as queue
from holdfast.store import search_index
from holdfast.store.aliases import is_same_chat
from holdfast.store.clock_steps import moved_with_clock
from holdfast.store.connection import Insert, Prepared
from holdfast.store.database import Database, Refusal
from holdfast.store.events import lock_event_order, record_message
from holdfast.store.leases import NO_FENCE, Check, Fence
from holdfast.store.tables import chats as known_chats
from holdfast.store.tables import outbox, sessions

_TIME_OF = {
    MessageState.SENT: ("sent_at",),
    MessageState.DELIVERED: ("sent_at", "delivered_at"),
    MessageState.READ: ("sent_at", "delivered_at", "read_at"),
    MessageState.PLAYED: ("sent_at", "delivered_at", "read_at", "played_at"),
}
"""The times that a state implies: a message that was read was delivered, whatever receipts were lost."""

_IS_SETTLED = text("state NOT IN ('queued','sending')")
"""As the index of settled messages has it."""
_NOT_SHOWN = {
    *("content", "idempotency_key", "request_hash", "made", "next_at", "lane"),
    *("refusals", "retry_count", "crash_score"),
}
_SHOWN = [column for column in outbox.c if column.name not in _NOT_SHOWN]
_KNOWN = (
    select(literal(1))
    .where(
        known_chats.c.company_id == outbox.c.company_id,
        known_chats.c.chat == outbox.c.chat,
        queue.WAS_MET,
    )
    .limit(1)
    .scalar_subquery()
)
"""With a limit and no EXISTS: PostgreSQL might read all chats into a hash for that."""
_IS_TO_NEW_CONTACT = case(
    (outbox.c.state != MessageState.QUEUED.value, false()),
    (outbox.c.chat.endswith("@g.us"), false()),
    else_=_KNOWN.is_(None),
).label("is_to_new_contact")
_READ = (*_SHOWN, _IS_TO_NEW_CONTACT)
"""The columns of a message as people and programs see it."""
_CHANGED = [*_SHOWN, *outbox.c["lane", "next_at", "refusals", "retry_count"]]
_CHANGED_NAMES = [column.name for column in _CHANGED]
_BY_WHATSAPP_ID = select(*_CHANGED).where(
    outbox.c.company_id == bindparam("company"), outbox.c.whatsapp_id == bindparam("id")
)
_TO_BE_CHANGED = Prepared(lambda _: _BY_WHATSAPP_ID.with_for_update())
"""Between looking and changing, no other process may change it."""

_ACCEPT = Prepared(
    lambda insert: (
        insert(outbox).on_conflict_do_nothing(index_elements=["company_id", "idempotency_key"]).returning(outbox.c.seq)
    )
)
_KEYED = Prepared(
    lambda _: select(outbox.c.seq).where(
        outbox.c.company_id == bindparam("company"), outbox.c.idempotency_key == bindparam("key")
    )
)
_FEW_CHANGES = 20
"""As many messages may be in flight; more changes at once come from receipts."""
_IDS_AT_ONCE = 500
_CHANGE = Prepared(lambda _: update(outbox).where(outbox.c.seq == bindparam("changed")))
_TIMES = _TIME_OF[MessageState.PLAYED]
_NOT_YET = dict.fromkeys((*_TIMES, "error_code", "error"))
_NO_HOLD = {"held_code": None, "held_until": None}
_NO_RETRY = {"retry_at": None, "retry_code": None, "retry_message": None}


def _first_time(insert: Callable[[Table], Any], name: str) -> Insert:
    row: Insert = insert(known_chats)
    first = func.coalesce(known_chats.c[name], row.excluded[name])
    return row.on_conflict_do_update(index_elements=["company_id", "chat"], set_={name: first})


_KNOW = {
    "first_sent_at": Prepared(lambda insert: _first_time(insert, "first_sent_at")),
    "first_received_at": Prepared(lambda insert: _first_time(insert, "first_received_at")),
}


class OutboxRows:
    """Keeps `holdfast.delivery.stores.Outbox`."""

    def __init__(self, database: Database, *, clock: Clock, fence: Fence = NO_FENCE) -> None:
        self._database = database
        self._clock = clock
        self._fence = fence

    async def accept(self, draft: Draft, *, begin: bool = False) -> Accepted:
        check = self._fence.check(draft.company) if begin else None
        now = iso(self._clock.now())
        values = _accepted(draft, now)

        def work(connection: Connection) -> Accepted | Refusal:
            if _KNOWN_COMPANY.scalar(connection, {"company": draft.company}) is None:
                return Refusal(
                    NotFound(f'company "{draft.company}" is unknown: create it with PUT /v1/sessions/{draft.company}')
                )
            lock_event_order(connection)  # before the number is drawn: the order of numbers is that of commits
            if draft.idempotency_key is not None and _is_repeated(connection, draft):
                return _replayed(connection, draft)
            placed, contact = queue.place(connection, draft.company, draft.chat, priority=draft.priority, now=now)
            is_next = placed["next_at"] is not None and contact is ContactStatus.KNOWN
            begins = check is not None and is_next and _holds(check, connection)
            state = {"state": MessageState.SENDING.value, "attempts": 1} if begins else {}
            seq = _ACCEPT.scalar(connection, values | placed | state)
            search_index.add(connection, outbox, {**values, "seq": seq})
            shown = {name: value for name, value in values.items() if name not in _NOT_SHOWN}
            message = _message(
                {**_NOT_YET, **shown, "seq": seq, "is_to_new_contact": contact is not ContactStatus.KNOWN}
            )
            record_message(connection, message, at=message.accepted_at)
            return Accepted(message=message, is_new=True, has_begun=begins)

        return await self._database.write(work, company=draft.company)

    async def take(
        self,
        company: str,
        allowance: Allowance,
        *,
        but: Collection[str],
        alone: bool = False,
        updates: Sequence[MessageChange | Deferral] = (),
    ) -> Taken:
        check = self._fence.check(company)
        now = iso(self._clock.now())

        def work(connection: Connection) -> Taken | None:
            _apply_all(connection, company, updates)
            if not _holds(check, connection):
                return None
            return queue.take_due(connection, company, allowance, but=but, alone=alone, now=now)

        taken = await self._database.write(work, company=company)
        if taken is None:
            raise LeaseLost(company)
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

        def work(connection: Connection) -> list[Message]:
            changes = [
                MessageChange(whatsapp_id=id_, update=StatusUpdate.EXPIRED, at=at)
                for id_ in connection.scalars(due).all()
            ]
            return _apply_all(connection, company, changes)

        return await self._database.write(work, company=company)

    async def next_expiry(self, company: str) -> str | None:
        statement = select(func.min(outbox.c.expires_at)).where(*_can_expire(company))

        def work(connection: Connection) -> str | None:
            first: str | None = connection.scalar(statement)
            return first

        return await self._database.read(work)

    async def apply_updates(self, company: str, changes: Sequence[MessageChange | Deferral]) -> list[Message]:
        def work(connection: Connection) -> list[Message]:
            return _apply_all(connection, company, changes)

        return await self._database.write(work, company=company)

    async def cancel(self, message_id: str, *, force: bool = False) -> Message:
        now = iso(self._clock.now())

        def work(connection: Connection) -> Message | Refusal:
            message = _first(connection, select(*_READ).where(outbox.c.id == message_id))
            if message is None:
                return Refusal(NotFound(f'message "{message_id}" is unknown'))
            change = MessageChange(
                whatsapp_id=message.whatsapp_id, update=StatusUpdate.CANCELLED, at=now, is_forced=force
            )
            cancelled = _apply(connection, message.company, change)
            if cancelled is None:
                return Refusal(Conflict(_not_cancelled(message)))
            return cancelled

        return await self._database.write(work)

    async def message(self, message_id: str) -> Message | None:
        statement = select(*_READ).where(outbox.c.id == message_id)
        return await self._database.read(lambda connection: _first(connection, statement))

    async def messages(
        self, company: str, *, state: MessageState | None, after: int, most: int, chat: str | None = None
    ) -> list[Message]:
        statement = select(*_READ).where(outbox.c.company_id == company, outbox.c.seq > after)
        if state is not None:
            statement = statement.where(*in_state(state))
        if chat is not None:
            statement = statement.where(outbox.c.chat == chat)
        statement = statement.order_by(outbox.c.seq).limit(most)

        def work(connection: Connection) -> list[Message]:
            return [_message(row) for row in connection.execute(statement).mappings()]

        return await self._database.read(work)

    async def sent_content(self, company: str, whatsapp_id: str, *, chat: str) -> tuple[Content | None, str | None]:
        columns, id_ = outbox.c["chat", "content", "made"], bounded_id(whatsapp_id)
        statement = select(*columns).where(outbox.c.company_id == company, outbox.c.whatsapp_id == id_)

        def work(connection: Connection) -> tuple[Content | None, str | None]:
            row = connection.execute(statement).first()
            if row is None or not is_same_chat(connection, company, asked=row.chat, named=bounded_id(chat)):
                return None, None
            return json.loads(row.content), row.made

        return await self._database.read(work)


def in_state(state: MessageState) -> tuple[ColumnElement[bool] | TextClause, ...]:
    """Messages in a state, said so that a database sees which partial index has them."""
    return outbox.c.state == state.value, queue.IS_OPEN if state in OPEN else _IS_SETTLED


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
    return outbox.c.company_id == company, text("expires_at IS NOT NULL"), queue.IS_OPEN, queue.NOT_LEFT


def _is_repeated(connection: Connection, draft: Draft) -> bool:
    return bool(_KEYED.rows(connection, {"company": draft.company, "key": draft.idempotency_key}))


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
    message = _one(connection, select(*_READ).where(*mine))
    return Accepted(message=message, is_new=False, has_begun=False)


def _not_cancelled(message: Message) -> str:
    if message.state is MessageState.SENDING:
        return (
            "the message is sending: it was handed over and may have left; "
            "cancel it all the same with ?force=true, it may still arrive"
        )
    return f"the message is {message.state}: only a message that has not left can be cancelled"


def _apply_all(connection: Connection, company: str, changes: Sequence[MessageChange | Deferral]) -> list[Message]:
    """Apply status updates in order. Receipts may name countless messages that never were: those are found in bulk."""
    if len(changes) > _FEW_CHANGES:
        known = _known_ids(connection, company, {change.whatsapp_id for change in changes})
        changes = [change for change in changes if change.whatsapp_id in known]
    changed = [_apply(connection, company, change) for change in changes]
    return [message for message in changed if message is not None]


def _known_ids(connection: Connection, company: str, ids: Collection[str]) -> set[str]:
    """Which of these WhatsApp ids are those of messages of the company."""
    known, asked = set[str](), sorted(ids)
    for start in range(0, len(asked), _IDS_AT_ONCE):
        some = outbox.c.whatsapp_id.in_(asked[start : start + _IDS_AT_ONCE])
        known.update(connection.scalars(select(outbox.c.whatsapp_id).where(outbox.c.company_id == company, some)))
    return known


def _apply(connection: Connection, company: str, change: MessageChange | Deferral) -> Message | None:
    """Apply one status update; None when the message is unknown or its state stays."""
    lock_event_order(connection)
    found = _TO_BE_CHANGED.rows(connection, {"company": company, "id": change.whatsapp_id})
    if not found:
        return None
    row = dict(zip(_CHANGED_NAMES, found[0], strict=True))
    if isinstance(change, Deferral):
        _defer(connection, row, change)
        return None
    if change.chat is not None and not is_same_chat(connection, company, asked=row["chat"], named=change.chat):
        return None
    before = MessageState(row["state"])
    after = advance(_for_advance(row, before, change), change.update)
    if after is before or (after is MessageState.CANCELLED and before not in OPEN):
        return None
    values: dict[str, Any] = {"state": after.value, **_NO_HOLD, **_NO_RETRY}
    values |= {name: row[name] for name in _TIMES}
    values |= {name: change.at for name in _TIME_OF.get(after, ()) if row[name] is None}
    values |= {"error_code": change.error_code, "error": change.error}
    _CHANGE.rows(connection, {"changed": row["seq"], **values})
    if change.makes_known and after in _TIME_OF:
        know_chat(connection, company, row["chat"], first_sent_at=change.at)
    if before in OPEN and row["next_at"] is not None:
        queue.advance_chat(connection, row, now=change.at)
    message = _message({**row, **values})
    record_message(connection, message, at=change.at)
    return message


def _for_advance(row: Mapping[str, Any], before: MessageState, change: MessageChange) -> MessageState:
    """Surely nothing left of a message whose attempts were all refused: it may still expire or be cancelled."""
    withdraws = change.update in {StatusUpdate.EXPIRED, StatusUpdate.CANCELLED}
    if before is MessageState.SENDING and withdraws and (change.is_forced or row["refusals"] == row["attempts"]):
        return MessageState.QUEUED
    return before


def _defer(connection: Connection, row: Mapping[str, Any], deferral: Deferral) -> None:
    """The head waits until `next_at`. A late word about a message that is settled or no head changes nothing."""
    if row["next_at"] is None or MessageState(row["state"]) not in OPEN:
        return
    values: dict[str, Any] = {"next_at": deferral.next_at or row["next_at"]}
    if deferral.code is not None:
        again = row["retry_code"] == deferral.code
        values |= {
            "refusals": row["refusals"] + 1,
            "retry_at": deferral.at,
            "retry_code": deferral.code,
            "retry_message": deferral.message,
            "retry_count": row["retry_count"] + 1 if again else 1,
        }
    if deferral.held_code is not None:
        values |= {"held_code": deferral.held_code, "held_until": deferral.next_at}
    if deferral.crash_score is not None:
        values["crash_score"] = deferral.crash_score
        if is_suspect(deferral.crash_score):
            # Behind the other suspects: the one that ends links would always be taken first, and starve them.
            values |= {"lane": queue.suspect_lane(row["lane"]), "next_at": deferral.at}
    _CHANGE.rows(connection, {"changed": row["seq"], **values})


def know_chat(connection: Connection, company: str, chat: str, **first: str) -> None:
    """Note when a chat was first written to (`first_sent_at`), or heard from (`first_received_at`)."""
    for name in first:
        row = {"company_id": company, "chat": chat, name: first[name]}
        _KNOW[name].rows(connection, row)
        queue.chat_became_known(connection, company, chat, now=first[name])


def _one(connection: Connection, statement: Select[Any]) -> Message:
    return _message(connection.execute(statement).mappings().one())


def _first(connection: Connection, statement: Select[Any]) -> Message | None:
    row = connection.execute(statement).mappings().first()
    return None if row is None else _message(row)


def _message(row: RowMapping | Mapping[Any, Any]) -> Message:
    values = {str(name): value for name, value in row.items() if name not in _NOT_SHOWN}
    return Message(company=values.pop("company_id"), state=MessageState(values.pop("state")), **values)
