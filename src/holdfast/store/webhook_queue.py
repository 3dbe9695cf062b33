"""The queue of webhook deliveries: which are due, and what an attempt changes.

Only the first pending delivery of a chat, its head, has a `next_at`. So an index finds the deliveries that are due,
however many wait behind them, and the sender keeps no list. Whatever settles a head makes the next pending delivery of
its chat the head, in the same transaction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    case,
    func,
    or_,
    select,
    text,
    update,
)

from holdfast.base.clock import iso
from holdfast.delivery.webhooks import (
    OF_ALL,
    Attempt,
    AttemptOutcome,
    Delivered,
    DeliveryState,
    Endpoint,
    EndpointState,
    GivenUp,
    Head,
    RetryAfter,
    endpoint_of,
    health_after,
)
from holdfast.store import webhook_endpoints as endpoint_rows
from holdfast.store.tables import IS_PENDING, events
from holdfast.store.tables import webhook_deliveries as deliveries
from holdfast.store.tables import webhook_endpoints as endpoints

HAS_FAILED = text("webhook_deliveries.state = 'failed'")
IS_RETRIED = text("webhook_deliveries.state = 'pending' AND webhook_deliveries.attempts > 0")
_MAX_OF_A_COMPANY = 16
"""The maximum number of deliveries of one company that one query returns while other companies wait."""
_D = deliveries.c
_OUTAGE_FAILURES = 2
"""An endpoint that failed this often in a row and then accepts a delivery had an outage that is over."""
_OUTAGE_STATUSES = (429, 502, 503, 504)
_REFUSED_BY_OUTAGE = or_(_D.last_status.is_(None), _D.last_status.in_(_OUTAGE_STATUSES))
"""Deliveries whose last failure was the endpoint's, not the event's: no response, or an overload status."""


def find_due(
    connection: Connection, open_ones: dict[str, str], *, now: str, limit: int, known: Collection[int]
) -> list[Head]:
    rank = func.row_number().over(partition_by=_D.company_id, order_by=(_D.next_at, _D.event_seq))
    mine = (_D.next_at.is_not(None), _D.next_at <= now, _D.company_id.in_(open_ones), _D.event_seq.not_in(known))
    columns = (_D.event_seq, _D.company_id, _D.chat, _D.attempts, _D.next_at)
    ranked = select(*columns, rank.label("rank")).where(*mine).subquery()
    statement = (
        select(ranked).where(ranked.c.rank <= _MAX_OF_A_COMPANY).order_by(ranked.c.rank, ranked.c.next_at).limit(limit)
    )
    return [_head(row, open_ones[row["company_id"]]) for row in connection.execute(statement).mappings()]


def next_due_at(connection: Connection, open_ones: Collection[str], *, now: str) -> datetime | None:
    soonest = connection.scalar(select(func.min(_D.next_at)).where(_D.company_id.in_(open_ones), _D.next_at > now))
    return endpoint_rows.time_of(soonest)


def find_probes(
    connection: Connection, routes: dict[str, Endpoint], *, now: datetime, known: Collection[int]
) -> tuple[list[Head], datetime | None]:
    """Return the oldest delivery of each suspended endpoint whose probe is due, and when the next probe is due."""
    heads, times = list[Head](), list[datetime]()
    suspended = {each.id: each for each in routes.values() if each.health.state is EndpointState.SUSPENDED}
    for endpoint in suspended.values():
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


def store_outcome(
    connection: Connection, head: Head, outcome: AttemptOutcome, attempt: Attempt, *, now: datetime
) -> None:
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
    mine = (_D.event_seq == head.seq, IS_PENDING)
    chat = connection.scalar(update(deliveries).where(*mine).values(values).returning(_D.chat))
    if chat is not None and not isinstance(outcome, RetryAfter):
        lane = (_D.company_id == head.company, _D.chat == chat)
        following = select(func.min(_D.event_seq)).where(*lane, IS_PENDING).scalar_subquery()
        connection.execute(update(deliveries).where(_D.event_seq == following).values(next_at=at))


def update_health(
    connection: Connection, endpoint: Endpoint | None, attempt: Attempt, *, now: datetime, jitter: float
) -> tuple[EndpointState, Endpoint | None]:
    if endpoint is None:
        return EndpointState.ACTIVE, None
    health = health_after(endpoint.health, attempt, now=now, jitter=jitter)
    last: dict[str, Any] = {"last_success_at": iso(now), "last_status": attempt.status}
    if not attempt.is_accepted:
        last = {"last_failure_at": iso(now), "last_error": attempt.error, "last_status": attempt.status}
    after = replace(endpoint, health=health, **last)
    endpoint_rows.save(connection, after)
    if health.state is EndpointState.ACTIVE and endpoint.health.state is EndpointState.SUSPENDED:
        make_due(connection, after.company)
    elif attempt.is_accepted and endpoint.health.failures >= _OUTAGE_FAILURES:
        make_due(connection, after.company, only=_REFUSED_BY_OUTAGE)
    return endpoint.health.state, after


def make_due(connection: Connection, company: str, *, only: ColumnElement[bool] | None = None) -> None:
    """Make waiting retries due now, in order, of a company or of all companies without their own endpoint."""
    own = select(endpoints.c.company_id).where(endpoints.c.company_id != OF_ALL, endpoints.c.url.is_not(None))
    whose = _D.company_id.not_in(own) if company == OF_ALL else _D.company_id == company
    later = (_D.next_at.is_not(None), whose, *(() if only is None else (only,)))
    connection.execute(update(deliveries).where(*later).values(next_at=""))


def schedule_heads(connection: Connection, *, at: str) -> None:
    """Make the first pending delivery of each chat its head, and no other."""
    heads = select(func.min(_D.event_seq)).where(IS_PENDING).group_by(_D.company_id, _D.chat)
    connection.execute(
        update(deliveries).where(_D.next_at.is_not(None), _D.event_seq.not_in(heads)).values(next_at=None)
    )
    connection.execute(update(deliveries).where(_D.next_at.is_(None), _D.event_seq.in_(heads)).values(next_at=at))


@contextlib.contextmanager
def heads_kept(connection: Connection, seqs: Sequence[int]) -> Iterator[None]:
    """The block makes deliveries of these events pending, without `next_at`. After it, each of their chats has its
    first pending delivery as its head.

    It reads the first delivery of each chat only: a chat may have a hundred thousand of them.
    """
    before = _first_of_chats(connection, seqs)
    yield
    heads = _first_of_chats(connection, seqs)
    connection.execute(update(deliveries).where(_D.event_seq.in_(before - heads)).values(next_at=None))
    connection.execute(update(deliveries).where(_D.event_seq.in_(heads), _D.next_at.is_(None)).values(next_at=""))


def _first_of_chats(connection: Connection, seqs: Sequence[int]) -> set[int]:
    """The first pending delivery of each chat of these events, and of each chat that their deliveries moved to."""
    moved = deliveries.alias()
    found = set[int | None]()
    for seq, company, chat in (
        (events.c.seq, events.c.company_id, events.c.chat),
        (moved.c.event_seq, moved.c.company_id, moved.c.chat),
    ):
        same_chat = (_D.company_id == company, _D.chat == chat, IS_PENDING)
        first = select(_D.event_seq).where(*same_chat).order_by(_D.event_seq).limit(1).correlate(seq.table)
        found.update(connection.scalars(select(first.scalar_subquery()).where(seq.in_(seqs))))
    return {seq for seq in found if seq is not None}


def probe_now(connection: Connection, companies: Collection[str]) -> None:
    """Make the probes of the suspended endpoints of these companies due."""
    found = endpoint_rows.read_all(connection)
    ids = {each.id for each in (endpoint_of(company, found) for company in companies) if each is not None}
    suspended = (endpoints.c.id.in_(ids), endpoints.c.state == endpoint_rows.stored_state(EndpointState.SUSPENDED))
    connection.execute(update(endpoints).where(*suspended).values(probe_at=None))


def is_stuck(endpoints: Sequence[Endpoint]) -> ColumnElement[bool]:
    """Select deliveries that can't be sent: their endpoint is suspended, off, or removed."""
    own = {each.company: each for each in endpoints if each.company != OF_ALL}
    bad = [company for company, each in own.items() if each.health.state is not EndpointState.ACTIVE]
    all_others = endpoint_of(OF_ALL, endpoints)
    if all_others is not None and all_others.health.state is EndpointState.ACTIVE:
        return _D.company_id.in_(bad)
    return or_(_D.company_id.in_(bad), _D.company_id.not_in(own))
