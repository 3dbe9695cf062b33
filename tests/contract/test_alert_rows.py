"""The contract of alert rows, run on those in memory and on the database's."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.health.stores import AlertRows, AlertsNotStored, PendingAlert
from holdfast.store.alerts import AlertTable
from holdfast.store.database import Database
from holdfast.store.postgres import parse
from tests.contract.places import make_place
from tests.doubles.fake_alert_rows import FakeAlertRows
from tests.postgres_process import PostgresProcess

ADDRESSES = ["f00d", "beef"]
DAYS_AGO = "2026-11-20T12:00:00.000Z"


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AlertRows]:
    if request.param == "memory":
        yield FakeAlertRows()
        return
    with contextlib.closing(Database(make_place(request.param, request, tmp_path))) as database:
        yield AlertTable(database, node="a" if database.is_shared else None)


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


async def test_a_database_that_hangs_stores_no_alerts(tmp_path: Path) -> None:
    """An alert about it must be sent, so nothing may wait for its rows."""
    hangs = threading.Event()
    with contextlib.closing(Database(tmp_path / "holdfast.db")) as database:
        other = database.write(lambda _: hangs.wait(10))
        with pytest.raises(AlertsNotStored, match="did not answer within"):
            await AlertTable(database, patience_s=0.05).keep("book", [pending(1)])
        hangs.set()
        await other


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
    for asked in (
        rows.book(),
        rows.pending(),
        rows.adopt([], before=DAYS_AGO),
        rows.is_owned("id1", "f00d"),
        rows.keep("one", []),
        rows.settle("id1", "f00d"),
    ):
        with pytest.raises(AlertsNotStored):
            await asked


async def test_a_process_that_has_its_database_for_itself_adopts_nothing(rows: AlertRows) -> None:
    """Its own alerts are pending, whatever name the process had when it stored them."""
    await rows.keep("one", [pending(1)])
    assert await rows.adopt(ADDRESSES, before=DAYS_AGO) == []


async def test_an_alert_is_owned_until_it_is_settled(rows: AlertRows) -> None:
    """For each address by itself."""
    await rows.keep("one", [pending(1), pending(1, "beef")])
    await rows.settle("id1", "beef")
    assert [await rows.is_owned("id1", address) for address in ("f00d", "beef", "cafe")] == [True, False, False]


@pytest.mark.slow
async def test_each_alert_belongs_to_one_node(postgres: PostgresProcess) -> None:
    """To the one that stored it, and after that is gone to the first that adopts it. Alerts that an older version
    stored belong to nobody."""
    url = postgres.new_migrated()
    with contextlib.ExitStack() as held:
        operator = held.enter_context(postgres.operator(url))
        databases = [held.enter_context(contextlib.closing(Database(parse(url)))) for _ in "abc"]
        a, b, c = (AlertTable(each, node=name) for each, name in zip(databases, "abc", strict=True))
        for name in "abc":
            operator.execute(
                "INSERT INTO nodes (id, name, url, holder, started_at, seen_at) VALUES (%s, %s, '', '', now(), now())",
                (name, name),
            )
        await a.keep("one", [pending(2), pending(1)])
        assert [await each.pending() for each in (a, b)] == [[pending(2), pending(1)], []]
        assert [await each.adopt(ADDRESSES, before=DAYS_AGO) for each in (a, b)] == [[], []]
        assert [await each.is_owned("id1", "f00d") for each in (a, b)] == [True, False]
        operator.execute("UPDATE nodes SET seen_at = now() - interval '2 minutes' WHERE name = 'a'")
        assert await b.adopt(["cafe"], before=DAYS_AGO) == []
        adopted = await asyncio.gather(*(each.adopt(ADDRESSES, before=DAYS_AGO) for each in (b, c)))
        assert sorted(adopted, key=len) == [[], [pending(2), pending(1)]]
        assert await a.is_owned("id1", "f00d") is False
        assert await a.pending() == []
        operator.execute("UPDATE alerts SET owner = NULL WHERE id = 'id1'")
        assert [await each.adopt([], before="2026-11-23") for each in (b, c)] == [[pending(1)], []]
