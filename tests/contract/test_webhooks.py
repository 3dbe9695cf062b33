"""The contract of the webhooks port, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, select

from holdfast.base.clock import iso
from holdfast.base.clock_step import ClockStep
from holdfast.delivery.events import ACCEPTED, RECEIVED, SESSION
from holdfast.delivery.webhooks import (
    OF_ALL,
    Attempt,
    Counts,
    Delivered,
    Due,
    Endpoint,
    EndpointHealth,
    EndpointState,
    Head,
    RetryAfter,
    new_endpoint,
)
from holdfast.store.database import Database
from holdfast.store.events import EventRows, record
from holdfast.store.postgres import parse
from holdfast.store.sessions import SessionRows
from holdfast.store.tables import webhook_endpoints
from holdfast.store.webhooks import WebhookRows
from tests.contract.rows import record as session_record
from tests.postgres_process import PostgresProcess

COMPANY, OTHER, THIRD = "962302", "962303", "962304"
NOW = datetime(2026, 1, 10, tzinfo=UTC)
OK, BAD = Attempt(status=200), Attempt(status=500, error="the receiver answered 500")


class Service:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.rows = WebhookRows(database)
        self.events = EventRows(database)

    async def happen(
        self, *chats: str, company: str = COMPANY, type_: str = "message.sent", at: datetime = NOW
    ) -> list[int]:
        """Add one event in each of these chats; returns their numbers."""

        def work(connection: Connection) -> None:
            for number, chat in enumerate(chats):
                record(connection, company, type_, {"n": number}, chat=chat, at=iso(at))

        before = await self.events.newest()
        await self.database.write(work)
        return [event.seq for event in await self.events.after(before, companies=None, limit=100)]

    async def find_due(self, *companies: str, at: datetime = NOW, limit: int = 100, known: tuple[int, ...] = ()) -> Due:
        wanted = companies or (COMPANY, OTHER)
        return await self.rows.find_due(wanted, now=at, limit=limit, known=known, busy=())

    async def heads(self, *companies: str, at: datetime = NOW) -> list[int]:
        return [head.seq for head in (await self.find_due(*companies, at=at)).heads]

    async def settle(self, seq: int, attempt: Attempt, *, at: datetime = NOW) -> None:
        head = next(head for head in (await self.find_due(at=at)).heads if head.seq == seq)
        await self.rows.settle(head, attempt, now=at, jitter=0)


@pytest.fixture
async def service(place: Path | URL) -> AsyncIterator[Service]:
    with contextlib.closing(Database(place)) as database:
        made = Service(database)
        for company in (COMPANY, OTHER, THIRD):
            await SessionRows(database).create(session_record(company))
        await made.rows.set_default("https://crm.example", "whsec_x")
        yield made


async def test_an_endpoint_is_found_again_as_it_was_put(service: Service) -> None:
    """Every field is stored; a removed endpoint is gone."""
    full = Endpoint(
        id="session-962302",
        company=COMPANY,
        url="https://own.example",
        secret="whsec_y",
        events=("message.received", "session.state"),
        health=EndpointHealth(state=EndpointState.SUSPENDED, failures=7, failing_since=NOW, probes=2, probe_at=NOW),
        last_success_at="2026-01-01T00:00:00.000Z",
        last_failure_at="2026-01-02T00:00:00.000Z",
        last_error="e",
        last_status=500,
    )
    assert await service.rows.put(COMPANY, lambda before: full if before is None else None) == full
    assert await service.rows.endpoint(COMPANY) == full
    assert [each.company for each in await service.rows.endpoints()] == [OF_ALL, COMPANY]
    assert "whsec_y" not in repr(full)
    assert await service.rows.put(COMPANY, lambda before: None) is None
    assert await service.rows.endpoint(COMPANY) is None


async def test_only_the_first_delivery_of_a_chat_is_due(service: Service) -> None:
    """The next delivery follows when the first is settled, whatever the outcome."""
    first, second, other, third = await service.happen("a", "a", "b", "a")
    assert await service.heads() == [first, other]
    await service.settle(first, OK)
    assert await service.heads() == [second, other]
    await service.settle(second, BAD)
    assert await service.heads() == [other]
    due = await service.find_due(known=(other,))
    assert (list(due.heads), due.next_at) == ([], NOW + timedelta(seconds=5))
    assert await service.heads(at=NOW + timedelta(seconds=5)) == [other, second]
    await service.settle(second, OK, at=NOW + timedelta(seconds=5))
    assert third in await service.heads(at=NOW + timedelta(seconds=5))


async def test_companies_take_turns(service: Service) -> None:
    """A company with a thousand chats does not delay another's single delivery; deliveries of other processes are not
    loaded.
    """
    many = await service.happen(*(f"chat {n}" for n in range(40)))
    [late] = await service.happen("a", company=OTHER)
    await service.happen("a", company=THIRD)
    found = [head.seq for head in (await service.find_due(limit=4)).heads]
    assert late in found
    assert set(found) - {late} < set(many)
    assert len(found) == 4


async def test_a_delivery_is_created_for_event_types_that_the_endpoint_wants(service: Service) -> None:
    """For the company's own endpoint or the default one; `message.accepted` only if it is subscribed to."""
    own = replace(new_endpoint(OTHER, url="https://own.example", secret="s"), events=(ACCEPTED, RECEIVED))
    await service.rows.put(OTHER, lambda _: own)
    for company in (COMPANY, OTHER):
        for type_ in (ACCEPTED, RECEIVED, SESSION):
            await service.happen(type_, company=company, type_=type_)
    heads = (await service.find_due()).heads
    assert [(head.company, head.chat, head.endpoint) for head in heads] == [
        (COMPANY, RECEIVED, "default"),
        (OTHER, ACCEPTED, "session-962303"),
        (COMPANY, SESSION, "default"),
        (OTHER, RECEIVED, "session-962303"),
    ]


