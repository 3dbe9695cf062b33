"""A backup of one company, and its restore beside other companies, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, insert, select, update

from holdfast.backup.backup_dir import Opener, inspect
from holdfast.backup.clearing import clear_in_parts
from holdfast.backup.creating import BackupMaker, BackupOrigin, BackupResult
from holdfast.backup.errors import RestoreRefused
from holdfast.backup.restoring import Restored, Restorer
from holdfast.backup.rows import KEPT, count_on, is_of_companies, read
from holdfast.base.clock import SystemClock
from holdfast.base.errors import Conflict
from holdfast.store.database import Database
from holdfast.store.lookup import LookupRows
from holdfast.store.search_indexer import SearchIndexer
from holdfast.store.tables import credentials, events, inbox, outbox, sessions, webhook_deliveries
from tests import filling
from tests.doubles.fake_clock import FakeClock

ROWS = 120
FILLING = filling.Filling(companies=3, total=ROWS, largest=0.01)
COMPANY, OTHER = filling.company(1), filling.company(2)

Contents = dict[str, list[tuple[object, ...]]]


@dataclass(slots=True)
class Installation:
    """An installation: a database, its folder of backups, and time."""

    database: Database
    folder: Path
    clock: FakeClock

    @property
    def maker(self) -> BackupMaker:
        return BackupMaker(self.database, self.folder, origin=BackupOrigin(made_by="0.1.0", settings={}))

    async def make(self, company: str | None = COMPANY) -> BackupResult:
        self.clock.advance_to(self.clock.monotonic() + 1)
        return await self.maker.make(kind="before-clear", now=self.clock.now(), company=company)

    async def restore(self, file: Path, *, replace: bool = False, staging: bool = False) -> Restored:
        self.clock.advance_to(self.clock.monotonic() + 1)
        restorer = Restorer(self.database, self.maker, folder=self.folder, opener=Opener(), clock=self.clock)
        return await restorer.restore(file, replace=replace, staging=staging, progress=lambda _: None)

    async def contents(self, company: str) -> Contents:
        """Every row of the company."""

        def work(connection: Connection) -> Contents:
            return {
                table.name: sorted((tuple(row) for row in read(connection, table, company)), key=_by_number)
                for table in KEPT
                if is_of_companies(table)
            }

        return await self.database.read(work)


def _by_number(row: tuple[object, ...]) -> tuple[str, str]:
    return str(row[0]).zfill(20), repr(row)


@pytest.fixture
async def build(tmp_path: Path, new_place: Callable[[], Path | URL]) -> AsyncIterator[Callable[[], Installation]]:
    built: list[Installation] = []

    def make() -> Installation:
        installation = Installation(
            database=Database(new_place()), folder=tmp_path / f"backups-{len(built)}", clock=FakeClock()
        )
        built.append(installation)
        return installation

    yield make
    for installation in built:
        installation.database.close()


@pytest.fixture
async def installation(build: Callable[[], Installation]) -> Installation:
    made = build()
    await made.database.write(_fill)
    return made


def _fill(connection: Connection) -> None:
    FILLING.add_sessions(connection)
    for add in (FILLING.add_messages, FILLING.add_events, FILLING.add_rest):
        add(connection, range(ROWS))
    count_on(connection)
    for number in range(3):
        row = {"company_id": filling.company(number), "creds": f'{{"me":{{"id":"9627{number}:7@s.whatsapp.net"}}}}'}
        connection.execute(insert(credentials), [{**row, "paired": True, "updated_at": ""}])


async def found(installation: Installation, company: str) -> int:
    lookup = LookupRows(installation.database, SearchIndexer(installation.database, clock=installation.clock))
    return len(await lookup.sent_messages(company, words="order", state=None, before=None, limit=500))


async def test_a_cleared_company_is_restored_and_others_are_unchanged(installation: Installation) -> None:
    """Each row is restored with its number, and its messages are found by search. The file contains nothing of other
    companies.
    """
    before, other = await installation.contents(COMPANY), await installation.contents(OTHER)
    made = await installation.make()
    assert ([each.company_id for each in made.manifest.companies], made.manifest.only_company) == ([COMPANY], COMPANY)
    assert (made.path.name.endswith(f"-before-clear-{COMPANY}.backup"), inspect(made.path, Opener()).problem) == (
        True,
        None,
    )
    assert OTHER.encode() not in made.path.read_bytes()
    await clear_in_parts(installation.database, COMPANY, clock=SystemClock())
    await installation.database.write(lambda connection: connection.execute(_READ_OF_OTHER))
    restored = await installation.restore(made.path)
    assert (restored.refused, restored.copy) == ({}, None)
    assert await installation.contents(COMPANY) == before
    assert await installation.contents(OTHER) == {**other, "inbox": (await installation.contents(OTHER))["inbox"]}
    assert await found(installation, COMPANY) == len(before["outbox"]) > 40


_READ_OF_OTHER = update(inbox).where(inbox.c.company_id == OTHER).values(media_id="med_gone")


async def test_an_existing_company_is_replaced_only_on_request(installation: Installation) -> None:
    """The error says how; the replaced company is backed up, that company alone."""
    made, before = await installation.make(), await installation.contents(COMPANY)
    await installation.database.write(lambda connection: connection.execute(_CHANGE))
    with pytest.raises(RestoreRefused, match=f"company {COMPANY} exists in this installation: --replace backs it up"):
        await installation.restore(made.path)
    restored = await installation.restore(made.path, replace=True)
    assert await installation.contents(COMPANY) == before
    assert restored.copy is not None
    copy = inspect(restored.copy, Opener()).manifest
    assert copy is not None
    assert (copy.only_company, copy.kind) == (COMPANY, "before-restore")


_CHANGE = update(outbox).where(outbox.c.company_id == COMPANY).values(error="changed since")


async def test_numbers_in_use_by_others_are_assigned_again(
    installation: Installation, build: Callable[[], Installation]
) -> None:
    """In another installation: order and references are kept, and new rows get higher numbers."""
    made, before = await installation.make(), await installation.contents(COMPANY)
    elsewhere = build()

    def occupy(connection: Connection) -> None:
        filling.Filling(companies=3, total=30).add_sessions(connection)
        connection.execute(sessions.delete().where(sessions.c.company_id == COMPANY))
        there = filling.Filling(companies=3, total=30, largest=1.0)
        there.add_messages(connection, range(30))
        there.add_events(connection, range(30))
        count_on(connection)

    # Its messages have the ids of the restored ones, which would not happen in a separate installation.
    await elsewhere.database.write(occupy)
    await elsewhere.database.write(lambda connection: connection.execute(_OTHER_IDS))
    await elsewhere.database.write(lambda connection: connection.execute(_OTHER_INBOX_IDS))
    await elsewhere.restore(made.path)
    after = await elsewhere.contents(COMPANY)
    for name in ("outbox", "inbox", "events"):
        assert [row[1:] for row in after[name]] == [row[1:] for row in before[name]]
        assert min(int(str(row[0])) for row in after[name]) > 30

    def attached(connection: Connection) -> int:
        joined = webhook_deliveries.join(events, events.c.seq == webhook_deliveries.c.event_seq)
        mine = select(events.c.id).select_from(joined).where(events.c.company_id == COMPANY)
        return len(connection.execute(mine).all())

    assert await elsewhere.database.read(attached) == len(before["events"])
    assert await found(elsewhere, COMPANY) == len(before["outbox"])


_OTHER_IDS = update(outbox).values(id="its_" + outbox.c.id, whatsapp_id="its_" + outbox.c.whatsapp_id)
_OTHER_INBOX_IDS = update(inbox).values(id="its_" + inbox.c.id)


async def test_a_device_is_not_restored_beside_itself(installation: Installation) -> None:
    """Another company has the device by now: the two would disconnect each other."""
    made = await installation.make()
    await clear_in_parts(installation.database, COMPANY, clock=SystemClock())
    same = update(credentials).where(credentials.c.company_id == OTHER)
    taken = same.values(creds='{"me":{"id":"96271:7@s.whatsapp.net"}}')
    await installation.database.write(lambda connection: connection.execute(taken))
    with pytest.raises(Conflict, match=f'company "{OTHER}" has this device already'):
        await installation.restore(made.path)
    assert (await installation.contents(COMPANY))["outbox"] == []


async def test_a_backup_of_one_company_makes_no_staging_copy(
    installation: Installation, build: Callable[[], Installation]
) -> None:
    """A staging copy needs a backup of everything."""
    made = await installation.make()
    with pytest.raises(RestoreRefused, match="--staging refused: the backup holds company"):
        await build().restore(made.path, staging=True)
