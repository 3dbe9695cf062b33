"""Which sessions a process runs: with leases in memory and a fake clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace

import pytest

from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.runtime.ownership import MARGIN_S, RENEW_EVERY_S, TTL_S, Ownership
from holdfast.session.backoff import Backoff
from holdfast.session.engine import CutLink, HostEnd, OpenLink, Ping
from holdfast.session.stores import ClusterNode, HeldLease, Share, WaitingWork
from tests.doubles.fake_clock import FakeClock
from tests.doubles.fake_engine import FakeEngine
from tests.gateway_harness import COMPANY

LASTS_S = TTL_S - MARGIN_S


class FakeLeases:
    """Gives what the test says; `answers` is cleared to let the database hang, `error` set to let it fail."""

    ttl_s = TTL_S

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.keeps_until: list[float] = []
        self.companies: set[str] = set()
        self.waiting: dict[str, WaitingWork] = {}
        self.elsewhere: Mapping[str, str] = {}
        self.free_in_s: float | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.error: Exception | None = None
        self.renewals = 0
        self.connecting = 0
        """As of the last renewal."""
        self.abandoned = 0
        self.dropped: list[str] = []
        self.nodes_now: list[ClusterNode] = []
        self.transferred: list[tuple[str, str]] = []
        self.refuses_transfers = False
        self.writes_end = asyncio.Event()
        self.writes_end.set()
        self.reserved_s: float | None = None

    async def renew(self, *, limit: int, share: Share | None = None, connecting: int = 0) -> HeldLease:
        self.renewals += 1
        self.connecting = connecting
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return HeldLease(
            companies=frozenset(self.companies),
            waiting=self.waiting,
            elsewhere=self.elsewhere,
            free_in_s=self.free_in_s,
            nodes=tuple(self.nodes_now),
        )

    async def claim(self, company: str) -> bool:
        self.companies.add(company)
        return True

    node_id = "this"

    async def owner(self, company: str) -> ClusterNode | None:
        node = self.elsewhere.get(company)
        return None if node is None else ClusterNode(id=node, name=node, url=f"http://{node}")

    async def nodes(self) -> list[ClusterNode]:
        return self.nodes_now

    async def writes_done(self, company: str) -> None:
        await self.writes_end.wait()

    async def transfer(self, company: str, to: ClusterNode) -> bool:
        if self.refuses_transfers:
            return False
        self.companies.discard(company)
        self.elsewhere = {**self.elsewhere, company: to.id}
        self.transferred.append((company, to.id))
        return True

    async def drain(self, *, drains: bool) -> None:
        own = (node for node in self.nodes_now if node.id == self.node_id)
        self.nodes_now = [
            *(replace(node, is_draining=drains) for node in own),
            *(node for node in self.nodes_now if node.id != self.node_id),
        ]

    def drop(self, company: str) -> None:
        self.dropped.append(company)

    def abandon(self) -> None:
        self.abandoned += 1

    async def reserve(self, *, for_s: float) -> None:
        self.keeps_until.append(self._clock.monotonic() + for_s)

    async def release(self, *, reserve_s: float = 0) -> None:
        self.reserved_s = reserve_s
        if self.error is not None:
            raise self.error


class FakeTenant:
    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.sessions: set[str] = set()
        self.blocked: set[str] = set()
        self.begun: list[str] = []
        self.ended: list[tuple[float, str]] = []
        self.notified: list[tuple[str, WaitingWork]] = []
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.fails_to_start: set[str] = set()
        self.connecting = 0

    @property
    def running(self) -> Collection[str]:
        return self.sessions

    async def begin(self, company: str) -> None:
        self.begun.append(company)
        await self.may_start.wait()
        if company in self.fails_to_start:
            raise OSError("server closed the connection")
        self.sessions.add(company)

    async def end(self, companies: Collection[str]) -> None:
        self.ended += [(self._clock.monotonic(), company) for company in companies]
        self.sessions.difference_update(companies)

    def work_waits(self, company: str, waiting: WaitingWork) -> None:
        self.notified.append((company, waiting))


class OwnershipHarness:
    def __init__(self, *, restart_grace_s: float = 0, loading_s: float = 0) -> None:
        self.clock = FakeClock()
        self.leases = FakeLeases(self.clock)
        self.tenant = FakeTenant(self.clock)
        self.ownership = Ownership(self.leases, clock=self.clock, restart_grace_s=restart_grace_s, loading_s=loading_s)

    async def advance(self, seconds: float) -> None:
        """Advance the clock from one deadline to the next."""
        until = self.clock.monotonic() + seconds
        await self.settle()
        while (due := self.clock.next_due) is not None and due <= until:
            self.clock.advance_to(due)
            await self.settle()
        self.clock.advance_to(until)
        await self.settle()

    async def block(self, seconds: float) -> None:
        """Advance the clock while nothing of this process runs."""
        self.clock.advance_to(self.clock.monotonic() + seconds)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)


@pytest.fixture
async def harness() -> AsyncIterator[OwnershipHarness]:
    """Two sessions that are owned and run."""
    harness = OwnershipHarness()
    harness.leases.companies = {"a", "b"}
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(harness.ownership.run(harness.tenant, loaded=lambda: None))
        await harness.settle()
        yield harness
        running.cancel()


async def test_owned_sessions_run_and_lost_ones_end(harness: OwnershipHarness) -> None:
    """At the next renewal."""
    assert harness.tenant.sessions == {"a", "b"}
    harness.leases.companies = {"b", "c"}
    await harness.advance(RENEW_EVERY_S)
    assert harness.tenant.sessions == {"b", "c"}
    assert [company for _, company in harness.tenant.ended] == ["a"]


async def test_a_session_that_may_not_run_is_left_alone(
    harness: OwnershipHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Removing a company, for example, takes minutes: each renewal would report that its session was acquired."""
    caplog.set_level("INFO")
    harness.tenant.sessions.remove("a")
    harness.tenant.blocked.add("a")
    harness.tenant.begun.clear()
    caplog.clear()
    await harness.advance(5 * RENEW_EVERY_S)
    assert harness.tenant.begun == []
    assert "acquired" not in caplog.text
    harness.tenant.blocked.remove("a")
    await harness.advance(RENEW_EVERY_S)
    assert harness.tenant.begun == ["a"]


