"""Moves sessions to other nodes of the cluster: while this node has more than its share, and all while it drains.

One session moves at a time: its link is closed here, and the other node, which then owns it, connects it within a
second. `session.sharing` decides when and where to. It must never move a session that would exceed its reconnection
budget, unless the node drains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from holdfast.base.clock import Clock
from holdfast.runtime.ownership import Ownership, Tenant
from holdfast.session import sharing
from holdfast.session.sharing import Balance, ConnectShare, SharingPolicy

log = logging.getLogger(__name__)

_INTERVAL_S = 0.1


class MovingTenant(Tenant, Protocol):
    def may_move(self, company: str) -> bool:
        """Whether this session can be reconnected now without exceeding its budget."""


class LoadSharing:
    def __init__(
        self,
        ownership: Ownership,
        *,
        clock: Clock,
        share_connects: Callable[[int], None],
        policy: SharingPolicy | None = None,
    ) -> None:
        """`share_connects` is called with the number of nodes that divide the connects of a second."""
        self._ownership = ownership
        self._clock = clock
        self._share_connects = share_connects
        self._policy = policy or SharingPolicy()
        self._balance = Balance()
        self._connects = ConnectShare()

    async def run(self, tenant: MovingTenant) -> None:
        """Move sessions until cancelled."""
        while True:
            await self._clock.sleep(_INTERVAL_S)
            cluster = self._ownership.cluster
            if cluster is not None and self._ownership.is_held():
                now = self._clock.monotonic()
                self._connects = sharing.connect_share(self._connects, cluster, now=now, policy=self._policy)
                self._share_connects(self._connects.nodes)
                await self._move_one(tenant, replace(cluster, own=len(tenant.running)))

    async def _move_one(self, tenant: MovingTenant, cluster: sharing.Cluster) -> None:
        before = self._balance
        self._balance, to = sharing.next_transfer(before, cluster, now=self._clock.monotonic(), policy=self._policy)
        if self._balance.is_moving and not before.is_moving:
            log.info("Sessions move to other nodes: this one has %d of %d", cluster.own, cluster.total)
        if to is None:
            return
        company = self._next(tenant)
        if company is None:
            return
        try:
            is_transferred = await self._ownership.hand_over(tenant, company, to)
        except Exception as error:  # noqa: BLE001 – the next renewal shows who owns it
            log.warning("Session %s could not be handed over to node %s: %s", company, to.name, error)
            return
        if is_transferred:
            log.info("Session %s moved to node %s", company, to.name)

    def _next(self, tenant: MovingTenant) -> str | None:
        """The session that has run here for the longest time: one that moved recently stays."""
        if self._ownership.is_draining:
            return next(iter(tenant.running), None)
        return next((company for company in tenant.running if tenant.may_move(company)), None)
