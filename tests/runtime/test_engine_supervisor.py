"""The engine supervisor with several hosts in memory, under a fake clock."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from holdfast.engine.errors import EngineUnavailable
from holdfast.runtime.engine_slot import RunningHost, Slot
from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.session.backoff import Backoff
from holdfast.session.engine import (
    AnyCommand,
    AnyReport,
    CutLink,
    HostEnd,
    HostFacts,
    LinkClosed,
    LinkOpened,
    Listener,
    OpenLink,
)
from holdfast.session.placement import PlacementPolicy
from tests.doubles.fake_clock import FakeClock
from tests.doubles.fake_engine import FakeEngine

PAIRED = '{"me":"962700000001:1@s.whatsapp.net"}'
CRASH = "exited with code 134"


class SizedEngine(FakeEngine):
    """Has a memory size, may die at a session's login, and may report on links of other hosts."""

    rss_bytes = 100
    dies_of_login: str | None = None

    def command(self, command: AnyCommand) -> None:
        super().command(command)
        if isinstance(command, OpenLink) and command.company == self.dies_of_login:
            self.lose_host(detail="hung: no heartbeat for 10.2 s")

    def overstep(self, report: AnyReport) -> None:
        self._listener.report(report)

    @property
    def facts(self) -> HostFacts:
        return HostFacts(pid=1, engine="fake", version="1", rss_bytes=self.rss_bytes, links=len(self.links))


class Owner:
    """A session that opens a link again whenever it loses one."""

    def __init__(self, company: str, supervisor: EngineSupervisor) -> None:
        self.company, self._supervisor = company, supervisor
        self.reports: list[AnyReport] = []
        self.lost = 0
        self.quarantined = False
        self.may_move = True
        self.link = 0

    def open(self) -> None:
        self.link = self._supervisor.new_link(self)
        self._supervisor.command(OpenLink(link=self.link, company=self.company, credentials=PAIRED))

    def handle(self, report: AnyReport) -> None:
        self.reports.append(report)

    def lose_host(self, _: HostEnd) -> None:
        self.lost += 1
        self.open()

    def quarantine(self, _: HostEnd) -> None:
        self.quarantined = True

    def change_host(self) -> bool:
        if self.may_move:
            self._supervisor.command(CutLink(link=self.link))
            self.open()
        return self.may_move


