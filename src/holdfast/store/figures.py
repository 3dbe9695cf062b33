"""Counts over the outbox, for health and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from holdfast.delivery.message import OPEN, MessageState
from holdfast.delivery.ports import Backlog, Tally
from holdfast.store.database import Database
from holdfast.store.tables import outbox

_ARRIVED = (MessageState.DELIVERED, MessageState.READ, MessageState.PLAYED)
_LEFT_OUT = (MessageState.CANCELLED, MessageState.EXPIRED)


class FigureRows:
    """Keeps `holdfast.delivery.ports.Figures`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def backlogs(self) -> Mapping[str, Backlog]:
        statement = (
            select(outbox.c.company_id, func.count(), func.min(outbox.c.accepted_at))
            .where(outbox.c.state.in_(OPEN))
            .group_by(outbox.c.company_id)
        )

        def work(connection: Connection) -> dict[str, Backlog]:
            rows = connection.execute(statement)
            return {company: Backlog(waiting=waiting, oldest_at=oldest) for company, waiting, oldest in rows}

        return await self._database.read(work)

    async def tally(self, company: str, *, since: str, until: str) -> Tally:
        statement = (
            select(outbox.c.state, func.count())
            .where(outbox.c.company_id == company, outbox.c.accepted_at >= since, outbox.c.accepted_at < until)
            .where(outbox.c.state.not_in(_LEFT_OUT))
            .group_by(outbox.c.state)
        )

        def work(connection: Connection) -> Tally:
            counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(statement)}
            arrived = sum(counts.get(state, 0) for state in _ARRIVED)
            return Tally(
                accepted=sum(counts.values()), taken=arrived + counts.get(MessageState.SENT, 0), arrived=arrived
            )

        return await self._database.read(work)
