"""Decides which sessions this process runs, where several processes share a database.

Leases are renewed every second and live for six. When no renewal has succeeded for five and a quarter – the database
is unavailable, or this process was suspended – every link is cut before another process may own the sessions: no fence
in the database can close a socket. Each heartbeat tells an engine host how long its sockets may live, so that they end
in time even when this process does not wake up.

Nothing shorter would be safe. A process that closed its connection to the database, or does not answer, may still have
open sockets: it may only have lost its network. So the duration of a lease is a compromise between how soon the
sessions of a dead process are taken over, and how long the database may be unavailable before links are cut.

It must never let this process act for a session under a lease that may have run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.runtime.session_starts import SessionStarts
from holdfast.session.sharing import Cluster, SharingPolicy, emptiest_peer, expects_sessions, max_to_claim, members
from holdfast.session.stores import ClusterNode, HeldLease, Leases, WaitingWork

log = logging.getLogger(__name__)

TTL_S = 6.0
"""How long a lease lives after a renewal: what a dead process's sessions wait at most before another claims them."""
RENEW_EVERY_S = 1.0
MARGIN_S = 0.75
"""Links are cut this long before the lease ends: closing them takes a moment."""
_HOST_GRACE_S = 0.25
"""An engine host exits when it still has links this long after they should have been cut."""
_RETRY_S = 0.25
_SOON_S = 0.1
_MAX_CLAIMED = 200
"""Sessions claimed at once."""
_ANNOUNCED_WITHIN_S = 0.5
_RESERVED_S = 10.0
_RESERVE_EVERY_S = 3.0
_STARTING_AT_MOST_S = 60.0
"""Sessions wait no longer than this for a process that is starting."""
_LONGEST_GRACE_S = 60.0
_GRACE_OF_LOADING = 1.5
"""A restart takes as long as loading the code took before, and half as much for its end and its first queries."""
_START_WITHIN_S = 20
_EXPECTING_S = 0.5
"""Between two renewals while another node transfers sessions: each of them is disconnected until the next renewal."""


class RunsElsewhere(HoldfastError):
    """Only the node that runs the session can carry out the request: it is forwarded there."""

    code = "owner-unreachable"

    def __init__(self, company: str, node: str, *, has_record: bool = False) -> None:
        """has_record: the stored record can be shown when the node can't be reached."""
        where = f"runs on node {node}, which does not answer" if node else "is being taken over by another node"
        super().__init__(f"the session of company {company} {where}: try again in a few seconds", field="company")
        self.company = company
        self.node = node
        self.has_record = has_record


class Tenant(Protocol):
    """Runs the sessions that this process owns: the gateway."""

    @property
    def running(self) -> Collection[str]: ...

    @property
    def blocked(self) -> Collection[str]:
        """Companies whose session may not run now; the tenant starts it itself later."""

    async def begin(self, company: str) -> None:
        """Run this session from its stored record."""

    async def end(self, companies: Collection[str]) -> None:
        """Cut the links of these sessions at once, and write nothing more for them."""

    @property
    def connecting(self) -> int:
        """How many sessions wait to connect."""

    def work_waits(self, company: str, waiting: WaitingWork) -> None:
        """The company has queued messages or operations, perhaps accepted by another process."""