class Fleet:
    """A supervisor, its engines in the order of their start, and its sessions."""

    def __init__(self, *, hosts: int, memory_bytes: int | None = None) -> None:
        self.clock = FakeClock()
        self.engines: list[SizedEngine] = []
        self.prepare: Callable[[SizedEngine], None] = lambda engine: None
        self.fails: EngineUnavailable | None = None
        self.supervisor = EngineSupervisor(
            self._start,
            clock=self.clock,
            backoff=Backoff(),
            policy=PlacementPolicy(hosts=hosts),
            memory_bytes=memory_bytes,
        )

    @contextlib.asynccontextmanager
    async def _start(self, listener: Listener) -> AsyncIterator[FakeEngine]:
        if self.fails is not None:
            raise self.fails
        engine = SizedEngine(listener=listener)
        self.engines.append(engine)
        self.prepare(engine)
        yield engine
        engine.alive = False

    async def start(self, count: int) -> list[Owner]:
        owners = [Owner(f"c{number}", self.supervisor) for number in range(count)]
        for owner in owners:
            owner.open()
        await self.quiet()
        return owners

    async def quiet(self) -> None:
        for _ in itertools.repeat(None, 40):
            await asyncio.sleep(0)

    async def wait(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        await self.quiet()
        while (due := self.clock.next_due) is not None and due <= until:
            self.clock.advance_to(due)
            await self.quiet()
        self.clock.advance_to(until)
        await self.quiet()

    def engine_of(self, owner: Owner) -> SizedEngine:
        return next(engine for engine in self.engines if engine.alive and owner.link in engine.links)


@contextlib.asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[Fleet]:
    up = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(fleet.supervisor.run(ready=up.set))
        await up.wait()
        try:
            yield fleet
        finally:
            task.cancel()


async def test_sessions_are_spread_and_only_those_of_a_lost_host_are_disconnected() -> None:
    """A second host starts with the first session placed on it; when it dies the others keep their links."""
    async with running(Fleet(hosts=2)) as fleet:
        assert len(fleet.engines) == 1
        owners = await fleet.start(4)
        assert len(fleet.engines) == 2
        assert [view.sessions for view in fleet.supervisor.hosts()] == [("c0", "c2"), ("c1", "c3")]
        fleet.engine_of(owners[1]).lose_host(detail=CRASH)
        await fleet.wait(2)
        assert [owner.lost for owner in owners] == [0, 1, 0, 1]
        assert all(isinstance(owner.reports[-1], LinkOpened) for owner in owners)
        assert fleet.supervisor.hosts_lost_lately == 1


async def test_a_lost_host_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With the number that other lines use and the process that the system's log names."""
    async with running(Fleet(hosts=1)) as fleet:
        owners = await fleet.start(1)
        fleet.engine_of(owners[0]).lose_host(detail=CRASH)
        await fleet.wait(2)
    lost = [line for line in caplog.messages if "lost" in line]
    assert lost == [f"Engine host 0 (process 1) lost: {CRASH}; links: 1"]


async def test_the_session_that_kills_its_host_is_quarantined_and_all_others_reconnect() -> None:
    """Its login never completes: the others on its host are disconnected once, those on other hosts never."""
    fleet = Fleet(hosts=2)
    async with running(fleet):
        owners = await fleet.start(6)
        culprit, shared, apart = owners[4], [owners[0], owners[2]], [owners[1], owners[3], owners[5]]

        fleet.prepare = lambda engine: setattr(engine, "dies_of_login", culprit.company)
        for engine in fleet.engines:
            fleet.prepare(engine)
        fleet.supervisor.command(CutLink(link=culprit.link))
        culprit.open()
        await fleet.wait(10)
        assert culprit.quarantined
        assert [owner.lost for owner in shared] == [1, 1]
        assert [owner.lost for owner in apart] == [0, 0, 0]
        assert all(isinstance(owner.reports[-1], LinkOpened) for owner in (*shared, *apart))
        assert {view.number for view in fleet.supervisor.hosts()} == {0, 1}, "the isolation host has ended"


async def test_a_host_that_ended_because_leases_expired_makes_no_session_suspect() -> None:
    """However often that happens, it says nothing about the sessions on the host."""
    async with running(Fleet(hosts=1)) as fleet:
        owners = await fleet.start(3)
        for _ in range(4):
            fleet.engine_of(owners[0]).lose_host(detail="exited with code 75")
            await fleet.wait(10)
        assert [owner.lost for owner in owners] == [4, 4, 4]
        assert not any(owner.quarantined for owner in owners)
        assert [view.number for view in fleet.supervisor.hosts()] == [0]


async def test_a_host_may_report_only_on_its_own_links(caplog: pytest.LogCaptureFixture) -> None:
    """A report on a link of another host, on one that was never opened, or on one that still waits reaches no session,
    and is logged once per host. Late reports of a link that ended are not an error.
    """
    async with running(Fleet(hosts=2)) as fleet:
        first, second, *_ = await fleet.start(2)
        waiting = fleet.supervisor.new_link(first)
        heard = len(first.reports), len(second.reports)
        for foreign in (second.link, second.link, 0, -1, 1_000_000, waiting):
            fleet.engine_of(first).overstep(LinkClosed(link=foreign, code=401, detail="device_removed"))
        assert (len(first.reports), len(second.reports)) == heard
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
            "Engine host 0 reported on link 2, which is not one of its own; such reports of it are dropped"
        ]
        caplog.clear()
        engine, ended = fleet.engine_of(second), second.link
        fleet.supervisor.command(CutLink(link=ended))
        engine.overstep(LinkOpened(link=ended, jid="962700000001:1@s.whatsapp.net"))
        assert len(second.reports) == heard[1]
        assert "not one of its own" not in caplog.text


