"""Reading and keeping the client version, under a clock that moves only when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.runtime.client_versions import ClientVersions
from holdfast.session.client_version import ClientVersion
from tests.doubles.fake_clock import FakeClock

OLD, NEW = 1_044_000_000, 1_044_100_000


class Site:
    """WhatsApp's script and the store, and how often each was asked."""

    def __init__(self) -> None:
        self.revision: int | None = OLD
        self.reads = 0
        self.stored: ClientVersion | None = None

    async def read(self) -> str:
        self.reads += 1
        if self.revision is None:
            raise OSError("no network")
        return f'{{"client_revision":{self.revision}}}'

    async def load(self) -> ClientVersion | None:
        return self.stored

    async def save(self, version: ClientVersion) -> None:
        self.stored = version


def versions_of(site: Site, clock: FakeClock, *, pinned: int | None = None) -> ClientVersions:
    return ClientVersions(pinned=pinned, read=site.read, store=site, clock=clock, jitter=lambda: 0.5)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def versions(site: Site, clock: FakeClock) -> AsyncIterator[ClientVersions]:
    made = versions_of(site, clock)
    await made.prepare()
    running = asyncio.ensure_future(made.run())
    await turns()
    yield made
    running.cancel()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_published_version_is_used_and_kept(site: Site, versions: ClientVersions) -> None:
    """From the start; the store has it for other processes and for the next start."""
    assert versions.current is not None
    assert (versions.current.revision, versions.current.origin) == (OLD, "whatsapp")
    assert site.stored == versions.current


async def test_without_a_network_the_stored_one_is_used_then_the_engine_s_own(site: Site, clock: FakeClock) -> None:
    """Nothing keeps sessions from connecting."""
    site.revision = None
    alone = versions_of(site, clock)
    await alone.prepare()
    assert alone.current is None
    site.stored = ClientVersion(revision=NEW, origin="stored", read_at="")
    await alone.prepare()
    assert alone.current == site.stored


async def test_it_is_read_daily_and_never_goes_backwards(
    site: Site, clock: FakeClock, versions: ClientVersions
) -> None:
    """An older script changes nothing."""
    site.revision = OLD - 1
    clock.advance_to(clock.monotonic() + 86_401)
    await turns()
    assert site.reads == 2
    assert versions.current is not None
    assert versions.current.revision == OLD


async def test_a_refusal_is_looked_into_at_once_and_then_every_five_seconds(
    site: Site, clock: FakeClock, versions: ClientVersions
) -> None:
    """However many sessions are refused, one look; when a newer version is found, that is told once."""
    told: list[str] = []
    versions.newer = lambda: told.append("newer")
    refused = versions.current
    for _ in range(50):
        versions.refused(refused)
    await turns()
    assert (site.reads, told) == (2, [])
    assert versions.tried == {"2.3000.1044000000"}
    site.revision = NEW
    clock.advance_to(clock.monotonic() + 5)
    await turns()
    assert (site.reads, told) == (3, ["newer"])
    versions.worked(versions.current)
    clock.advance_to(clock.monotonic() + 60)
    await turns()
    assert (site.reads, versions.tried) == (3, set())


async def test_a_pinned_version_is_never_changed(site: Site, clock: FakeClock) -> None:
    """The operator's own choice: nothing is read."""
    pinned = versions_of(site, clock, pinned=OLD)
    await pinned.prepare()
    assert pinned.current is not None
    assert (pinned.current.text, pinned.current.origin, site.reads) == ("2.3000.1044000000", "setting", 0)
