"""Reading and storing the client version, with a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.runtime.client_versions import ClientVersions
from holdfast.session.client_version import ENGINE_REVISION, Claim, ClientVersion
from holdfast.store.client_version import ClientVersionRows
from holdfast.store.database import Database
from tests.doubles.fake_clock import FakeClock

OLD, NEW = 1_044_000_000, 1_044_100_000
DAY_S = 86_400


class Site:
    """WhatsApp's script, and how often it was read."""

    def __init__(self) -> None:
        self.revision: int | None = OLD
        self.reads = 0

    async def read(self) -> str:
        self.reads += 1
        if self.revision is None:
            raise OSError("no network")
        return f'{{"client_revision":{self.revision}}}'


class FailingRows(ClientVersionRows):
    """Writes fail when a test requests it."""

    fails = False

    async def store_working(self, version: ClientVersion) -> None:
        self._check()
        await super().store_working(version)

    async def claim_read(self, *, within_s: float) -> Claim:
        self._check()
        return await super().claim_read(within_s=within_s)

    def _check(self) -> None:
        if self.fails:
            raise OSError("the disk is full")


class Fleet:
    """Processes that share a database."""

    def __init__(self, database: Database, site: Site, clock: FakeClock) -> None:
        self.database, self.site, self.clock = database, site, clock
        self.rows = FailingRows(database, clock=clock)
        self._running: list[asyncio.Task[None]] = []

    async def start(self, *, pinned: int | None = None) -> ClientVersions:
        made = ClientVersions(pinned=pinned, read=self.site.read, store=self.rows, clock=self.clock, jitter=lambda: 0.5)
        await made.prepare()
        self._running.append(asyncio.ensure_future(made.run()))
        await self.settle()
        return made

    async def wait(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.monotonic() + seconds)
        await self.settle()

    async def settle(self) -> None:
        """Wait until the processes have done what they can without time: the database answers from a thread."""
        for _round in range(12):
            await self.database.write(lambda _: None)  # after all writes before it
            await self.rows.load()
            for _turn in range(5):
                await asyncio.sleep(0)

    def end(self) -> None:
        for task in self._running:
            task.cancel()


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def fleet(tmp_path: Path, site: Site) -> AsyncIterator[Fleet]:
    clock = FakeClock()
    database = Database(tmp_path / "holdfast.db")
    made = Fleet(database, site, clock)
    yield made
    made.end()
    await made.settle()
    database.close()


def revision(versions: ClientVersions) -> int:
    return ENGINE_REVISION if versions.current is None else versions.current.revision


async def test_a_version_is_stored_as_good_when_a_login_succeeded_with_it(fleet: Fleet) -> None:
    """A version that was only read is not stored as good: WhatsApp may refuse it."""
    versions = await fleet.start()
    assert (revision(versions), versions.current and versions.current.origin) == (OLD, "whatsapp")
    assert (await fleet.rows.load()).worked is None
    versions.worked(versions.current)
    await fleet.wait(DAY_S + 1)
    assert versions.current is not None
    assert versions.current.origin == "whatsapp"
    worked = (await fleet.rows.load()).worked
    assert worked is not None
    assert (worked.revision, worked.origin) == (OLD, "stored")


async def test_without_a_network_the_stored_one_is_used_then_the_engine_s_own(fleet: Fleet, site: Site) -> None:
    """Nothing keeps sessions from connecting."""
    site.revision = None
    assert (await fleet.start()).current is None
    await fleet.rows.store_working(ClientVersion(revision=NEW, origin="whatsapp", read_at=""))
    again = await fleet.start()
    assert (revision(again), again.current and again.current.origin) == (NEW, "stored")


