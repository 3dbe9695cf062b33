"""Webhook endpoints and deliveries in the database: what the webhook sender, the API and operators ask for."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from weakref import WeakValueDictionary

from sqlalchemy import (
    Connection,
    RowMapping,
    delete,
    func,
    literal,
    select,
    update,
)

from holdfast.base.clock import iso
from holdfast.base.clock_step import ClockStep
from holdfast.delivery.events import Event
from holdfast.delivery.webhooks import (
    OF_ALL,
    Attempt,
    Companies,
    Counts,
    DeliveryState,
    Due,
    Endpoint,
    EndpointHealth,
    EndpointState,
    Failed,
    Head,
    RetryAfter,
    Settled,
    endpoint_of,
    judge,
    new_endpoint,
)
from holdfast.store import webhook_endpoints as endpoint_rows
from holdfast.store import webhook_queue as queue
from holdfast.store.clock_steps import moved_with_clock
from holdfast.store.company_locks import lock_company, lock_event_order
from holdfast.store.connection import insert
from holdfast.store.database import Database, Refusal, announce
from holdfast.store.events import DELIVERIES, endpoints_changed, write_recorded
from holdfast.store.sessions import exists, unknown
from holdfast.store.tables import IS_PENDING, events
from holdfast.store.tables import webhook_deliveries as deliveries
from holdfast.store.tables import webhook_endpoints as endpoints

_D = deliveries.c
_REPLAYED_AT_ONCE = 500
"""Deliveries of one transaction."""


class WebhookRows:
    """Implements `holdfast.delivery.webhooks.Webhooks`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._replays: WeakValueDictionary[str | None, asyncio.Lock] = WeakValueDictionary()

    async def set_default(self, url: str | None, secret: str | None) -> None:
        """Set the default endpoint. Without a URL, pending deliveries are kept and no more are added."""

        def change(before: Endpoint | None) -> Endpoint | None:
            if before is None and url is None:
                return None
            made = before or new_endpoint(OF_ALL, url=url, secret=secret)
            health = made.health if made.url == url else EndpointHealth()
            return replace(made, url=url, secret=secret, health=health)

        await self.put(OF_ALL, change)

    # Sending.

    async def find_due(
        self, companies: Collection[str], *, now: datetime, limit: int, known: Collection[int], busy: Collection[str]
    ) -> Due:
        def work(connection: Connection) -> Due:
            found = endpoint_rows.read_all(connection)
            if not found:
                return Due(endpoints=(), heads=(), next_at=None)
            found_by_company = ((company, endpoint_of(company, found)) for company in companies)
            routes = {company: endpoint for company, endpoint in found_by_company if endpoint is not None}
            open_ones = {
                company: endpoint.id
                for company, endpoint in routes.items()
                if endpoint.health.state is EndpointState.ACTIVE and endpoint.id not in busy
            }
            heads = queue.find_due(connection, open_ones, now=iso(now), limit=limit, known=known)
            probes, probe_at = queue.find_probes(connection, routes, now=now, known=known)
            later = queue.next_due_at(connection, open_ones, now=iso(now))
            times = [time for time in (later, probe_at) if time is not None]
            return Due(endpoints=found, heads=[*heads, *probes], next_at=min(times, default=None))

        return await self._database.read(work)

    async def event(self, seq: int) -> Event | None:
        def work(connection: Connection) -> Event | None:
            row = connection.execute(select(events).where(events.c.seq == seq)).mappings().first()
            if row is None:
                return None
            values = dict(row)
            return Event(company=values.pop("company_id"), **values)

        return await self._database.read(work)

    async def settle(
        self, head: Head, attempt: Attempt, *, now: datetime, jitter: float, to: Endpoint | None = None
    ) -> Settled:
        judged = judge(attempt, attempts=head.attempts + 1, is_probe=head.is_probe, jitter=jitter)

        def work(connection: Connection) -> Settled:
            lock_event_order(connection)
            current = next((each for each in endpoint_rows.read_all(connection) if each.id == head.endpoint), None)
            if to is not None and not attempt.is_accepted and endpoint_rows.was_changed(to, current):
                queue.store_outcome(connection, head, RetryAfter(0), attempt, now=now)
                state = EndpointState.ACTIVE if current is None else current.health.state
                return Settled(outcome=RetryAfter(0), endpoint=current, before=state)
            queue.store_outcome(connection, head, judged, attempt, now=now)
            before, after = queue.update_health(connection, current, attempt, now=now, jitter=jitter)
            return Settled(outcome=judged, endpoint=after, before=before)

        return await self._database.write(work, company=head.company, last=True)

    async def follow_clock(self, companies: Collection[str], step: ClockStep) -> None:
        def work(connection: Connection) -> None:
            lock_event_order(connection)
            moved = moved_with_clock(connection, _D.at, step, made_at=_D.at)
            mine = (IS_PENDING, _D.company_id.in_(companies))
            connection.execute(update(deliveries).where(*mine, moved.which).values(at=moved.to))
            connection.execute(update(deliveries).where(*mine, _D.next_at.is_not(None)).values(next_at=""))
            queue.probe_now(connection, companies)

        await self._database.write(work, last=True)

    async def retry_from_future(self, companies: Collection[str], *, now: datetime) -> None:
        def work(connection: Connection) -> None:
            lock_event_order(connection)
            mine = (_D.company_id.in_(companies), _D.next_at > iso(now), _D.last_at > iso(now))
            connection.execute(update(deliveries).where(*mine).values(next_at=""))
            ahead = (endpoints.c.probe_at.is_not(None), endpoints.c.last_failure_at > iso(now))
            connection.execute(update(endpoints).where(*ahead).values(probe_at=None))

        await self._database.write(work, last=True)

    async def give_up_old(self, *, before: str, at: str) -> int:
        def work(connection: Connection) -> int:
            lock_event_order(connection)
            stuck = queue.is_stuck(endpoint_rows.read_all(connection))
            values = {"state": DeliveryState.FAILED.value, "next_at": None, "last_at": at}
            error = func.coalesce(_D.last_error, "the endpoint accepted no delivery for days")
            given_up = update(deliveries).where(IS_PENDING, _D.at < before, stuck).values(**values, last_error=error)
            count = connection.execute(given_up).rowcount
            if count:
                queue.schedule_heads(connection, at=at)
            return count

        return await self._database.write(work, last=True)

    # Endpoints.

    async def endpoints(self) -> list[Endpoint]:
        return await self._database.read(endpoint_rows.read_all)

    async def endpoint(self, company: str) -> Endpoint | None:
        return await self._database.read(lambda connection: endpoint_rows.read_one(connection, company))

    async def put(self, company: str, change: Callable[[Endpoint | None], Endpoint | None]) -> Endpoint | None:
        def work(connection: Connection) -> Endpoint | Refusal | None:
            if company != OF_ALL:
                # Before the lock of events, as everywhere. It also keeps the company from being removed meanwhile.
                lock_company(connection, company)
            write_recorded(connection)  # these are of before the change
            before = endpoint_rows.read_one(connection, company)
            made = change(before)
            if made is not None and company != OF_ALL and not exists(connection, company):
                return unknown(company)
            connection.execute(delete(endpoints).where(endpoints.c.company_id == company))
            if made is not None:
                connection.execute(insert(connection, endpoints).values(endpoint_rows.values_of(made)))
            endpoints_changed(connection)
            if endpoint_rows.is_worth_a_retry(before, made):
                queue.make_due(connection, company)
            announce(connection, DELIVERIES)
            return made

        return await self._database.write(work, company=company or None)

    async def resume(self, endpoint_id: str) -> Endpoint | None:
        def work(connection: Connection) -> Endpoint | None:
            lock_event_order(connection)
            found = next((each for each in endpoint_rows.read_all(connection) if each.id == endpoint_id), None)
            if found is None:
                return None
            resumed = replace(found, health=EndpointHealth())
            endpoint_rows.save(connection, resumed)
            queue.make_due(connection, resumed.company)
            announce(connection, DELIVERIES)
            return resumed

        return await self._database.write(work, last=True)

    # For people.

    async def counts(self, companies: Companies = None) -> dict[str, Counts]:
        mine = literal(value=True) if companies is None else _D.company_id.in_(companies)
        pending = select(_D.company_id, func.count(), func.min(_D.at)).where(IS_PENDING, mine)
        failed = select(_D.company_id, func.count()).where(queue.HAS_FAILED, mine)

        def work(connection: Connection) -> dict[str, Counts]:
            found: dict[str, Counts] = {}
            for company, count, oldest in connection.execute(pending.group_by(_D.company_id)):
                found[company] = Counts(pending=count, oldest_at=oldest)
            for company, count in connection.execute(failed.group_by(_D.company_id)):
                found[company] = replace(found.get(company, Counts()), failed=count)
            return found

        return await self._database.read(work)

    async def failed(self, companies: Companies, *, after: int, limit: int) -> list[Failed]:
        """Failed and retried deliveries of any number of companies: each has a query with its own index."""
        found = (
            select(deliveries, events.c.id, events.c.type)
            .join(events, events.c.seq == _D.event_seq)
            .where(_D.event_seq > after)
            .order_by(_D.event_seq)
            .limit(limit)
        )
        whose = [literal(value=True)] if companies is None else [_D.company_id == company for company in companies]
        statements = [found.where(kind, mine) for mine in whose for kind in (queue.HAS_FAILED, queue.IS_RETRIED)]

        def work(connection: Connection) -> list[Failed]:
            rows = [row for statement in statements for row in connection.execute(statement).mappings()]
            return [_failed(row) for row in sorted(rows, key=lambda row: int(row["event_seq"]))[:limit]]

        return await self._database.read(work)

    async def company_of(self, event_id: str) -> str | None:
        statement = select(events.c.company_id).where(events.c.id == event_id)
        return await self._database.read(lambda connection: connection.scalar(statement))

    async def replay(self, event_id: str) -> bool:
        """A suspended endpoint is probed at once: somebody believes that it works again."""
        found = select(events.c.seq, events.c.company_id).where(events.c.id == event_id)
        row = await self._database.read(lambda connection: connection.execute(found).first())
        if row is None:
            return False
        seq, company = row
        return await self._replay_part([seq], company=company, by_filter=False) > 0

    async def replay_all(self, companies: Companies, *, since: str | None) -> int:
        """In small transactions, oldest first, so that writes of other companies hardly wait."""
        return sum([await self._replay_of(company, since=since) for company in _each(companies)])

    async def _replay_of(self, company: str | None, *, since: str | None) -> int:
        replayed = 0
        async with self._replays.setdefault(
            company, asyncio.Lock()
        ):  # many at once would fill the groups of the writer
            after, last = await self._database.read(lambda connection: _range_of_replay(connection, since))
            while True:
                page = functools.partial(_page_of_replay, company=company, since=since, after=after, last=last)
                seqs = await self._database.read(page)
                if not seqs:
                    return replayed
                replayed += await self._replay_part(seqs, company=company, by_filter=since is not None)
                after = seqs[-1]

    async def _replay_part(self, seqs: Sequence[int], *, company: str | None, by_filter: bool) -> int:
        """Start the deliveries of these events again; with `by_filter`, only of types that the endpoint wants."""

        def work(connection: Connection) -> int:
            lock_event_order(connection)
            wanted = endpoint_rows.is_wanted(endpoint_rows.read_all(connection), by_filter=by_filter)
            fresh = {"state": "pending", "attempts": 0, "next_at": None, "first_at": None}
            columns = ["event_seq", "company_id", "chat", "state", "at", "attempts"]
            source = select(
                events.c.seq, events.c.company_id, events.c.chat, literal("pending"), events.c.at, literal(0)
            ).where(events.c.seq.in_(seqs), wanted)
            rows = insert(connection, deliveries).from_select(columns, source)
            again = rows.on_conflict_do_update(index_elements=["event_seq"], set_=fresh).returning(_D.company_id)
            with queue.heads_kept(connection, seqs):
                replayed = connection.scalars(again).all()
            if replayed:
                queue.probe_now(connection, set(replayed))
                announce(connection, DELIVERIES)
            return len(replayed)

        return await self._database.write(work, company=company, last=True)