async def test_without_an_endpoint_nothing_is_added_and_pending_deliveries_are_kept(service: Service) -> None:
    """Removing the default endpoint from the settings by mistake loses no pending delivery."""
    [waiting] = await service.happen("a")
    await service.rows.set_default(None, None)
    await service.happen("b")
    assert await service.heads() == []
    await service.rows.set_default("https://crm.example", "whsec_x")
    assert await service.heads() == [waiting]


async def test_an_outcome_and_the_endpoints_health_are_stored_together(service: Service) -> None:
    """Five failures over five minutes suspend the endpoint: then only its oldest delivery is sent, as a probe."""
    seqs = await service.happen(*"abcdef")
    for n, seq in enumerate(seqs[:5]):
        head = next(head for head in (await service.find_due()).heads if head.seq == seq)
        settled = await service.rows.settle(head, BAD, now=NOW + timedelta(seconds=75 * n), jitter=0)
        assert isinstance(settled.outcome, RetryAfter)
    assert settled.endpoint is not None
    assert (settled.before, settled.endpoint.health.state) == (EndpointState.ACTIVE, EndpointState.SUSPENDED)
    later = NOW + timedelta(hours=1)
    assert settled.endpoint.health.probe_at is not None
    assert (await service.find_due(at=NOW + timedelta(seconds=301))).next_at == settled.endpoint.health.probe_at
    [probe] = (await service.find_due(at=later)).heads
    assert (probe.seq, probe.is_probe, probe.attempts) == (seqs[0], True, 1)
    await service.rows.settle(probe, BAD, now=later, jitter=0)
    [again] = (await service.find_due(at=later + timedelta(hours=2))).heads
    assert again == probe
    settled = await service.rows.settle(again, OK, now=later, jitter=0)
    assert (settled.outcome, settled.endpoint and settled.endpoint.health) == (Delivered(), EndpointHealth())
    assert await service.heads(at=later) == seqs[1:]


