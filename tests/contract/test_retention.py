"""Old rows are removed in batches, and those that are still needed are kept, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, Column, Connection, event, func, insert, select, true, update

from holdfast.base.clock import iso
from holdfast.delivery.retention import RetainedRows
from holdfast.store.database import Database
from holdfast.store.events import EventRows
from holdfast.store.references import ReferenceRows
from holdfast.store.retention import RetentionRows
from holdfast.store.tables import chats, events, inbox, operations, outbox, quarantine, transitions, webhook_deliveries
from tests import filling
from tests.contract.rows import Row

ROWS, COMPANIES = 2200, 3
FILLING = filling.Filling(companies=COMPANIES, total=ROWS, largest=0.1)
NOW = iso(filling.FIRST + timedelta(days=filling.DAYS + 1))
HALF = iso(filling.FIRST + timedelta(days=filling.DAYS / 2))
AGES: dict[RetainedRows, Column[str]] = {
    RetainedRows.MESSAGES: outbox.c.accepted_at,
    RetainedRows.INBOX: inbox.c.stored_at,
    RetainedRows.OPERATIONS: operations.c.accepted_at,
    RetainedRows.TIMELINE: transitions.c.at,
    RetainedRows.QUARANTINE: quarantine.c.at,
}
Place = Path | URL
ReadRows = Callable[[str], list[Row]]


def fill(connection: Connection) -> None:
    FILLING.add_sessions(connection)
    for add in (FILLING.add_messages, FILLING.add_events, FILLING.add_rest):
        add(connection, range(ROWS))
    row = {"company_id": "company0001", "reason": "logged-out", "creds": "{}", "keys": "{}"}
    days = [iso(filling.FIRST + timedelta(days=day)) for day in range(filling.DAYS)]
    connection.execute(insert(quarantine), [{**row, "at": day} for day in days])


async def remove(database: Database, kept: RetainedRows, *, before: str) -> int:
    rows, removed, after = RetentionRows(database), 0, 0
    while True:
        batch = await rows.remove_batch(kept, before=before, now=NOW, after=after)
        removed += batch.removed
        if batch.continue_after is None:
            return removed
        after = batch.continue_after


async def test_rows_of_the_future_keep_no_old_ones_from_being_removed(place: Place) -> None:
    """The clock was wrong for a while: more messages and events of that time than one batch has."""
    database, future, old = Database(place), "2099-01-01T00:00:00.000Z", iso(filling.FIRST)
    ages = [future] * 6000 + [old]

    def work(connection: Connection) -> None:
        row = {"company_id": "company0001", "reason": "logged-out", "creds": "{}", "keys": "{}"}
        connection.execute(insert(quarantine), [{**row, "at": at} for at in ages])
        row = {"company_id": "company0001", "type": "session.updated", "chat": "", "body": "{}"}
        connection.execute(insert(events), [{**row, "id": f"evt_{n}", "at": at} for n, at in enumerate(ages)])

    await database.write(work)
    assert await remove(database, RetainedRows.QUARANTINE, before=HALF) == 1
    await EventRows(database).prune(before=HALF, now=NOW)
    left = select(func.count()).select_from(events)
    assert await database.read(lambda connection: connection.scalar(left)) == 6000
    database.close()


@pytest.mark.parametrize("kept", RetainedRows)
async def test_all_old_rows_are_removed_in_batches_and_no_newer_one(place: Place, kept: RetainedRows) -> None:
    """No transaction removes more than 500 rows; a second sweep finds nothing."""
    database, age = Database(place), AGES[kept]
    await database.write(fill)
    may_go = {
        RetainedRows.MESSAGES: outbox.c.state.not_in(["queued", "sending"]),
        RetainedRows.OPERATIONS: operations.c.state != "queued",
    }
    is_old = (age < HALF, may_go.get(kept, true()))
    old, newer = select(func.count()).where(*is_old), select(func.count()).where(age >= HALF)
    expected = await database.read(lambda connection: (connection.scalar(old), connection.scalar(newer)))
    sizes: list[int] = []

    def note(*arguments: object) -> None:
        if str(arguments[2]).startswith("DELETE"):
            sizes.append(arguments[1].rowcount)  # type: ignore[attr-defined]  # a cursor of either driver

    event.listen(database._opened.writing, "after_cursor_execute", note)
    removed = await remove(database, kept, before=HALF)
    assert (removed, await database.read(lambda connection: connection.scalar(newer))) == expected
    assert max(sizes) <= 500
    assert await remove(database, kept, before=HALF) == 0
    database.close()


async def test_open_or_recently_changed_messages_are_kept(place: Place, read_rows: ReadRows) -> None:
    """Whatever their age: they are still to be sent, were read yesterday, or have only just expired."""
    database = Database(place)
    await database.write(fill)
    lately = {"msg_000000000003": "read_at", "msg_000000000004": "sent_at", "msg_000000000008": "expires_at"}

    def change(connection: Connection) -> None:
        for id_, column in lately.items():
            connection.execute(update(outbox).where(outbox.c.id == id_).values({column: HALF}))

    await database.write(change)
    await remove(database, RetainedRows.MESSAGES, before=HALF)
    left = read_rows(f"SELECT id, state FROM outbox WHERE accepted_at < '{HALF}'")
    assert set(lately) | {"msg_000000000500"} == {row[0] for row in left}
    assert [row[1] for row in left if row[0] == "msg_000000000500"] == ["queued"]
    database.close()


async def test_the_newest_entry_of_each_session_is_kept(place: Place, read_rows: ReadRows) -> None:
    """A session that has been connected for months still has the entry with the start of that state."""
    database = Database(place)
    await database.write(fill)
    await remove(database, RetainedRows.TIMELINE, before="2999-01-01T00:00:00.000Z")
    assert read_rows("SELECT COUNT(*), COUNT(DISTINCT company_id) FROM turns") == [(COMPANIES, COMPANIES)]
    database.close()


async def test_contacts_events_and_webhooks_are_kept_and_references_to_removed_messages_fail(place: Place) -> None:
    """Known contacts stay known, webhooks are delivered; a reply to a removed message is refused as unknown."""
    database = Database(place)
    await database.write(fill)
    kept = [select(func.count()).select_from(table) for table in (chats, events, webhook_deliveries)]
    before = await database.read(lambda connection: [connection.scalar(each) for each in kept])
    company, chat = FILLING.whose(3), "962790000000@s.whatsapp.net"
    references = ReferenceRows(database)
    assert await references.find(company, "msg_000000000003", chat=chat)
    for each in (RetainedRows.MESSAGES, RetainedRows.INBOX):
        await remove(database, each, before=HALF)
    assert await database.read(lambda connection: [connection.scalar(each) for each in kept]) == before
    assert await references.find(company, "msg_000000000003", chat=chat) is None
    assert (await EventRows(database).after(0, companies=[company], limit=1))[0].id
    database.close()
