"""Events as rows, written in the transaction of the change that they report.

A reader that requests the events after the last `seq` it saw must never miss one. SQLite has one writer. On PostgreSQL
numbers are assigned before the commit, so a transaction takes a lock before its first event and holds it to its end:
the event with the lower `seq` becomes visible first. All nodes wait for this lock, so the events of a transaction are
collected and written last, and the lock is held for two statements and the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Connection, bindparam, delete, func, select, text
from sqlalchemy.dialects import postgresql

from holdfast.base.ascii_json import ascii_json
from holdfast.delivery.events import (
    COMPLETED,
    DEFAULT_TYPES,
    RECEIVED,
    Body,
    Event,
    event_id,
    message_body,
    message_type,
    received_body,
)
from holdfast.delivery.page import Page, rows_in_page
from holdfast.delivery.stores import Message, Received
from holdfast.store.company_locks import lock_event_order
from holdfast.store.connection import Prepared
from holdfast.store.database import Database, announce, at_end
from holdfast.store.shared_secrets import note, noted
from holdfast.store.tables import events, webhook_deliveries, webhook_endpoints

DELIVERIES = "deliveries"
"""Announced when there may be new webhook deliveries."""
_RECORDED = "holdfast.events"
_ENDPOINTS = "holdfast.endpoints"
_ANY_ENDPOINT = Prepared(
    lambda _: select(webhook_endpoints.c.company_id).where(webhook_endpoints.c.url.is_not(None)).limit(1)
)
_PRUNED = "events-pruned"
_PRUNED_AT_ONCE = 5000
_POLL_INTERVAL_S = 1.0

_ADD = Prepared(lambda insert: insert(events))
_ADD_ALL = postgresql.insert(events).returning(events.c.seq, sort_by_parameter_order=True)
_DELIVER = text(
    "INSERT INTO webhook_deliveries (event_seq, company_id, chat, state, at, attempts, next_at) "
    "SELECT seq, company_id, chat, 'pending', at, 0, CASE WHEN place = 1 AND NOT EXISTS ("
    "SELECT 1 FROM webhook_deliveries AS earlier WHERE earlier.company_id = wanted.company_id "
    "AND earlier.chat = wanted.chat AND earlier.state = 'pending') THEN at END "
    "FROM (SELECT added.seq, added.company_id, added.chat, added.at, "
    "row_number() OVER (PARTITION BY added.company_id, added.chat ORDER BY added.seq) AS place "
    "FROM events AS added JOIN webhook_endpoints AS endpoint ON endpoint.company_id = ("
    "SELECT MAX(own.company_id) FROM webhook_endpoints AS own "
    "WHERE own.company_id IN ('', added.company_id) AND own.url IS NOT NULL) "
    "WHERE added.seq BETWEEN :first AND :last AND (' ' || endpoint.events || ' ' LIKE '% ' || added.type || ' %' "
    "OR (endpoint.events IS NULL AND added.type IN :default_types))"
    ") AS wanted ORDER BY seq"
).bindparams(bindparam("default_types", sorted(DEFAULT_TYPES), expanding=True))
"""Adds the deliveries of the events of a transaction: of each to the endpoint of its company, or else to the default
endpoint, if that wants the type. Only the first pending delivery of a chat has a `next_at`."""


def record(connection: Connection, company: str, type_: str, body: Body, *, chat: str | None, at: str) -> None:
    """Store an event, and its webhook delivery if an endpoint wants it, at the end of the current transaction."""
    json = ascii_json(body)
    row = {"company_id": company, "type": type_, "chat": chat or "", "at": at, "body": json}
    recorded = (*connection.info.get(_RECORDED, ()), {"id": event_id(company, type_, at, json), **row})
    connection.info[_RECORDED] = recorded
    announce(connection, NewEvents(company))
    at_end(connection, write_recorded)


def write_recorded(connection: Connection) -> None:
    """Write the events that were recorded so far, and lock the order of events until the end of the transaction."""
    lock_event_order(connection)
    recorded = connection.info.pop(_RECORDED, ())
    if not recorded:
        return
    if connection.dialect.name == "postgresql":
        numbers = connection.scalars(_ADD_ALL, recorded).all()
    else:
        numbers = [_ADD.seq(connection, row) for row in recorded]
    if _has_endpoints(connection):
        # Nobody else has drawn a number in between: the order of events is locked.
        made = connection.execute(_DELIVER, {"first": numbers[0], "last": numbers[-1]})
        if made.rowcount:
            announce(connection, DELIVERIES)


def record_message(connection: Connection, message: Message, *, at: str) -> None:
    """Store the event of an outbound message that changed its state."""
    record(connection, message.company, message_type(message), message_body(message), chat=message.chat, at=at)


def record_received(
    connection: Connection, received: Received, *, at: str, media_url: str | None = None, event: str | None = None
) -> None:
    """Store the event of an inbound message that was stored, or completed after it could not be decrypted.

    event: its type, for what is in the inbox and not a message.
    """
    type_ = event or (RECEIVED if received.completed_at is None else COMPLETED)
    body = received_body(received, media_url=media_url)
    record(connection, received.company, type_, body, chat=received.chat, at=at)


def _has_endpoints(connection: Connection) -> bool:
    """Whether there is any webhook endpoint. Read once in a transaction, which may have the events of many writes."""
    transaction, found = connection.info.get(_ENDPOINTS, (None, False))
    if transaction is not connection.get_transaction():
        found = _ANY_ENDPOINT.scalar(connection, {}) is not None
        connection.info[_ENDPOINTS] = connection.get_transaction(), found
    return bool(found)


_LISTED = text(
    "SELECT 1 FROM webhook_endpoints WHERE company_id IN ('', :company) AND url IS NOT NULL "
    "AND ' ' || events || ' ' LIKE :wanted LIMIT 1"
)


def is_listed(connection: Connection, company: str, type_: str) -> bool:
    """Whether a webhook endpoint of the company names this type of event."""
    if not _has_endpoints(connection):
        return False
    return connection.execute(_LISTED, {"company": company, "wanted": f"% {type_} %"}).first() is not None


def endpoints_changed(connection: Connection) -> None:
    """Make later events of this transaction read the endpoints again."""
    connection.info.pop(_ENDPOINTS, None)


@dataclass(frozen=True, slots=True)
class NewEvents:
    """Announced when a company has new events."""

    company: str


@dataclass(frozen=True, slots=True)
class _Listener:
    loop: asyncio.AbstractEventLoop
    companies: frozenset[str] | None
    """None: all."""
    for_deliveries: bool


class EventRows:
    """Implements `holdfast.delivery.events.Events`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._flags: dict[asyncio.Event, _Listener] = {}
        database.listen(self._wake_readers)

    @property
    def poll_interval_s(self) -> float | None:
        return _POLL_INTERVAL_S if self._database.is_shared else None

    async def add(self, company: str, type_: str, body: Body, *, chat: str, at: str) -> None:
        """Store an event that reports no other stored change."""
        await self._database.write(
            lambda connection: record(connection, company, type_, body, chat=chat, at=at), company=company
        )

    async def after(self, seq: int, *, companies: Collection[str] | None, limit: int) -> Page[Event]:
        later = select(events).where(events.c.seq > seq).order_by(events.c.seq)
        # One query for each company reads a range of an index; for several at once a database would sort all events.
        mine = [later] if companies is None else [later.where(events.c.company_id == each) for each in set(companies)]
        size = func.length(events.c.body)

        def work(connection: Connection) -> Page[Event]:
            sizes = [statement.with_only_columns(events.c.seq, size).limit(limit + 1) for statement in mine]
            found = sorted(tuple(row) for statement in sizes for row in connection.execute(statement))[: limit + 1]
            shown = rows_in_page([chars for _, chars in found], limit)
            if not shown:
                return Page()
            last = found[shown - 1][0]
            shown_rows = [statement.where(events.c.seq <= last) for statement in mine]
            rows = [dict(row) for statement in shown_rows for row in connection.execute(statement).mappings()]
            rows.sort(key=lambda row: int(row["seq"]))
            return Page((Event(company=row.pop("company_id"), **row) for row in rows), has_more=len(found) > shown)

        return await self._database.read(work)

    async def first_since(self, at: str) -> int:
        first = select(events.c.seq).where(events.c.at >= at).order_by(events.c.at, events.c.seq).limit(1)
        found = await self._database.read(lambda connection: connection.scalar(first))
        return await self.newest() + 1 if found is None else int(found)

    async def newest(self) -> int:
        return await self._database.read(lambda connection: connection.scalar(select(func.max(events.c.seq))) or 0)

    async def pruned(self) -> int:
        return await self._database.read(lambda connection: int(noted(connection, _PRUNED) or 0))

    async def prune(self, *, before: str, now: str) -> None:
        """Remove old deliveries, then old events without deliveries, in parts by `seq`, so that no write waits long."""
        for part in (_prune_deliveries, _prune_events):
            last: int | None = 0
            while last is not None:
                last = await self._database.write(functools.partial(part, after=last, before=before, now=now))

    @contextlib.contextmanager
    def listening(
        self, *, companies: Collection[str] | None = None, for_deliveries: bool = False
    ) -> Iterator[asyncio.Event]:
        flag = asyncio.Event()
        wanted = None if companies is None else frozenset(companies)
        self._flags[flag] = _Listener(asyncio.get_running_loop(), wanted, for_deliveries)
        try:
            yield flag
        finally:
            del self._flags[flag]

    def _wake_readers(self, announced: Collection[Hashable]) -> None:
        """Wake the readers of the companies with new events, and those of all. Runs in the writer's thread."""
        companies = {each.company for each in announced if isinstance(each, NewEvents)}
        for flag, listener in tuple(self._flags.items()):
            if listener.for_deliveries:
                is_concerned = DELIVERIES in announced
            else:
                is_concerned = bool(companies if listener.companies is None else companies & listener.companies)
            if is_concerned:
                with contextlib.suppress(RuntimeError):  # its loop is closed; an error would end the writer's thread
                    listener.loop.call_soon_threadsafe(flag.set)


