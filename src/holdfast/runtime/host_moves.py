"""Moves sessions off engine hosts that are to end: a host that has grown too large, or one whose slot is closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from holdfast.base.clock import Clock
from holdfast.runtime.engine_slot import RunningHost

log = logging.getLogger(__name__)

_MEMORY_CHECK_S = 10
_YOUNGEST_RECYCLED_S = 600
"""A host that exceeds its memory limit within this time does not leak: the next one would need as much."""
_MOVE_INTERVAL_S = 1
"""Seconds between the moves of two sessions to another host."""
_MOVE_AGAIN_S = 60
"""Seconds until a session that had no reconnections to spare is tried again."""


class HostMoves:
    def __init__(self, *, clock: Clock, run_task: Callable[[Coroutine[Any, Any, None], str], None]) -> None:
        """`run_task` runs a coroutine as a task of this name."""
        self._clock = clock
        self._run_task = run_task
        self.retiring: list[RunningHost] = []
        """Hosts that were replaced, and live until their last session has moved."""

    async def watch_memory(self, hosts: Callable[[], Collection[RunningHost]], *, max_bytes: int) -> None:
        """Replace hosts with more resident memory than `max_bytes`, until cancelled."""
        while True:
            await self._clock.sleep(_MEMORY_CHECK_S)
            for host in hosts():
                if self._is_too_large(host, max_bytes):
                    log.warning(
                        "Engine host %d exceeds its memory limit: its sessions move to another one", host.slot.number
                    )
                    self.retire(host)

    def retire(self, host: RunningHost) -> None:
        """Replace a host gracefully: the next one is started, and the sessions move one by one."""
        host.slot.retire(host)
        self.retiring.append(host)
        self._run_task(self._move_all(host), f"move from engine host {host.slot.number}")

    def lost(self, host: RunningHost) -> None:
        """The host has ended before all of its sessions had moved."""
        if host in self.retiring:
            self.retiring.remove(host)

    def _is_too_large(self, host: RunningHost, max_bytes: int) -> bool:
        rss = None if host.engine is None else host.engine.facts.rss_bytes
        is_old = self._clock.monotonic() - host.started_at > _YOUNGEST_RECYCLED_S
        return is_old and rss is not None and rss > max_bytes

    async def _move_all(self, host: RunningHost) -> None:
        """The reconnection budget of each session decides when it moves."""
        if not host.slot.closed:
            await host.slot.has_host.wait()
        while host.links and not host.over.is_set():
            moved = 0
            for number, link in list(host.links.items()):
                if number in host.links and link.owner.change_host():
                    moved += 1
                    await self._clock.sleep(_MOVE_INTERVAL_S)
            await self._clock.sleep(_MOVE_INTERVAL_S if moved else _MOVE_AGAIN_S)
        host.over.set()
        self.lost(host)
