"""Builds what sessions run on, from the settings: engine hosts, stores, limits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from holdfast.app.node_url import node_url
from holdfast.app.startup_claims import StartupClaims
from holdfast.base.clock import Clock, ClockWatch
from holdfast.base.ids import RandomSource
from holdfast.delivery.media import MB
from holdfast.delivery.media_links import MediaLinks
from holdfast.delivery.rate_limits import Pace, Pacing
from holdfast.delivery.stores import MediaFiles
from holdfast.engine.host import EngineHost, HostLimits, HostProgram
from holdfast.live import live_state
from holdfast.runtime.connect_limiter import ConnectLimiter
from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.runtime.ownership import MARGIN_S, TTL_S, Ownership
from holdfast.runtime.rate_limiter import SendShares
from holdfast.runtime.services import Services
from holdfast.session.backoff import Backoff
from holdfast.session.engine import Engine, Listener
from holdfast.session.placement import PlacementPolicy
from holdfast.session.state import Policy
from holdfast.session.stores import NodeDescription
from holdfast.settings import Settings
from holdfast.store.accounts import AccountRows
from holdfast.store.calls import CallRows
from holdfast.store.chat_rows import ChatRows
from holdfast.store.credentials import EngineRows
from holdfast.store.events import EventRows
from holdfast.store.leases import NO_FENCE, LeaseRows
from holdfast.store.operations import OperationRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.sessions import SessionRows
from holdfast.store.timeline import TimelineRows


def make_services(
    held: StartupClaims,
    program: HostProgram,
    *,
    files: MediaFiles,
    links: MediaLinks,
    clock: Clock,
    randomness: RandomSource,
    loading_s: float,
) -> Services:
    settings, database = held.settings, held.database
    backoff = Backoff(base_ms=settings.backoff_base_ms, factor=settings.backoff_factor, cap_ms=settings.backoff_cap_ms)
    node = node_name(held)
    leases = None
    if database.is_shared:
        description = NodeDescription(name=node, url=node_url(settings, held.listener.getsockname()[1]))
        leases = LeaseRows(database, node=description, randomness=randomness, ttl_s=TTL_S)
    fence = NO_FENCE if leases is None else leases
    ownership = None
    if leases is not None:
        ownership = Ownership(leases, clock=clock, restart_grace_s=settings.restart_grace_s, loading_s=loading_s)
    holds_leases = (lambda: True) if ownership is None else ownership.is_held
    start_host = _host_starter(program, ownership, clock)
    return Services(
        supervisor=EngineSupervisor(
            start_host,
            clock=clock,
            backoff=backoff,
            holds_leases=holds_leases,
            policy=PlacementPolicy(hosts=settings.engine_hosts or _cpu_cores()),
            memory_bytes=settings.engine_host_memory_mb * MB or None,
        ),
        connect_limiter=ConnectLimiter(clock=clock, connects_per_s=settings.connects_per_second),
        shares=SendShares(clock=clock),
        sessions=SessionRows(database, fence=fence),
        timeline=TimelineRows(database, fence=fence),
        live=live_state(settings.redis_url, node=node, clock=clock),
        store=EngineRows(
            database,
            clock=clock,
            randomness=randomness,
            fence=fence,
            media_url=lambda id_: links.url(id_, now=clock.now()),
        ),
        outbox=OutboxRows(database, clock=clock, fence=fence),
        operations=OperationRows(database, clock=clock, fence=fence),
        calls=CallRows(database, clock=clock),
        chats=ChatRows(database),
        event_log=EventRows(database),
        accounts=AccountRows(database),
        files=files,
        clock=clock,
        clock_watch=ClockWatch(clock),
        randomness=randomness,
        policy=Policy(
            backoff=backoff,
            keepalive_interval_s=settings.keepalive_interval_s,
            presence=settings.keepalive_presence,
        ),
        whatsapp_url=settings.whatsapp_url,
        pacing=_pacing(settings),
        node=node,
        ownership=ownership,
    )


def _pacing(settings: Settings) -> Pacing:
    return Pacing(
        every=Pace(per_minute=settings.pacing_per_minute, burst=settings.pacing_burst),
        bulk=Pace(per_minute=settings.pacing_bulk_per_minute, burst=settings.pacing_bulk_burst),
        new=Pace(per_minute=settings.pacing_new_per_minute, burst=settings.pacing_new_burst),
        new_per_day=settings.pacing_new_per_day,
        gap_ms=settings.pacing_gap_ms,
    )


def node_name(held: StartupClaims) -> str:
    """The name of this process."""
    return held.settings.node_at(held.listener.getsockname()[1])


def _host_starter(
    program: HostProgram, ownership: Ownership | None, clock: Clock
) -> Callable[[Listener], AbstractAsyncContextManager[Engine]]:
    """With leases, a host is limited in how long it runs without its parent: its sockets close before a lease ends."""
    limits, lifetime_s = HostLimits(), _unlimited
    if ownership is not None:
        program = replace(program, argv=[*program.argv, str(TTL_S - MARGIN_S)])
        limits, lifetime_s = HostLimits(heartbeat_interval_s=1), ownership.host_lifetime_s

    @contextlib.asynccontextmanager
    async def start(listener: Listener) -> AsyncIterator[Engine]:
        async with EngineHost(program, listener=listener, clock=clock, limits=limits, lifetime_s=lifetime_s) as host:
            yield host

    return start


def _unlimited() -> float | None:
    return None


def _cpu_cores() -> int:
    """Those that this process may use, where the system says so (macOS does not)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
