"""Counts the messages of the outbox for health and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, case, func, or_, select, text

from holdfast.delivery.message import OPEN, MessageState
from holdfast.delivery.stores import Backlog, DeliveryTally
from holdfast.store.database import Database
from holdfast.store.tables import outbox

_ARRIVED = tuple(state.value for state in (MessageState.DELIVERED, MessageState.READ, MessageState.PLAYED))
_TAKEN = (MessageState.SENT.value, *_ARRIVED)
_LEFT_OUT = (MessageState.CANCELLED.value, MessageState.EXPIRED.value)
_BACKLOGS = {
    (dialect, of_one): text(
        "SELECT company_id, COUNT(*), MIN(accepted_at), "  # noqa: S608 – made of constants
        "MIN(CASE WHEN held_code IS NULL AND priority = 0 THEN accepted_at END) "
        f"FROM outbox {hint} "
        f"WHERE state IN ('queued','sending'){' AND company_id = :company' if of_one else ''} GROUP BY company_id"
    )
    for dialect, hint in (("sqlite", "INDEXED BY outbox_open"), ("postgresql", ""))
    for of_one in (False, True)
}
"""By dialect, and whether of one company. The index has all columns of the query.

The states are literals: with bound values no planner uses the partial index. Without statistics SQLite prefers the
index by time and reads all of it."""


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def is_counted(until: str) -> ColumnElement[bool]:
    """Whether a message counts in delivery rates: it is settled, or old enough that it should be."""
    return or_(outbox.c.accepted_at < until, outbox.c.state.not_in([state.value for state in OPEN]))


COUNTS = (
    _count(outbox.c.state.not_in(_LEFT_OUT)),
    _count(outbox.c.state.in_(_TAKEN)),
    _count(outbox.c.state.in_(_ARRIVED)),
)
"""Accepted, taken and arrived, as in `DeliveryTally`, in one row, so that no database sorts by state."""


class FigureRows:
    """Implements `holdfast.delivery.stores.Figures`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def backlogs(self, company: str | None = None) -> Mapping[str, Backlog]:
        values = {} if company is None else {"company": company}

        def work(connection: Connection) -> dict[str, Backlog]:
            rows = connection.execute(_BACKLOGS[connection.dialect.name, company is not None], values)
            return {
                company: Backlog(waiting=waiting, oldest_at=oldest, late_since=late)
                for company, waiting, oldest, late in rows
            }

        return await self._database.read(work)

    async def tally(self, company: str, *, since: str, until: str) -> DeliveryTally:
        statement = select(*COUNTS).where(
            outbox.c.company_id == company, outbox.c.accepted_at >= since, is_counted(until)
        )

        def work(connection: Connection) -> DeliveryTally:
            accepted, taken, arrived = connection.execute(statement).one()
            return DeliveryTally(accepted=accepted, taken=taken, arrived=arrived)

        return await self._database.read(work)
