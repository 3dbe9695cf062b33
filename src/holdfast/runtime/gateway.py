"""The gateway: the sessions of this process, from start to end, and the way to reach each of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.base.clock import iso
from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import BadInput, Conflict, NotFound
from holdfast.base.ids import COMPANY_RULE, is_company_id
from holdfast.delivery.stores import Accepted, Draft
from holdfast.runtime.actor import SessionActor
from holdfast.runtime.actor_supervisor import ActorSupervisor
from holdfast.runtime.errors import SessionRestarting
from holdfast.runtime.load_sharing import LoadSharing
from holdfast.runtime.ownership import Ownership, RunsElsewhere
from holdfast.runtime.services import Services
from holdfast.runtime.stall_watch import StallWatch
from holdfast.runtime.startup_wait import awaited
from holdfast.runtime.view import View, view_of
from holdfast.session import events
from holdfast.session.labels import checked_label
from holdfast.session.machine import NotPossible
from holdfast.session.state import State
from holdfast.session.stores import ClusterNode, Record, WaitingWork

log = logging.getLogger(__name__)

T = TypeVar("T")

_START_AGAIN_S = 5.0
"""Interval between attempts to start the sessions that a failing database kept from starting."""


@dataclass(slots=True)
class _Exclusive:
    """Work on the stored rows of a session that must not run at the same time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    pending: int = 0
    """How many callers run their work or wait."""