@pytest.mark.parametrize("failure", ["fails", "hangs"])
async def test_links_are_cut_before_leases_that_could_not_be_renewed_expire(
    harness: OwnershipHarness, failure: str
) -> None:
    """Not earlier than necessary: a short outage of the database disconnects nobody."""
    began_at = harness.clock.monotonic()
    if failure == "fails":
        harness.leases.error = OSError("server closed the connection")
    else:
        harness.leases.answers.clear()
    await harness.advance(LASTS_S - 0.1)
    assert harness.tenant.sessions == {"a", "b"}
    assert harness.ownership.is_held()
    await harness.advance(0.1)
    assert [(at - began_at, company) for at, company in sorted(harness.tenant.ended)] == [
        (LASTS_S, "a"),
        (LASTS_S, "b"),
    ]
    assert not harness.ownership.is_held()
    assert harness.leases.abandoned == 1


async def test_leases_are_renewed_while_sessions_start(harness: OwnershipHarness) -> None:
    """However long a busy database takes for that: otherwise all would be cut, and started again, forever. Sessions
    that are lost meanwhile are not started.
    """
    harness.tenant.may_start.clear()
    harness.leases.companies = {"a", "b", *(f"{number}" for number in range(40))}
    await harness.advance(60)
    assert (harness.tenant.ended, harness.leases.abandoned) == ([], 0)
    harness.leases.companies.remove("7")
    await harness.advance(RENEW_EVERY_S)
    harness.tenant.may_start.set()
    await harness.advance(RENEW_EVERY_S)
    assert harness.tenant.sessions == harness.leases.companies


async def test_no_session_starts_under_an_abandoned_lease(harness: OwnershipHarness) -> None:
    """Its start was requested before the database became unavailable."""
    harness.tenant.may_start.clear()
    harness.leases.companies = {"a", "b", "c"}
    await harness.advance(RENEW_EVERY_S)
    harness.leases.error = OSError("server closed the connection")
    await harness.advance(LASTS_S)
    harness.tenant.may_start.set()
    await harness.advance(1)
    assert harness.tenant.sessions == set()


async def test_a_session_that_could_not_be_started_is_started_at_the_next_renewal(harness: OwnershipHarness) -> None:
    """The others are started at once."""
    harness.tenant.fails_to_start = {"c"}
    harness.leases.companies = {"a", "b", "c", "d"}
    await harness.advance(RENEW_EVERY_S)
    assert harness.tenant.sessions == {"a", "b", "d"}
    harness.tenant.fails_to_start.clear()
    await harness.advance(RENEW_EVERY_S)
    assert harness.tenant.sessions == {"a", "b", "c", "d"}


async def test_a_short_outage_of_the_database_has_no_effect(harness: OwnershipHarness) -> None:
    """The renewal is retried several times a second."""
    harness.leases.error = OSError("server closed the connection")
    await harness.advance(LASTS_S - 1)
    harness.leases.error = None
    await harness.advance(60)
    assert harness.tenant.ended == []


