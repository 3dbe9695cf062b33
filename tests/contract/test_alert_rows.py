"""The contract of alert rows, run on those in memory and on the database's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.health.stores import AlertRows, AlertsNotStored, PendingAlert
from holdfast.store.alerts import AlertTable
from holdfast.store.database import Database
from tests.databases import migrated
from tests.doubles.fake_alert_rows import FakeAlertRows


@pytest.fixture(params=["memory", "sqlite"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AlertRows]:
    if request.param == "memory":
        yield FakeAlertRows()
        return
    path = tmp_path / "holdfast.db"
    path.write_bytes(migrated())
    database = Database(path)
    yield AlertTable(database)
    database.close()


def pending(number: int, address: str = "f00d", title: str = "Holdfast: 962302 – banned") -> PendingAlert:
    return PendingAlert(
        id=f"id{number}",
        address=address,
        subject="banned 962302",
        title=title,
        body="Company: 962302\nBanned.",
        severity="critical",
        made_at="2026-11-22T12:00:00.000Z",
    )


async def test_a_new_store_is_empty(rows: AlertRows) -> None:
    """A missing alert book differs from an empty one."""
    assert (await rows.book(), await rows.pending()) == (None, [])


async def test_the_last_stored_book_is_returned(rows: AlertRows) -> None:
    """Each stored book replaces the one before."""
    await rows.keep("one", [])
    await rows.keep("two", [])
    assert await rows.book() == "two"


async def test_alerts_come_back_whole_and_in_order(rows: AlertRows) -> None:
    """Every field, oldest first, over several calls."""
    await rows.keep("one", [pending(2), pending(1)])
    await rows.keep("two", [pending(1, "beef")])
    assert await rows.pending() == [pending(2), pending(1), pending(1, "beef")]


async def test_an_alert_is_stored_once(rows: AlertRows) -> None:
    """Id and address are unique; a stored alert is not changed."""
    await rows.keep("one", [pending(1)])
    await rows.keep("two", [pending(1, title="another"), pending(2)])
    assert await rows.pending() == [pending(1), pending(2)]


async def test_settled_alerts_are_gone(rows: AlertRows) -> None:
    """They are removed for their address only; unknown ones are ignored."""
    await rows.keep("one", [pending(1), pending(1, "beef"), pending(2)])
    await rows.settle("id1", "f00d")
    await rows.settle("id1", "f00d")
    await rows.settle("id9", "f00d")
    assert await rows.pending() == [pending(1, "beef"), pending(2)]


async def test_changes_take_effect_in_call_order(rows: AlertRows) -> None:
    """An alert that is settled while it is being stored is gone afterwards."""
    await asyncio.gather(rows.keep("one", [pending(1)]), rows.settle("id1", "f00d"))
    assert await rows.pending() == []


async def test_a_failing_store_raises_its_own_error() -> None:
    """In every method."""
    rows = FakeAlertRows()
    rows.fails = True
    for asked in (rows.book(), rows.pending(), rows.keep("one", []), rows.settle("id1", "f00d")):
        with pytest.raises(AlertsNotStored):
            await asked