async def test_a_suspended_endpoint_is_stored_under_the_name_that_older_nodes_read(service: Service) -> None:
    """During a rolling upgrade, nodes of the version before share the table."""
    suspended = EndpointHealth(state=EndpointState.SUSPENDED, failures=5)
    await service.rows.put(OTHER, lambda _: replace(new_endpoint(OTHER, url="https://a", secret="s"), health=suspended))

    def stored(connection: Connection) -> object:
        return connection.scalar(select(webhook_endpoints.c.state).where(webhook_endpoints.c.company_id == OTHER))

    assert await service.database.read(stored) == "aside"
    found = await service.rows.endpoint(OTHER)
    assert found is not None
    assert found.health.state is EndpointState.SUSPENDED


async def test_a_settled_delivery_does_not_change(service: Service) -> None:
    """A late result from another process changes nothing."""
    [seq] = await service.happen("a")
    [head] = (await service.find_due()).heads
    await service.rows.settle(head, OK, now=NOW, jitter=0)
    await service.rows.settle(head, BAD, now=NOW, jitter=0)
    assert await service.heads(at=NOW + timedelta(days=1)) == []
    assert await service.rows.failed(None, after=0, limit=9) == []
    event = await service.rows.event(seq)
    assert event is not None
    assert event.seq == seq
    assert await service.rows.event(seq + 1) is None


async def test_old_deliveries_without_a_working_endpoint_fail(service: Service) -> None:
    """Those of endpoints that are off or removed fail; those of a working endpoint stay pending, however old."""
    off = replace(
        new_endpoint(OTHER, url="https://own.example", secret="s"), health=EndpointHealth(state=EndpointState.OFF)
    )
    await service.rows.put(OTHER, lambda _: off)
    old = NOW - timedelta(days=5)
    await service.happen("a", at=old)
    await service.happen("a", company=OTHER, at=old)
    [fresh] = await service.happen("a", company=OTHER)
    before = iso(NOW - timedelta(days=4))
    assert await service.rows.give_up_old(before=before, at=iso(NOW)) == 1
    await service.rows.set_default(None, None)
    assert await service.rows.give_up_old(before=before, at=iso(NOW)) == 1
    counts = await service.rows.counts()
    assert await service.rows.counts([OTHER, THIRD]) == {OTHER: counts[OTHER]}
    assert counts == {COMPANY: Counts(failed=1), OTHER: Counts(pending=1, failed=1, oldest_at=iso(NOW))}
    await service.rows.resume("session-962303")
    assert await service.heads(OTHER) == [fresh]


async def test_pending_deliveries_follow_a_step_of_the_wall_clock(service: Service) -> None:
    """Retries and probes are due, and no delivery has aged; new deliveries and those of other companies are
    unchanged.
    """
    old, other = await service.happen("a"), await service.happen("a", company=OTHER)
    await service.settle(old[0], BAD)
    await service.settle(other[0], BAD)
    now = NOW - timedelta(days=3)
    await service.happen("b", at=now - timedelta(seconds=5))
    step = ClockStep(by_s=-259200.0, suspended_s=0.0, after=now - timedelta(seconds=10), at=now)
    await service.rows.follow_clock([COMPANY], step)
    assert await service.heads(at=now) == [old[0], other[0] + 1]
    assert (await service.rows.counts())[COMPANY].oldest_at == iso(now - timedelta(seconds=5))
    assert (await service.rows.counts())[OTHER].oldest_at == iso(NOW)
    await service.rows.retry_from_future([COMPANY, OTHER], now=now)
    assert await service.heads(at=now) == [old[0], other[0], other[0] + 1]


