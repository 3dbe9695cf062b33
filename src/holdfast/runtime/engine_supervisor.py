"""The engine supervisor: keeps the engine hosts running and routes each link's reports to its session.

It numbers links and spreads sessions over the hosts; `session.placement` decides where. A cut link is forgotten at
once, so that none of its late reports reaches a session. A link that is opened while its host is down waits for the
next host, which costs its session no attempt. A lost host is reported only to the sessions that had a link on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from holdfast.base.clock import Clock
from holdfast.runtime.engine_slot import OPEN_TIMEOUT_S, HostedLink, LinkOwner, RunningHost, Slot, StartHost
from holdfast.runtime.host_moves import HostMoves
from holdfast.session import placement
from holdfast.session.backoff import Backoff
from holdfast.session.engine import (
    AnyCommand,
    AnyReport,
    CutLink,
    HostEnd,
    HostFacts,
    LinkClosed,
    LinkId,
    LinkOpened,
    LogOut,
    OpenLink,
    QrShown,
    host_end,
)
from holdfast.session.placement import Death, HostNumber, Placement, PlacementPolicy

__all__ = ["EngineSupervisor", "HostView", "LinkOwner", "StartHost"]

log = logging.getLogger(__name__)

_HOUR_S = 3600
_FRESH_S = 5
"""A link that opened within this time before its host died may have caused the death."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """One engine host, for diagnostics."""

    number: HostNumber
    isolation: bool
    """It runs sessions that are suspected of killing hosts."""
    retiring: bool
    """It was replaced, and lives until its last session has moved."""
    facts: HostFacts
    sessions: tuple[str, ...]
    silent_s: float


class EngineSupervisor:
    """The engine hosts of this process and the links of all sessions."""

    def __init__(
        self,
        start_host: StartHost,
        *,
        clock: Clock,
        backoff: Backoff,
        holds_leases: Callable[[], bool] = lambda: True,
        policy: PlacementPolicy | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """`holds_leases`: whether this process owns its sessions at this moment; while it does not, links can only be
        cut. `memory_bytes`: a host with more resident memory than this is replaced, its sessions one by one.
        """
        self._holds_leases = holds_leases
        self._start_host = start_host
        self._clock = clock
        self._backoff = backoff
        self._policy = policy or PlacementPolicy()
        self._memory_bytes = memory_bytes
        self._placement = Placement()
        self._slots: dict[HostNumber, Slot] = {}
        self._moves = HostMoves(clock=clock, run_task=self._run_task)
        self._links: dict[LinkId, HostedLink] = {}
        self._last_link = 0
        self._tasks: asyncio.TaskGroup | None = None
        self._ready: Callable[[], None] = lambda: None
        self.starts = 0
        """Hosts started so far."""
        self._lost_at: deque[float] = deque()

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Keep hosts running until cancelled. `ready` is called when the first one is up; others start when sessions
        are placed on them.

        Raises what the first start raises: Holdfast must fail at its start when it can't run its engine.
        """
        self._ready = ready
        async with asyncio.TaskGroup() as self._tasks:
            if self._memory_bytes is not None:
                watching = self._moves.watch_memory(self._current_hosts, max_bytes=self._memory_bytes)
                self._tasks.create_task(watching, name="engine host memory")
            self._slot(0)
            await asyncio.Event().wait()  # a task group without tasks would end here

    # Queries.

    def hosts(self) -> list[HostView]:
        """All running hosts, ordinary ones first."""
        return [_view(host, engine_links, self._policy) for host, engine_links in self._running()]

    def host_of(self, company: str) -> HostView | None:
        """The host that the session runs on, or will run on; None: it is down, or the session never had one."""
        host = self._host_of(company)
        return None if host is None else _view(host, list(host.links.values()), self._policy)

    def silent_s(self, company: str) -> float | None:
        """Seconds since the last sign of life of the session's host; None while the host is down."""
        host = self._host_of(company)
        if host is None or host.engine is None:
            return None if self._placement.hosts.get(company) is not None else 0
        return host.engine.silent_s

    @property
    def host_down_s(self) -> float | None:
        """Seconds since the first host that is still missing was lost; None while all run."""
        down = [slot.down_since for slot in self._slots.values() if slot.down_since is not None and not slot.closed]
        if not self._slots:
            return 0
        return self._clock.monotonic() - min(down) if down else None

    @property
    def start_failure(self) -> str | None:
        """Why no host can be started, while none runs."""
        if any(slot.host is not None for slot in self._slots.values()):
            return None
        return next((slot.start_failure for slot in self._slots.values() if slot.start_failure is not None), None)

    @property
    def hosts_lost_lately(self) -> int:
        """The number of hosts that were lost within the last hour."""
        hour_ago = self._clock.monotonic() - _HOUR_S
        while self._lost_at and self._lost_at[0] < hour_ago:
            self._lost_at.popleft()
        return len(self._lost_at)

    def replace_host(self, company: str, because: str) -> None:
        """End the host of a session, if there is one; the next is started as after any loss."""
        host = self._host_of(company)
        if host is not None and host.engine is not None:
            host.engine.kill(because)

    def _host_of(self, company: str) -> RunningHost | None:
        number = self._placement.hosts.get(company)
        link = next((each for each in self._links.values() if each.company == company and each.host), None)
        if link is not None:
            return link.host
        return self._slots[number].host if number in self._slots else None

    def _running(self) -> Iterator[tuple[RunningHost, list[HostedLink]]]:
        for host in (*self._current_hosts(), *self._moves.retiring):
            yield host, list(host.links.values())

    def _current_hosts(self) -> list[RunningHost]:
        return [slot.host for _, slot in sorted(self._slots.items()) if slot.host is not None]

    # Links.

    def new_link(self, owner: LinkOwner) -> LinkId:
        """Reserve a number for a link that is about to be opened."""
        self._last_link += 1
        self._links[self._last_link] = HostedLink(owner=owner)
        return self._last_link

    def distrust(self, company: str) -> None:
        """The session was quarantined: it runs alone when a person starts it again."""
        self._placement = placement.distrust(self._placement, company)

    def forget(self, company: str) -> None:
        """The session no longer runs in this process."""
        self._placement = placement.forget(self._placement, company, policy=self._policy)

    def command(self, command: AnyCommand) -> None:
        """Pass a command on, unless its link has ended."""
        link = self._links.get(command.link)
        if link is None or not (self._holds_leases() or isinstance(command, CutLink)):
            return
        if isinstance(command, OpenLink):
            link.company = command.company
            self._place(command)
        elif link.host is None or link.sent_at is None:
            if isinstance(command, CutLink | LogOut):
                self._drop_waiting(command.link, link)
        else:
            assert link.host.engine is not None
            link.host.engine.command(command)
            if isinstance(command, CutLink):
                self._end(command.link, link)

    def _place(self, order: OpenLink) -> None:
        self._placement, number = placement.place(self._placement, order.company, policy=self._policy)
        slot = self._slot(number)
        if slot.host is None:
            slot.waiting[order.link] = order
        else:
            self._queue_open(slot.host, order)

    def _slot(self, number: HostNumber) -> Slot:
        """The slot of this number, with a host started for it."""
        if (known := self._slots.get(number)) is not None:
            return known
        assert self._tasks is not None
        isolation = placement.is_isolation(number, self._policy)
        slot = self._slots[number] = Slot(number, self, one_by_one=isolation, clock=self._clock)
        running = slot.run(self._start_host, backoff=self._backoff, started=self._started, may_fail=self.starts > 0)
        self._tasks.create_task(running, name=f"engine slot {number}")
        return slot

    def _started(self, host: RunningHost) -> None:
        waiting, host.slot.waiting = host.slot.waiting, {}
        for order in waiting.values():
            if self._holds_leases():
                self._queue_open(host, order)
        self.starts += 1
        self._ready()
        if host.slot.one_by_one:
            self._run_task(self._watch_isolation(host), f"isolation host {host.slot.number}")

    def _queue_open(self, host: RunningHost, order: OpenLink) -> None:
        """Pass the command to open a link to the host, now or when earlier links are open."""
        link = self._links[order.link]
        link.host = host
        host.links[order.link] = link
        host.queue.append(order)
        self._open_next(host)

    def _open_next(self, host: RunningHost) -> None:
        assert host.engine is not None
        while host.queue and not (host.slot.one_by_one and self._is_opening(host)):
            order = host.queue.popleft()
            link = self._links.get(order.link)
            if link is None:
                continue
            link.sent_at = self._clock.monotonic()
            host.engine.command(order)

    def _is_opening(self, host: RunningHost) -> bool:
        since = self._clock.monotonic() - OPEN_TIMEOUT_S
        links = host.links.values()
        return any(link.opened_at is None and link.sent_at is not None and link.sent_at > since for link in links)

    def _drop_waiting(self, number: LinkId, link: HostedLink) -> None:
        for slot in self._slots.values():
            slot.waiting.pop(number, None)
        self._end(number, link)

    def _end(self, number: LinkId, link: HostedLink) -> None:
        self._links.pop(number, None)
        host = link.host
        if host is None:
            return
        host.links.pop(number, None)
        if host.slot.one_by_one:
            self._open_next(host)
        if host.retiring and not host.links:
            host.over.set()

    # Reports of hosts.

    def handle(self, host: RunningHost, report: AnyReport) -> None:
        link = host.links.get(report.link)
        if link is None or link.sent_at is None:
            self._drop(host, report)
            return
        if isinstance(report, LinkClosed):
            self._end(report.link, link)
        elif isinstance(report, LinkOpened | QrShown) and link.opened_at is None:
            link.opened_at = self._clock.monotonic()
            if host.slot.one_by_one:
                self._open_next(host)
        link.owner.handle(report)

    def _drop(self, host: RunningHost, report: AnyReport) -> None:
        """A late report of a link that has ended is harmless; one about a link that the host never had is not."""
        has_ended = 0 < report.link <= self._last_link and report.link not in self._links
        if has_ended or host.has_overstepped:
            return
        host.has_overstepped = True  # one line for each host: a hostile one could flood the log
        words = "Engine host %d reported on link %d, which is not one of its own; such reports of it are dropped"
        log.error(words, host.slot.number, report.link)

    def lose(self, host: RunningHost, detail: str) -> None:
        """A host died, or was ended because it hung: find the sessions that may have caused it, and report the loss to
        all of its sessions."""
        number, links = host.slot.number, list(host.links.items())
        process = "" if host.engine is None else f" (process {host.engine.facts.pid})"
        log.error("Engine host %d%s lost: %s; links: %d", number, process, detail, len(links))
        host.slot.detach(host)
        self._moves.lost(host)
        self._lost_at.append(self._clock.monotonic())
        end = host_end(detail)
        death, quarantined = self._death(host, end), frozenset[str]()
        if end is not HostEnd.HEARTBEAT_LOST:
            self._placement, quarantined = placement.died(self._placement, death, policy=self._policy)
        for link_id, _ in links:
            self._links.pop(link_id, None)
        host.links.clear()
        host.queue.clear()
        host.over.set()
        self._place_waiting_again(host.slot)
        for _, link in links:
            if link.company in quarantined:
                log.error("Session %s is quarantined: it ended each engine host that ran it alone", link.company)
                link.owner.quarantine(end)
            else:
                link.owner.lose_host(end)
        self._log_suspects(number, death)
        self._close_empty_slots(dead=number if death.sessions else None)

    def _death(self, host: RunningHost, end: HostEnd) -> Death:
        now = self._clock.monotonic()
        silent_s = 0 if host.engine is None else host.engine.silent_s
        sent = [link for link in host.links.values() if link.sent_at is not None]
        fresh_since = now - silent_s - _FRESH_S
        return Death(
            at=now,
            host=host.slot.number,
            sessions=frozenset(link.company for link in sent),
            opening=frozenset(link.company for link in sent if link.opened_at is None),
            fresh=frozenset(
                link.company for link in sent if link.opened_at is not None and link.opened_at > fresh_since
            ),
            from_outside=end is HostEnd.KILLED,
        )

    def _log_suspects(self, number: HostNumber, death: Death) -> None:
        moved = [each for each in sorted(death.sessions) if self._placement.hosts.get(each, number) != number]
        if moved:
            log.warning("Engine host %d: %s will open their next links on isolation hosts", number, ", ".join(moved))

    def _place_waiting_again(self, slot: Slot) -> None:
        """Links that waited for this host may have to run on another one now."""
        waiting, slot.waiting = slot.waiting, {}
        for order in waiting.values():
            self._place(order)

    def _close_empty_slots(self, dead: HostNumber | None = None) -> None:
        """Close isolation hosts, and the ordinary host that died, if no session is placed there any more."""
        for number, slot in list(self._slots.items()):
            may_close = number == dead or placement.is_isolation(number, self._policy)
            if may_close and not self._placement.members(number):
                self._close(slot)

    def _close(self, slot: Slot) -> None:
        """End a host without sessions; one that still has links runs until they have moved."""
        self._slots.pop(slot.number, None)
        host = slot.host
        if host is not None and host.links:
            slot.closed = True
            self._moves.retire(host)
        else:
            slot.close()

    # Isolation.

    async def _watch_isolation(self, host: RunningHost) -> None:
        """Open the next link when the one before takes long. Clear the sessions of suspicion when the host has lived
        long enough."""
        clock, until = self._clock, host.started_at + self._policy.proven_after_s
        while not host.over.is_set() and clock.monotonic() < until:
            await clock.sleep(
                min(OPEN_TIMEOUT_S, until - clock.monotonic()) if host.queue else until - clock.monotonic()
            )
            if not host.over.is_set():
                self._open_next(host)
        if host.over.is_set():
            return
        sessions = ", ".join(sorted(self._placement.members(host.slot.number)))
        log.info("Engine host %d is stable: %s did not cause the earlier crashes", host.slot.number, sessions)
        self._placement = placement.proven(self._placement, host.slot.number, policy=self._policy)
        self._close_empty_slots()

    def _run_task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert self._tasks is not None
        self._tasks.create_task(work, name=name)


def _view(host: RunningHost, links: list[HostedLink], policy: PlacementPolicy) -> HostView:
    assert host.engine is not None
    return HostView(
        number=host.slot.number,
        isolation=placement.is_isolation(host.slot.number, policy),
        retiring=host.retiring,
        facts=host.engine.facts,
        sessions=tuple(sorted({link.company for link in links})),
        silent_s=host.engine.silent_s,
    )
