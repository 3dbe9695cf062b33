"""Moving to a database of the other kind: everything or nothing, and never two databases that may run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, func, insert, select, text

from holdfast.backup.moving import Mover, MoveResult
from holdfast.backup.rows import KEPT, continue_from, first_free
from holdfast.base.errors import Conflict, Misconfigured
from holdfast.store.database import Database
from holdfast.store.moved import refuse_moved
from holdfast.store.postgres import parse
from holdfast.store.tables import events, leases, outbox, sessions
from tests import filling
from tests.databases import migrated
from tests.postgres_process import PostgresProcess

pytestmark = pytest.mark.slow

FILLING = filling.Filling(companies=3, total=100)
Place = Path | URL


@pytest.fixture(params=["to postgresql", "to sqlite"])
def places(request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresProcess) -> tuple[Place, Place]:
    """Source and target."""
    sqlite, server = tmp_path / "holdfast.db", parse(postgres.new_migrated())
    sqlite.write_bytes(migrated())
    return (sqlite, server) if request.param == "to postgresql" else (server, sqlite)


@contextlib.contextmanager
def opened(place: Place) -> Iterator[Database]:
    with contextlib.closing(Database(place)) as database:
        yield database


def fill(connection: Connection) -> None:
    FILLING.add_sessions(connection)
    for add in (FILLING.add_messages, FILLING.add_events, FILLING.add_rest):
        add(connection, range(FILLING.total))
    for table in (outbox, events):
        continue_from(connection, table, 400)


def counts(connection: Connection) -> dict[str, int]:
    return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in KEPT}


def next_numbers(connection: Connection) -> list[int]:
    return [first_free(connection, table) for table in (outbox, events)]


async def move(source: Database, target: Database, stop_at: str = "never") -> MoveResult:
    """Move, interrupted at the progress line that contains these words."""

    def report(line: str) -> None:
        if stop_at in line:
            raise OSError(f"interrupted: {line}")

    return await Mover(source, target, source_name="old place", target_name="new place").move(report)


async def test_a_move_copies_everything_and_disables_the_source(
    places: tuple[Place, Place],
) -> None:
    """All rows of all tables, and the next sequence numbers, in both directions."""
    with opened(places[0]) as source, opened(places[1]) as target:
        await source.write(fill)
        before = await source.read(counts)
        result = await move(source, target)
        assert result.rows == sum(before.values()) > 700
        after = await target.read(counts)
        assert after == before
        assert before["inbox"] == FILLING.total
        assert await target.read(next_numbers) == [400, 400], "numbers that were used before are not used again"
        with pytest.raises(Misconfigured, match="was moved to new place"):
            await move(source, target)
    with pytest.raises(Misconfigured, match="was moved to new place"):
        Database(places[0], check=refuse_moved)
    Database(places[1], check=refuse_moved).close()


@pytest.mark.parametrize("stop_at", ["compared", "committed", "marked"])
async def test_an_interrupted_move_does_not_change_the_source(
    tmp_path: Path, postgres: PostgresProcess, stop_at: str
) -> None:
    """The target is empty or refuses to run; both must never be usable; the next attempt copies everything."""
    places = tmp_path / "holdfast.db", parse(postgres.new_migrated())
    places[0].write_bytes(migrated())
    with opened(places[0]) as source, opened(places[1]) as target:
        await source.write(fill)
        before = await source.read(counts)
        with pytest.raises(OSError, match="interrupted"):
            await move(source, target, stop_at)
    usable = [is_usable(place) for place in places]
    has_rows = stop_at != "compared"
    assert usable == ([True, not has_rows] if stop_at != "marked" else [False, False])
    with opened(places[0]) as source, opened(places[1]) as target:
        if not has_rows:
            assert not any((await target.read(counts)).values())
        await move(source, target)
        assert await target.read(counts) == before
    assert [is_usable(place) for place in places] == [False, True]


def is_usable(place: Place) -> bool:
    try:
        Database(place, check=refuse_moved).close()
    except Misconfigured:
        return False
    return True


async def test_nothing_is_moved_out_of_or_into_a_database_in_use(tmp_path: Path, postgres: PostgresProcess) -> None:
    """A running node has leases. A target that has rows is never overwritten."""
    url = parse(postgres.new_migrated())
    with opened(tmp_path / "holdfast.db") as file, opened(url) as server:
        row = {"company_id": "962302", "state": "stopped", "since": "", "created_at": ""}
        await file.write(lambda connection: connection.execute(insert(sessions).values(row)))
        lease = insert(leases).values(
            company_id="962302", node="a", holder="h", epoch=1, expires_at=func.now() + text("interval '1 minute'")
        )
        await server.write(lambda connection: connection.execute(lease))
        for source, target in ((file, server), (server, file)):
            with pytest.raises(Conflict, match=r"in use by the Holdfast process|not empty"):
                await move(source, target)
    assert is_usable(tmp_path / "holdfast.db")
