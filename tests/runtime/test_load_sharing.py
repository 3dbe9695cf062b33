"""A node that hands sessions over: leases in memory, and a fake clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from holdfast.runtime.load_sharing import LoadSharing
from holdfast.runtime.ownership import RENEW_EVERY_S
from holdfast.session.stores import ClusterNode
from tests.runtime.test_ownership import FakeTenant, OwnershipHarness


class MovingTenant(FakeTenant):
    """Its sessions run in the order of their names; those in `stay` must not be reconnected."""

    stay: frozenset[str] = frozenset()

    def may_move(self, company: str) -> bool:
        return company not in self.stay

    @property
    def running(self) -> list[str]:
        return sorted(self.sessions)


class LoadSharingHarness(OwnershipHarness):
    def __init__(self) -> None:
        super().__init__()
        self.tenant: MovingTenant = MovingTenant(self.clock)
        self.connect_shares: list[int] = []
        self.load = LoadSharing(self.ownership, clock=self.clock, share_connects=self.connect_shares.append)
        self.leases.companies = {f"{number:02}" for number in range(12)}
        self.publish(("this", 12))

    def publish(self, *nodes: tuple[str, int]) -> None:
        self.leases.nodes_now = [ClusterNode(id=id_, name=id_, holder=id_, sessions=count) for id_, count in nodes]


@pytest.fixture
async def harness() -> AsyncIterator[LoadSharingHarness]:
    """Twelve sessions run here; there is no other node yet."""
    harness = LoadSharingHarness()
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(harness.ownership.run(harness.tenant, loaded=lambda: None)),
            tasks.create_task(harness.load.run(harness.tenant)),
        ]
        await harness.settle()
        yield harness
        for task in running:
            task.cancel()


async def test_a_new_node_gets_its_share_one_session_at_a_time(harness: LoadSharingHarness) -> None:
    """After it has run for ten seconds. A session is ended here before it is handed over, those that ran longest first;
    one that must not be reconnected stays.
    """
    harness.tenant.stay = frozenset({"01"})
    harness.publish(("this", 12), ("other", 0))
    await harness.advance(9)
    assert not harness.leases.transferred
    await harness.advance(20)
    assert harness.leases.transferred == [(company, "other") for company in ("00", "02", "03", "04", "05", "06")]
    assert [company for _, company in harness.tenant.ended] == [company for company, _ in harness.leases.transferred]
    assert harness.tenant.sessions == harness.leases.companies
    assert harness.connect_shares[-1] == 2
    times = [at for at, _ in harness.tenant.ended]
    assert min(later - at for at, later in itertools.pairwise(times)) >= 0.2


async def test_a_node_that_alone_has_waiting_sessions_connects_at_the_whole_rate(harness: LoadSharingHarness) -> None:
    """Only after the others have had the time to publish that their sessions wait, too, which they do with each
    renewal.
    """
    harness.tenant.connecting = 3
    waits = ClusterNode(id="this", name="this", holder="this", sessions=12, connecting=3)
    harness.leases.nodes_now = [waits, ClusterNode(id="other", name="other", holder="other", sessions=12)]
    await harness.advance(3)
    assert harness.leases.connecting == 3
    assert harness.connect_shares[-1] == 2
    await harness.advance(4)
    assert harness.connect_shares[-1] == 1


async def test_a_busy_writer_delays_moves_and_neither_renewals_nor_links(harness: LoadSharingHarness) -> None:
    """For example while a table is locked for a minute: the session that is to move stays connected until its writes
    are done.
    """
    harness.publish(("this", 12), ("other", 0))
    await harness.advance(9)
    harness.leases.writes_end.clear()
    await harness.advance(60)
    assert (harness.tenant.ended, harness.leases.abandoned) == ([], 0)
    harness.leases.writes_end.set()
    await harness.advance(10)
    assert len(harness.leases.transferred) == 6


async def test_a_session_that_cannot_be_started_is_handed_over(harness: LoadSharingHarness) -> None:
    """One after another, after twenty seconds, if another node can run it: the reads may hang only here. Until then
    other nodes see that sessions wait here.
    """
    harness.publish(("this", 12))
    harness.tenant.may_start.clear()
    harness.leases.companies |= {"20", "21"}
    await harness.advance(30)
    assert (harness.leases.transferred, harness.leases.connecting) == ([], 2)
    harness.publish(("this", 14), ("other", 14))
    await harness.advance(1)
    assert harness.leases.transferred == [("20", "other")]
    await harness.advance(1)
    assert harness.leases.transferred == [("20", "other"), ("21", "other")]
    harness.tenant.may_start.set()
    await harness.advance(5)
    assert harness.tenant.sessions == harness.leases.companies


async def test_a_session_that_could_not_be_handed_over_runs_here_again(harness: LoadSharingHarness) -> None:
    """The other node has ended meanwhile."""
    harness.publish(("this", 12), ("other", 0))
    await harness.advance(9)
    harness.leases.refuses_transfers = True
    await harness.advance(6)
    assert harness.tenant.ended
    harness.publish(("this", 12))
    await harness.advance(RENEW_EVERY_S)
    assert len(harness.tenant.sessions) == 12


async def test_a_draining_node_hands_over_all_sessions_and_reports_it(harness: LoadSharingHarness) -> None:
    """Also sessions that have little of their budget left. Its leases are released at once when it stops, and those of
    a node that was not drained wait for its next process."""
    harness.tenant.stay = frozenset({"01"})
    harness.publish(("this", 12), ("other", 0))
    await harness.advance(RENEW_EVERY_S)
    assert harness.ownership.has_peers
    await harness.ownership.drain(drains=True)
    await harness.advance(8)
    assert not harness.tenant.sessions
    assert len(harness.leases.transferred) == 12
    await harness.ownership.release()
    assert harness.leases.reserved_s == 0


@pytest.mark.parametrize(
    ("grace_s", "loading_s", "reserved_s"), [(5, 1, 5), (5, 14, 21), (30, 14, 30), (5, 100, 60), (0, 14, 0)]
)
async def test_the_leases_of_a_stopped_node_are_reserved_for_its_next_process(
    grace_s: float, loading_s: float, reserved_s: float
) -> None:
    """For the time in the setting, or as long as a start takes on this machine; not at all with 0."""
    harness = OwnershipHarness(restart_grace_s=grace_s, loading_s=loading_s)
    await harness.ownership.release()
    assert harness.leases.reserved_s == reserved_s


async def test_the_leases_stay_reserved_while_the_next_process_starts() -> None:
    """However long that takes, up to a minute; no longer once it has claimed them."""
    harness = OwnershipHarness()
    async with harness.ownership.starting():
        await harness.advance(58)
        assert len(harness.leases.keeps_until) == 20
        assert harness.leases.keeps_until[-1] >= harness.clock.monotonic() + 9
        await harness.advance(20)
        assert len(harness.leases.keeps_until) == 21
    quick = OwnershipHarness()
    async with quick.ownership.starting():
        await quick.ownership.claim("00")
        await quick.advance(20)
    assert len(quick.leases.keeps_until) <= 2
