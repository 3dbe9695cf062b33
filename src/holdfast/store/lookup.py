"""Looking up messages for people: newest first, by id, number or state."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, RowMapping, or_, select

from holdfast.delivery.content import text_of
from holdfast.delivery.lookup import Arrival, Letter
from holdfast.delivery.message import MessageState
from holdfast.delivery.ports import Tally
from holdfast.store.database import Database
from holdfast.store.figures import COUNTS
from holdfast.store.outbox import in_state
from holdfast.store.tables import inbox, outbox, sessions

_LETTER = outbox.c[
    "seq", "id", "whatsapp_id", "recipient", "state", "kind", "content", "attempts", "accepted_at", "sent_at",
    "delivered_at", "read_at", "error", "held_code", "held_until",
]  # fmt: skip
_ARRIVAL = inbox.c[
    "seq", "id", "whatsapp_id", "chat", "sender", "push_name", "type", "text", "from_me", "sent_at", "stored_at",
]  # fmt: skip


class LookupRows:
    """Keeps `holdfast.delivery.lookup.Lookup`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def letters(
        self, company: str, *, words: str, state: MessageState | None, before: int | None, most: int
    ) -> list[Letter]:
        statement = select(*_LETTER).where(outbox.c.company_id == company)
        if before is not None:
            statement = statement.where(outbox.c.seq < before)
        if state is not None:
            statement = statement.where(*in_state(state))
        if words:
            statement = statement.where(_names(words, outbox.c.id, outbox.c.whatsapp_id, digits=(outbox.c.recipient,)))
        statement = statement.order_by(outbox.c.seq.desc()).limit(most)

        def work(connection: Connection) -> list[Letter]:
            return [_letter(row) for row in connection.execute(statement).mappings()]

        return await self._database.read(work)

    async def letter(self, company: str, message_id: str) -> Letter | None:
        statement = select(*_LETTER).where(outbox.c.company_id == company, outbox.c.id == message_id)

        def work(connection: Connection) -> Letter | None:
            row = connection.execute(statement).mappings().first()
            return None if row is None else _letter(row)

        return await self._database.read(work)

    async def arrivals(self, company: str, *, words: str, before: int | None, most: int) -> list[Arrival]:
        statement = select(*_ARRIVAL).where(inbox.c.company_id == company)
        if before is not None:
            statement = statement.where(inbox.c.seq < before)
        if words:
            named = _names(words, inbox.c.id, inbox.c.whatsapp_id, digits=(inbox.c.sender, inbox.c.chat))
            statement = statement.where(named)
        statement = statement.order_by(inbox.c.seq.desc()).limit(most)

        def work(connection: Connection) -> list[Arrival]:
            return [Arrival(**row) for row in connection.execute(statement).mappings()]

        return await self._database.read(work)

    async def tallies(self, *, since: str, until: str) -> Mapping[str, Tally]:
        # Subqueries for each company are ranges of the index on company and time, whatever the number of rows before
        # them. A join is not: PostgreSQL then reads the whole outbox.
        mine = (
            outbox.c.company_id == sessions.c.company_id,
            outbox.c.accepted_at >= since,
            outbox.c.accepted_at < until,
        )
        counts = [select(count).where(*mine).correlate(sessions).scalar_subquery() for count in COUNTS]
        statement = select(sessions.c.company_id, *counts)

        def work(connection: Connection) -> dict[str, Tally]:
            return {
                company: Tally(accepted=accepted, taken=taken, arrived=arrived)
                for company, accepted, taken, arrived in connection.execute(statement)
                if accepted
            }

        return await self._database.read(work)


def _names(words: str, *ids: ColumnElement[str], digits: tuple[ColumnElement[str], ...]) -> ColumnElement[bool]:
    """Does a row go by these words?"""
    matches = [column.startswith(words, autoescape=True) for column in ids]
    number = words.lstrip("+").replace(" ", "").replace("-", "")
    if number.isascii() and number.isdigit():
        matches += [column.contains(number, autoescape=True) for column in digits]
    return or_(*matches)


def _letter(row: RowMapping) -> Letter:
    values = {str(name): value for name, value in row.items()}
    content = json.loads(values.pop("content"))
    return Letter(state=MessageState(values.pop("state")), text=text_of(content), **values)
