"""Marks of a database that was moved to another place, or that is still being filled by a move.

Neither may be used: the ratchet keys in the two databases are the same, and two programs that use them would encrypt
different messages with one key.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete

from holdfast.base.errors import Misconfigured
from holdfast.store.shared_secrets import note, noted
from holdfast.store.tables import notes

MOVED_TO = "moved-to"
"""Of a source: where its content is now, for people."""
FILLED_FROM = "moving-from"
"""Of a target, until its source is marked: the source of its content."""


def refuse_moved(connection: Connection) -> None:
    """Raises `Misconfigured` with the cure if the database must not be used."""
    if (target := noted(connection, MOVED_TO)) is not None:
        raise Misconfigured(
            f"this database was moved to {target}: use that one (HOLDFAST_DATABASE_URL; unset for SQLite). This one is "
            "kept as it was and must not run again, because its keys are in use there",
            field="HOLDFAST_DATABASE_URL",
        )
    if (source := noted(connection, FILLED_FROM)) is not None:
        raise Misconfigured(
            f"this database is not complete: a move from {source} was interrupted. Nothing is lost there: run "
            "`holdfast move` again with the settings of that database, or continue to use it",
            field="HOLDFAST_DATABASE_URL",
        )


def mark(connection: Connection, name: str, place: str) -> None:
    note(connection, name, place)


def unmark(connection: Connection, name: str) -> None:
    connection.execute(delete(notes).where(notes.c.name == name))
