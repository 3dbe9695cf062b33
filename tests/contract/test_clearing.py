"""Removing one company of many, on SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, event, func, select

from holdfast.backup.clearing import clear_in_parts
from holdfast.base.errors import NotFound
from holdfast.store.database import Database
from holdfast.store.tables import metadata
from tests import filling

ROWS, COMPANIES = 2200, 2
FILLING = filling.Filling(companies=COMPANIES, total=ROWS, largest=0.6)
CLEARED, OTHER = filling.company(0), filling.company(1)


def fill(connection: Connection) -> None:
    FILLING.add_sessions(connection)
    for add in (FILLING.add_messages, FILLING.add_events, FILLING.add_rest):
        add(connection, range(ROWS))


def count(connection: Connection, company: str) -> dict[str, int]:
    tables = [table for table in metadata.sorted_tables if "company_id" in table.c]
    mine = {table.name: select(func.count()).where(table.c.company_id == company) for table in tables}
    return {name: found for name, each in mine.items() if (found := connection.scalar(each))}


async def test_a_company_is_cleared_in_parts_and_others_are_unchanged(place: Path | URL) -> None:
    """No transaction removes more than a part, so that the writes of others run in between; no row of the company is
    left.
    """
    database = Database(place)
    await database.write(fill)
    before = await database.read(lambda connection: count(connection, OTHER))
    removed: list[int] = []

    def note(*arguments: object) -> None:
        cursor, statement = arguments[1], str(arguments[2])
        if statement.startswith("DELETE"):
            removed.append(cursor.rowcount)  # type: ignore[attr-defined]  # a cursor of either driver

    engine = database._opened.writing
    event.listen(engine, "after_cursor_execute", note)
    await clear_in_parts(database, CLEARED)
    assert sum(removed) > 8000
    assert max(removed) <= 100
    assert await database.read(lambda connection: count(connection, CLEARED)) == {}
    assert await database.read(lambda connection: count(connection, OTHER)) == before
    with pytest.raises(NotFound):
        await clear_in_parts(database, CLEARED)
    database.close()
