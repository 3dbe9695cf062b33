"""Named values in the table `notes`, such as secrets that all processes share."""

from __future__ import annotations

from sqlalchemy import Connection, select

from holdfast.base.ids import RandomSource
from holdfast.store.connection import insert
from holdfast.store.database import Database
from holdfast.store.tables import notes


def note(connection: Connection, name: str, value: str) -> None:
    statement = insert(connection, notes).values(name=name, value=value)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def noted(connection: Connection, name: str) -> str | None:
    return connection.scalar(select(notes.c.value).where(notes.c.name == name))


async def shared_secret(database: Database, name: str, *, randomness: RandomSource) -> str:
    """Return a secret that all processes on this database share; the first caller creates it."""
    fresh = randomness.secret()

    def work(connection: Connection) -> str:
        connection.execute(insert(connection, notes).values(name=name, value=fresh).on_conflict_do_nothing())
        return noted(connection, name) or fresh

    return await database.write(work)
