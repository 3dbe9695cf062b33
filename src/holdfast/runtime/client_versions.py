"""Which client version this process logs in with: read from WhatsApp, kept in the store, refreshed when refused.

It must never keep sessions from connecting: where nothing can be read, the last version that worked is used, or none,
which leaves the choice to the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from holdfast.base.clock import Clock, iso
from holdfast.session.client_version import ClientVersion, is_newer, revision_in

log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_RETRY_S = 5.0
"""Between two looks for a newer version while WhatsApp refuses this one …"""
_SLOW_RETRY_S = 60.0
"""… and after some time without one."""
_QUICK_RETRIES = 180


class VersionStore(Protocol):
    """The last version that was read or worked, shared by all processes on a database."""

    async def load(self) -> ClientVersion | None: ...

    async def save(self, version: ClientVersion) -> None: ...


class ClientVersions:
    def __init__(
        self,
        *,
        pinned: int | None,
        read: Callable[[], Awaitable[str]],
        store: VersionStore,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        """`pinned`: the operator's own choice, never changed. `read` gives the script; what it raises is logged."""
        self._read = read
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._is_pinned = pinned is not None
        self._wake = asyncio.Event()
        self._retries: int | None = None
        """Looks for a newer version since WhatsApp refused this one; None while it does not."""
        self._has_newer = False
        self.tried: set[str] = set()
        """Versions that WhatsApp refused since the last that it took."""
        self.newer: Callable[[], None] = lambda: None
        """Called when there is another version to try than the one that was refused."""
        self.current: ClientVersion | None = None
        if pinned is not None:
            self.current = ClientVersion(revision=pinned, origin="setting", read_at=iso(clock.now()))

    async def prepare(self) -> None:
        """Before the first session connects; takes as long as one look may."""
        if not self._is_pinned:
            stored = await self._store.load()
            if stored is not None and is_newer(stored.revision, None):
                self.current = stored
            await self._refresh()

    async def run(self) -> None:
        """Look again daily, and at once when refused, until cancelled."""
        next_daily = self._next_daily()
        while True:
            async with self._clock.until(self._next_look(next_daily)):
                await self._wake.wait()
            self._wake.clear()
            if self._is_pinned or (self._retries is None and self._clock.monotonic() < next_daily):
                continue
            if self._retries is not None:
                self._retries += 1
            await self._refresh()
            next_daily = self._next_daily()
            if self._has_newer:
                self._has_newer = False
                self.newer()

    def refused(self, version: ClientVersion | None) -> None:
        """WhatsApp answered a login with 405."""
        self.tried.add("the engine's own" if version is None else version.text)
        if version != self.current:
            self._has_newer = True
        if self._retries is None:
            self._retries = 0
            if self._is_pinned:
                log.error(
                    "Connection to WhatsApp: it refuses the pinned version (405): set HOLDFAST_WHATSAPP_VERSION=auto"
                )
            self._wake.set()

    def worked(self, version: ClientVersion | None) -> None:
        """WhatsApp took a login."""
        if version == self.current and self._retries is not None:
            self._retries = None
            self.tried.clear()
            self._wake.set()

    def _next_look(self, daily: float) -> float:
        if self._retries is None or self._is_pinned:
            return daily
        return self._clock.monotonic() + (_RETRY_S if self._retries < _QUICK_RETRIES else _SLOW_RETRY_S)

    def _next_daily(self) -> float:
        return self._clock.monotonic() + _DAY_S * (0.9 + 0.2 * self._jitter())

    async def _refresh(self) -> None:
        """Adopt what another process or WhatsApp knows, if it is newer."""
        stored = await self._store.load()
        if stored is not None and is_newer(stored.revision, self.current):
            return self._adopt(stored)
        try:
            revision = revision_in(await self._read())
        except Exception as error:  # noqa: BLE001 – whatever a network or a hostile server does, sessions go on
            log.warning("Connection to WhatsApp: the current client version can't be read: %s", error)
            return None
        if revision is None:
            log.warning("Connection to WhatsApp: its script names no client version that can be used")
        elif is_newer(revision, self.current):
            found = ClientVersion(revision=revision, origin="whatsapp", read_at=iso(self._clock.now()))
            await self._store.save(found)
            self._adopt(found)
        elif self._retries == 1:
            tried = ", ".join(sorted(self.tried))
            log.error(
                "Connection to WhatsApp: it refuses client version %s (405) and publishes no newer one; "
                "it is looked for again and again; update Holdfast if that lasts",
                tried,
            )
        return None

    def _adopt(self, version: ClientVersion) -> None:
        log.info("Connection to WhatsApp: client version %s is used from now on (%s)", version.text, version.origin)
        self.current = version
        self._has_newer = self._retries is not None