def _each(companies: Companies) -> Sequence[str | None]:
    """None: all companies together. A query over several ones would sort all of their events for each page."""
    return [None] if companies is None else sorted(set(companies))


def _range_of_replay(connection: Connection, since: str | None) -> tuple[int, int]:
    """The number before the first event, and the last one: events that are added meanwhile are delivered anyway."""
    first = None if since is None else connection.scalar(select(func.min(events.c.seq)).where(events.c.at >= since))
    return (first or 1) - 1, connection.scalar(select(func.max(events.c.seq))) or 0


def _page_of_replay(
    connection: Connection, *, company: str | None, since: str | None, after: int, last: int
) -> Sequence[int]:
    if since is not None:
        mine = literal(value=True) if company is None else events.c.company_id == company
        page = select(events.c.seq).where(mine, events.c.seq > after, events.c.seq <= last, events.c.at >= since)
        return connection.scalars(page.order_by(events.c.seq).limit(_REPLAYED_AT_ONCE)).all()
    mine = literal(value=True) if company is None else _D.company_id == company
    pages = [
        select(_D.event_seq).where(kind, mine, _D.event_seq > after, _D.event_seq <= last).order_by(_D.event_seq)
        for kind in (queue.HAS_FAILED, queue.IS_RETRIED)
    ]
    found = [seq for page in pages for seq in connection.scalars(page.limit(_REPLAYED_AT_ONCE))]
    return sorted(found)[:_REPLAYED_AT_ONCE]


def _failed(row: RowMapping) -> Failed:
    same = ("id", "type", "attempts", "first_at", "last_at", "last_status", "last_error")
    return Failed(
        seq=row["event_seq"],
        company=row["company_id"],
        state=DeliveryState(row["state"]),
        next_at=row["next_at"] or None,
        **{name: row[name] for name in same},
    )
