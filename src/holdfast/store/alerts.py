"""The state of alerts, and the alerts that are still to be delivered, as rows."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from typing import TypeVar

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import SQLAlchemyError

from holdfast.health.stores import AlertsNotStored, PendingAlert
from holdfast.store.connection import insert
from holdfast.store.database import Database
from holdfast.store.database_failures import cause_of
from holdfast.store.shared_secrets import note, noted
from holdfast.store.tables import alerts

T = TypeVar("T")

_BOOK = "alert-book"


class AlertTable:
    """Implements `holdfast.health.stores.AlertRows`."""

    def __init__(self, database: Database, *, node: str | None = None) -> None:
        """`node`: the process whose alerts these are, where several share the database."""
        self._database = database
        self._book = _BOOK if node is None else f"{_BOOK} {node}"

    async def book(self) -> str | None:
        return await _kept(self._database.read(lambda connection: noted(connection, self._book)))

    async def keep(self, book: str, added: Sequence[PendingAlert]) -> None:
        def work(connection: Connection) -> None:
            note(connection, self._book, book)
            for alert in added:
                connection.execute(insert(connection, alerts).values(asdict(alert)).on_conflict_do_nothing())

        await _kept(self._database.write(work))

    async def pending(self) -> list[PendingAlert]:
        columns = [column for column in alerts.c if column.name != "seq"]

        def work(connection: Connection) -> list[PendingAlert]:
            rows = connection.execute(select(*columns).order_by(alerts.c.seq)).mappings()
            return [PendingAlert(**{str(name): value for name, value in row.items()}) for row in rows]

        return await _kept(self._database.read(work))

    async def settle(self, alert_id: str, address: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(delete(alerts).where(alerts.c.id == alert_id, alerts.c.address == address))

        await _kept(self._database.write(work))


async def _kept(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except (SQLAlchemyError, OSError) as error:
        raise AlertsNotStored(f"the database did not store the alerts: {cause_of(error)}") from error