async def test_sessions_are_run_again_when_the_database_is_back(harness: OwnershipHarness) -> None:
    """Only those that no other process owns meanwhile."""
    harness.leases.error = OSError("server closed the connection")
    await harness.advance(30)
    assert harness.tenant.sessions == set()
    harness.leases.error, harness.leases.companies = None, {"b"}
    await harness.advance(1)
    assert harness.tenant.sessions == {"b"}


async def test_a_resumed_process_ends_its_sessions_before_it_renews_its_leases(harness: OwnershipHarness) -> None:
    """From the moment it resumes it may send nothing, and it renews its leases only after it has closed its links."""
    renewals = harness.leases.renewals
    harness.leases.answers.clear()
    await harness.block(60)
    assert not harness.ownership.is_held()
    assert {company for _, company in harness.tenant.ended} == {"a", "b"}
    assert (harness.leases.abandoned, harness.leases.renewals) == (1, renewals + 1)


async def test_leases_claimed_by_a_database_that_hung_are_used_at_once(harness: OwnershipHarness) -> None:
    """The renewal that hung is answered too late to count from its start: its leases are renewed instead of staying
    without an owner until they expire.
    """
    harness.leases.answers.clear()
    await harness.advance(LASTS_S + 15)
    assert (harness.tenant.sessions, harness.leases.abandoned) == (set(), 1)
    harness.leases.answers.set()
    await harness.advance(0)
    assert (harness.tenant.sessions, harness.leases.abandoned) == ({"a", "b"}, 1)
    assert harness.ownership.left_s() == LASTS_S


async def test_the_lifetime_of_links_counts_from_the_start_of_a_renewal(harness: OwnershipHarness) -> None:
    """The database executed a slow renewal at an unknown moment after it was sent."""
    harness.leases.answers.clear()
    await harness.advance(RENEW_EVERY_S + 3)
    harness.leases.answers.set()
    harness.leases.answers.clear()  # this renewal is answered, and no further one
    await harness.settle()
    assert harness.ownership.left_s() == LASTS_S - 3


async def test_leases_of_another_process_are_claimed_when_they_expire(harness: OwnershipHarness) -> None:
    """At that moment, not at the next regular renewal."""
    harness.leases.free_in_s = 0.7
    await harness.advance(RENEW_EVERY_S)
    renewals = harness.leases.renewals
    await harness.advance(0.7)
    assert harness.leases.renewals == renewals + 1


async def test_sessions_with_messages_from_other_processes_are_reported(harness: OwnershipHarness) -> None:
    """At each renewal while they wait."""
    harness.leases.waiting = {"b": WaitingWork(newest_message=7, newest_operation=None)}
    await harness.advance(RENEW_EVERY_S)
    assert harness.tenant.notified == list(harness.leases.waiting.items())


async def test_releasing_leases_without_a_database_is_no_error(harness: OwnershipHarness) -> None:
    """The leases expire by themselves."""
    harness.leases.error = OSError("server closed the connection")
    await harness.ownership.release()
    assert not harness.ownership.is_held()


async def test_a_created_session_may_run_at_once() -> None:
    """Also before the first renewal was answered."""
    harness = OwnershipHarness()
    assert await harness.ownership.claim("c")
    assert harness.ownership.left_s() == LASTS_S


# With the engine supervisor and the gateway.


async def test_a_process_that_owns_nothing_any_more_only_cuts_links() -> None:
    """Commands other than cutting links are dropped."""
    engine, owned, up = FakeEngine(listener=_Deaf()), True, asyncio.Event()

    @contextlib.asynccontextmanager
    async def start(_: object) -> AsyncIterator[FakeEngine]:
        yield engine

    supervisor = EngineSupervisor(start, clock=FakeClock(), backoff=Backoff(), holds_leases=lambda: owned)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(supervisor.run(ready=up.set))
        await up.wait()
        link = supervisor.new_link(_Deaf())
        opening, cut = OpenLink(link=link, company=COMPANY, credentials=None), CutLink(link=link)
        supervisor.command(opening)
        owned = False
        supervisor.command(Ping(link=link, n=1))
        supervisor.command(cut)
        running.cancel()
    assert engine.commands == [opening, cut]


class _Deaf:
    def handle(self, report: object) -> None: ...
    def report(self, report: object) -> None: ...
    def lose_host(self, end: HostEnd) -> None: ...
    def quarantine(self, end: HostEnd) -> None: ...
    def change_host(self) -> bool:
        return False

    def host_lost(self, *, detail: str) -> None: ...
