"""Session records as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select, update

from holdfast.base.errors import NotFound
from holdfast.session.reasons import current_name
from holdfast.session.state import State
from holdfast.session.stores import Record
from holdfast.store.connection import Insert, Prepared, insert
from holdfast.store.database import Database, Refusal
from holdfast.store.leases import NO_FENCE, Fence
from holdfast.store.tables import sessions

_SETTINGS = (
    "device_name",
    "proxy_url",
    "history",
    "ignored",
    "auto_reject_calls",
    "rejected_call_text",
    "shown_available",
    "auto_read",
)
_NOT_SAVED = frozenset({"company_id", "created_at", *_SETTINGS})
"""Columns that callers set directly: saving a record that was read before must not undo their change."""


class SessionRows:
    """Implements `holdfast.session.stores.Sessions`."""

    def __init__(self, database: Database, *, fence: Fence = NO_FENCE) -> None:
        self._database = database
        self._fence = fence

    async def all(self) -> list[Record]:
        def work(connection: Connection) -> list[Record]:
            rows = connection.execute(_RECORDS.order_by(sessions.c.company_id)).mappings()
            return [_record(row) for row in rows]

        return await self._database.read(work)

    async def find(self, company: str) -> Record | None:
        statement = _RECORDS.where(sessions.c.company_id == company)

        def work(connection: Connection) -> Record | None:
            row = connection.execute(statement).mappings().first()
            return None if row is None else _record(row)

        return await self._database.read(work)

    async def create(self, record: Record) -> None:
        def work(connection: Connection) -> None:
            row = insert(connection, sessions).values(_values(record))
            connection.execute(row.on_conflict_do_nothing())

        await self._database.write(work)

    async def save(self, record: Record) -> None:
        values, check = _values(record), self._fence.check(record.company)

        def work(connection: Connection) -> None:
            check(connection)
            _SAVE.rows(connection, values)

        await self._database.write(work)

    async def set_connection(self, company: str, changes: Mapping[str, str | None]) -> None:
        check = self._fence.check(company)
        statement = update(sessions).where(sessions.c.company_id == company).values(dict(changes))

        def work(connection: Connection) -> None:
            check(connection)
            connection.execute(statement)

        await self._database.write(work)

    async def labels(self) -> dict[str, str]:
        statement = select(sessions.c.company_id, sessions.c.label).where(sessions.c.label.is_not(None))

        def work(connection: Connection) -> dict[str, str]:
            return {row.company_id: row.label for row in connection.execute(statement)}

        return await self._database.read(work)

    async def set_label(self, company: str, label: str | None) -> None:
        statement = update(sessions).where(sessions.c.company_id == company).values(label=label)

        def work(connection: Connection) -> None:
            connection.execute(statement)

        await self._database.write(work)


def exists(connection: Connection, company: str) -> bool:
    """Whether the company has a session. After `lock_company`, this stays so to the end of the transaction."""
    return connection.scalar(select(sessions.c.company_id).where(sessions.c.company_id == company)) is not None


def unknown(company: str) -> Refusal:
    """The refusal of a write for a company that has no session, or no longer."""
    sentence = f'company "{company}" is unknown: create it with PUT /v1/sessions/{company}'
    return Refusal(NotFound(sentence, field="company"))


_SET_BY_PEOPLE = {"label", "media_links_revoked_at"}
_RECORDS = select(*(column for column in sessions.c if column.name not in _SET_BY_PEOPLE))
"""The record without the columns that people change, because the session's actor saves it."""


def _save(insert: Callable[[Table], Any]) -> Insert:
    row: Insert = insert(sessions)
    saved = [column.name for column in _RECORDS.selected_columns if column.name not in _NOT_SAVED]
    return row.on_conflict_do_update(index_elements=["company_id"], set_={name: row.excluded[name] for name in saved})


_SAVE = Prepared(_save)


def _values(record: Record) -> dict[str, Any]:
    values = asdict(record)
    values["company_id"] = values.pop("company")
    values["state"] = record.state.value
    return values


def _record(row: RowMapping) -> Record:
    values = dict(row)
    values |= {"company": values.pop("company_id"), "state": State(row["state"]), "reason": current_name(row["reason"])}
    return Record(**values)
