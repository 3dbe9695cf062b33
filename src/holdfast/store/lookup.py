"""Looking up messages for people: newest first, by id, number or state."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, func, or_, select

from holdfast.delivery.lookup import Arrival, Letter
from holdfast.delivery.message import MessageState
from holdfast.delivery.ports import Tally
from holdfast.store.database import Database
from holdfast.store.tables import inbox, outbox

_LETTER = outbox.c[
    "seq", "id", "whatsapp_id", "recipient", "state", "kind", "content", "attempts", "accepted_at", "sent_at",
    "delivered_at", "read_at", "error", "held_code", "held_until",
]  # fmt: skip
_ARRIVAL = inbox.c[
    "seq", "id", "whatsapp_id", "chat", "sender", "push_name", "type", "text", "from_me", "sent_at", "stored_at",
]  # fmt: skip
_ARRIVED = {MessageState.DELIVERED.value, MessageState.READ.value, MessageState.PLAYED.value}
_TAKEN = _ARRIVED | {MessageState.SENT.value}
_LEFT_OUT = (MessageState.CANCELLED.value, MessageState.EXPIRED.value)


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
            statement = statement.where(outbox.c.state == state.value)
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
        statement = (
            select(outbox.c.company_id, outbox.c.state, func.count())
            .where(outbox.c.accepted_at >= since, outbox.c.accepted_at < until)
            .where(outbox.c.state.not_in(_LEFT_OUT))
            .group_by(outbox.c.company_id, outbox.c.state)
        )

        def work(connection: Connection) -> dict[str, Tally]:
            counts: dict[str, dict[str, int]] = defaultdict(dict)
            for company, state, count in connection.execute(statement):
                counts[company][state] = count
            return {company: _tally(found) for company, found in counts.items()}

        return await self._database.read(work)


def _names(words: str, *ids: ColumnElement[str], digits: tuple[ColumnElement[str], ...]) -> ColumnElement[bool]:
    """Does a row go by these words?"""
    matches = [column.startswith(words, autoescape=True) for column in ids]
    number = words.lstrip("+").replace(" ", "").replace("-", "")
    if number.isascii() and number.isdigit():
        matches += [column.contains(number, autoescape=True) for column in digits]
    return or_(*matches)


def _tally(counts: Mapping[str, int]) -> Tally:
    return Tally(
        accepted=sum(counts.values()),
        taken=sum(count for state, count in counts.items() if state in _TAKEN),
        arrived=sum(count for state, count in counts.items() if state in _ARRIVED),
    )


def _letter(row: RowMapping) -> Letter:
    values = {str(name): value for name, value in row.items()}
    content = json.loads(values.pop("content"))
    return Letter(state=MessageState(values.pop("state")), text=_said(content), **values)


def _said(content: dict[str, Any]) -> str | None:
    """The words of a message, of whatever kind."""
    said = content.get("text") or content.get("caption")
    return said if isinstance(said, str) else None
