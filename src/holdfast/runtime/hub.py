"""The engine hub: keeps an engine host running and leads each link's reports to the session that owns it.

It numbers links for the engine. A link that was cut is forgotten at once, so that nothing it still says reaches a
session. One that is to be opened while there is no host waits for the next: it costs its session no attempt. It must
never decide about a session; a lost host is told to each session that had a link on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.session.backoff import Backoff
from holdfast.session.engine import (
    AnyCommand,
    AnyReport,
    CutLink,
    Engine,
    HostFacts,
    LinkClosed,
    LinkId,
    Listener,
    LogOut,
    OpenLink,
)

log = logging.getLogger(__name__)

_HOUR_S = 3600

StartHost = Callable[[Listener], AbstractAsyncContextManager[Engine]]
"""Starts an engine host; leaving the context ends it."""


class LinkOwner(Protocol):
    """A session, as the hub sees it."""

    def hear(self, report: AnyReport) -> None: ...
    def lose_host(self) -> None: ...


class EngineHub:
    """The links of all sessions of this process."""

    def __init__(
        self, start_host: StartHost, *, clock: Clock, backoff: Backoff, may_speak: Callable[[], bool] = lambda: True
    ) -> None:
        """`may_speak`: does this process own its sessions this moment? While not, links are cut and nothing else."""
        self._may_speak = may_speak
        self._start_host = start_host
        self._clock = clock
        self._backoff = backoff
        self._engine: Engine | None = None
        self._lost = asyncio.Event()
        self._owners: dict[LinkId, LinkOwner] = {}
        self._waiting: dict[LinkId, OpenLink] = {}
        """Links that the next host is to open."""
        self._links = 0
        self.starts = 0
        """Hosts started so far."""
        self._lost_at: deque[float] = deque()
        self._away_since: float | None = clock.monotonic()

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Keep a host running until cancelled. `ready` is called when the first one is up.

        Raises what the first start raises: a Holdfast that can't run its engine says so at once.
        """
        failures = 0
        while True:
            try:
                failures = await self._run_host(ready, failures)
            except HoldfastError as error:
                if not self.starts:
                    raise
                failures += 1
                log.error("Engine host can't be started: %s", error)  # noqa: TRY400 – a sentence, not a trace
            if failures:  # a host that ended after a good while is replaced at once
                await self._clock.sleep(self._backoff.delay_s(failures - 1, jitter=0))

    async def _run_host(self, ready: Callable[[], None], failures: int) -> int:
        self._lost.clear()
        async with self._start_host(self) as engine:
            self._engine = engine
            self._away_since = None
            self._open_waiting(engine)
            self.starts += 1
            ready()
            began_at = self._clock.monotonic()
            try:
                await self._lost.wait()
            finally:
                self._engine = None
        lived_s = self._clock.monotonic() - began_at
        return 0 if lived_s > self._backoff.cap_ms / 1000 else failures + 1

    @property
    def host_silent_s(self) -> float | None:
        """Seconds since the host's last sign of life; None while there is no host."""
        return None if self._engine is None else self._engine.silent_s

    @property
    def host(self) -> HostFacts | None:
        return None if self._engine is None else self._engine.facts

    @property
    def host_away_s(self) -> float | None:
        """How long there has been no host; None while there is one."""
        return None if self._away_since is None else self._clock.monotonic() - self._away_since

    @property
    def hosts_lost_lately(self) -> int:
        """Within the last hour."""
        hour_ago = self._clock.monotonic() - _HOUR_S
        while self._lost_at and self._lost_at[0] < hour_ago:
            self._lost_at.popleft()
        return len(self._lost_at)

    def replace_host(self, because: str) -> None:
        """End the host, if there is one; the next is started as after any loss."""
        if self._engine is not None:
            self._engine.condemn(because)

    def _open_waiting(self, engine: Engine) -> None:
        waiting, self._waiting = self._waiting, {}
        for order in waiting.values():
            if self._may_speak():
                engine.command(order)

    def new_link(self, owner: LinkOwner) -> LinkId:
        """A number for a link that is about to be opened."""
        self._links += 1
        self._owners[self._links] = owner
        return self._links

    def command(self, command: AnyCommand) -> None:
        """Pass a command on, unless its link is over."""
        if command.link not in self._owners or not (self._may_speak() or isinstance(command, CutLink)):
            return
        if self._engine is None:
            self._note(command)
            return
        self._engine.command(command)
        if isinstance(command, CutLink):
            del self._owners[command.link]

    def _note(self, command: AnyCommand) -> None:
        """Without a host: only what opens a link can wait, and what ends one is done at once."""
        match command:
            case OpenLink():
                self._waiting[command.link] = command
            case CutLink() | LogOut():
                self._waiting.pop(command.link, None)
                del self._owners[command.link]

    def report(self, report: AnyReport) -> None:
        owner = self._owners.get(report.link)
        if owner is None:
            return
        if isinstance(report, LinkClosed):
            del self._owners[report.link]
        owner.hear(report)

    def host_lost(self, *, detail: str) -> None:
        log.error("Engine host lost: %s; %d links were on it", detail, len(self._owners))
        self._engine = None
        self._away_since = self._clock.monotonic()
        self._lost_at.append(self._away_since)
        owners = list(self._owners.values())
        self._owners.clear()
        self._lost.set()
        for owner in owners:
            owner.lose_host()