class Gateway:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._actors = ActorSupervisor(services)
        self._exclusive: dict[str, _Exclusive] = {}
        """Sessions that must not run now."""
        self._not_started: set[str] = set()
        """Companies whose sessions could not be started; where processes share the database, renewals find them."""
        self._start_failed = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._loaded = asyncio.Event()
        self.stalls = StallWatch(services.clock)
        """For all writes of callers: one that waits too long for the database makes the others fail fast."""
        services.clock_watch.follow(self._clock_was_set)

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Run all sessions until cancelled. `ready` is called when an engine host is up and the sessions are loaded."""
        ownership = self._services.ownership
        try:
            async with asyncio.TaskGroup() as engines:
                engine_up = asyncio.Event()
                engines.create_task(self._services.supervisor.run(ready=engine_up.set), name="engine supervisor")
                engines.create_task(self._services.live.run(), name="live state")
                async with asyncio.TaskGroup() as self._tasks:
                    self._actors.supervise_in(self._tasks)
                    if ownership is None:
                        self._tasks.create_task(self._start_again(), name="sessions that could not be started")
                    try:
                        await awaited(engine_up, lambda: "an engine host", clock=self._services.clock)
                        await (self._load_all() if ownership is None else self._load_owned(ownership))
                        self._loaded.set()
                        ready()
                        await asyncio.Event().wait()  # without sessions the group would end here
                    finally:
                        self._actors.stop()
        finally:
            if ownership is not None:
                await ownership.release()
            elif self.is_ready:
                await self._note_stop()

    @property
    def is_ready(self) -> bool:
        """Whether an engine host runs and the sessions are loaded."""
        return self._loaded.is_set()

    @property
    def engine_failure(self) -> str | None:
        """Why no engine host can be started, while none runs."""
        return self._services.supervisor.start_failure

    async def wait_until_ready(self, *, within_s: float) -> bool:
        """Wait until `is_ready`; False if that takes longer than `within_s`."""
        if not self.is_ready:
            clock = self._services.clock
            async with clock.until(clock.monotonic() + within_s):
                await self._loaded.wait()
        return self.is_ready

    async def _load_all(self) -> None:
        alive_at = await self._services.timeline.seen_alive(self._now())
        for record in await self._services.sessions.all():
            await self._actors.start(record, alive_at=alive_at)

    async def _note_stop(self) -> None:
        """The history of the sessions then shows since when they were disconnected; without this, since the last
        health check."""
        try:
            await self._services.timeline.seen_alive(self._now())
        except Exception as error:  # noqa: BLE001 – the database may be the reason for the stop
            log.debug("The time of the stop was not stored: %s", error)

    async def _load_owned(self, ownership: Ownership) -> None:
        assert self._tasks is not None
        loaded = asyncio.Event()
        self._tasks.create_task(ownership.run(self, loaded=loaded.set), name="ownership")
        await awaited(loaded, lambda: ownership.loading, clock=self._services.clock)
        load = LoadSharing(ownership, clock=self._services.clock, share_connects=self._services.connect_limiter.share)
        self._tasks.create_task(load.run(self), name="load sharing")

    # Starting and ending sessions.

    async def put(self, company: str, connection: Mapping[str, str | None] | None = None) -> SessionActor:
        """Create the session, or find it, set how it connects, and start it.

        `connection`: changes of `device_name`, `proxy_url` and `ignored`. They are stored before a link is opened; an
        open link with another proxy is replaced.
        """
        if not is_company_id(company):
            raise BadInput(f'company "{company[:80]}" is not usable: {COMPANY_RULE}', field="company")
        if company not in self.running:
            ownership, now = self._services.ownership, self._now()
            owned = ownership is None or await ownership.claim(company)
            record = Record(company=company, state=State.UNPAIRED, since=now, created_at=now)
            await self._services.sessions.create(record)
            if owned:
                await self.begin(company)
        actor = await self.set_connection(company, connection or {})
        with contextlib.suppress(NotPossible):  # creating and updating work during a ban too; the session waits
            await actor.ask(events.StartAsked())
        return actor

    async def set_connection(self, company: str, changes: Mapping[str, str | None]) -> SessionActor:
        """Change how a session connects, as in `put`, without starting it. Raises `NotFound`."""
        actor = await self.actor(company)
        if changes:
            await self._services.sessions.set_connection(company, changes)
            actor = self._actors.find(company) or actor  # another one may have taken over meanwhile
            actor.set_connection(changes)
        return actor

    async def begin(self, company: str) -> None:
        """Run a session that this process owns from its stored record, unless it runs already.

        If that fails, it is tried again until it succeeds.
        """
        try:
            await self._begin(company)
        except BaseException:  # the database failed, or the caller no longer waits
            if self._services.ownership is None:
                self._not_started.add(company)
                self._start_failed.set()
            raise
        self._not_started.discard(company)

    async def _start_again(self) -> None:
        while True:
            await self._start_failed.wait()
            self._start_failed.clear()
            await self._services.clock.sleep(_START_AGAIN_S)
            for company in sorted(self._not_started):
                with contextlib.suppress(Exception):  # it was reported when the session could not be started at first
                    await self.begin(company)

    async def _begin(self, company: str) -> None:
        record = await self._services.sessions.find(company)
        if record is not None and self._may_run(company) and company not in self.running:
            await self._actors.start(record, alive_at=self._now(), is_allowed=lambda: self._may_run(company))

    async def end(self, companies: Collection[str]) -> None:
        """Cut the links of sessions that another process owns, or may own by now."""
        await self._actors.end(companies)

    def may_move(self, company: str) -> bool:
        """Whether this session can be reconnected now without exceeding its budget."""
        actor = self._actors.find(company)
        return actor is not None and actor.may_move

    # The cluster.

    @property
    def node(self) -> str | None:
        """The name of this process in a cluster."""
        return self._services.node

    @property
    def node_id(self) -> str:
        """Its id in the list of nodes; empty for a process that does not share its database."""
        return "" if self._services.ownership is None else self._services.ownership.node_id

    async def nodes(self) -> Sequence[ClusterNode]:
        """The nodes that share the database; none for a process that does not share it."""
        return [] if self._services.ownership is None else await self._services.ownership.nodes()

    @property
    def is_draining(self) -> bool:
        """Whether this node is draining."""
        return self._services.ownership is not None and self._services.ownership.is_draining

    async def drain(self, *, drains: bool) -> None:
        """Transfer all sessions to other nodes and accept none, or stop doing so.

        Raises `Conflict` without another node.
        """
        ownership = self._services.ownership
        if ownership is None:
            raise Conflict(
                "this process does not share its database: there is no other node that could run its sessions"
            )
        if drains and not ownership.has_peers:
            raise Conflict("there is no other node that could run the sessions: start one first")
        await ownership.drain(drains=drains)

    async def announce_stop(self) -> None:
        """Keep other nodes from transferring a session to this one, which is about to stop."""
        if self._services.ownership is not None:
            await self._services.ownership.announce_stop()

    async def run_exclusively(self, company: str, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` while the session does not run; afterwards run the session from its stored record, if it has one.

        Several calls for one session run one after another, and the session starts after the last. The session need not
        exist yet. Raises `RunsElsewhere` for one that another process runs.
        """
        ownership = self._services.ownership
        if company not in self.running and ownership is not None and not await ownership.claim(company):
            raise RunsElsewhere(company, await self._node(company))
        exclusive = self._exclusive.setdefault(company, _Exclusive())
        exclusive.pending += 1
        try:
            async with exclusive.lock:
                await self.end([company] if company in self.running else [])
                return await work()
        finally:
            exclusive.pending -= 1
            if not exclusive.pending:
                del self._exclusive[company]
                await self._begin_after_work(company)

    async def _begin_after_work(self, company: str) -> None:
        """Start the session. A failure is logged, and does not make the finished work fail."""
        try:
            await self.begin(company)
        except Exception as error:  # noqa: BLE001 – whatever it is, it is tried again
            log.warning(
                "Session %s can't be started; this will be retried when the database is back: %s", company, error
            )
            return
        if company not in self.running:
            self._services.live.remove(company)

    @property
    def blocked(self) -> Collection[str]:
        """Companies whose session may not run now, because of exclusive work."""
        return self._exclusive.keys()

    def _may_run(self, company: str) -> bool:
        return company not in self.blocked

    def replace_actor(self, company: str, because: str) -> None:
        """End an actor that hangs; another takes over from its record at once."""
        self._actors.replace(company, because)

    # Reaching sessions.

    @property
    def running(self) -> Collection[str]:
        """Companies whose session runs in this process."""
        return self._actors.companies

    def find(self, company: str) -> SessionActor | None:
        """The actor of a session that runs in this process now."""
        return self._actors.find(company)

    async def actor(self, company: str) -> SessionActor:
        """The actor of a session of this process. Raises `NotFound`, `RunsElsewhere` and `SessionRestarting`."""
        actor = self._actors.find(company)
        if actor is None:
            await self._stored(company)
            if self._services.ownership is None:
                raise SessionRestarting(company)
            raise RunsElsewhere(company, await self._node(company))
        return actor

    async def require_here(self, company: str) -> None:
        """Raises `RunsElsewhere` when another node runs the session now; a page can show its record in the meantime."""
        ownership = self._services.ownership
        if ownership is None or self._actors.find(company) is not None:
            return
        owner = await ownership.owner(company)
        if owner is not None and owner.id != ownership.node_id:
            raise RunsElsewhere(company, owner.name, has_record=True)

    async def require(self, company: str) -> None:
        """Raises `NotFound` when there is no such session in any process, `SessionRestarting` while its rows change."""
        if company not in self.running:
            await self._stored(company)

    @property
    def connected(self) -> frozenset[str]:
        """The companies whose sessions are connected in this process."""
        return frozenset(company for company, actor in self._actors.actors.items() if actor.is_connected)

    def views(self) -> list[View]:
        """The sessions of this process."""
        return [actor.view for _, actor in sorted(self._actors.actors.items())]

    def view(self, company: str) -> View:
        """A session of this process. Raises `NotFound`, and `RunsElsewhere` for one of another process."""
        return self._running_actor(company).view

    async def cluster_view(self, company: str) -> View:
        """A session of any process; what another process runs is shown from its stored record. Raises `NotFound`."""
        actor = self._actors.find(company)
        if actor is not None:
            return actor.view
        return view_of(await self._stored(company), node=await self._node(company), clock=self._services.clock)

    async def cluster_views(self) -> list[View]:
        """The sessions of all processes."""
        if self._services.ownership is None:
            return self.views()
        records = await self._services.sessions.all()
        own = {company: actor.view for company, actor in self._actors.actors.items()}
        elsewhere, clock = self._services.ownership.elsewhere, self._services.clock
        return [
            own.get(record.company) or view_of(record, node=elsewhere.get(record.company, ""), clock=clock)
            for record in records
        ]

    async def labels(self) -> Mapping[str, str]:
        """What people call companies, by company id; those without a label are left out."""
        return await self._services.sessions.labels()

    async def set_label(self, company: str, label: str | None) -> None:
        """Raises `NotFound`, and `BadInput` for what can't be a label."""
        label = None if label is None else checked_label(label)
        await self.require(company)
        await self._services.sessions.set_label(company, label)

    def post(self, company: str, event: events.Event) -> None:
        """Give the session an event; returns before it is carried out."""
        self._running_actor(company).post(event)

    async def ask(self, company: str, event: events.Event) -> View:
        """Carry a person's request out. Raises `NotFound`, and `Conflict` when the session's state forbids it."""
        actor = await self.actor(company)
        await ask(actor, event)
        return actor.view

    def client_updated(self) -> None:
        """There is another client version: one refused session probes at once, the others follow when it succeeds."""
        self._services.connect_limiter.hurry()
        for actor in self._actors.actors.values():
            if actor.view.record.state is State.PAUSED:
                actor.post(events.ClientUpdated())

    def _clock_was_set(self, step: ClockStep) -> None:
        log.warning("The wall clock was set by %+.0f s; stored times follow it", step.by_s)
        for actor in self._actors.actors.values():
            actor.clock_was_set(step)

    @property
    def connecting(self) -> int:
        """How many sessions wait to connect."""
        return self._services.connect_limiter.waiting

    def work_waits(self, company: str, waiting: WaitingWork | None = None) -> None:
        """Messages or operations of this company are stored that its session may not know of."""
        if actor := self._actors.find(company):
            actor.work.recheck(waiting)

    def operations_wait(self, company: str) -> None:
        """There is a new operation of this company."""
        if actor := self._actors.find(company):
            actor.work.operations.recheck()
        else:
            self._services.wake_owner(company)

    async def accept(self, draft: Draft) -> Accepted:
        """Store a message. Its session sends it at once where it may; without one here, it waits in the outbox.

        Runs to completion even if the caller is cancelled: once stored, a message must be sent.
        """
        assert self._tasks is not None
        answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._accept(draft, answer), name=f"accept for {draft.company}")
        return await answer

    async def _accept(self, draft: Draft, answer: asyncio.Future[Accepted]) -> None:
        actor = self._actors.find(draft.company)
        try:
            accepted = await (self._services.outbox.accept(draft) if actor is None else actor.work.sender.accept(draft))
        except Exception as error:  # noqa: BLE001 – it belongs to the caller, and must not end all sessions
            if not answer.done():
                answer.set_exception(error)
            return
        if not answer.done():
            answer.set_result(accepted)
        newer = self._actors.find(draft.company)
        if newer is None:
            self._services.wake_owner(draft.company)
        elif newer is not actor:
            newer.work.recheck()

    def _running_actor(self, company: str) -> SessionActor:
        actor = self._actors.find(company)
        if actor is None:
            ownership = self._services.ownership
            if not self._may_run(company):
                raise SessionRestarting(company)
            if ownership is not None and company in ownership.elsewhere:
                raise RunsElsewhere(company, ownership.elsewhere[company])
            raise _unknown(company)
        return actor

    async def _stored(self, company: str) -> Record:
        if not self._may_run(company):
            raise SessionRestarting(company)
        record = await self._services.sessions.find(company) if is_company_id(company) else None
        if record is None:
            raise _unknown(company)
        return record

    async def _node(self, company: str) -> str:
        ownership = self._services.ownership
        owner = None if ownership is None else await ownership.owner(company)
        return "" if owner is None else owner.name

    def _now(self) -> str:
        return iso(self._services.clock.now())


async def ask(actor: SessionActor, event: events.Event) -> None:
    """Carry a person's request out. Raises `Conflict` when the session's state forbids it."""
    try:
        await actor.ask(event)
    except NotPossible as error:
        raise Conflict(str(error)) from error


def _unknown(company: str) -> NotFound:
    sentence = f'company "{company[:80]}" is unknown: create it with PUT /v1/sessions/{company[:80]}'
    return NotFound(sentence, field="company")
