"""Finds messages for people: newest first, by words, id, phone number or state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, select

from holdfast.delivery.content import shown_text
from holdfast.delivery.lookup import OutboundRow
from holdfast.delivery.message import MessageState
from holdfast.delivery.search import parse_search
from holdfast.delivery.stores import DeliveryTally, Received
from holdfast.store import search_index
from holdfast.store.database import Database
from holdfast.store.figures import COUNTS, is_counted
from holdfast.store.inbox import RECEIVED, received
from holdfast.store.message_rows import IS_TO_NEW_CONTACT
from holdfast.store.outbox import in_state
from holdfast.store.search_indexer import SearchIndexer
from holdfast.store.tables import inbox, outbox, sessions

_OUTBOUND = (
    *outbox.c[
        "seq", "id", "whatsapp_id", "recipient", "state", "kind", "content", "attempts", "accepted_at", "sent_at",
        "delivered_at", "read_at", "error", "held_code", "held_until",
    ],
    IS_TO_NEW_CONTACT,
)  # fmt: skip
_MAX_OF_ANY_STATE = 10_000
"""Number of matches among which a search for one state looks at most."""
_AT_ONCE = 500
_END = 2**62
"""Higher than every `seq`."""


class LookupRows:
    """Implements `holdfast.delivery.lookup.Lookup`."""

    def __init__(self, database: Database, indexer: SearchIndexer) -> None:
        self._database = database
        self._indexer = indexer

    async def sent_messages(
        self, company: str, *, words: str, state: MessageState | None, before: int | None, limit: int
    ) -> list[OutboundRow]:
        statement = select(*_OUTBOUND).where(outbox.c.company_id == company)
        if state is not None:
            statement = statement.where(*in_state(state))

        def work(connection: Connection) -> list[OutboundRow]:
            if words:
                rows = _found(connection, statement, outbox, company, words, before=before, limit=limit, state=state)
            else:
                rows = _newest(connection, statement, outbox, before=before, limit=limit)
            return [_outbound(row) for row in rows]

        if words:
            await self._indexer.try_to_catch_up()
        return await self._database.read(work)

    async def sent_message(self, company: str, message_id: str) -> OutboundRow | None:
        statement = select(*_OUTBOUND).where(outbox.c.company_id == company, outbox.c.id == message_id)

        def work(connection: Connection) -> OutboundRow | None:
            row = connection.execute(statement).mappings().first()
            return None if row is None else _outbound(row)

        return await self._database.read(work)

    async def inbound(self, company: str, *, words: str, before: int | None, limit: int) -> list[Received]:
        statement = select(*RECEIVED).where(inbox.c.company_id == company)

        def work(connection: Connection) -> list[Received]:
            if words:
                rows = _found(connection, statement, inbox, company, words, before=before, limit=limit)
            else:
                rows = _newest(connection, statement, inbox, before=before, limit=limit)
            return received(connection, company, rows)

        if words:
            await self._indexer.try_to_catch_up()
        return await self._database.read(work)

    async def tallies(self, *, since: str, until: str) -> Mapping[str, DeliveryTally]:
        # Subqueries for each company read ranges of the index on company and time, however many older rows there are.
        # For a join PostgreSQL would read the whole outbox.
        mine = (
            outbox.c.company_id == sessions.c.company_id,
            outbox.c.accepted_at >= since,
            is_counted(until),
        )
        counts = [select(count).where(*mine).correlate(sessions).scalar_subquery() for count in COUNTS]
        statement = select(sessions.c.company_id, *counts)

        def work(connection: Connection) -> dict[str, DeliveryTally]:
            return {
                company: DeliveryTally(accepted=accepted, taken=taken, arrived=arrived)
                for company, accepted, taken, arrived in connection.execute(statement)
                if accepted
            }

        return await self._database.read(work)


def _newest(
    connection: Connection, statement: Select[Any], table: Table, *, before: int | None, limit: int
) -> Sequence[RowMapping]:
    if before is not None:
        statement = statement.where(table.c.seq < before)
    return connection.execute(statement.order_by(table.c.seq.desc()).limit(limit)).mappings().all()


def _found(
    connection: Connection,
    statement: Select[Any],
    table: Table,
    company: str,
    words: str,
    *,
    before: int | None,
    limit: int,
    state: MessageState | None = None,
) -> Sequence[RowMapping]:
    """Rows of the statement that fit the words. The index knows no states: of each state the newest that fit count."""
    search = parse_search(words)
    if search.is_empty:
        return []
    wanted = limit if state is None else _MAX_OF_ANY_STATE
    numbers = search_index.find(
        connection, table, company, search, before=before or _END, limit=limit, index_limit=wanted, state=state
    )
    rows: list[RowMapping] = []
    for start in range(0, len(numbers), _AT_ONCE):
        page = connection.execute(statement.where(table.c.seq.in_(numbers[start : start + _AT_ONCE]))).mappings()
        rows += sorted(page, key=lambda row: int(row["seq"]), reverse=True)
        if len(rows) >= limit:
            break
    return rows[:limit]


def _outbound(row: RowMapping) -> OutboundRow:
    values = {str(name): value for name, value in row.items()}
    content = json.loads(values.pop("content"))
    return OutboundRow(state=MessageState(values.pop("state")), text=shown_text(content), **values)
