"""Which client version this process logs in with: read from WhatsApp, stored when it worked, read again when refused.

It must never keep sessions from connecting: where nothing can be read, the last version that worked is used, or none,
which leaves the choice to the engine. Processes that share a database read for one another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from holdfast.base.clock import Clock, iso
from holdfast.session.client_version import (
    Claim,
    ClientVersion,
    KnownVersions,
    VersionStore,
    choose,
    revision_in,
    revision_of,
    text_of,
)

log = logging.getLogger(__name__)

_DAY_S = 86_400.0
_SHARED_S = _DAY_S / 2
"""A result of any process that is not older than this is reused unless the version was refused."""
_AFTER_FAILURE_S = 3600.0
_RETRY_S = 5.0
"""Seconds between two reads of the script while WhatsApp refuses this version."""
_SLOW_RETRY_S = 60.0
"""Seconds between two reads when there has been no newer version for some time."""
_QUICK_RETRIES = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedVersions:
    """WhatsApp accepts none of the known versions."""

    tried: tuple[str, ...]
    is_pinned: bool
    lasting_s: float


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
        self._pinned = pinned
        self._known = KnownVersions()
        self._refused: set[int] = set()
        """Versions that WhatsApp refused, and has not accepted since."""
        self._refused_since: float | None = None
        """Since when WhatsApp accepts no login; None while it does."""
        self._reads = 0
        """How often the published version was read since then."""
        self._to_keep: ClientVersion | None = None
        self._next_in_s = _DAY_S
        self._wake = asyncio.Event()
        self._has_other = False
        self.newer: Callable[[], None] = lambda: None
        """Called when there is another version to try than the one that was refused."""
        self.current: ClientVersion | None = None
        if pinned is not None:
            self.current = ClientVersion(revision=pinned, origin="setting", read_at=iso(clock.now()))

    @property
    def refusal(self) -> RefusedVersions | None:
        """While WhatsApp refuses the pinned version, or all known versions although its script was read since."""
        if self._refused_since is None or not (self._pinned or self._reads):
            return None
        if revision_of(self.current) not in self._refused:
            return None
        return RefusedVersions(
            tried=tuple(f"2.3000.{revision}" for revision in sorted(self._refused)),
            is_pinned=self._pinned is not None,
            lasting_s=self._clock.monotonic() - self._refused_since,
        )

    async def prepare(self) -> None:
        """Before the first session connects; takes as long as one read may."""
        if self._pinned is None:
            self._next_in_s = await self._try_to_refresh(within_s=_RETRY_S)

    async def run(self) -> None:
        """Refresh daily, and at once when refused, until cancelled."""
        next_refresh = self._clock.monotonic() + self._next_in_s
        while True:
            async with self._clock.until(next_refresh):
                await self._wake.wait()
            self._wake.clear()
            await self._try_to_store_worked()
            is_due = self._clock.monotonic() >= next_refresh
            is_new_refusal = self._refused_since is not None and not self._reads
            if self._pinned is None and (is_due or is_new_refusal):
                self._next_in_s = await self._try_to_refresh(
                    within_s=_SHARED_S if self._refused_since is None else _RETRY_S / 2
                )
            if is_due or is_new_refusal:
                next_refresh = self._clock.monotonic() + self._next_in_s
            if self._has_other:
                self._has_other = False
                self.newer()

    def refused(self, version: ClientVersion | None) -> None:
        """WhatsApp answered a login with 405."""
        self._refused.add(revision_of(version))
        if self._refused_since is None:
            self._refused_since, self._reads = self._clock.monotonic(), 0
            log.warning("Connection to WhatsApp: it refuses client version %s (405)", text_of(version))
        if revision_of(version) != revision_of(self.current):
            self._has_other = True
        self._choose()
        self._wake.set()

    def worked(self, version: ClientVersion | None) -> None:
        """WhatsApp accepted a login."""
        self._refused.discard(revision_of(version))
        if revision_of(version) == revision_of(self.current):
            self._refused_since = None
        if version is not None and (self._known.worked is None or version.revision > self._known.worked.revision):
            self._known = KnownVersions(worked=version, found=self._known.found)
            self._to_keep = version
            self._wake.set()

    async def _try_to_store_worked(self) -> None:
        """A version that can't be stored now is stored with the next refresh."""
        version = self._to_keep
        if version is None:
            return
        try:
            await self._store.store_working(version)
        except Exception as error:  # noqa: BLE001 – a database that fails must not end Holdfast
            log.warning("Client version %s worked, but could not be stored: %s", text_of(version), error)
            return
        if self._to_keep is version:
            self._to_keep = None

    async def _try_to_refresh(self, *, within_s: float) -> float:
        """As `_refresh`. While the database fails, the version in use stays."""
        try:
            return await self._refresh(within_s=within_s)
        except Exception as error:  # noqa: BLE001 – a database that fails must not end Holdfast
            log.warning("The client version can't be refreshed; next try in %.0f s: %s", _SLOW_RETRY_S, error)
            return _SLOW_RETRY_S

    async def _refresh(self, *, within_s: float) -> float:
        """Adopt the versions that other processes stored, and read WhatsApp's script unless one of them just did.
        Returns the seconds until the next refresh.
        """
        self._reads += 1
        claim = await self._store.claim_read(within_s=within_s)
        # After the claim: what another process has read by then is stored by then.
        self._merge(await self._store.load())
        if claim is Claim.OWN:
            found = await self._read_script()
            await self._store.end_read(found)
            self._merge(KnownVersions(found=found))
            self._log_refusal()
            if found is None:
                return self._pause_s(_AFTER_FAILURE_S)
        return self._pause_s(_RETRY_S if claim is Claim.OTHERS else _DAY_S)

    def _pause_s(self, unhurried_s: float) -> float:
        if self._refused_since is not None:
            return _RETRY_S if self._reads < _QUICK_RETRIES else _SLOW_RETRY_S
        return unhurried_s * (0.9 + 0.2 * self._jitter())

    def _log_refusal(self) -> None:
        if self._reads == 2 and self.refusal is not None:
            log.error(
                "Connection to WhatsApp: it refuses client versions %s (405) and publishes no newer one; Holdfast "
                "keeps reading the published version; update Holdfast if this persists",
                ", ".join(self.refusal.tried),
            )

    async def _read_script(self) -> ClientVersion | None:
        try:
            revision = revision_in(await self._read())
        except Exception as error:  # noqa: BLE001 – whatever a network or a hostile server does, sessions go on
            log.warning("Connection to WhatsApp: the current client version can't be read: %s", error)
            return None
        if revision is None:
            log.warning("Connection to WhatsApp: its script names no client version that can be used")
            return None
        return ClientVersion(revision=revision, origin="whatsapp", read_at=iso(self._clock.now()))

    def _merge(self, stored: KnownVersions) -> None:
        worked = max(filter(None, (stored.worked, self._known.worked)), key=revision_of, default=None)
        found, own = stored.found or self._known.found, self._known.found
        if found is not None and own is not None and (found.revision, found.read_at) == (own.revision, own.read_at):
            found = own  # not "stored": this process read it
        self._known = KnownVersions(worked=worked, found=found)
        self._choose()

    def _choose(self) -> None:
        if self._pinned is not None:
            return
        version = choose(self._known.found, self._known.worked, refused=self._refused)
        if revision_of(version) != revision_of(self.current):
            log.info("Connection to WhatsApp: client version %s is used from now on", text_of(version))
            self._has_other = self._has_other or self._refused_since is not None
        self.current = version
