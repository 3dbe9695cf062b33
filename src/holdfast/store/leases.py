"""Ownership of sessions as rows, on a database that several processes share; PostgreSQL only.

A lease is held by a process, not by a name: each start makes a new holder id, so that two processes with the same name
don't mistake each other's sessions for their own. Statements never wait for locked leases: another process is claiming
them.

Leases are renewed on a connection of their own: no other statement, however slow, delays a renewal. Three row locks
make that safe. A write for a session holds `FOR KEY SHARE` on its lease until it is committed; a renewal is compatible
with that; a claim accepts `FOR UPDATE`, which is not, so nobody claims a session amid a write of its owner.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Interval,
    Select,
    and_,
    delete,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from holdfast.base.clock import iso
from holdfast.base.ids import RandomSource
from holdfast.session.stores import ClusterNode, HeldLease, LeaseLost, NodeDescription, Share, WaitingWork
from holdfast.store.database import Database
from holdfast.store.tables import leases, nodes, operations, outbox, sessions

log = logging.getLogger(__name__)

Check = Callable[[Connection], None]
"""Raises `LeaseLost` inside a write's transaction, before it writes."""

_NOW = func.clock_timestamp()
_LATE_S = 3
_FRESH_S = 3
"""A node that has not renewed its leases for this long gets no session: it may be dead."""
_SHOWN_S = 60
"""A node that has not renewed its leases for this long is not shown any more."""
_FORGOTTEN_AFTER = timedelta(hours=1)
_RECLAIM_FOR = timedelta(seconds=1)
_NOTHING_KNOWN = HeldLease(companies=frozenset(), waiting={}, elsewhere={}, free_in_s=None)
_NEWEST_MESSAGE, _NEWEST_OPERATION = (
    select(func.max(table.c.seq))
    .where(table.c.company_id == leases.c.company_id, text(f"{table.name}.state = 'queued'"))
    .scalar_subquery()
    for table in (outbox, operations)
)
"""The state is a literal: with a bound value PostgreSQL would not use the partial index of what is open."""


class LeasesAbandoned(Exception):
    """The leases were abandoned before the database executed the statement."""


class Fence(Protocol):
    """Keeps a process from writing for a session that another one owns."""

    def check(self, company: str) -> Check:
        """Return a check for a write that is requested now and may run later."""


class NoFence:
    """For a database that only one process uses: it owns all sessions."""

    def check(self, company: str) -> Check:
        return lambda connection: None


NO_FENCE = NoFence()


