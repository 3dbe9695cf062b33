"""Events as rows, written in the transaction of the change that they report.

A reader that requests the events after the last `seq` it saw must never miss one. SQLite has one writer. On PostgreSQL
numbers are assigned before the commit, so a transaction takes a lock before its first event and holds it to its end:
the event with the lower `seq` becomes visible first.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Connection, delete, func, select, text

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
from holdfast.delivery.stores import Message, Received
from holdfast.store.connection import Prepared
from holdfast.store.database import Database, announce
from holdfast.store.shared_secrets import note, noted
from holdfast.store.tables import events, webhook_deliveries, webhook_endpoints

DELIVERIES = "deliveries"
"""Announced when there may be new webhook deliveries."""
_WRITING = 0x686F6C66
"""Number of the advisory lock."""
_LOCKED = "holdfast.events-locked"
_ENDPOINTS = "holdfast.endpoints"
_ANY_ENDPOINT = select(webhook_endpoints.c.company_id).where(webhook_endpoints.c.url.is_not(None)).limit(1)
_PRUNED = "events-pruned"
_PRUNED_AT_ONCE = 5000
_LOOK_EVERY_S = 1.0

_ADD = Prepared(lambda insert: insert(events).returning(events.c.seq))
_DELIVER = text(
    "INSERT INTO webhook_deliveries (event_seq, company_id, chat, state, at, attempts, next_at) "
    "SELECT :seq, :company, :chat, 'pending', :at, 0, CASE WHEN EXISTS ("
    "SELECT 1 FROM webhook_deliveries WHERE company_id = :company AND chat = :chat AND state = 'pending'"
    ") THEN NULL ELSE CAST(:at AS TEXT) END "
    "WHERE EXISTS (SELECT 1 FROM webhook_endpoints WHERE company_id = ("
    "SELECT MAX(company_id) FROM webhook_endpoints WHERE company_id IN ('', :company) AND url IS NOT NULL"
    ") AND ((events IS NULL AND :unasked) OR ' ' || events || ' ' LIKE :wanted))"
)
"""Adds the delivery of an event to the endpoint of the company, or else to the default endpoint, if it wants the type.
Only the first pending delivery of a chat has a `next_at`."""


def record(connection: Connection, company: str, type_: str, body: Body, *, chat: str | None, at: str) -> None:
    """Store an event, and its webhook delivery if an endpoint wants it, in the current transaction."""
    lock_event_order(connection)
    json = ascii_json(body)
    row = {"company_id": company, "type": type_, "chat": chat or "", "at": at, "body": json}
    seq = _ADD.scalar(connection, {"id": event_id(company, type_, at, json), **row})
    announce(connection, NewEvents(company))
    if _has_endpoints(connection):
        wanted = {"unasked": type_ in DEFAULT_TYPES, "wanted": f"% {type_} %"}
        made = connection.execute(_DELIVER, {"seq": seq, "company": company, "chat": chat or "", "at": at, **wanted})
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
        found = connection.scalar(_ANY_ENDPOINT) is not None
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


def lock_event_order(connection: Connection) -> None:
    """Serialise transactions that add events or change the head of a chat's queue; held to the transaction's end."""
    if connection.dialect.name != "postgresql":
        return
    transaction = connection.get_transaction()
    if connection.info.get(_LOCKED) is not transaction:
        connection.execute(select(func.pg_advisory_xact_lock(_WRITING)))
        connection.info[_LOCKED] = transaction


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
        database.listen(self._ring)

    @property
    def poll_interval_s(self) -> float | None:
        return _LOOK_EVERY_S if self._database.is_shared else None

    async def add(self, company: str, type_: str, body: Body, *, chat: str, at: str) -> None:
        """Store an event that reports no other stored change."""
        await self._database.write(
            lambda connection: record(connection, company, type_, body, chat=chat, at=at), company=company
        )

    async def after(self, seq: int, *, companies: Collection[str] | None, most: int) -> list[Event]:
        later = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(most)
        # One query for each company reads a range of an index; for several at once a database would sort all events.
        mine = [later] if companies is None else [later.where(events.c.company_id == each) for each in set(companies)]

        def work(connection: Connection) -> list[Event]:
            rows = [dict(row) for statement in mine for row in connection.execute(statement).mappings()]
            rows.sort(key=lambda row: int(row["seq"]))
            return [Event(company=row.pop("company_id"), **row) for row in rows[:most]]

        return await self._database.read(work)

    async def first_since(self, at: str) -> int:
        first = select(events.c.seq).where(events.c.at >= at).order_by(events.c.at, events.c.seq).limit(1)
        found = await self._database.read(lambda connection: connection.scalar(first))
        return await self.newest() + 1 if found is None else int(found)

    async def newest(self) -> int:
        return await self._database.read(lambda connection: connection.scalar(select(func.max(events.c.seq))) or 0)

    async def pruned(self) -> int:
        return await self._database.read(lambda connection: int(noted(connection, _PRUNED) or 0))

    async def prune(self, *, before: str) -> None:
        """Remove old deliveries, then old events without deliveries, in parts by `seq`, so that no write waits long."""
        for part in (_prune_deliveries, _prune_events):
            last: int | None = 0
            while last is not None:
                last = await self._database.write(functools.partial(part, after=last, before=before))

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

    def _ring(self, announced: Collection[Hashable]) -> None:
        """Wake the readers of the companies with new events, and those of all. Runs in the writer's thread."""
        companies = {each.company for each in announced if isinstance(each, NewEvents)}
        for flag, listener in tuple(self._flags.items()):
            if listener.for_deliveries:
                is_concerned = DELIVERIES in announced
            else:
                is_concerned = bool(companies if listener.companies is None else companies & listener.companies)
            if is_concerned:
                listener.loop.call_soon_threadsafe(flag.set)


def _prune_deliveries(connection: Connection, *, after: int, before: str) -> int | None:
    """Remove the old deliveries of one part; returns its last `seq`, or None at the end.

    A failed delivery is kept as long again after it failed, so that it can be replayed. Pruning ends at the first part
    whose last event is newer than `before`: the order of `seq` is nearly that of time.
    """
    deliveries = webhook_deliveries.c
    last = _last_of_part(connection, deliveries.event_seq, after=after)
    if last is None:
        return None
    part = (deliveries.event_seq > after, deliveries.event_seq <= last)
    settled = (deliveries.state != "pending", deliveries.at < before, func.coalesce(deliveries.last_at, "") < before)
    connection.execute(delete(webhook_deliveries).where(*part, *settled))
    first_at = connection.scalar(select(events.c.at).where(events.c.seq == last))
    return last if first_at is not None and first_at < before else None


def _prune_events(connection: Connection, *, after: int, before: str) -> int | None:
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
    return last if newest_at is not None and newest_at < before else None


def _last_of_part(connection: Connection, seq: Column[int], *, after: int) -> int | None:
    """Return the last number of the next part; None when there is nothing after `after`."""
    part = select(seq).where(seq > after).order_by(seq).limit(_PRUNED_AT_ONCE).subquery()
    last: int | None = connection.scalar(select(func.max(part.c[seq.name])))
    return last