class Ownership:
    def __init__(
        self,
        leases: Leases,
        *,
        clock: Clock,
        restart_grace_s: float = 0,
        loading_s: float = 0,
        policy: SharingPolicy | None = None,
    ) -> None:
        """`restart_grace_s`: for how long at least sessions wait, after this process stopped, for the next one with its
        name; 0: they don't. `loading_s`: from the start of this process until its code was loaded."""
        self._leases = leases
        self._clock = clock
        self._restart_grace_s = restart_grace_s and min(
            max(restart_grace_s, loading_s * _GRACE_OF_LOADING), _LONGEST_GRACE_S
        )
        self._policy = policy or SharingPolicy()
        self._handing_over: set[str] = set()
        """Sessions that are being handed over to another node."""
        self.is_draining = False
        """This node transfers its sessions to other nodes and accepts none."""
        self.cluster: Cluster | None = None
        """All nodes, as of the last renewal."""
        self._until: float | None = None
        """When the leases may run out (monotonic seconds); None while none is held."""
        self._claiming = asyncio.Lock()
        self._failing = False
        self._shared_time = (0.0, 0.0)
        """The database's time at the last renewal, and the monotonic time when it began."""
        self.elsewhere: Mapping[str, str] = {}
        """By company: the node of each session that another process owns, as of the last renewal."""

    @property
    def loading(self) -> str:
        """What has to happen until the first sessions are started, for the log."""
        return "an answer of the database about leases" if self.cluster is None else "the start of its first sessions"

    def left_s(self) -> float | None:
        """How long links may last without another renewal; None while no lease is held."""
        return None if self._until is None else max(self._until - self._clock.monotonic(), 0.0)

    def host_lifetime_s(self) -> float | None:
        """How long an engine host may keep links without another heartbeat; None while no lease is held."""
        left_s = self.left_s()
        return None if left_s is None else left_s + _HOST_GRACE_S

    def is_held(self) -> bool:
        """Whether this process owns its sessions at this moment."""
        return bool(self.left_s())

    async def run(self, tenant: Tenant, *, loaded: Callable[[], None]) -> None:
        """Renew, claim, and have the tenant run what is owned, until cancelled. `loaded` is called when the sessions of
        the first renewal have been started."""
        async with asyncio.TaskGroup() as tasks:
            starts = SessionStarts(tasks, tenant.begin, clock=self._clock, loaded=loaded)
            await self._renew_forever(tenant, starts)

    async def _renew_forever(self, tenant: Tenant, starts: SessionStarts) -> None:
        while True:
            began_at = self._clock.monotonic()
            if self._until is not None and not self.is_held():
                await self._abandon_leases(tenant, starts)
            held = await self._renew_once(began_at, tenant.connecting + len(starts.companies))
            if held is not None and not self.is_held():
                # A database that hung answers a renewal from long ago. Nothing runs yet: renew what it claimed, because
                # abandoning it would keep everybody from these sessions until the leases expire.
                self._until = None
                continue
            if held is not None:
                async with self._clock.until(self._until):
                    await self._apply(tenant, held, starts)
                await self._transfer_overdue(starts)
            await self._sleep_until(began_at + self._pause_s(held))

    async def claim(self, company: str) -> bool:
        """Claim this session; False when another process owns it."""
        async with self._claiming:
            began_at = self._clock.monotonic()
            claimed = await self._leases.claim(company)
            if claimed and self._until is None:
                self._until = began_at + self._leases.ttl_s - MARGIN_S
            return claimed

    @property
    def node_id(self) -> str:
        """The id of this process in the list of nodes."""
        return self._leases.node_id

    async def owner(self, company: str) -> ClusterNode | None:
        """The node that owns the session; None when none does."""
        return await self._leases.owner(company)

    async def nodes(self) -> list[ClusterNode]:
        """All nodes that are alive, or were within the last minute."""
        return await self._leases.nodes()

    def shared_time(self) -> float:
        """Unix seconds by the database's clock, which all nodes share; exact to the duration of a renewal."""
        database_time, at = self._shared_time
        return database_time + self._clock.monotonic() - at

    def lost(self, company: str) -> None:
        """Another process owns the session now."""
        self._leases.drop(company)

    async def hand_over(self, tenant: Tenant, company: str, to: ClusterNode) -> bool:
        """End a session here and make another node its owner. If that fails, the next renewal starts it here again.

        Renewals continue while earlier writes are awaited. A busy writer delays the move, and cuts no link.
        """
        self._handing_over.add(company)
        try:
            await self._leases.writes_done(company)
            if company not in tenant.running:
                return False
            await tenant.end([company])
            await self._leases.writes_done(company)
            async with self._claiming:
                return await self._leases.transfer(company, to)
        finally:
            self._handing_over.discard(company)

    async def drain(self, *, drains: bool) -> None:
        """Transfer all sessions to other nodes and accept none, or stop doing so."""
        await self._leases.drain(drains=drains)
        self.is_draining = drains
        if self.cluster is not None:  # the API shows it before the next renewal
            nodes = (
                replace(node, is_draining=drains) if node.id == self.node_id else node for node in self.cluster.nodes
            )
            self.cluster = replace(self.cluster, nodes=tuple(nodes))

    @property
    def has_peers(self) -> bool:
        """Is there another node that accepts sessions?"""
        sharing = () if self.cluster is None else members(self.cluster.nodes, self._policy)
        return any(node.id != self.node_id for node in sharing)

    @contextlib.asynccontextmanager
    async def starting(self) -> AsyncIterator[None]:
        """Until this process has claimed its first sessions, no other node claims those of its predecessor."""
        await self._reserve_leases()
        async with asyncio.TaskGroup() as tasks:
            reserving = tasks.create_task(self._reserve_until_claimed())
            yield
            reserving.cancel()

    async def _reserve_until_claimed(self) -> None:
        until = self._clock.monotonic() + _STARTING_AT_MOST_S
        while self._until is None and self._clock.monotonic() < until:
            await self._clock.sleep(_RESERVE_EVERY_S)
            await self._reserve_leases()

    async def _reserve_leases(self) -> None:
        with contextlib.suppress(Exception):  # if it fails, other nodes claim them
            async with self._clock.until(self._clock.monotonic() + _ANNOUNCED_WITHIN_S):
                await self._leases.reserve(for_s=_RESERVED_S)

    async def announce_stop(self) -> None:
        """This process is about to stop: no other node should transfer a session to it."""
        with contextlib.suppress(Exception):  # it stops whatever the database says
            async with self._clock.until(self._clock.monotonic() + _ANNOUNCED_WITHIN_S):
                await self._leases.drain(drains=True)

    async def release(self) -> None:
        """Release all leases. Call only when every link of this process is closed."""
        self._until = None
        try:
            await self._leases.release(reserve_s=0 if self.is_draining else self._restart_grace_s)
        except Exception as error:  # noqa: BLE001 – the leases expire
            log.warning("Ownership of sessions could not be released; it ends in %.0f s: %s", TTL_S, error)

    def _max_to_claim(self, nodes: Sequence[ClusterNode], own: int, total: int) -> int:
        return max_to_claim(Cluster(me=self.node_id, nodes=tuple(nodes), own=own, total=total), policy=self._policy)

    async def _renew_once(self, began_at: float, connecting: int) -> HeldLease | None:
        """None when the database did not answer in time."""
        held: HeldLease | None = None
        try:
            async with self._clock.until(self._until), self._claiming:
                held = await self._leases.renew(limit=_MAX_CLAIMED, share=self._max_to_claim, connecting=connecting)
        except Exception as error:  # noqa: BLE001 – whatever the error is, the leases run out in time
            self._log_failure(error)
        if held is not None:
            self._until = began_at + self._leases.ttl_s - MARGIN_S
            self._shared_time = held.database_time, began_at
            self.elsewhere = held.elsewhere
            own, total = len(held.companies), len(held.companies) + len(held.elsewhere)
            self.cluster = Cluster(me=self.node_id, nodes=held.nodes, own=own, total=total)
            self._failing = False
        return held

    async def _apply(self, tenant: Tenant, held: HeldLease, starts: SessionStarts) -> None:
        lost = [company for company in tenant.running if company not in held.companies]
        not_started = held.companies.difference(tenant.running, self._handing_over, starts.companies)
        fresh = sorted(not_started.difference(tenant.blocked))
        await starts.cancel(set(starts.companies) - held.companies)
        if lost:
            log.warning(
                "Ownership of %d session(s) was lost to another process: %s", len(lost), ", ".join(sorted(lost))
            )
            await tenant.end(lost)
        if fresh:
            log.info("Ownership of %d session(s) was acquired", len(fresh))
        starts.begin(fresh)
        for company, waiting in held.waiting.items():
            tenant.work_waits(company, waiting)

    async def _transfer_overdue(self, starts: SessionStarts) -> None:
        """Transfer a session that this process fails to start to another one: its reads may hang, for example."""
        for company in starts.overdue(_START_WITHIN_S)[:1]:
            to = None if self.cluster is None else emptiest_peer(self.cluster, policy=self._policy)
            if to is None:
                return
            log.warning(
                "Session %s could not be started within %d s; it is transferred to node %s",
                company,
                _START_WITHIN_S,
                to.name,
            )
            await starts.cancel([company])
            try:
                async with self._clock.until(self._until), self._claiming:
                    await self._leases.transfer(company, to)
            except Exception as error:  # noqa: BLE001 – it is started here, or passed on, later
                log.warning("Session %s could not be transferred to node %s: %s", company, to.name, error)

    async def _abandon_leases(self, tenant: Tenant, starts: SessionStarts) -> None:
        self._until = None
        self._leases.abandon()
        await starts.cancel(set(starts.companies))
        companies = list(tenant.running)
        log.warning(
            "Ownership of %d session(s) could not be renewed in time: links are cut, another process may own them",
            len(companies),
        )
        await tenant.end(companies)

    async def _sleep_until(self, until: float) -> None:
        if self._until is not None:
            until = min(until, self._until)
        await self._clock.sleep(until - self._clock.monotonic())

    def _pause_s(self, held: HeldLease | None) -> float:
        """Seconds until the next renewal; sooner when another process's lease runs out, as that process may be dead."""
        if held is None:
            return _RETRY_S
        longest_s = RENEW_EVERY_S
        if self.cluster is not None and expects_sessions(self.cluster, policy=self._policy):
            longest_s = _EXPECTING_S
        return longest_s if held.free_in_s is None else min(max(held.free_in_s, _SOON_S), longest_s)

    def _log_failure(self, error: Exception) -> None:
        if not self._failing:
            left_s = self.left_s() or 0
            log.warning("Ownership of sessions can't be renewed; their links are cut in %.1f s: %s", left_s, error)
        self._failing = True