class LeaseRows:
    """Implements `holdfast.session.stores.Leases`, and is their fence."""

    def __init__(self, database: Database, *, node: NodeDescription, randomness: RandomSource, ttl_s: float) -> None:
        self._database = database
        self._writer = database.brief_writer()
        self._node = node
        self._node_id = randomness.message_id()
        self._randomness = randomness
        self._ttl_s = ttl_s
        self._holder = randomness.message_id()
        self._epochs: dict[str, int] = {}
        self._latest = _NOTHING_KNOWN
        self._is_draining = False
        self._abandoned_holders: set[str] = set()
        """Holder ids of this process whose leases it abandoned."""
        self._reclaiming_since: datetime | None = None
        """When this process first queried after it abandoned its leases (database time)."""

    @property
    def ttl_s(self) -> float:
        return self._ttl_s

    @property
    def node_id(self) -> str:
        return self._node_id

    def check(self, company: str) -> Check:
        holder, epoch = self._holder, self._epochs.get(company)

        def check(connection: Connection) -> None:
            mine = (leases.c.company_id == company, leases.c.holder == holder, leases.c.epoch == epoch)
            held = select(leases.c.epoch).where(*mine).with_for_update(read=True, key_share=True, skip_locked=True)
            if epoch is None or connection.scalar(held) is None:
                raise LeaseLost(company)

        return check

    async def renew(self, *, limit: int, share: Share | None = None, connecting: int = 0) -> HeldLease:
        """Renew the leases of this process, then claim free ones: `limit` at most, and as many as `share` allows.

        When only claiming fails, for example because an operator locked another table, the renewed leases count.
        """
        holder = self._holder
        at, held = await self._writer.write(lambda connection: self._renew(connection, holder, connecting))
        try:
            own = len(held)
            claimed, self._latest = await self._writer.write(
                lambda connection: self._claim_free(connection, holder, own, limit=limit, share=share)
            )
            held |= claimed
        except DBAPIError as error:
            log.warning("Leases are renewed, but free sessions can't be claimed: %s", error.orig)
            self._latest = replace(self._latest, waiting={})
        if holder != self._holder:  # abandoned while the database answered
            return replace(self._latest, waiting={}, database_time=at.timestamp())
        # A session that another process ran in between is claimed at the next renewal: its old actor must end first.
        self._epochs = {company: epoch for company, epoch in held.items() if self._epochs.get(company, epoch) == epoch}
        return replace(self._latest, companies=frozenset(self._epochs), database_time=at.timestamp())

    def _claim_free(
        self, connection: Connection, holder: str, own: int, *, limit: int, share: Share | None
    ) -> tuple[dict[str, int], HeldLease]:
        queried_at, in_time = self._in_time(connection, holder)
        connection.execute(delete(nodes).where(nodes.c.seen_at < _NOW - literal(_FORGOTTEN_AFTER, Interval)))
        _make_rows(connection)
        all_nodes = tuple(_nodes(connection, _recent_nodes()))
        if share is not None:
            total: int = connection.scalar(select(func.count()).select_from(leases)) or 0
            limit = min(limit, share(all_nodes, own, total))
        claimed = self._reclaim_abandoned(connection, holder, in_time, queried_at)
        if not self._abandoned_holders:
            is_free = or_(leases.c.expires_at <= _NOW, self._is_reserved_for_this())
            claimed = self._claim_where(connection, holder, in_time, is_free, limit=limit)
        others = select(leases.c.company_id, leases.c.node, leases.c.holder).where(leases.c.holder != holder)
        elsewhere = {row.company_id: row.node if row.holder else "" for row in connection.execute(others)}
        soonest = select(func.extract("epoch", func.min(leases.c.expires_at) - _NOW))
        is_fresh = leases.c.expires_at > _NOW - literal(timedelta(seconds=1), Interval)  # others claim older ones
        free_in_s = connection.scalar(soonest.where(leases.c.holder != holder, leases.c.node != "", is_fresh))
        return claimed, HeldLease(
            companies=frozenset(),
            waiting=_waiting(connection, holder),
            elsewhere=elsewhere,
            free_in_s=None if free_in_s is None else float(free_in_s),
            nodes=all_nodes,
        )

    async def claim(self, company: str) -> bool:
        holder = self._holder

        def work(connection: Connection) -> int | None:
            _, in_time = self._in_time(connection, holder)
            _make_row(connection, company)
            is_free = (leases.c.expires_at <= _NOW, leases.c.company_id == company)
            claimed = self._claim_where(connection, holder, in_time, *is_free)
            held = select(leases.c.epoch).where(leases.c.company_id == company, leases.c.holder == holder)
            return claimed.get(company) or connection.scalar(held)

        epoch = await self._writer.write(work)
        if epoch is None or holder != self._holder:
            return False
        self._epochs[company] = epoch
        return True

    async def owner(self, company: str) -> ClusterNode | None:
        held = (
            _node_columns(leases.c.node.label("name"))
            .select_from(leases.outerjoin(nodes, nodes.c.holder == leases.c.holder))
            .where(leases.c.company_id == company, leases.c.holder != "", leases.c.expires_at > _NOW)
        )
        found = await self._database.read(lambda connection: _nodes(connection, held))
        return found[0] if found else None

    async def nodes(self) -> list[ClusterNode]:
        return await self._database.read(lambda connection: _nodes(connection, _recent_nodes()))

    async def writes_done(self, company: str) -> None:
        await self._database.caught_up(company)

    async def transfer(self, company: str, to: ClusterNode) -> bool:
        holder, epoch = self._holder, self._epochs.get(company)

        def work(connection: Connection) -> bool:
            is_fresh = nodes.c.seen_at > _NOW - literal(timedelta(seconds=_FRESH_S), Interval)
            accepts = (nodes.c.id == to.id, nodes.c.holder == to.holder, ~nodes.c.draining, is_fresh)
            # Had the node died since its last renewal, this session would be free when all of its others are.
            end = nodes.c.seen_at + literal(timedelta(seconds=self._ttl_s), Interval)
            expires_at = select(end).where(*accepts).scalar_subquery()
            statement = (
                update(leases)
                .where(leases.c.company_id == company, leases.c.holder == holder, leases.c.epoch == epoch)
                .where(exists().where(*accepts))
                .values(node=to.name, holder=to.holder, epoch=leases.c.epoch + 1, expires_at=expires_at)
                .returning(leases.c.company_id)
            )
            return connection.scalar(statement) is not None

        is_transferred = await self._writer.write(work)
        if is_transferred:
            self.drop(company)
        return is_transferred

    async def drain(self, *, drains: bool) -> None:
        self._is_draining = drains
        statement = update(nodes).where(nodes.c.id == self._node_id).values(draining=drains)

        def work(connection: Connection) -> None:
            connection.execute(statement)

        await self._writer.write(work)

    def drop(self, company: str) -> None:
        self._epochs.pop(company, None)

    def abandon(self) -> None:
        self._abandoned_holders.add(self._holder)
        self._reclaiming_since = None
        self._draw_holder()

    async def reserve(self, *, for_s: float) -> None:
        reserved = (leases.c.holder == "", leases.c.node == self._node.name, leases.c.expires_at > _NOW)
        until = _NOW + literal(timedelta(seconds=for_s), Interval)
        statement = update(leases).where(*reserved).values(expires_at=func.greatest(leases.c.expires_at, until))

        def work(connection: Connection) -> None:
            connection.execute(statement)

        await self._writer.write(work)

    async def release(self, *, reserve_s: float = 0) -> None:
        await self._database.caught_up()  # earlier writes still need the leases
        holder = self._holder
        self._draw_holder()
        released = {
            "node": self._node.name,
            "holder": "",
            "expires_at": _NOW + literal(timedelta(seconds=reserve_s), Interval),
        }

        def work(connection: Connection) -> None:
            connection.execute(update(leases).where(leases.c.holder == holder).values(**released))
            connection.execute(delete(nodes).where(nodes.c.id == self._node_id))

        await self._writer.write(work)

    def _in_time(self, connection: Connection, holder: str) -> tuple[datetime, ColumnElement[bool]]:
        """Return the database's time, and a condition that makes a statement do nothing when it is executed late.

        Raises `LeasesAbandoned`.

        A database that hung executes statements that it received before, when nobody waits for them any more: their
        leases would belong to nobody and block the sessions until they expire. The condition compares the server's
        clock with the time it returned a moment ago.
        """
        queried_at: datetime = connection.execute(select(_NOW)).scalar_one()
        if holder != self._holder:
            raise LeasesAbandoned
        return queried_at, literal(queried_at + timedelta(seconds=_LATE_S)) > _NOW

    def _is_reserved_for_this(self) -> ColumnElement[bool]:
        """Leases that the previous process of this name reserved for its successor."""
        return and_(leases.c.holder == "", leases.c.node == self._node.name)

    def _renew(self, connection: Connection, holder: str, connecting: int) -> tuple[datetime, dict[str, int]]:
        queried_at, in_time = self._in_time(connection, holder)
        self._publish_node(connection, holder, connecting)
        own = (
            select(leases.c.company_id)
            .where(in_time, leases.c.holder == holder)
            .with_for_update(key_share=True, skip_locked=True)
        )
        statement = (
            update(leases)
            .where(leases.c.company_id.in_(own))
            .values(expires_at=self._end())
            .returning(leases.c.company_id, leases.c.epoch)
        )
        return queried_at, {row.company_id: row.epoch for row in connection.execute(statement)}

    def _publish_node(self, connection: Connection, holder: str, connecting: int) -> None:
        """Publish this node, and that it is alive."""
        shown = {
            "name": self._node.name,
            "url": self._node.url,
            "capacity": self._node.capacity,
            "holder": holder,
            "draining": self._is_draining,
            "sessions": len(self._epochs),
            "connecting": connecting,
        }
        row = insert(nodes).values(id=self._node_id, started_at=_NOW, seen_at=_NOW, **shown)
        connection.execute(row.on_conflict_do_update(index_elements=["id"], set_={"seen_at": _NOW, **shown}))

    def _claim_where(
        self, connection: Connection, holder: str, *which: ColumnElement[bool], limit: int | None = None
    ) -> dict[str, int]:
        free = select(leases.c.company_id).where(*which).limit(limit).with_for_update(skip_locked=True)
        statement = (
            update(leases)
            .where(leases.c.company_id.in_(free))
            .values(node=self._node.name, holder=holder, epoch=leases.c.epoch + 1, expires_at=self._end())
            .returning(leases.c.company_id, leases.c.epoch)
        )
        return {row.company_id: row.epoch for row in connection.execute(statement)}

    def _reclaim_abandoned(
        self, connection: Connection, holder: str, in_time: ColumnElement[bool], now: datetime
    ) -> dict[str, int]:
        """Claim what this process abandoned, also before it expires: nobody else may act under those leases.

        After an outage of the database, every process does only this for a second. Otherwise the first one that gets
        an answer would claim the sessions of all, and transfer them back later one by one.
        """
        if not self._abandoned_holders:
            return {}
        self._reclaiming_since = self._reclaiming_since or now
        if now - self._reclaiming_since >= _RECLAIM_FOR:
            self._abandoned_holders.clear()
            return {}
        return (
            {}
            if self._is_draining
            else self._claim_where(connection, holder, in_time, leases.c.holder.in_(self._abandoned_holders))
        )

    def _draw_holder(self) -> None:
        self._epochs.clear()
        self._holder = self._randomness.message_id()

    def _end(self) -> ColumnElement[object]:
        return _NOW + literal(timedelta(seconds=self._ttl_s), Interval)


