"""Looking up messages for people: newest first, by id, number or state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, or_, select, true

from holdfast.delivery.content import shown_text, text_of
from holdfast.delivery.lookup import OutboundRow
from holdfast.delivery.message import MessageState
from holdfast.delivery.stores import DeliveryTally, Received
from holdfast.store.database import Database
from holdfast.store.figures import COUNTS
from holdfast.store.inbox import RECEIVED, received, subjects_of
from holdfast.store.outbox import in_state
from holdfast.store.tables import inbox, outbox, sessions

_LETTER = outbox.c[
    "seq", "id", "whatsapp_id", "recipient", "state", "kind", "content", "attempts", "accepted_at", "sent_at",
    "delivered_at", "read_at", "error", "held_code", "held_until",
]  # fmt: skip
_MOST_ROUNDS = 10
"""Parts of the outbox that one search by text reads."""


class LookupRows:
    """Keeps `holdfast.delivery.lookup.Lookup`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sent_messages(
        self, company: str, *, words: str, state: MessageState | None, before: int | None, most: int
    ) -> list[OutboundRow]:
        statement = select(*_LETTER).where(outbox.c.company_id == company)
        if state is not None:
            statement = statement.where(*in_state(state))
        named = _names(words, outbox.c.id, outbox.c.whatsapp_id, digits=(outbox.c.recipient,)) if words else true()
        if words:
            escaped = json.dumps(words)[1:-1]  # as the stored JSON has it
            statement = statement.where(or_(named, outbox.c.content.icontains(escaped, autoescape=True)))
        statement = statement.add_columns(named.label("is_named")).order_by(outbox.c.seq.desc()).limit(most)

        def part(connection: Connection, before: int | None) -> Sequence[RowMapping]:
            narrowed = statement if before is None else statement.where(outbox.c.seq < before)
            return connection.execute(narrowed).mappings().all()

        def work(connection: Connection) -> list[OutboundRow]:
            found: list[OutboundRow] = []
            below = before
            for _ in range(_MOST_ROUNDS):
                rows = part(connection, below)
                found += [_letter(row) for row in rows if row["is_named"] or _says(row, words)]
                if len(found) >= most or len(rows) < most:
                    break
                below = rows[-1]["seq"]
            return found[:most]

        return await self._database.read(work)

    async def sent_message(self, company: str, message_id: str) -> OutboundRow | None:
        statement = select(*_LETTER).where(outbox.c.company_id == company, outbox.c.id == message_id)

        def work(connection: Connection) -> OutboundRow | None:
            row = connection.execute(statement).mappings().first()
            return None if row is None else _letter(row)

        return await self._database.read(work)

    async def inbound(self, company: str, *, words: str, before: int | None, most: int) -> list[Received]:
        statement = select(*RECEIVED).where(inbox.c.company_id == company)
        if before is not None:
            statement = statement.where(inbox.c.seq < before)
        if words:
            named = _names(words, inbox.c.id, inbox.c.whatsapp_id, digits=(inbox.c.sender, inbox.c.chat))
            said = (column.icontains(words, autoescape=True) for column in (inbox.c.text, inbox.c.push_name))
            statement = statement.where(or_(named, *said))
        statement = statement.order_by(inbox.c.seq.desc()).limit(most)

        def work(connection: Connection) -> list[Received]:
            rows = connection.execute(statement).mappings().all()
            subjects = subjects_of(connection, company, {row["chat"] for row in rows})
            return [received(row, subjects) for row in rows]

        return await self._database.read(work)

    async def tallies(self, *, since: str, until: str) -> Mapping[str, DeliveryTally]:
        # Subqueries for each company are ranges of the index on company and time, whatever the number of rows before
        # them. A join is not: PostgreSQL then reads the whole outbox.
        mine = (
            outbox.c.company_id == sessions.c.company_id,
            outbox.c.accepted_at >= since,
            outbox.c.accepted_at < until,
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


def _names(words: str, *ids: ColumnElement[str], digits: tuple[ColumnElement[str], ...]) -> ColumnElement[bool]:
    """Does a row go by these words?"""
    matches = [column.startswith(words, autoescape=True) for column in ids]
    number = words.lstrip("+").replace(" ", "").replace("-", "")
    if number.isascii() and number.isdigit():
        matches += [column.contains(number, autoescape=True) for column in digits]
    return or_(*matches)


def _says(row: RowMapping, words: str) -> bool:
    """Are the words in the message's text? The stored JSON also has them in names of fields and in addresses."""
    return words.lower() in (text_of(json.loads(row["content"])) or "").lower()


def _letter(row: RowMapping) -> OutboundRow:
    values = {str(name): value for name, value in row.items() if name != "is_named"}
    content = json.loads(values.pop("content"))
    return OutboundRow(state=MessageState(values.pop("state")), text=shown_text(content), **values)
