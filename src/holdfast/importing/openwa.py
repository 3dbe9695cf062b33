"""OpenWA with its Baileys engine, which stores each session in a folder or in a table (BAILEYS_AUTH_STORE).

The folder is `data/baileys/<session>`. The database is SQLite (`data/openwa.sqlite`) or PostgreSQL. Its table
`sessions` names the process that holds the lease on a session, and when the lease ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from holdfast.importing.databases import ForeignDatabase, open_postgres, open_sqlite
from holdfast.importing.device import ImportedDevice, ImportRefused, Source, StoredSession
from holdfast.importing.folders import recent
from holdfast.importing.tables import Layout, read_table, session_ids

_LAYOUT = Layout(table="baileys_auth_state", session="sessionName", name=("keyType", "keyId"), value="value")
_RUNNING = {"initializing", "authenticating", "qr_ready", "ready"}


@contextlib.contextmanager
def open_openwa_sqlite(path: Path) -> Iterator[Source]:
    with open_sqlite(path) as database:
        yield OpenWa(database=database)


@contextlib.contextmanager
def open_openwa_postgres(address: str) -> Iterator[Source]:
    with open_postgres(address) as database:
        database.use_schema_of(_LAYOUT.table)
        yield OpenWa(database=database)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWa:
    database: ForeignDatabase

    @property
    def shown(self) -> str:
        return self.database.shown

    def sessions(self) -> Sequence[StoredSession]:
        found = session_ids(self.database, _LAYOUT) if _LAYOUT.is_in(self.database) else []
        if not found:
            raise ImportRefused(
                f"{self.shown} has no credentials of Baileys: give the folder data/baileys unless OpenWA runs with "
                "BAILEYS_AUTH_STORE=database. Sessions of its engine whatsapp-web.js can't be imported: link them again"
            )
        return [StoredSession(name=each, id=each) for each in found]

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        of_its_tables = [*self._lease(session, now=now), *self._last_write(session, now=now)]
        return [*self.database.signs_of_use(now=now), *of_its_tables]

    def _lease(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        columns = self.database.columns("sessions")
        if {"name", "nodeId", "leaseExpiresAt"} <= columns:
            found = self.database.rows(
                'SELECT "nodeId", "leaseExpiresAt" FROM sessions WHERE name = :id', id=session.id
            )
            held = [node for node, until in found if node is not None and (moment(until) or now) > now]
            return [f'the process "{str(node)[:60]}" of OpenWA holds the lease on it' for node in held]
        if {"name", "status"} <= columns:
            found = self.database.rows("SELECT status FROM sessions WHERE name = :id", id=session.id)
            return [f"OpenWA's table sessions says {each}" for (each,) in found if each in _RUNNING]
        return []

    def _last_write(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        if "updatedAt" not in self.database.columns(_LAYOUT.table):
            return []
        found = self.database.rows(
            f'SELECT max("updatedAt") FROM "{_LAYOUT.table}" WHERE "sessionName" = :id',  # noqa: S608
            id=session.id,
        )
        newest = moment(found[0][0])
        return [] if newest is None else recent(newest.timestamp(), now=now, what="one of its keys")

    def read(self, session: StoredSession, *, now: datetime, skip_damaged: bool) -> ImportedDevice:
        return read_table(self.database, _LAYOUT, session, skip_damaged=skip_damaged)


def moment(value: object) -> datetime | None:
    """Parse a time from a database, which is a datetime or a text, in UTC unless it says otherwise."""
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC)
