"""A node that hands sessions over: leases in memory, and a fake clock."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from holdfast.runtime.load_sharing import LoadSharing
from holdfast.runtime.ownership import RENEW_EVERY_S
from holdfast.session.stores import ClusterNode
from tests.runtime.test_ownership import FakeTenant, Scene


class MovingTenant(FakeTenant):
    """Its sessions run in the order of their names; those in `stay` must not be reconnected."""

    stay: frozenset[str] = frozenset()

    def may_move(self, company: str) -> bool:
        return company not in self.stay

    @property
    def running(self) -> list[str]:
        return sorted(self.sessions)


class SharingScene(Scene):
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
async def scene() -> AsyncIterator[SharingScene]:
    """Twelve sessions run here; there is no other node yet."""
    made = SharingScene()
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(made.ownership.run(made.tenant, loaded=lambda: None)),
            tasks.create_task(made.load.run(made.tenant)),
        ]
        await made.settle()
        yield made
        for task in running:
            task.cancel()


async def test_a_new_node_gets_its_share_one_session_at_a_time(scene: SharingScene) -> None:
    """After it has run for ten seconds. A session is ended here before it is handed over, those that ran longest first;
    one that must not be reconnected stays.
    """
    scene.tenant.stay = frozenset({"01"})
    scene.publish(("this", 12), ("other", 0))
    await scene.advance(9)
    assert not scene.leases.transferred
    await scene.advance(20)
    assert scene.leases.transferred == [(company, "other") for company in ("00", "02", "03", "04", "05", "06")]
    assert [company for _, company in scene.tenant.ended] == [company for company, _ in scene.leases.transferred]
    assert scene.tenant.sessions == scene.leases.companies
    assert scene.connect_shares[-1] == 2
    times = [at for at, _ in scene.tenant.ended]
    assert min(later - at for at, later in itertools.pairwise(times)) >= 0.2


async def test_a_node_that_alone_has_waiting_sessions_connects_at_the_whole_rate(scene: SharingScene) -> None:
    """Only after the others have had the time to publish that their sessions wait, too, which they do with each
    renewal.
    """
    scene.tenant.connecting = 3
    waits = ClusterNode(id="this", name="this", holder="this", sessions=12, connecting=3)
    scene.leases.nodes_now = [waits, ClusterNode(id="other", name="other", holder="other", sessions=12)]
    await scene.advance(3)
    assert scene.leases.connecting == 3
    assert scene.connect_shares[-1] == 2
    await scene.advance(4)
    assert scene.connect_shares[-1] == 1


async def test_a_busy_writer_delays_moves_and_neither_renewals_nor_links(scene: SharingScene) -> None:
    """For example while a table is locked for a minute: the session that is to move stays connected until its writes
    are done.
    """
    scene.publish(("this", 12), ("other", 0))
    await scene.advance(9)
    scene.leases.writes_end.clear()
    await scene.advance(60)
    assert (scene.tenant.ended, scene.leases.abandoned) == ([], 0)
    scene.leases.writes_end.set()
    await scene.advance(10)
    assert len(scene.leases.transferred) == 6


async def test_a_session_that_cannot_be_started_is_handed_over(scene: SharingScene) -> None:
    """One after another, after twenty seconds, if another node can run it: the reads may hang only here. Until then
    other nodes see that sessions wait here.
    """
    scene.publish(("this", 12))
    scene.tenant.may_start.clear()
    scene.leases.companies |= {"20", "21"}
    await scene.advance(30)
    assert (scene.leases.transferred, scene.leases.connecting) == ([], 2)
    scene.publish(("this", 14), ("other", 14))
    await scene.advance(1)
    assert scene.leases.transferred == [("20", "other")]
    await scene.advance(1)
    assert scene.leases.transferred == [("20", "other"), ("21", "other")]
    scene.tenant.may_start.set()
    await scene.advance(5)
    assert scene.tenant.sessions == scene.leases.companies


async def test_a_session_that_could_not_be_handed_over_runs_here_again(scene: SharingScene) -> None:
    """The other node has ended meanwhile."""
    scene.publish(("this", 12), ("other", 0))
    await scene.advance(9)
    scene.leases.refuses_transfers = True
    await scene.advance(6)
    assert scene.tenant.ended
    scene.publish(("this", 12))
    await scene.advance(RENEW_EVERY_S)
    assert len(scene.tenant.sessions) == 12


async def test_a_draining_node_hands_over_all_sessions_and_reports_it(scene: SharingScene) -> None:
    """Also sessions that have little of their budget left. Its leases are released at once when it stops, and those of
    a node that was not drained wait for its next process."""
    scene.tenant.stay = frozenset({"01"})
    scene.publish(("this", 12), ("other", 0))
    await scene.advance(RENEW_EVERY_S)
    assert scene.ownership.has_peers
    await scene.ownership.drain(drains=True)
    await scene.advance(8)
    assert not scene.tenant.sessions
    assert len(scene.leases.transferred) == 12
    await scene.ownership.release()
    assert scene.leases.reserved_s == 0


@pytest.mark.parametrize(
    ("grace_s", "loading_s", "reserved_s"), [(5, 1, 5), (5, 14, 21), (30, 14, 30), (5, 100, 60), (0, 14, 0)]
)
async def test_the_leases_of_a_stopped_node_are_reserved_for_its_next_process(
    grace_s: float, loading_s: float, reserved_s: float
) -> None:
    """For the time in the setting, or as long as a start takes on this machine; not at all with 0."""
    made = Scene(restart_grace_s=grace_s, loading_s=loading_s)
    await made.ownership.release()
    assert made.leases.reserved_s == reserved_s


async def test_the_leases_stay_reserved_while_the_next_process_starts() -> None:
    """However long that takes, up to a minute; no longer once it has claimed them."""
    made = Scene()
    async with made.ownership.starting():
        await made.advance(58)
        assert len(made.leases.keeps_until) == 20
        assert made.leases.keeps_until[-1] >= made.clock.monotonic() + 9
        await made.advance(20)
        assert len(made.leases.keeps_until) == 21
    quick = Scene()
    async with quick.ownership.starting():
        await quick.ownership.claim("00")
        await quick.advance(20)
    assert len(quick.leases.keeps_until) <= 2
