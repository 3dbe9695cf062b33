"""The state of alerts, and the alerts that are still to be delivered, as rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, delete, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from holdfast.health.stores import AlertsNotStored, PendingAlert
from holdfast.store.connection import insert
from holdfast.store.database import Database
from holdfast.store.database_failures import cause_of
from holdfast.store.leases import recent_names
from holdfast.store.shared_secrets import note, noted
from holdfast.store.tables import alerts

T = TypeVar("T")

_BOOK = "alert-book"
_PATIENCE_S = 10.0
"""Longer than the database waits for a server that accepts no connections."""
_COLUMNS = [column for column in alerts.c if column.name not in {"seq", "owner"}]


class AlertTable:
    """Implements `holdfast.health.stores.AlertRows`."""

    def __init__(self, database: Database, *, node: str | None = None, patience_s: float = _PATIENCE_S) -> None:
        """`node`: the process whose alerts these are, where several share the database. `patience_s`: how long the
        database may take to answer.
        """
        self._database = database
        self._patience_s = patience_s
        self._node = node
        self._book = _BOOK if node is None else f"{_BOOK} {node}"

    async def book(self) -> str | None:
        return await self._in_time(self._database.read(lambda connection: noted(connection, self._book)))

    async def keep(self, book: str, added: Sequence[PendingAlert]) -> None:
        def work(connection: Connection) -> None:
            note(connection, self._book, book)
            for alert in added:
                values = {**asdict(alert), "owner": self._node}
                connection.execute(insert(connection, alerts).values(values).on_conflict_do_nothing())

        await self._in_time(self._database.write(work))

    async def pending(self) -> list[PendingAlert]:
        found = select(*_COLUMNS).order_by(alerts.c.seq)
        if self._node is not None:
            found = found.where(alerts.c.owner == self._node)
        return await self._in_time(
            self._database.read(lambda connection: _alerts(connection.execute(found).mappings()))
        )

    async def adopt(self, addresses: Collection[str], *, before: str) -> list[PendingAlert]:
        if self._node is None:
            return []
        # Of two nodes that do this at the same time, the second one leaves out what the first one has locked.
        orphans = (
            select(alerts.c.seq)
            .where(
                or_(alerts.c.owner.is_(None), (alerts.c.owner != self._node) & _owner_is_gone()),
                or_(alerts.c.address.in_(addresses), alerts.c.made_at < before),
            )
            .with_for_update(skip_locked=True)
        )
        taken = update(alerts).where(alerts.c.seq.in_(orphans)).values(owner=self._node)
        adopted = taken.returning(alerts.c.seq, *_COLUMNS)

        def work(connection: Connection) -> list[PendingAlert]:
            rows = sorted(connection.execute(adopted).mappings(), key=lambda row: int(row["seq"]))
            return _alerts({name: value for name, value in row.items() if name != "seq"} for row in rows)

        return await self._in_time(self._database.write(work))

    async def is_owned(self, alert_id: str, address: str) -> bool:
        found = select(alerts.c.owner).where(alerts.c.id == alert_id, alerts.c.address == address)

        def work(connection: Connection) -> bool:
            row = connection.execute(found).one_or_none()
            return row is not None and (self._node is None or row.owner == self._node)

        return await self._in_time(self._database.read(work))

    async def settle(self, alert_id: str, address: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(delete(alerts).where(alerts.c.id == alert_id, alerts.c.address == address))

        await self._in_time(self._database.write(work))

    async def _in_time(self, operation: Awaitable[T]) -> T:
        """The result of an operation. Raises `AlertsNotStored`, also for a database that hangs: the alert that says so
        must not wait for it.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                return await operation
        except TimeoutError as error:
            raise AlertsNotStored(f"the database did not answer within {self._patience_s:g} s") from error
        except (SQLAlchemyError, OSError) as error:
            raise AlertsNotStored(f"the database did not store the alerts: {cause_of(error)}") from error


def _owner_is_gone() -> ColumnElement[bool]:
    return alerts.c.owner.not_in(recent_names())


def _alerts(rows: Iterable[Mapping[Any, Any]]) -> list[PendingAlert]:
    return [PendingAlert(**{str(name): value for name, value in row.items()}) for row in rows]
