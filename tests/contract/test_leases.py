"""Ownership of sessions, where processes share a PostgreSQL: one owner at a time, and nobody else writes for the
session.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import psycopg
import pytest
from sqlalchemy import Connection

from holdfast.base.ids import SystemRandomSource
from holdfast.session.engine import Commit
from holdfast.session.state import State
from holdfast.session.stores import ClusterNode, LeaseLost, NodeDescription, Record, Transition, WaitingWork
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.leases import LeaseRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.postgres import parse
from holdfast.store.restart_notice import announce_restart
from holdfast.store.sessions import SessionRows
from holdfast.store.timeline import TimelineRows
from tests.contract.rows import draft, take
from tests.doubles.fake_clock import FakeClock
from tests.postgres_process import PostgresProcess

pytestmark = pytest.mark.slow

COMPANY, OTHER = "962302", "962303"
T1 = "2026-01-01T00:00:01.000Z"
TTL_S = 60.0


class Node:
    """The store of one process."""

    def __init__(self, name: str, database: Database) -> None:
        clock, randomness = FakeClock(), SystemRandomSource()
        self.database = database
        self.leases = LeaseRows(
            database, node=NodeDescription(name=name, url=f"http://{name}:3000"), randomness=randomness, ttl_s=TTL_S
        )
        self.sessions = SessionRows(database, fence=self.leases)
        self.engine = EngineRows(database, clock=clock, randomness=randomness, fence=self.leases)
        self.outbox = OutboxRows(database, clock=clock, fence=self.leases)
        self.timeline = TimelineRows(database, fence=self.leases)

    async def owned(self, *, limit: int = 100) -> set[str]:
        return set((await self.leases.renew(limit=limit)).companies)


Start = Callable[[str], Node]


@pytest.fixture
async def url(postgres: PostgresProcess) -> str:
    return postgres.new_migrated()


@pytest.fixture
async def start(url: str) -> AsyncIterator[Start]:
    nodes: list[Node] = []

    def start(name: str) -> Node:
        nodes.append(Node(name, Database(parse(url))))
        return nodes[-1]

    yield start
    for node in nodes:
        node.database.close()


@pytest.fixture
async def one(start: Start) -> Node:
    """A process, and two sessions that nobody owns yet."""
    node = start("one")
    for company in (COMPANY, OTHER):
        await node.sessions.create(record(company))
    return node


@pytest.fixture
def two(start: Start) -> Node:
    return start("two")


@pytest.fixture
def expire(url: str, postgres: PostgresProcess) -> Callable[[], None]:
    """Let all leases expire, as if their owner had not renewed them."""

    def expire() -> None:
        with postgres.operator(url) as connection:
            connection.execute("UPDATE leases SET expires_at = now() - interval '1 second'")

    return expire


def record(company: str = COMPANY, state: State = State.CONNECTED) -> Record:
    return Record(company=company, state=state, since=T1, created_at=T1)


async def test_a_session_has_one_owner(one: Node, two: Node) -> None:
    """The first process that claims it; renewing keeps it; the other process sees the owner."""
    assert await one.owned() == {COMPANY, OTHER}
    assert await two.owned() == set()
    assert await one.owned() == {COMPANY, OTHER}
    assert (await two.leases.renew(limit=9)).elsewhere == {COMPANY: "one", OTHER: "one"}
    assert (await one.leases.renew(limit=9)).elsewhere == {}
    assert await two.leases.claim(COMPANY) is False
    assert await one.leases.claim(COMPANY) is True


async def test_simultaneous_claims_give_each_session_to_one_process(one: Node, two: Node) -> None:
    """A renewal claims no more than it may."""
    for number in range(50):
        await one.sessions.create(record(f"c{number}"))
    found = await asyncio.gather(*(node.owned(limit=5) for _ in range(8) for node in (one, two)))
    first, second = set().union(*found[::2]), set().union(*found[1::2])
    assert not first & second
    assert len(first | second) == 52
    assert len(found[0]) <= 5


async def test_an_expired_lease_is_claimed_by_another_process(one: Node, two: Node, expire: Callable[[], None]) -> None:
    """The old owner finds out at its next renewal, and each claim increments the epoch."""
    await one.owned()
    expire()
    assert await two.owned() == {COMPANY, OTHER}
    assert await one.owned() == set()
    await two.leases.release()
    assert await one.owned() == {COMPANY, OTHER}


async def test_an_expired_lease_that_nobody_claimed_is_renewed(one: Node, expire: Callable[[], None]) -> None:
    """Under its old epoch, because nobody else can have written."""
    await one.owned()
    check = one.leases.check(COMPANY)
    expire()
    assert await one.owned() == {COMPANY, OTHER}
    await one.database.write(check)


async def test_released_sessions_can_be_claimed_at_once(one: Node, two: Node) -> None:
    """After a graceful stop no process has to wait."""
    await one.owned()
    await one.leases.release()
    assert (await two.leases.renew(limit=0)).elsewhere == {COMPANY: "", OTHER: ""}
    assert await two.owned() == {COMPANY, OTHER}


async def test_a_session_that_another_process_owned_in_between_is_claimed_one_renewal_later(
    one: Node, two: Node, expire: Callable[[], None]
) -> None:
    """The actor that runs it under the old epoch must end first."""
    await one.owned()
    expire()
    await two.owned()
    await two.leases.release()
    assert await one.owned() == set()
    assert await one.owned() == {COMPANY, OTHER}


async def test_a_process_claims_what_it_abandoned_before_it_expires(one: Node, two: Node) -> None:
    """Under a new epoch: writes that it requested under the old one are refused."""
    await one.owned()
    check = one.leases.check(COMPANY)
    one.leases.abandon()
    assert await two.owned() == set()
    assert await one.owned() == {COMPANY, OTHER}
    with pytest.raises(LeaseLost):
        await one.database.write(check)


async def test_after_an_outage_each_process_gets_back_its_own_sessions(
    one: Node, two: Node, expire: Callable[[], None]
) -> None:
    """Whichever gets an answer from the database first: sessions of others are claimed a second later."""
    assert await one.leases.claim(COMPANY)
    assert await two.leases.claim(OTHER)
    for node in (one, two):
        node.leases.abandon()
    expire()
    assert [await one.owned(), await one.owned()] == [{COMPANY}, {COMPANY}]
    assert await two.owned() == {OTHER}
    expire()
    one.leases.abandon()
    assert await one.owned() == {COMPANY}
    await asyncio.sleep(1)
    assert await one.owned() == {COMPANY, OTHER}


WRITES: dict[str, Callable[[Node], Awaitable[object]]] = {
    "record": lambda node: node.sessions.save(record()),
    "history": lambda node: node.timeline.add(transition()),
    "engine commit": lambda node: node.engine.commit(COMPANY, Commit(link=1, seq=1, credentials="stale", paired=True)),
    "credentials for a new link": lambda node: node.engine.credentials(COMPANY),
    "quarantine": lambda node: node.engine.quarantine(COMPANY, reason="unlinked"),
    "sending": lambda node: take(node.outbox),
}


def transition() -> Transition:
    return Transition(
        company=COMPANY, at=T1, before=State.CONNECTED, after=State.STOPPED, event="StopAsked", reason=None, code=None,
        attempts=0, next_attempt_at=None, lasted_s=1,
    )  # fmt: skip


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_only_the_owner_writes(
    one: Node, two: Node, expire: Callable[[], None], url: str, postgres: PostgresProcess,
    write: Callable[[Node], Awaitable[object]],
) -> None:  # fmt: skip
    """Neither a process that never owned the session, nor one that has just lost it without noticing, can write."""
    await one.owned()
    await one.engine.commit(COMPANY, Commit(link=1, seq=1, credentials="first", paired=True))
    await one.outbox.accept(draft())
    with pytest.raises(LeaseLost, match="company 962302 is run by another"):
        await write(two)
    await write(one)
    expire()
    await two.owned()
    before = _everything(url, postgres)
    with pytest.raises(LeaseLost):
        await write(one)
    assert _everything(url, postgres) == before
    await write(two)


def _everything(url: str, postgres: PostgresProcess) -> list[object]:
    tables = ("sessions", "turns", "credentials", "quarantine", "outbox")
    return [postgres.rows(url, f"SELECT * FROM {table} ORDER BY 1") for table in tables]


async def test_a_write_requested_under_an_old_epoch_fails_under_a_new_one(
    one: Node, two: Node, expire: Callable[[], None]
) -> None:
    """The same process owns the session again, but the write belongs to its earlier ownership."""
    await one.owned()
    check = one.leases.check(COMPANY)
    expire()
    await two.owned()
    await two.leases.release()
    for _ in range(2):
        await one.owned()
    with pytest.raises(LeaseLost):
        await one.database.write(check)
    await one.database.write(one.leases.check(COMPANY))


async def test_nobody_claims_a_lease_between_the_check_and_the_commit(
    one: Node, two: Node, expire: Callable[[], None]
) -> None:
    """Also when it has expired: the writer locks its row, and nobody waits for that lock."""
    await one.owned()
    expire()
    loop, checked, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    check = one.leases.check(COMPANY)

    def slow(connection: Connection) -> None:
        check(connection)
        loop.call_soon_threadsafe(checked.set)
        assert go.wait(10)

    write = one.database.write(slow)
    await checked.wait()
    assert await two.owned() == {OTHER}
    go.set()
    await write
    assert await two.owned() == {COMPANY, OTHER}


async def test_the_owner_is_notified_of_messages_that_any_process_accepted(one: Node, two: Node) -> None:
    """Only about its own sessions, and only until the messages are in flight."""
    await one.leases.claim(COMPANY)
    await two.leases.claim(OTHER)
    for n in (1, 2):
        accepted = await two.outbox.accept(draft(n))
        newest = WaitingWork(newest_message=accepted.message.seq, newest_operation=None)
        assert (await one.leases.renew(limit=0)).waiting == {COMPANY: newest}
        assert (await two.leases.renew(limit=0)).waiting == {}
    assert (await two.outbox.cancel("msg_2")).seq == newest.newest_message
    assert len(await take(one.outbox)) == 1
    assert (await one.leases.renew(limit=0)).waiting == {}


@pytest.mark.parametrize("lock", ["outbox IN SHARE MODE", "outbox, sessions, inbox IN ACCESS EXCLUSIVE MODE"])
async def test_a_statement_that_waits_does_not_delay_a_renewal(
    one: Node, two: Node, url: str, postgres: PostgresProcess, lock: str
) -> None:
    """An operator's lock on the tables of messages, such as that of CREATE INDEX, and writes that wait for it: the
    leases are renewed all the same, and nobody else can have them."""
    await one.owned()
    with psycopg.connect(url) as operator:
        operator.execute(f"LOCK TABLE {lock}".encode())
        waiting = asyncio.ensure_future(one.outbox.accept(draft()))
        async with asyncio.timeout(4):
            assert await one.owned() == {COMPANY, OTHER}
        assert await two.owned() == set()
        assert not waiting.done()
    await waiting


async def test_the_owner_writes_while_its_lease_is_renewed(one: Node, two: Node, expire: Callable[[], None]) -> None:
    """A renewal in between does not refuse the write; a claim by another process waits until it is committed."""
    await one.owned()
    loop, entered, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    check = one.leases.check(COMPANY)

    def hold(connection: Connection) -> None:
        check(connection)
        loop.call_soon_threadsafe(entered.set)
        assert go.wait(10)
        check(connection)

    held = asyncio.ensure_future(one.database.write(hold))
    await entered.wait()
    assert await one.owned() == {COMPANY, OTHER}
    expire()
    assert await two.owned() == {OTHER}
    go.set()
    await held
    assert await two.owned() == {COMPANY, OTHER}


async def test_statements_executed_after_leases_were_abandoned_claim_nothing(
    one: Node, two: Node, url: str, postgres: PostgresProcess
) -> None:
    """A renewal and a claim that the database executes only after the leases were abandoned: no session is left with an
    owner that does not exist.
    """
    with psycopg.connect(url) as operator:
        operator.execute("LOCK TABLE leases IN ACCESS EXCLUSIVE MODE")
        asked = [asyncio.ensure_future(one.owned()), asyncio.ensure_future(one.leases.claim(COMPANY))]
        await asyncio.sleep(0.1)
        one.leases.abandon()
    await asyncio.gather(*asked, return_exceptions=True)
    assert await two.owned() == {COMPANY, OTHER}


async def test_nodes_know_each_other(one: Node, two: Node) -> None:
    """From the first renewal until the graceful stop; also after a node has abandoned its leases and got a new holder
    id. The owner of a session is found with its address.
    """
    assert await two.leases.owner(COMPANY) is None
    await one.owned()
    await two.owned()
    first, second = await two.leases.nodes()
    assert (first.name, first.url, second.name) == ("one", "http://one:3000", "two")
    assert first.id == one.leases.node_id
    assert 0 <= first.seen_ago_s < TTL_S
    owner = await two.leases.owner(COMPANY)
    assert owner is not None
    assert (owner.id, owner.url) == (first.id, first.url)
    one.leases.abandon()
    await one.owned()
    again = next(node for node in await two.leases.nodes() if node.name == "one")
    assert (again.id, again.started_at) == (first.id, first.started_at)
    assert again.holder != first.holder
    await one.leases.release()
    assert [node.name for node in await two.leases.nodes()] == ["two"]


async def test_the_time_of_the_database_comes_with_each_renewal(one: Node, url: str, postgres: PostgresProcess) -> None:
    """It is a clock that all nodes share, whatever their own clocks say."""
    now = "SELECT extract(epoch FROM clock_timestamp())::float8"
    ((before,),) = postgres.rows(url, now)
    held = await one.leases.renew(limit=9)
    ((after,),) = postgres.rows(url, now)
    assert float(str(before)) <= held.database_time <= float(str(after))


# Sharing.


async def test_a_session_is_handed_over_to_another_node_without_a_gap(one: Node, start: Start) -> None:
    """The other node owns it at its next renewal, under the next epoch; the first one can't write for it any more, and
    nobody else can claim it.
    """
    two, three = start("two"), start("three")
    assert await one.owned() == {COMPANY, OTHER}
    await two.owned()
    to = next(node for node in await one.leases.nodes() if node.name == "two")
    assert to.sessions == 0
    assert await one.leases.transfer(COMPANY, to)
    assert await three.owned() == set()
    with pytest.raises(LeaseLost):
        await one.sessions.save(record(COMPANY))
    assert await one.owned() == {OTHER}
    assert await two.owned() == {COMPANY}
    await two.sessions.save(record(COMPANY))
    assert [node.sessions for node in await one.leases.nodes()] == [1, 0, 0], "published with each renewal"
    await two.owned()
    assert [node.sessions for node in await one.leases.nodes()] == [1, 1, 0]


async def test_nothing_is_transferred_to_a_node_that_drains_or_has_ended(one: Node, start: Start) -> None:
    """The first node keeps the session."""
    two = start("two")
    await one.owned()
    await two.owned()
    to = next(node for node in await one.leases.nodes() if node.name == "two")
    await two.leases.drain(drains=True)
    assert not await one.leases.transfer(COMPANY, to)
    assert [node.is_draining for node in await one.leases.nodes()] == [False, True]
    await two.leases.drain(drains=False)
    await two.leases.release()
    assert not await one.leases.transfer(COMPANY, to)
    assert await one.owned() == {COMPANY, OTHER}
    await one.sessions.save(record(COMPANY))


async def test_a_session_transferred_to_a_node_that_has_just_died_is_free_when_its_others_are(
    one: Node, start: Start, url: str, postgres: PostgresProcess
) -> None:
    """Not later, though it was handed over later; a node that has been silent for three seconds gets none."""
    two = start("two")
    await one.owned()
    await two.owned()
    to = next(node for node in await one.leases.nodes() if node.name == "two")
    seen = "UPDATE nodes SET seen_at = clock_timestamp() - interval '{} s' WHERE name = 'two'"
    with postgres.operator(url) as connection:
        connection.execute(seen.format(2).encode())
        assert await one.leases.transfer(COMPANY, to)
        connection.execute(seen.format(3).encode())
        assert not await one.leases.transfer(OTHER, to)
    left = (
        f"SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM leases WHERE company_id = '{COMPANY}'"
    )
    ((left_s,),) = postgres.rows(url, left)
    assert float(str(left_s)) <= TTL_S - 2


async def test_sessions_of_a_stopped_node_wait_for_the_next_one_with_its_name(one: Node, start: Start) -> None:
    """Other nodes neither claim them nor consider the stopped node their owner; without the wait they claim at once."""
    await one.owned()
    await one.leases.release(reserve_s=60)
    other = start("other")
    assert await other.owned() == set()
    assert await other.leases.owner(COMPANY) is None
    again = start("one")
    assert await again.owned() == {COMPANY, OTHER}
    await again.leases.release(reserve_s=2)
    await start("one").leases.reserve(for_s=60)
    await asyncio.sleep(2.2)
    assert await other.owned() == set(), "the next one said that it starts"
    assert await again.owned() == {COMPANY, OTHER}
    await again.leases.release()
    assert await other.owned() == {COMPANY, OTHER}


async def test_a_process_announces_its_start_before_its_code_is_loaded(
    one: Node, url: str, postgres: PostgresProcess
) -> None:
    """Its sessions wait for it. Where the database can't be reached, the start continues and reports the problem
    itself.
    """
    await one.owned()
    await one.leases.release(reserve_s=2)
    await asyncio.to_thread(announce_restart(url, node="other").join)
    await asyncio.to_thread(announce_restart("postgresql://nobody@127.0.0.1:1/none", node="one").join)
    left = "SELECT min(extract(epoch FROM expires_at - clock_timestamp()))::float8 FROM leases"
    ((before_s,),) = postgres.rows(url, left)
    await asyncio.to_thread(announce_restart(url, node="one").join)
    ((after_s,),) = postgres.rows(url, left)
    assert float(str(before_s)) < 2 < float(str(after_s))


async def test_a_node_publishes_how_many_sessions_wait_to_connect(one: Node, two: Node) -> None:
    """The other nodes read it at their next renewal."""
    await one.leases.renew(limit=0, connecting=7)
    await two.leases.renew(limit=0, connecting=0)
    assert {node.name: node.connecting for node in await two.leases.nodes()} == {"one": 7, "two": 0}
    await one.leases.renew(limit=0)
    assert [node.connecting for node in (await two.leases.renew(limit=0)).nodes] == [0, 0]


async def test_a_node_claims_as_many_as_its_share_allows(one: Node) -> None:
    """The share is computed from all nodes, what this one owns, and the number of all sessions."""
    seen = []

    def share(nodes: Sequence[ClusterNode], own: int, total: int) -> int:
        seen.append(([node.name for node in nodes], own, total))
        return 1

    assert len((await one.leases.renew(limit=100, share=share)).companies) == 1
    assert len((await one.leases.renew(limit=100, share=share)).companies) == 2
    assert seen == [(["one"], 0, 2), (["one"], 1, 2)]