async def test_one_process_reads_the_version_daily_for_all(fleet: Fleet, site: Site) -> None:
    """Ten processes start at once: one reads, all use its result. The next day again; an older script changes
    nothing.
    """
    all_ = [await fleet.start() for _ in range(10)]
    assert ({revision(each) for each in all_}, site.reads) == ({OLD}, 1)
    site.revision = NEW
    await fleet.wait(DAY_S + 1)
    await fleet.wait(6)
    assert ({revision(each) for each in all_}, site.reads) == ({NEW}, 2)
    for each in all_:
        each.worked(each.current)
    site.revision = OLD
    await fleet.wait(DAY_S + 1)
    await fleet.wait(6)
    assert ({revision(each) for each in all_}, site.reads) == ({NEW}, 3)


async def test_a_failed_read_is_retried_within_the_hour(fleet: Fleet, site: Site) -> None:
    """By any one of the processes."""
    site.revision = None
    versions = await fleet.start()
    site.revision = NEW
    await fleet.wait(3601)
    assert revision(versions) == NEW


async def test_a_failing_database_ends_nothing(fleet: Fleet, site: Site) -> None:
    """Neither the process nor the version in use, while a disk is full for example; what worked is stored later."""
    made = await fleet.start()
    site.revision = NEW
    fleet.rows.fails = True
    await fleet.wait(2 * DAY_S)
    assert made.current is not None
    assert made.current.revision == OLD
    made.worked(made.current)
    await fleet.settle()
    fleet.rows.fails = False
    await fleet.wait(3600)
    assert made.current.revision == NEW
    stored = (await fleet.rows.load()).worked
    assert stored is not None
    assert stored.revision == OLD


async def test_a_refusal_causes_a_read_at_once_and_then_every_five_seconds(fleet: Fleet, site: Site) -> None:
    """However many sessions and processes are refused, there is one read per cycle; a newer version is announced once
    to each.
    """
    all_ = [await fleet.start() for _ in range(3)]
    called: list[int] = []
    for number, each in enumerate(all_):
        each.worked(each.current)
        each.newer = lambda number=number: called.append(number)  # type: ignore[misc]
    await fleet.wait(60)
    refused = all_[0].current
    for each in all_:
        for _ in range(50):
            each.refused(refused)
    await fleet.settle()
    assert (site.reads, called) == (2, [])
    assert [each.refusal and each.refusal.tried for each in all_] == [("2.3000.1044000000",)] * 3
    site.revision = NEW
    await fleet.wait(5)
    await fleet.wait(5)
    assert (site.reads <= 4, sorted(called)) == (True, [0, 1, 2])
    for each in all_:
        each.worked(each.current)
    reads = site.reads
    await fleet.wait(60)
    assert (site.reads, [each.refusal for each in all_]) == (reads, [None] * 3)


async def test_after_a_refused_version_the_last_working_one_is_used(fleet: Fleet, site: Site) -> None:
    """The refused version is not tried again after that one succeeds, until another is published."""
    versions = await fleet.start()
    versions.worked(versions.current)
    site.revision = NEW
    await fleet.wait(DAY_S + 1)
    assert revision(versions) == NEW
    versions.refused(versions.current)
    assert revision(versions) == OLD
    versions.worked(versions.current)
    await fleet.wait(DAY_S + 1)
    assert (revision(versions), versions.refusal) == (OLD, None)
    site.revision = NEW + 1
    await fleet.wait(DAY_S + 1)
    assert revision(versions) == NEW + 1


async def test_a_pinned_version_is_never_changed(fleet: Fleet, site: Site) -> None:
    """It is the operator's own choice: nothing is read. When WhatsApp refuses it, that is known at once."""
    versions = await fleet.start(pinned=OLD)
    versions.refused(versions.current)
    await fleet.wait(DAY_S)
    assert versions.current is not None
    assert (versions.current.text, versions.current.origin, site.reads) == ("2.3000.1044000000", "setting", 0)
    assert versions.refusal is not None
    assert (versions.refusal.tried, versions.refusal.is_pinned) == (("2.3000.1044000000",), True)
    versions.worked(versions.current)
    assert versions.refusal is None