def _prune_deliveries(connection: Connection, *, after: int, before: str, now: str) -> int | None:
    """Remove the old deliveries of one part; returns its last `seq`, or None at the end.

    A failed delivery is kept as long again after it failed, so that it can be replayed. Pruning ends at the first part
    whose last event is between `before` and `now`: the order of `seq` is nearly that of time.
    """
    deliveries = webhook_deliveries.c
    last = _last_of_part(connection, deliveries.event_seq, after=after)
    if last is None:
        return None
    part = (deliveries.event_seq > after, deliveries.event_seq <= last)
    settled = (deliveries.state != "pending", deliveries.at < before, func.coalesce(deliveries.last_at, "") < before)
    connection.execute(delete(webhook_deliveries).where(*part, *settled))
    first_at = connection.scalar(select(events.c.at).where(events.c.seq == last))
    return None if first_at is None or before <= first_at <= now else last


def _prune_events(connection: Connection, *, after: int, before: str, now: str) -> int | None:
    last = _last_of_part(connection, events.c.seq, after=after)
    if last is None:
        return None
    # The inner query repeats the part's bounds: otherwise PostgreSQL reads all deliveries.
    delivery = webhook_deliveries.c.event_seq
    needed = select(delivery).where(delivery > after, delivery <= last, delivery == events.c.seq).exists()
    newest_at = connection.scalar(select(events.c.at).where(events.c.seq == last))
    old = (events.c.seq > after, events.c.seq <= last, events.c.at < before, ~needed)
    gone = list(connection.scalars(delete(events).where(*old).returning(events.c.seq)))
    if gone:
        note(connection, _PRUNED, str(max(*gone, int(noted(connection, _PRUNED) or 0))))
    return None if newest_at is None or before <= newest_at <= now else last


def _last_of_part(connection: Connection, seq: Column[int], *, after: int) -> int | None:
    """Return the last number of the next part; None when there is nothing after `after`."""
    part = select(seq).where(seq > after).order_by(seq).limit(_PRUNED_AT_ONCE).subquery()
    last: int | None = connection.scalar(select(func.max(part.c[seq.name])))
    return last
