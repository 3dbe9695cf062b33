"""Webhook endpoints and deliveries as rows.

Only the first pending delivery of a chat, its head, has a `next_at`. So an index finds the deliveries that are due,
however many wait behind them, and the sender keeps no list. Whatever settles a head makes the next pending delivery of
its chat the head, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    update,
)

from holdfast.base.clock import iso
from holdfast.base.clock_step import ClockStep
from holdfast.delivery.events import UNASKED, Event
from holdfast.delivery.webhooks import (
    OF_ALL,
    Attempt,
    AttemptOutcome,
    Companies,
    Counts,
    Delivered,
    DeliveryState,
    Due,
    Endpoint,
    EndpointHealth,
    EndpointState,
    Failed,
    GivenUp,
    Head,
    RetryAfter,
    Settled,
    endpoint_id,
    endpoint_of,
    health_after,
    judge,
)
from holdfast.store.clock_steps import moved_with_clock
from holdfast.store.connection import insert
from holdfast.store.database import Database, announce
from holdfast.store.events import DELIVERIES, endpoints_changed, lock_event_order
from holdfast.store.tables import events
from holdfast.store.tables import webhook_deliveries as deliveries
from holdfast.store.tables import webhook_endpoints as endpoints

_PENDING = text("state = 'pending'")
"""Spelled as in the partial index of pending deliveries: otherwise no planner would use that index."""
_FAILED = text("webhook_deliveries.state = 'failed'")
_RETRIED = text("webhook_deliveries.state = 'pending' AND webhook_deliveries.attempts > 0")
_TURNS = 16
"""Most deliveries of one company that one query returns, while others wait."""
_D = deliveries.c
_OUTAGE_FAILURES = 2
"""An endpoint that failed this often in a row and then accepts a delivery had an outage that is over."""
_OUTAGE_STATUSES = (429, 502, 503, 504)
_REFUSED_BY_OUTAGE = or_(_D.last_status.is_(None), _D.last_status.in_(_OUTAGE_STATUSES))
"""Deliveries whose last failure was the endpoint's, not the event's: no response, or an overload status."""


class WebhookRows:
    """Implements `holdfast.delivery.webhooks.Webhooks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        self, companies: Collection[str], *, now: datetime, most: int, known: Collection[int], busy: Collection[str]
    ) -> Due:
        def work(connection: Connection) -> Due:
            found = _endpoints(connection)
            if not found:
                return Due(endpoints=(), heads=(), next_at=None)
            routes = {company: endpoint_of(company, found) for company in companies}
            open_ones = {
                company: endpoint.id
                for company, endpoint in routes.items()
                if endpoint is not None and endpoint.health.state is EndpointState.ACTIVE and endpoint.id not in busy
            }
            heads = _due(connection, open_ones, now=iso(now), most=most, known=known)
            aside = {company: endpoint for company, endpoint in routes.items() if endpoint is not None}
            probes, probe_at = _probes(connection, aside, now=now, known=known)
            later = _next_at(connection, open_ones, now=iso(now))
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
            current = next((each for each in _endpoints(connection) if each.id == head.endpoint), None)
            if to is not None and not attempt.is_accepted and _was_changed(to, current):
                _keep(connection, head, RetryAfter(0), attempt, now=now)
                state = EndpointState.ACTIVE if current is None else current.health.state
                return Settled(outcome=RetryAfter(0), endpoint=current, before=state)
            _keep(connection, head, judged, attempt, now=now)
            before, after = _update_health(connection, current, attempt, now=now, jitter=jitter)
            return Settled(outcome=judged, endpoint=after, before=before)

        return await self._database.write(work, company=head.company)

    async def follow_clock(self, companies: Collection[str], step: ClockStep) -> None:
        def work(connection: Connection) -> None:
            lock_event_order(connection)
            moved = moved_with_clock(connection, _D.at, step, made_at=_D.at)
            mine = (_PENDING, _D.company_id.in_(companies))
            connection.execute(update(deliveries).where(*mine, moved.which).values(at=moved.to))
            connection.execute(update(deliveries).where(*mine, _D.next_at.is_not(None)).values(next_at=""))
            _probe_now(connection, companies)

        await self._database.write(work)

    async def retry_from_future(self, companies: Collection[str], *, now: datetime) -> None:
        def work(connection: Connection) -> None:
            lock_event_order(connection)
            mine = (_D.company_id.in_(companies), _D.next_at > iso(now), _D.last_at > iso(now))
            connection.execute(update(deliveries).where(*mine).values(next_at=""))
            ahead = (endpoints.c.probe_at.is_not(None), endpoints.c.last_failure_at > iso(now))
            connection.execute(update(endpoints).where(*ahead).values(probe_at=None))

        await self._database.write(work)

    async def give_up_old(self, *, before: str, at: str) -> int:
        def work(connection: Connection) -> int:
            lock_event_order(connection)
            stuck = _stuck(_endpoints(connection))
            values = {"state": DeliveryState.FAILED.value, "next_at": None, "last_at": at}
            error = func.coalesce(_D.last_error, "the endpoint accepted no delivery for days")
            given_up = update(deliveries).where(_PENDING, _D.at < before, stuck).values(**values, last_error=error)
            count = connection.execute(given_up).rowcount
            if count:
                _schedule_heads(connection, at=at)
            return count

        return await self._database.write(work)

    # Endpoints.

    async def endpoints(self) -> list[Endpoint]:
        return await self._database.read(_endpoints)

    async def endpoint(self, company: str) -> Endpoint | None:
        return await self._database.read(lambda connection: _endpoint(connection, company))

    async def put(self, company: str, change: Callable[[Endpoint | None], Endpoint | None]) -> Endpoint | None:
        def work(connection: Connection) -> Endpoint | None:
            lock_event_order(connection)
            before = _endpoint(connection, company)
            made = change(before)
            connection.execute(delete(endpoints).where(endpoints.c.company_id == company))
            if made is not None:
                connection.execute(insert(connection, endpoints).values(_values(made)))
            endpoints_changed(connection)
            if _is_worth_a_retry(before, made):
                _make_due(connection, company)
            announce(connection, DELIVERIES)
            return made

        return await self._database.write(work)

    async def resume(self, endpoint_id: str) -> Endpoint | None:
        def work(connection: Connection) -> Endpoint | None:
            lock_event_order(connection)
            found = next((each for each in _endpoints(connection) if each.id == endpoint_id), None)
            if found is None:
                return None
            resumed = replace(found, health=EndpointHealth())
            _save(connection, resumed)
            _make_due(connection, resumed.company)
            announce(connection, DELIVERIES)
            return resumed

        return await self._database.write(work)

    # For people.

    async def counts(self) -> dict[str, Counts]:
        pending = select(_D.company_id, func.count(), func.min(_D.at)).where(_PENDING).group_by(_D.company_id)
        failed = select(_D.company_id, func.count()).where(_FAILED).group_by(_D.company_id)

        def work(connection: Connection) -> dict[str, Counts]:
            found: dict[str, Counts] = {}
            for company, count, oldest in connection.execute(pending):
                found[company] = Counts(pending=count, oldest_at=oldest)
            for company, count in connection.execute(failed):
                found[company] = replace(found.get(company, Counts()), failed=count)
            return found

        return await self._database.read(work)

    async def failed(self, companies: Companies, *, after: int, most: int) -> list[Failed]:
        """Failed and retried deliveries of any number of companies: each has a query with its own index."""
        found = (
            select(deliveries, events.c.id, events.c.type)
            .join(events, events.c.seq == _D.event_seq)
            .where(_D.event_seq > after)
            .order_by(_D.event_seq)
            .limit(most)
        )
        whose = [literal(value=True)] if companies is None else [_D.company_id == company for company in companies]
        statements = [found.where(kind, mine) for mine in whose for kind in (_FAILED, _RETRIED)]

        def work(connection: Connection) -> list[Failed]:
            rows = [row for statement in statements for row in connection.execute(statement).mappings()]
            return [_failed(row) for row in sorted(rows, key=lambda row: int(row["event_seq"]))[:most]]

        return await self._database.read(work)

    async def company_of(self, event_id: str) -> str | None:
        statement = select(events.c.company_id).where(events.c.id == event_id)
        return await self._database.read(lambda connection: connection.scalar(statement))

    async def replay(self, event_id: str) -> bool:
        return await self._replay(events.c.id == event_id, wanted_by_filter=False) > 0

    async def replay_all(self, companies: Companies, *, since: str | None) -> int:
        mine = literal(value=True) if companies is None else events.c.company_id.in_(companies)
        if since is not None:
            return await self._replay(and_(mine, events.c.at >= since), wanted_by_filter=True)
        which = (select(_D.event_seq).where(kind, _in(companies)) for kind in (_FAILED, _RETRIED))
        return await self._replay(and_(mine, or_(*(events.c.seq.in_(each) for each in which))), wanted_by_filter=False)

    async def _replay(self, which: ColumnElement[bool], *, wanted_by_filter: bool) -> int:
        """Start the deliveries again; with `wanted_by_filter`, only event types that the endpoint wants.

        A suspended endpoint is probed at once: somebody believes that it works again.
        """

        def work(connection: Connection) -> int:
            lock_event_order(connection)
            wanted = _wanted(_endpoints(connection), by_filter=wanted_by_filter)
            fresh = {"state": "pending", "attempts": 0, "next_at": None, "first_at": None}
            columns = ["event_seq", "company_id", "chat", "state", "at", "attempts"]
            source = select(
                events.c.seq, events.c.company_id, events.c.chat, literal("pending"), events.c.at, literal(0)
            ).where(which, wanted)
            rows = insert(connection, deliveries).from_select(columns, source)
            again = rows.on_conflict_do_update(index_elements=["event_seq"], set_=fresh).returning(_D.company_id)
            replayed = connection.scalars(again).all()
            if replayed:
                _schedule_heads(connection, at="")
                _probe_now(connection, set(replayed))
                announce(connection, DELIVERIES)
            return len(replayed)

        return await self._database.write(work)


def new_endpoint(company: str, *, url: str | None, secret: str | None) -> Endpoint:
    return Endpoint(
        id=endpoint_id(company), company=company, url=url, secret=secret, events=None, health=EndpointHealth()
    )


# Due deliveries.


def _due(
    connection: Connection, open_ones: dict[str, str], *, now: str, most: int, known: Collection[int]
) -> list[Head]:
    turn = func.row_number().over(partition_by=_D.company_id, order_by=(_D.next_at, _D.event_seq))
    mine = (_D.next_at.is_not(None), _D.next_at <= now, _D.company_id.in_(open_ones), _D.event_seq.not_in(known))
    columns = (_D.event_seq, _D.company_id, _D.chat, _D.attempts, _D.next_at)
    ranked = select(*columns, turn.label("turn")).where(*mine).subquery()
    statement = select(ranked).where(ranked.c.turn <= _TURNS).order_by(ranked.c.turn, ranked.c.next_at).limit(most)
    return [_head(row, open_ones[row["company_id"]]) for row in connection.execute(statement).mappings()]


def _next_at(connection: Connection, open_ones: Collection[str], *, now: str) -> datetime | None:
    soonest = connection.scalar(select(func.min(_D.next_at)).where(_D.company_id.in_(open_ones), _D.next_at > now))
    return _time(soonest)


def _probes(
    connection: Connection, routes: dict[str, Endpoint], *, now: datetime, known: Collection[int]
) -> tuple[list[Head], datetime | None]:
    """Return the oldest delivery of each suspended endpoint whose probe is due, and when the next probe is due."""
    heads, times = list[Head](), list[datetime]()
    aside = {each.id: each for each in routes.values() if each.health.state is EndpointState.ASIDE}
    for endpoint in aside.values():
        probe_at = endpoint.health.probe_at
        if probe_at is not None and probe_at > now:
            times.append(probe_at)
            continue
        companies = [company for company, each in routes.items() if each.id == endpoint.id]
        mine = (_D.next_at.is_not(None), _D.company_id.in_(companies), _D.event_seq.not_in(known))
        oldest = select(deliveries).where(*mine).order_by(_D.event_seq).limit(1)
        row = connection.execute(oldest).mappings().first()
        if row is not None:
            heads.append(replace(_head(row, endpoint.id), is_probe=True))
    return heads, min(times, default=None)


def _head(row: RowMapping, endpoint: str) -> Head:
    return Head(
        seq=row["event_seq"], company=row["company_id"], chat=row["chat"], attempts=row["attempts"], endpoint=endpoint
    )


# Attempts.


def _keep(connection: Connection, head: Head, outcome: AttemptOutcome, attempt: Attempt, *, now: datetime) -> None:
    at = iso(now)
    values: dict[str, Any] = {
        "attempts": _D.attempts + (0 if head.is_probe else 1),
        "first_at": func.coalesce(_D.first_at, at),
        "last_at": at,
        "last_status": attempt.status,
        "last_error": attempt.error,
    }
    match outcome:
        case Delivered():
            values |= {"state": DeliveryState.DELIVERED.value, "next_at": None}
        case GivenUp():
            values |= {"state": DeliveryState.FAILED.value, "next_at": None}
        case RetryAfter(after_s=after_s):
            # Its chat may have joined another one during the attempt, so that it is not the head any more.
            is_head = _D.next_at.is_not(None)
            values["next_at"] = case((is_head, iso(now + timedelta(seconds=after_s))), else_=None)
    mine = (_D.event_seq == head.seq, _PENDING)
    chat = connection.scalar(update(deliveries).where(*mine).values(values).returning(_D.chat))
    if chat is not None and not isinstance(outcome, RetryAfter):
        lane = (_D.company_id == head.company, _D.chat == chat)
        following = select(func.min(_D.event_seq)).where(*lane, _PENDING).scalar_subquery()
        connection.execute(update(deliveries).where(_D.event_seq == following).values(next_at=at))


def _update_health(
    connection: Connection, found: Endpoint | None, attempt: Attempt, *, now: datetime, jitter: float
) -> tuple[EndpointState, Endpoint | None]:
    if found is None:
        return EndpointState.ACTIVE, None
    health = health_after(found.health, attempt, now=now, jitter=jitter)
    last: dict[str, Any] = {"last_success_at": iso(now), "last_status": attempt.status}
    if not attempt.is_accepted:
        last = {"last_failure_at": iso(now), "last_error": attempt.error, "last_status": attempt.status}
    after = replace(found, health=health, **last)
    _save(connection, after)
    if health.state is EndpointState.ACTIVE and found.health.state is EndpointState.ASIDE:
        _make_due(connection, after.company)
    elif attempt.is_accepted and found.health.failures >= _OUTAGE_FAILURES:
        _make_due(connection, after.company, only=_REFUSED_BY_OUTAGE)
    return found.health.state, after


def _was_changed(used: Endpoint, current: Endpoint | None) -> bool:
    """Whether the endpoint was changed during the delivery: a failure of the old one says nothing about the new one."""
    return current is None or (used.url, used.secret) != (current.url, current.secret)


def _is_worth_a_retry(before: Endpoint | None, after: Endpoint | None) -> bool:
    """Whether a change of an endpoint may have removed the cause of failed deliveries."""

    def route(endpoint: Endpoint | None) -> object:
        return None if endpoint is None else (endpoint.url, endpoint.secret, endpoint.health.state)

    return route(before) != route(after)


def _make_due(connection: Connection, company: str, *, only: ColumnElement[bool] | None = None) -> None:
    """Make waiting retries due now, in order, of a company or of all companies without their own endpoint."""
    own = select(endpoints.c.company_id).where(endpoints.c.company_id != OF_ALL, endpoints.c.url.is_not(None))
    whose = _D.company_id.not_in(own) if company == OF_ALL else _D.company_id == company
    later = (_D.next_at.is_not(None), whose, *(() if only is None else (only,)))
    connection.execute(update(deliveries).where(*later).values(next_at=""))


def _schedule_heads(connection: Connection, *, at: str) -> None:
    """Make the first pending delivery of each chat its head, and no other."""
    heads = select(func.min(_D.event_seq)).where(_PENDING).group_by(_D.company_id, _D.chat)
    connection.execute(
        update(deliveries).where(_D.next_at.is_not(None), _D.event_seq.not_in(heads)).values(next_at=None)
    )
    connection.execute(update(deliveries).where(_D.next_at.is_(None), _D.event_seq.in_(heads)).values(next_at=at))


# Endpoints.


def _probe_now(connection: Connection, companies: Collection[str]) -> None:
    """Make the probes of the suspended endpoints of these companies due."""
    found = _endpoints(connection)
    ids = {each.id for each in (endpoint_of(company, found) for company in companies) if each is not None}
    aside = (endpoints.c.id.in_(ids), endpoints.c.state == EndpointState.ASIDE.value)
    connection.execute(update(endpoints).where(*aside).values(probe_at=None))


def _stuck(found: Sequence[Endpoint]) -> ColumnElement[bool]:
    """Select deliveries that can't be sent: their endpoint is suspended, off, or removed."""
    own = {each.company: each for each in found if each.company != OF_ALL}
    bad = [company for company, each in own.items() if each.health.state is not EndpointState.ACTIVE]
    all_others = endpoint_of(OF_ALL, found)
    if all_others is not None and all_others.health.state is EndpointState.ACTIVE:
        return _D.company_id.in_(bad)
    return or_(_D.company_id.in_(bad), _D.company_id.not_in(own))


def _wanted(found: Sequence[Endpoint], *, by_filter: bool) -> ColumnElement[bool]:
    """Select events that some endpoint wants."""
    company, type_ = events.c.company_id, events.c.type
    usable = [each for each in found if each.url is not None]
    own = [each.company for each in usable if each.company != OF_ALL]
    parts = []
    for endpoint in usable:
        whose = company.not_in(own) if endpoint.company == OF_ALL else company == endpoint.company
        asked = type_.in_(UNASKED if endpoint.events is None else endpoint.events)
        parts.append(and_(whose, asked) if by_filter else whose)
    return or_(literal(value=False), *parts)


def _in(companies: Companies) -> ColumnElement[bool]:
    return literal(value=True) if companies is None else _D.company_id.in_(companies)


def _endpoints(connection: Connection) -> list[Endpoint]:
    rows = connection.execute(select(endpoints).order_by(endpoints.c.company_id)).mappings()
    return [_endpoint_of(row) for row in rows]


def _endpoint(connection: Connection, company: str) -> Endpoint | None:
    row = connection.execute(select(endpoints).where(endpoints.c.company_id == company)).mappings().first()
    return None if row is None else _endpoint_of(row)


_AS_THEY_ARE = ("id", "url", "secret", "last_success_at", "last_failure_at", "last_error", "last_status")


def _endpoint_of(row: RowMapping) -> Endpoint:
    return Endpoint(
        company=row["company_id"],
        events=None if row["events"] is None else tuple(row["events"].split()),
        health=EndpointHealth(
            state=EndpointState(row["state"]),
            failures=row["failures"],
            failing_since=_time(row["failing_since"]),
            probes=row["probes"],
            probe_at=_time(row["probe_at"]),
        ),
        **{name: row[name] for name in _AS_THEY_ARE},
    )


def _values(endpoint: Endpoint) -> dict[str, Any]:
    health = endpoint.health
    return {
        "company_id": endpoint.company,
        "events": None if endpoint.events is None else " ".join(endpoint.events),
        "state": health.state.value,
        "failures": health.failures,
        "failing_since": iso(health.failing_since),
        "probes": health.probes,
        "probe_at": iso(health.probe_at),
        **{name: getattr(endpoint, name) for name in _AS_THEY_ARE},
    }


def _save(connection: Connection, endpoint: Endpoint) -> None:
    mine = endpoints.c.company_id == endpoint.company
    connection.execute(update(endpoints).where(mine).values(_values(endpoint)))


def _failed(row: RowMapping) -> Failed:
    same = ("id", "type", "attempts", "first_at", "last_at", "last_status", "last_error")
    return Failed(
        seq=row["event_seq"],
        company=row["company_id"],
        state=DeliveryState(row["state"]),
        next_at=row["next_at"] or None,
        **{name: row[name] for name in same},
    )


def _time(text_: str | None) -> datetime | None:
    return datetime.fromisoformat(text_) if text_ else None
