"""Removing one company of many, on SQLite and PostgreSQL."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, event, func, insert, select

from holdfast.backup.clearing import MAX_AT_ONCE, PartSize, clear_in_parts
from holdfast.base.clock import SystemClock
from holdfast.base.errors import NotFound
from holdfast.delivery.rate_limits import REACH_OUT_LOCK
from holdfast.delivery.webhooks import new_endpoint
from holdfast.store.accounts import AccountRows
from holdfast.store.database import Database
from holdfast.store.tables import media, media_chunks, metadata
from holdfast.store.webhooks import WebhookRows
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
    await clear_in_parts(database, CLEARED, clock=SystemClock())
    assert sum(removed) > 8000
    assert max(removed) <= MAX_AT_ONCE
    assert await database.read(lambda connection: count(connection, CLEARED)) == {}
    assert await database.read(lambda connection: count(connection, OTHER)) == before
    with pytest.raises(NotFound):
        await clear_in_parts(database, CLEARED, clock=SystemClock())
    database.close()


def test_parts_have_as_many_rows_as_can_be_removed_soon() -> None:
    """A slow disk gets small parts, and each table its own."""
    size = PartSize()
    for _ in range(20):
        size.adapt(0.000_01 * size.rows)
    assert size.rows == MAX_AT_ONCE
    for _ in range(20):
        size.adapt(0.000_1 * size.rows)
    assert size.rows == 50
    for _ in range(20):
        size.adapt(0.01 * size.rows)
    assert size.rows == 5


async def test_files_that_are_added_while_a_company_is_cleared_go_too(place: Path | URL) -> None:
    """Nobody would ever remove their content, which is found by the file only."""
    database, numbers = Database(place), itertools.count()
    await database.write(FILLING.add_sessions)

    def add(connection: Connection) -> None:
        file = {"id": f"med_{next(numbers)}", "mimetype": "", "size_bytes": 1, "sha256": "", "created_at": ""}
        connection.execute(insert(media).values(company_id=CLEARED, **file))
        connection.execute(insert(media_chunks).values(media_id=file["id"], n=0, bytes=b"x"))

    await clear_in_parts(database, CLEARED, clock=SystemClock(), check=add)
    count_of = [select(func.count()).select_from(table) for table in (media, media_chunks)]
    assert [await database.read(functools.partial(Connection.scalar, statement=each)) for each in count_of] == [0, 0]
    database.close()


async def test_settings_that_arrive_after_a_company_was_cleared_are_refused(place: Path | URL) -> None:
    """A request that had found the session leaves no rows without a company, which the next company of that name would
    inherit. What its actor still wants to store about limits of WhatsApp is dropped.
    """
    database = Database(place)
    await database.write(FILLING.add_sessions)
    accounts, webhooks = AccountRows(database), WebhookRows(database)
    await clear_in_parts(database, CLEARED, clock=SystemClock())
    endpoint = new_endpoint(CLEARED, url="https://own.example", secret="s")
    for refused in (
        accounts.set_pacing(CLEARED, {"perMinute": 1}),
        accounts.set_tenant_pacing(CLEARED, {"perMinute": 1}),
        webhooks.put(CLEARED, lambda _: endpoint),
    ):
        with pytest.raises(
            NotFound, match=f'company "{CLEARED}" is unknown: create it with PUT /v1/sessions/{CLEARED}'
        ):
            await refused
    await accounts.set_lock(CLEARED, code=REACH_OUT_LOCK, until="2026-01-01T00:00:00.000Z")
    await accounts.set_tight(CLEARED, until="2026-01-01T00:00:00.000Z")
    assert await webhooks.put(CLEARED, lambda _: None) is None
    assert await database.read(lambda connection: count(connection, CLEARED)) == {}
    database.close()
