"""WAHA with its NOWEB engine, which stores each session in a folder or in a separate PostgreSQL database.

The folder is `.sessions/noweb/<session>`, the database `waha_noweb_<session>` with the table `auth`. Public forks keep
the same values in tables with other columns, also in SQLite, and these can be read too. WAHA's other engines don't use
Baileys: their sessions are refused, and the error names the engine.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from holdfast.importing.databases import ForeignDatabase, open_postgres, open_sqlite
from holdfast.importing.device import MAX_SESSIONS, ImportedDevice, ImportRefused, Source, StoredSession
from holdfast.importing.folders import FolderSource, looks_like_a_browser
from holdfast.importing.tables import Layout, read_table, session_ids

_LAYOUTS = (
    Layout(table="auth", session=None, name=("id",), value="data", is_entity=True),
    Layout(table="waha_auth", session="session_id", name=("key",), value="value"),
    Layout(table="noweb_auth_state", session="session", name=("category", "id"), value="data"),
)
_ENGINE, _OTHERS = "noweb", ("webjs", "gows", "wpp", "venom", "zapo")
_DATABASE = re.compile(r"waha_([a-z0-9-]+)_(.+)")
_OLD_FOLDER = re.compile(r"-[0-9a-f]{32}$")
"""Until 2024 a hash was appended to the name of a session's folder."""


@contextlib.contextmanager
def open_waha_folder(folder: Path) -> Iterator[Source]:
    inner = folder / _ENGINE if (folder / _ENGINE).is_dir() else folder
    source = FolderSource(folder=inner, name_of=lambda name: _OLD_FOLDER.sub("", name))
    if not source.sessions():
        others = [name for name in _OTHERS if (folder / name).is_dir() or folder.resolve().name == name]
        if others or looks_like_a_browser(inner):
            raise _other_engine(source.shown, others[0].upper() if others else "WEBJS")
    yield source


@contextlib.contextmanager
def open_waha_sqlite(path: Path) -> Iterator[Source]:
    with open_sqlite(path) as database:
        yield WahaDatabase(database=database, name=path.resolve().parent.name)


@contextlib.contextmanager
def open_waha_postgres(address: str) -> Iterator[Source]:
    with open_postgres(address) as database:
        if any(layout.is_in(database) for layout in _LAYOUTS):
            yield WahaDatabase(database=database, name=_session_of(_current(database)))
        else:
            yield WahaServer(database=database, address=address)


def _current(database: ForeignDatabase) -> str:
    return str(database.rows("SELECT current_database()")[0][0])


def _session_of(database: str) -> str:
    found = _DATABASE.fullmatch(database)
    return database if found is None else found[2]


def _other_engine(shown: str, engine: str) -> ImportRefused:
    if engine == "GOWS":
        return ImportRefused(
            f"{shown} is of WAHA's engine GOWS, which stores a device as whatsmeow does: give its database to "
            "`holdfast import whatsmeow`, which is an SQLite file in the session's folder, or waha_gows_<session>"
        )
    return ImportRefused(
        f"{shown} is of WAHA's engine {engine}: only its engine NOWEB keeps a device that can be imported. Link the "
        "phone again with `holdfast pair`"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WahaDatabase:
    """A database that contains the sessions' tables."""

    database: ForeignDatabase
    name: str
    """The name of the session, if the database holds only one."""

    @property
    def shown(self) -> str:
        return self.database.shown

    def sessions(self) -> Sequence[StoredSession]:
        layout = self._layout()
        if layout.session is None:
            return [StoredSession(name=self.name, id=self.name)]
        return [StoredSession(name=each, id=each) for each in session_ids(self.database, layout)]

    def _layout(self) -> Layout:
        found = next((layout for layout in _LAYOUTS if layout.is_in(self.database)), None)
        if found is not None:
            return found
        for table, engine in (("whatsmeow_device", "GOWS"), ("files", "WPP")):
            if self.database.has(table):
                raise _other_engine(self.shown, engine)
        raise ImportRefused(
            f"{self.shown} has no table of NOWEB's credentials: with local storage they are files in the folder "
            ".sessions/noweb/<session>, which you can give instead"
        )

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        return self.database.signs_of_use(now=now)

    def read(self, session: StoredSession, *, now: datetime, skip_damaged: bool) -> ImportedDevice:
        return read_table(self.database, self._layout(), session, skip_damaged=skip_damaged)


@dataclass(frozen=True, slots=True, kw_only=True)
class WahaServer:
    """A PostgreSQL server that has one database for each session."""

    database: ForeignDatabase
    address: str

    @property
    def shown(self) -> str:
        return self.database.shown

    def sessions(self) -> Sequence[StoredSession]:
        found = self.database.rows(
            "SELECT datname FROM pg_database WHERE datname LIKE 'waha\\_%' AND datallowconn ORDER BY 1 LIMIT :limit",
            limit=MAX_SESSIONS,
        )
        matches = (_DATABASE.fullmatch(str(row[0])) for row in found)
        return [
            StoredSession(name=match[2], id=match[0], about=f"engine {match[1]}")
            for match in matches
            if match is not None
        ]

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        found = self.database.rows(
            "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE 'WAHA%' LIMIT 5"
        )
        signs = [f"{str(name)[:60]} is connected to the server" for (name,) in found]
        with open_postgres(self.address, database=session.id) as database:
            return [*signs, *WahaDatabase(database=database, name=session.name).signs_of_use(session, now=now)]

    def read(self, session: StoredSession, *, now: datetime, skip_damaged: bool) -> ImportedDevice:
        with open_postgres(self.address, database=session.id) as database:
            inner = WahaDatabase(database=database, name=session.name)
            return inner.read(session, now=now, skip_damaged=skip_damaged)
