"""Small facts by name: one row each."""

from __future__ import annotations

from sqlalchemy import Connection, select

from holdfast.store.opened import insert
from holdfast.store.tables import notes


def note(connection: Connection, name: str, value: str) -> None:
    statement = insert(connection, notes).values(name=name, value=value)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def noted(connection: Connection, name: str) -> str | None:
    return connection.scalar(select(notes.c.value).where(notes.c.name == name))
