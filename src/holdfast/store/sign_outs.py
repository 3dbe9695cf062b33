"""Dashboard sessions that were signed out. A row is kept until the cookie expires."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from holdfast.store.connection import insert
from holdfast.store.database import Database
from holdfast.store.tables import sign_outs


class SignOutRows:
    """Implements `holdfast.dashboard.ports.SignOuts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, login_id: str, *, now: str, forget_at: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(delete(sign_outs).where(sign_outs.c.forget_at < now))
            row = insert(connection, sign_outs).values(login_id=login_id, forget_at=forget_at)
            connection.execute(row.on_conflict_do_nothing())

        await self._database.write(work)

    async def has(self, login_id: str) -> bool:
        statement = select(sign_outs.c.login_id).where(sign_outs.c.login_id == login_id)
        return await self._database.read(lambda connection: connection.scalar(statement)) is not None
