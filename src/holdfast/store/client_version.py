"""The client versions known to the processes on a database, and which process is reading WhatsApp's script."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import Connection

from holdfast.base.clock import Clock, iso
from holdfast.session.client_version import Claim, ClientVersion, KnownVersions
from holdfast.store.database import Database
from holdfast.store.shared_secrets import note, noted

_WORKED, _FOUND, _READ_AT = "client-version", "client-version-found", "client-version-read-at"
_READ_S = 30
"""A process that has not finished reading after this time is considered dead."""


class ClientVersionRows:
    """Implements `holdfast.session.client_version.VersionStore`."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def load(self) -> KnownVersions:
        def work(connection: Connection) -> KnownVersions:
            return KnownVersions(worked=_version(connection, _WORKED), found=_version(connection, _FOUND))

        return await self._database.read(work)

    async def store_working(self, version: ClientVersion) -> None:
        """Store a version that worked, unless another process stored a newer one."""

        def work(connection: Connection) -> None:
            known = _version(connection, _WORKED)
            if known is None or known.revision <= version.revision:
                note(connection, _WORKED, json.dumps(asdict(version)))

        await self._database.write(work)

    async def claim_read(self, *, within_s: float) -> Claim:
        now = self._clock.now()

        def work(connection: Connection) -> Claim:
            claimed_at, found = noted(connection, _READ_AT), _version(connection, _FOUND)
            is_done = found is not None and claimed_at is not None and found.read_at >= claimed_at
            if claimed_at and _since(claimed_at, now) < (within_s if is_done else min(within_s, _READ_S)):
                return Claim.DONE if is_done else Claim.OTHERS
            note(connection, _READ_AT, iso(now))
            return Claim.OWN

        return await self._database.write(work)

    async def end_read(self, found: ClientVersion | None) -> None:
        def work(connection: Connection) -> None:
            if found is None:
                note(connection, _READ_AT, "")
            else:
                note(connection, _FOUND, json.dumps(asdict(found)))

        await self._database.write(work)


def _since(earlier: str, now: datetime) -> float:
    """Seconds since `earlier`; infinite when the clock was set back."""
    seconds = (now - datetime.fromisoformat(earlier)).total_seconds()
    return seconds if seconds >= 0 else float("inf")


def _version(connection: Connection, name: str) -> ClientVersion | None:
    text = noted(connection, name)
    return None if text is None else replace(ClientVersion(**json.loads(text)), origin="stored")