def _node_columns(name: ColumnElement[str]) -> Select[Any]:
    """`name`: the column with the name of the node."""
    ago = func.extract("epoch", _NOW - nodes.c.seen_at).label("ago")
    up = func.extract("epoch", _NOW - nodes.c.started_at).label("up")
    shown = nodes.c["id", "url", "holder", "capacity", "draining", "sessions", "connecting", "started_at"]
    return select(name, ago, up, *shown)


def _recent_nodes() -> Select[Any]:
    return _node_columns(nodes.c.name).where(_is_recent()).order_by(nodes.c.started_at, nodes.c.id)


def recent_names() -> Select[tuple[str]]:
    """The names of the nodes that have renewed their leases within the last minute."""
    return select(nodes.c.name).where(_is_recent())


def _is_recent() -> ColumnElement[bool]:
    return nodes.c.seen_at > _NOW - literal(timedelta(seconds=_SHOWN_S), Interval)


def _nodes(connection: Connection, statement: Select[Any]) -> list[ClusterNode]:
    return [
        ClusterNode(id="", name=row.name)
        if row.id is None
        else ClusterNode(
            id=row.id,
            name=row.name,
            url=row.url,
            holder=row.holder,
            capacity=row.capacity,
            is_draining=row.draining,
            sessions=row.sessions,
            connecting=row.connecting,
            started_at=iso(row.started_at),
            up_s=float(row.up),
            seen_ago_s=float(row.ago),
        )
        for row in connection.execute(statement)
    ]


_UNOWNED = {"node": "", "holder": "", "epoch": 0, "expires_at": func.to_timestamp(0)}


def _make_row(connection: Connection, company: str) -> None:
    row = insert(leases).values(company_id=company, **_UNOWNED)
    connection.execute(row.on_conflict_do_nothing())


def _waiting(connection: Connection, holder: str) -> dict[str, WaitingWork]:
    newest = select(leases.c.company_id, _NEWEST_MESSAGE, _NEWEST_OPERATION).where(leases.c.holder == holder)
    return {
        company: WaitingWork(newest_message=message, newest_operation=operation)
        for company, message, operation in connection.execute(newest)
        if message or operation
    }


def _make_rows(connection: Connection) -> None:
    """A free lease for each session that has none."""
    known = exists().where(leases.c.company_id == sessions.c.company_id)
    free = select(sessions.c.company_id, literal(""), literal(""), literal(0), literal_column("to_timestamp(0)")).where(
        ~known
    )
    rows = insert(leases).from_select(["company_id", "node", "holder", "epoch", "expires_at"], free)
    connection.execute(rows.on_conflict_do_nothing())
