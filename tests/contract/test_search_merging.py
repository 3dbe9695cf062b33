"""SQLite's full-text index is merged in small steps: no transaction has to merge thousands of its pages."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from holdfast.delivery.retention import RetainedRows
from holdfast.store import search_index
from holdfast.store.compact import compact
from holdfast.store.database import Database
from holdfast.store.retention import RetentionRows
from holdfast.store.tables import outbox
from tests import filling

ROWS = 12_000
AT_ONCE = 60
MOST_PAGES = 300
"""More than 60 messages write, with the merge that follows. Left to itself, FTS5 sometimes changes 900 here at once,
and more in a larger index."""
FILLING = filling.Filling(companies=2, total=ROWS)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """With messages that are not indexed."""
    opened = Database(tmp_path / "holdfast.db")

    def fill(connection: Connection) -> None:
        FILLING.add_sessions(connection)
        for rows in FILLING.messages(range(ROWS)):
            if rows.table == "outbox":
                filling.load(connection, rows)

    try:
        await opened.write(fill)
        yield opened
    finally:
        opened.close()


async def changed_rows(database: Database, work: Callable[[Connection], int]) -> tuple[int, int]:
    """What `work` returns, and how many rows its transaction changed besides; pages of the index are rows."""

    def measured(connection: Connection) -> tuple[int, int]:
        before = connection.scalar(text("SELECT total_changes()")) or 0
        done = work(connection)
        return done, (connection.scalar(text("SELECT total_changes()")) or 0) - before - done

    return await database.write(measured)


async def segments(database: Database) -> int:
    count = text("SELECT COUNT(DISTINCT segid) FROM outbox_search_idx")
    return await database.read(lambda connection: connection.scalar(count) or 0)


async def index_all(database: Database) -> list[int]:
    """How many pages each part changed."""
    pages = []
    indexed = AT_ONCE
    index_part = functools.partial(search_index.index_part, table=outbox, limit=AT_ONCE)
    while indexed:
        indexed, changed = await changed_rows(database, index_part)
        pages.append(changed)
    return pages


async def test_no_part_of_messages_merges_much_of_the_index(database: Database) -> None:
    """Nor do segments pile up, which would make each search slower."""
    pages = await index_all(database)
    assert len(pages) > ROWS / AT_ONCE
    assert max(pages) <= MOST_PAGES
    assert await segments(database) <= 20


async def test_removing_messages_merges_the_index_too(database: Database) -> None:
    """Each removal adds a segment with the entries that are removed."""
    await index_all(database)
    retention, after, most = RetentionRows(database), 0, 0
    while after < ROWS // 2:
        batch = await retention.remove_batch(RetainedRows.MESSAGES, before="2100", now="2101", after=after)
        assert batch.removed
        after = batch.continue_after or ROWS
        most = max(most, await segments(database))
    assert most <= 15


async def test_compacting_merges_all_segments_in_parts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other writes run in between."""
    await index_all(database)
    parts: list[int] = []
    monkeypatch.setattr(search_index, "_OPTIMIZED_AT_ONCE", 20)
    original = search_index.optimize_part

    def counted(connection: Connection, **arguments: object) -> bool:
        before = connection.scalar(text("SELECT total_changes()")) or 0
        more = original(connection, **arguments)  # type: ignore[arg-type]
        parts.append((connection.scalar(text("SELECT total_changes()")) or 0) - before)
        return more

    monkeypatch.setattr(search_index, "optimize_part", counted)
    await compact(database, may_rewrite=False)
    assert await segments(database) == 1
    assert max(parts) < 300
    assert len(parts) > 5
