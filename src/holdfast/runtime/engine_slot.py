"""One numbered slot for an engine host: restarts a host that dies, and replaces one on request.

It must never decide about a session, nor where it runs: it reports a lost host to the supervisor, which decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.session.backoff import Backoff
from holdfast.session.engine import AnyReport, Engine, HostEnd, LinkId, Listener, OpenLink
from holdfast.session.placement import HostNumber

log = logging.getLogger(__name__)

StartHost = Callable[[Listener], AbstractAsyncContextManager[Engine]]
"""Starts an engine host; leaving the context ends it."""
OPEN_TIMEOUT_S = 3
"""In a slot that opens links one after another, a link waits at most this long for the one before it."""


class LinkOwner(Protocol):
    """A session, as the supervisor sees it."""

    def handle(self, report: AnyReport) -> None: ...

    def lose_host(self, end: HostEnd) -> None:
        """The engine host ended, and the link with it."""

    def quarantine(self, end: HostEnd) -> None:
        """Like `lose_host`, but the session must not open another link until somebody starts it, because every engine
        host that runs it ends."""

    def change_host(self) -> bool:
        """Open a new link, because the old host is about to end. False: not now, the reconnection budget is low."""


@dataclass(slots=True, kw_only=True, eq=False)
class HostedLink:
    """One link, from the moment it gets a number until it ends."""

    owner: LinkOwner
    company: str = ""
    host: RunningHost | None = None
    """None: it waits for a host."""
    sent_at: float | None = None
    """When the command to open it was passed to the host; None: not yet."""
    opened_at: float | None = None


class Supervisor(Protocol):
    """Receives what a host reports."""

    def handle(self, host: RunningHost, report: AnyReport) -> None: ...
    def lose(self, host: RunningHost, detail: str) -> None: ...


@dataclass(slots=True, kw_only=True, eq=False)
class RunningHost:
    """One host process from its start to its end. Receives the reports of its engine."""

    slot: Slot
    supervisor: Supervisor
    engine: Engine | None = None
    started_at: float = 0
    links: dict[LinkId, HostedLink] = field(default_factory=dict)
    queue: deque[OpenLink] = field(default_factory=deque)
    """Links that wait until those before them are open."""
    retiring: bool = False
    has_overstepped: bool = False
    """It reported on a link that it never had."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is gone or must end."""
    replaceable: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the slot may start the next host."""

    def report(self, report: AnyReport) -> None:
        self.supervisor.handle(self, report)

    def host_lost(self, *, detail: str) -> None:
        self.supervisor.lose(self, detail)


class Slot:
    """A slot for a host, and the links that wait for the host."""

    def __init__(self, number: HostNumber, supervisor: Supervisor, *, one_by_one: bool, clock: Clock) -> None:
        """`one_by_one`: open links one after another, so that the link that kills the host can be identified."""
        self.number = number
        self.one_by_one = one_by_one
        self.host: RunningHost | None = None
        self.waiting: dict[LinkId, OpenLink] = {}
        self.closed = False
        self.has_host = asyncio.Event()
        self._supervisor = supervisor
        self._clock = clock
        self.down_since: float | None = clock.monotonic()
        self.start_failure: str | None = None
        """Why the last host could not be started; None once one runs."""

    async def run(
        self, start_host: StartHost, *, backoff: Backoff, started: Callable[[RunningHost], None], may_fail: bool
    ) -> None:
        """Keep a host running until closed or cancelled; `started` is called for each.

        may_fail: another host has run before. Otherwise a start that fails raises, and Holdfast ends with its message.
        """
        failures = 0
        async with asyncio.TaskGroup() as tasks:
            while not self.closed:
                host = RunningHost(slot=self, supervisor=self._supervisor)
                tasks.create_task(
                    self._run_host(host, start_host, started, may_fail), name=f"engine host {self.number}"
                )
                began_at = self._clock.monotonic()
                await host.replaceable.wait()
                may_fail = True
                lived_s = self._clock.monotonic() - began_at
                failures = 0 if host.retiring or lived_s > backoff.cap_ms / 1000 else failures + 1
                if failures and not self.closed:  # a host that lived long is replaced without a pause
                    await self._clock.sleep(backoff.delay_s(failures - 1, jitter=0))

    async def _run_host(
        self, host: RunningHost, start_host: StartHost, started: Callable[[RunningHost], None], may_fail: bool
    ) -> None:
        try:
            async with start_host(host) as engine:
                if self.closed:
                    return  # since it was started, all sessions of the slot were placed elsewhere
                host.engine, host.started_at = engine, self._clock.monotonic()
                self.host, self.down_since, self.start_failure = host, None, None
                self.has_host.set()
                started(host)
                try:
                    await host.over.wait()
                finally:
                    self.detach(host)
        except HoldfastError as error:
            if not may_fail:
                raise
            self.start_failure = error.sentence
            log.error("Engine host %d can't be started: %s", self.number, error)  # noqa: TRY400 – a sentence, not a trace
        finally:
            host.replaceable.set()

    def detach(self, host: RunningHost) -> None:
        """No more links are placed on this host."""
        if self.host is host:
            self.host = None
            self.has_host.clear()
            self.down_since = self._clock.monotonic()

    def retire(self, host: RunningHost) -> None:
        """Start the next host beside this one, which keeps running for its existing links."""
        host.retiring = True
        self.detach(host)
        host.replaceable.set()

    def close(self) -> None:
        """No session runs here any more: end the host."""
        self.closed = True
        if self.host is not None:
            self.host.over.set()