async def test_a_suspect_without_further_deaths_moves_back() -> None:
    """After a minute without a death it runs on an ordinary host again, and its isolation host ends."""
    async with running(Fleet(hosts=1)) as fleet:
        fleet.prepare = lambda engine: setattr(engine, "opens", False)
        for engine in fleet.engines:
            engine.opens = False
        owners = await fleet.start(1)
        fleet.prepare = lambda engine: None
        fleet.engine_of(owners[0]).lose_host(detail=CRASH)
        await fleet.wait(5)
        assert [view.isolation for view in fleet.supervisor.hosts()] == [True]
        await fleet.wait(70)
        [view] = fleet.supervisor.hosts()
        assert (view.isolation, view.sessions) == (False, ("c0",))
        assert isinstance(owners[0].reports[-1], LinkOpened)


async def test_a_host_that_grows_is_replaced_and_its_sessions_move_one_by_one() -> None:
    """A session without reconnections to spare keeps its link until it has some; then the old host ends."""
    async with running(Fleet(hosts=1, memory_bytes=1000)) as fleet:
        owners = await fleet.start(3)
        owners[2].may_move = False
        [old] = fleet.engines
        old.rss_bytes = 1001
        await fleet.wait(590)
        assert len(fleet.engines) == 1, "a young host is not replaced"
        await fleet.wait(30)
        assert [(view.retiring, view.sessions) for view in fleet.supervisor.hosts()] == [
            (False, ("c0", "c1")),
            (True, ("c2",)),
        ]
        owners[2].may_move = True
        await fleet.wait(70)
        assert [view.sessions for view in fleet.supervisor.hosts()] == [("c0", "c1", "c2")]
        assert not old.alive
        assert [owner.lost for owner in owners] == [0, 0, 0]


async def test_the_start_of_a_host_is_retried() -> None:
    """For example when file descriptors are used up: the links wait, and open when a host starts again."""
    async with running(Fleet(hosts=1)) as fleet:
        owners = await fleet.start(1)
        fleet.fails = EngineUnavailable("too many open files")
        fleet.engine_of(owners[0]).lose_host(detail=CRASH)
        await fleet.wait(120)
        assert fleet.supervisor.hosts() == []
        assert fleet.supervisor.start_failure == "too many open files"
        fleet.fails = None
        await fleet.wait(61)
        assert isinstance(owners[0].reports[-1], LinkOpened)
        assert fleet.supervisor.host_down_s is None
        assert fleet.supervisor.start_failure is None


async def test_the_first_host_must_start() -> None:
    """A Holdfast that can't run its engine ends, and says why."""
    fleet = Fleet(hosts=2)
    fleet.fails = EngineUnavailable("Node is missing")
    with pytest.raises(ExceptionGroup) as caught:
        await fleet.supervisor.run(ready=lambda: None)
    assert caught.group_contains(EngineUnavailable, match="Node is missing")


async def test_a_host_whose_slot_is_closed_while_it_starts_ends_at_once() -> None:
    """No session is placed there any more, so nobody would ever end it."""
    clock, may_start, ended = FakeClock(), asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def start_host(listener: Listener) -> AsyncIterator[FakeEngine]:
        await may_start.wait()
        try:
            yield FakeEngine(listener=listener)
        finally:
            ended.set()

    supervisor = EngineSupervisor(start_host, clock=clock, backoff=Backoff())
    slot = Slot(1, supervisor, one_by_one=False, clock=clock)
    started: list[RunningHost] = []
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        running = slot.run(start_host, backoff=Backoff(), started=started.append, may_fail=True)
        tasks.create_task(running)
        await asyncio.sleep(0)
        slot.close()
        may_start.set()
    assert (ended.is_set(), started) == (True, [])