async def test_a_replay_restores_the_order(service: Service) -> None:
    """A replayed event precedes pending ones of its chat; each event is sent once."""
    first, second, third = await service.happen("a", "a", "a")
    for seq in (first, second):
        await service.settle(seq, OK)
    assert await service.heads() == [third]
    assert await service.rows.replay_all([COMPANY], since=iso(NOW)) == 3
    assert await service.heads() == [first]
    assert await service.rows.replay_all([OTHER], since=iso(NOW)) == 0


async def test_a_long_replay_restores_the_order_in_every_chat(service: Service) -> None:
    """Also of failed deliveries only; the heads of other companies stay."""
    await service.rows.set_default(None, None)  # so that these have no deliveries yet
    await service.happen(*["a", "b", "c"] * 400)
    await service.rows.set_default("https://crm.example", "whsec_x")
    [head_of_other] = await service.happen("a", company=OTHER)
    [pending] = await service.happen("c")
    assert await service.rows.replay_all([COMPANY, COMPANY], since=iso(NOW)) == 1201
    assert sorted(await service.heads()) == [1, 2, 3, head_of_other]
    for seq, chat in ((1, "a"), (4, "a"), (2, "b"), (5, "b")):
        for n in range(12):
            head = Head(seq=seq, company=COMPANY, chat=chat, attempts=n, endpoint="removed meanwhile")
            await service.rows.settle(head, BAD, now=NOW, jitter=0)
    assert sorted(await service.heads()) == [3, 7, 8, head_of_other]
    assert await service.rows.replay_all([COMPANY], since=None) == 4
    assert sorted(await service.heads()) == [1, 2, 3, head_of_other]
    assert (await service.rows.counts())[COMPANY].pending == pending - 1


async def test_a_long_replay_lets_others_write(service: Service) -> None:
    """It is done in several transactions, one replay of a company after the other."""
    await service.happen(*(str(n) for n in range(3000)))
    replays = [asyncio.create_task(service.rows.replay_all([COMPANY], since=iso(NOW))) for _ in range(3)]
    writes = 0
    while not all(replay.done() for replay in replays):
        await service.database.write(lambda connection: None, company=OTHER)
        writes += 1
    assert writes > 12
    assert [replay.result() for replay in replays] == [3000] * 3


async def test_events_are_kept_while_a_delivery_needs_them(service: Service) -> None:
    """A pending delivery keeps its event however old it is; a failed one for as long again after its failure."""
    old = NOW - timedelta(days=30)
    done, failed = await service.happen("a", "b", at=old)
    [pending] = await service.happen("c", at=old)
    await service.settle(done, OK, at=old)
    for n in range(12):
        head = Head(seq=failed, company=COMPANY, chat="b", attempts=n, endpoint="default")
        await service.rows.settle(head, BAD, now=NOW - timedelta(days=2), jitter=0)
    await service.events.prune(before=iso(NOW - timedelta(days=7)), now=iso(NOW))
    assert [event.seq for event in await service.events.after(0, companies=None, limit=9)] == [failed, pending]
    await service.events.prune(before=iso(NOW - timedelta(days=1)), now=iso(NOW))
    assert [event.seq for event in await service.events.after(0, companies=None, limit=9)] == [pending]


@pytest.mark.slow
async def test_no_chat_is_forgotten_when_two_processes_write_at_once(postgres: PostgresProcess) -> None:
    """One process adds to a chat while another settles its last delivery: there is always a head."""
    place = parse(postgres.new_migrated())
    with contextlib.closing(Database(place)) as one, contextlib.closing(Database(place)) as two:
        writer, sender = Service(one), Service(two)
        await writer.rows.set_default("https://crm.example", "whsec_x")
        taken = 0

        async def write() -> None:
            for _ in range(100):
                await writer.happen("a")

        async def send() -> None:
            nonlocal taken
            while taken < 100:
                for head in (await sender.find_due(at=NOW + timedelta(days=1))).heads:
                    await sender.rows.settle(head, OK, now=NOW, jitter=0)
                    taken += 1

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            tasks.create_task(send())
        assert await sender.rows.counts() == {}
