"""Events as rows, written in the transaction of the change that they tell of.

A reader that asks for what comes after the last `seq` it saw must never miss one. SQLite has one writer. On PostgreSQL
numbers are drawn long before they are committed, so a transaction takes a lock before its first event and holds it to
its end: what has the lower `seq` is visible first.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass

from sqlalchemy import Column, Connection, delete, func, select, text

from holdfast.delivery.events import (
    COMPLETED,
    RECEIVED,
    UNASKED,
    Body,
    Event,
    event_id,
    message_body,
    message_type,
    received_body,
    written,
)
from holdfast.delivery.stores import Message, Received
from holdfast.store.connection import Prepared
from holdfast.store.database import Database, announce
from holdfast.store.shared_secrets import note, noted
from holdfast.store.tables import events, webhook_deliveries, webhook_endpoints

DELIVERIES = "deliveries"
"""Announced when there may be webhooks to deliver."""
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
"""For the endpoint of the company, or else that of all. Only the first of a chat has a `next_at`: it has its turn."""


def record(connection: Connection, company: str, type_: str, body: Body, *, chat: str | None, at: str) -> None:
    """Keep an event, and the webhook delivery that it calls for, in the transaction that `connection` is in."""
    lock_event_order(connection)
    json = written(body)
    row = {"company_id": company, "type": type_, "chat": chat or "", "at": at, "body": json}
    seq = _ADD.scalar(connection, {"id": event_id(company, type_, at, json), **row})
    announce(connection, NewEvents(company))
    if _has_endpoints(connection):
        wanted = {"unasked": type_ in UNASKED, "wanted": f"% {type_} %"}
        made = connection.execute(_DELIVER, {"seq": seq, "company": company, "chat": chat or "", "at": at, **wanted})
        if made.rowcount:
            announce(connection, DELIVERIES)


def record_message(connection: Connection, message: Message, *, at: str) -> None:
    """An outbound message came to the state that it is in."""
    record(connection, message.company, message_type(message), message_body(message), chat=message.chat, at=at)


def record_received(connection: Connection, received: Received, *, at: str, media_url: str | None = None) -> None:
    """An inbound message was stored, or one that could not be read at first was completed."""
    type_ = RECEIVED if received.completed_at is None else COMPLETED
    body = received_body(received, media_url=media_url)
    record(connection, received.company, type_, body, chat=received.chat, at=at)


def _has_endpoints(connection: Connection) -> bool:
    """Is there anybody to deliver to? Asked once in a transaction, which may hold the events of many writes."""
    transaction, found = connection.info.get(_ENDPOINTS, (None, False))
    if transaction is not connection.get_transaction():
        found = connection.scalar(_ANY_ENDPOINT) is not None
        connection.info[_ENDPOINTS] = connection.get_transaction(), found
    return bool(found)


def endpoints_changed(connection: Connection) -> None:
    """For events that are kept later in this transaction, it is to be asked again."""
    connection.info.pop(_ENDPOINTS, None)


def lock_event_order(connection: Connection) -> None:
    """Whoever adds to the events or moves the turn on in a chat does so alone, to the end of the transaction."""
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
    """Keeps `holdfast.delivery.events.Events`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bells: dict[asyncio.Event, _Listener] = {}
        database.listen(self._ring)

    @property
    def look_every_s(self) -> float | None:
        return _LOOK_EVERY_S if self._database.is_shared else None

    async def after(self, seq: int, *, companies: Collection[str] | None, most: int) -> list[Event]:
        later = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(most)
        # Each company's events are a range of an index: for several at once a database would sort all that there are.
        mine = [later] if companies is None else [later.where(events.c.company_id == each) for each in companies]

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
        """In parts by `seq`, so that no write waits long. Deliveries first: an event goes when no delivery needs it."""
        for part in (_prune_deliveries, _prune_events):
            last: int | None = 0
            while last is not None:
                last = await self._database.write(functools.partial(part, after=last, before=before))

    @contextlib.contextmanager
    def listening(
        self, *, companies: Collection[str] | None = None, for_deliveries: bool = False
    ) -> Iterator[asyncio.Event]:
        bell = asyncio.Event()
        wanted = None if companies is None else frozenset(companies)
        self._bells[bell] = _Listener(asyncio.get_running_loop(), wanted, for_deliveries)
        try:
            yield bell
        finally:
            del self._bells[bell]

    def _ring(self, announced: Collection[Hashable]) -> None:
        """In the writer's thread. An event wakes only the readers of its company, and those of all companies."""
        companies = {each.company for each in announced if isinstance(each, NewEvents)}
        for bell, listener in tuple(self._bells.items()):
            if listener.for_deliveries:
                is_concerned = DELIVERIES in announced
            else:
                is_concerned = bool(companies if listener.companies is None else companies & listener.companies)
            if is_concerned:
                listener.loop.call_soon_threadsafe(bell.set)


def _prune_deliveries(connection: Connection, *, after: int, before: str) -> int | None:
    """One part; returns its last `seq`, or None at the end. A failed one may be replayed for as long after it failed.

    It ends at the first part that is all newer: deliveries are about as old as their `seq` says.
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
    # The part's bounds stand in the inner query too: otherwise PostgreSQL reads all deliveries there are.
    delivery = webhook_deliveries.c.event_seq
    needed = select(delivery).where(delivery > after, delivery <= last, delivery == events.c.seq).exists()
    newest_at = connection.scalar(select(events.c.at).where(events.c.seq == last))
    old = (events.c.seq > after, events.c.seq <= last, events.c.at < before, ~needed)
    gone = list(connection.scalars(delete(events).where(*old).returning(events.c.seq)))
    if gone:
        note(connection, _PRUNED, str(max(*gone, int(noted(connection, _PRUNED) or 0))))
    return last if newest_at is not None and newest_at < before else None


def _last_of_part(connection: Connection, seq: Column[int], *, after: int) -> int | None:
    """The last number of the next part; None when there is nothing behind `after`."""
    part = select(seq).where(seq > after).order_by(seq).limit(_PRUNED_AT_ONCE).subquery()
    last: int | None = connection.scalar(select(func.max(part.c[seq.name])))
    return last
