"""Operations as rows: accepted once for each Idempotency-Key, changed only from the state that the writer saw."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select, update

from holdfast.base.clock import Clock, iso
from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import Conflict, NotFound
from holdfast.delivery.events import OPERATION
from holdfast.session.operation_states import (
    OPEN,
    AcceptedOperation,
    OpenOperations,
    Operation,
    OperationDraft,
    OperationState,
    body_of,
    is_light,
)
from holdfast.session.stores import LeaseLost
from holdfast.store.clock_steps import moved_with_clock
from holdfast.store.company_locks import lock_company
from holdfast.store.connection import insert
from holdfast.store.database import Database, Refusal, announce
from holdfast.store.events import NewEvents, record
from holdfast.store.leases import NO_FENCE, Fence
from holdfast.store.sessions import exists, unknown
from holdfast.store.tables import IS_OPEN_OPERATION, operations

_JSON = ("arguments", "observed", "result")
_HIDDEN = {"idempotency_key", "request_hash"}
_SHOWN = [column for column in operations.c if column.name not in _HIDDEN]
_FIXED = {"seq", "id", "company", "kind", "target", "arguments", "accepted_at", "expires_at"}


class OperationRows:
    """Implements `holdfast.session.stores.Operations`."""

    def __init__(self, database: Database, *, clock: Clock, fence: Fence = NO_FENCE) -> None:
        self._database = database
        self._clock = clock
        self._fence = fence

    async def accept(self, draft: OperationDraft, *, max_open: int) -> AcceptedOperation | None:
        values = _accepted(draft, iso(self._clock.now()))

        def work(connection: Connection) -> AcceptedOperation | Refusal | None:
            # Before the number is drawn, as numbers follow the order of commits; nor is the company removed meanwhile.
            lock_company(connection, draft.company)
            if not exists(connection, draft.company):
                return unknown(draft.company)
            if (key := draft.idempotency_key) is not None:
                before = _keyed(connection, draft.company, key, request_hash=draft.request_hash)
                if before is not None:
                    return before if isinstance(before, Refusal) else AcceptedOperation(operation=before, is_new=False)
            open_ones = select(operations.c.seq).where(operations.c.company_id == draft.company, IS_OPEN_OPERATION)
            count = select(func.count()).select_from(open_ones.limit(max_open).subquery())
            if (connection.scalar(count) or 0) >= max_open:
                return None
            row = connection.execute(insert(connection, operations).returning(*_SHOWN), values).mappings().one()
            _record(connection, made := _operation(row), at=made.accepted_at)
            return AcceptedOperation(operation=made, is_new=True)

        return await self._database.write(work, company=draft.company)

    async def repeated(self, company: str, *, idempotency_key: str, request_hash: str) -> Operation | None:
        found = await self._database.read(
            lambda connection: _keyed(connection, company, idempotency_key, request_hash=request_hash)
        )
        if isinstance(found, Refusal):
            raise found.error
        return found

    async def save(self, operation: Operation, *, before: OperationState) -> Operation | None:
        check = self._fence.check(operation.company)
        at = iso(self._clock.now())
        row = update(operations).where(operations.c.id == operation.id, operations.c.state == before.value)
        changed = row.values(_changes(operation)).returning(*_SHOWN)

        def work(connection: Connection) -> Operation | LeaseLost | None:
            try:
                check(connection)
            except LeaseLost as lost:
                return lost
            lock_company(connection, operation.company)
            found = connection.execute(changed).mappings().first()
            if found is None:
                return None
            saved = _operation(found)
            if saved.state is not before:
                _record(connection, saved, at=at)
            return saved

        saved = await self._database.write(work, company=operation.company)
        if isinstance(saved, LeaseLost):
            raise saved
        return saved

    async def cancel(self, operation_id: str) -> Operation:
        at = iso(self._clock.now())
        is_queued = (operations.c.id == operation_id, operations.c.state == OperationState.QUEUED.value)
        values = {"state": OperationState.CANCELLED.value, "settled_at": at, "next_at": None}

        def work(connection: Connection) -> Operation | Refusal:
            if (before := _first(connection, operation_id)) is not None:
                lock_company(connection, before.company)
            row = connection.execute(update(operations).where(*is_queued).values(values).returning(*_SHOWN)).mappings()
            if (found := row.first()) is not None:
                _record(connection, cancelled := _operation(found), at=at)
                return cancelled
            now = _first(connection, operation_id)
            if now is None:
                return Refusal(NotFound(f'operation "{operation_id}" is unknown', field="id"))
            if now.state is OperationState.CANCELLED:
                return now
            if now.state is OperationState.RUNNING:
                return Refusal(Conflict("the operation is running: it was sent to WhatsApp and may have taken effect"))
            return Refusal(Conflict(f"the operation is {now.state}: only one that waits can be cancelled"))

        return await self._database.write(work)

    async def follow_clock(self, company: str, step: ClockStep) -> None:
        mine = (operations.c.company_id == company, IS_OPEN_OPERATION)

        def work(connection: Connection) -> None:
            moved = moved_with_clock(connection, operations.c.expires_at, step, made_at=operations.c.accepted_at)
            can_expire = (operations.c.expires_at.is_not(None), moved.which)
            connection.execute(update(operations).where(*mine, *can_expire).values(expires_at=moved.to))
            connection.execute(update(operations).where(*mine).values(next_at=None))

        await self._database.write(work, company=company)

    async def find(self, operation_id: str) -> Operation | None:
        return await self._database.read(lambda connection: _first(connection, operation_id))

    async def open(self, company: str, *, now: str, paused: Collection[str], limit: int) -> OpenOperations:
        table = operations.c
        columns = table["seq", "target", "kind", "state", "next_at", "expires_at"]
        mine = select(*columns).where(table.company_id == company, IS_OPEN_OPERATION).order_by(table.seq)

        def rows(connection: Connection, numbers: Sequence[int]) -> list[Operation]:
            found = connection.execute(select(*_SHOWN).where(table.seq.in_(numbers))).mappings()
            by_number = {row["seq"]: _operation(row) for row in found}
            return [by_number[number] for number in numbers]

        def work(connection: Connection) -> OpenOperations:
            # Whole rows are read of those only that are to be done: a thousand may be open.
            every = connection.execute(mine).all()
            first = {row.target: row for row in reversed(every)}.values()
            due = sorted((max(row.next_at or "", now), row.seq) for row in first if row.kind not in paused)
            can_expire = [row for row in every if row.expires_at and row.state == OperationState.QUEUED.value]
            expired = [row.seq for row in can_expire if row.expires_at <= now]
            return OpenOperations(
                heads=rows(connection, [seq for _, seq in due[:limit]]),
                expired=rows(connection, expired[:limit]),
                next_expiry=min((row.expires_at for row in can_expire if row.expires_at > now), default=None),
            )

        return await self._database.read(work)

    async def operations(
        self, company: str, *, state: OperationState | None, after: int, limit: int
    ) -> list[Operation]:
        statement = select(*_SHOWN).where(operations.c.company_id == company, operations.c.seq > after)
        if state is not None:
            statement = statement.where(
                operations.c.state == state.value, *([IS_OPEN_OPERATION] if state in OPEN else [])
            )
        statement = statement.order_by(operations.c.seq).limit(limit)
        return await self._database.read(
            lambda connection: [_operation(row) for row in connection.execute(statement).mappings()]
        )

    async def newest(self, company: str, *, limit: int) -> list[Operation]:
        statement = select(*_SHOWN).where(operations.c.company_id == company).order_by(operations.c.seq.desc())
        return await self._database.read(
            lambda connection: [_operation(row) for row in connection.execute(statement.limit(limit)).mappings()]
        )


def _keyed(connection: Connection, company: str, key: str, *, request_hash: str) -> Operation | Refusal | None:
    """The answer to a request whose Idempotency-Key was used before."""
    mine = (operations.c.company_id == company, operations.c.idempotency_key == key)
    row = connection.execute(select(*_SHOWN, operations.c.request_hash).where(*mine)).mappings().first()
    if row is None:
        return None
    if row["request_hash"] != request_hash:
        sentence = (
            f'Idempotency-Key "{key}" was used for another operation of this company: '
            "give each operation a key of its own"
        )
        return Refusal(Conflict(sentence, field="Idempotency-Key"))
    return _operation(row)


def _first(connection: Connection, operation_id: str) -> Operation | None:
    row = connection.execute(select(*_SHOWN).where(operations.c.id == operation_id)).mappings().first()
    return None if row is None else _operation(row)


def _accepted(draft: OperationDraft, now: str) -> dict[str, Any]:
    return {
        "id": draft.id,
        "company_id": draft.company,
        "kind": draft.kind,
        "target": draft.target,
        "arguments": json.dumps(draft.arguments),
        "state": OperationState.QUEUED.value,
        "attempts": 0,
        "accepted_at": now,
        "expires_at": draft.expires_at,
        "idempotency_key": draft.idempotency_key,
        "request_hash": draft.request_hash,
    }


def _changes(operation: Operation) -> dict[str, Any]:
    names = [column.name for column in _SHOWN if column.name not in _FIXED | {"company_id"}]
    values = {name: getattr(operation, name) for name in names}
    values["state"] = operation.state.value
    for name in ("observed", "result"):
        values[name] = None if values[name] is None else json.dumps(values[name])
    return values


def _operation(row: RowMapping | Mapping[Any, Any]) -> Operation:
    values = {str(name): value for name, value in row.items() if name not in _HIDDEN}
    for name in _JSON:
        values[name] = None if values[name] is None else json.loads(values[name])
    return Operation(company=values.pop("company_id"), state=OperationState(values.pop("state")), **values)


def _record(connection: Connection, operation: Operation, *, at: str) -> None:
    if is_light(operation) and operation.state is not OperationState.FAILED:
        announce(connection, NewEvents(operation.company))  # callers may wait for the outcome
        return
    chat = operation.target if "@" in operation.target else None
    record(connection, operation.company, OPERATION, body_of(operation), chat=chat, at=at)
