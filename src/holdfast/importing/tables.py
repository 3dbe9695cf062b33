"""Tables in which programs keep a device, with one row for the credentials and one for each Signal key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from holdfast.importing.databases import ForeignDatabase
from holdfast.importing.device import MAX_SESSIONS, ImportedDevice, StoredSession, check_size, checked_device

_CREDENTIALS = {"creds", "creds-creds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The table and columns of a program."""

    table: str
    session: str | None
    """The column with the session's name; None: the database holds only one session."""
    name: tuple[str, ...]
    """The columns that, joined by a hyphen, give `creds` or the type and the id of a key."""
    value: str
    is_entity: bool = False
    """Whether a value is a JSON object with the entry's name as `id` and its content as `data`."""

    @property
    def columns(self) -> set[str]:
        return {self.value, *self.name} | ({self.session} if self.session is not None else set())

    def is_in(self, database: ForeignDatabase) -> bool:
        return self.columns <= database.columns(self.table)


def session_ids(database: ForeignDatabase, layout: Layout) -> Sequence[str]:
    assert layout.session is not None
    found = database.rows(
        f'SELECT DISTINCT "{layout.session}" FROM "{layout.table}" ORDER BY 1 LIMIT :limit',  # noqa: S608
        limit=MAX_SESSIONS,
    )
    return [str(row[0]) for row in found]


def read_table(
    database: ForeignDatabase, layout: Layout, session: StoredSession, *, skip_damaged: bool
) -> ImportedDevice:
    """Read the device of one session. Raises `ImportRefused`."""
    mine = "" if layout.session is None else f' WHERE "{layout.session}" = :session'
    values: dict[str, object] = {} if layout.session is None else {"session": session.id}
    value = f'CAST("{layout.value}" AS TEXT)'
    table = f'"{layout.table}"{mine}'
    sizes = f"SELECT count(*), coalesce(sum(length({value})), 0), coalesce(max(length({value})), 0) FROM {table}"  # noqa: S608
    ((count, size, largest),) = database.rows(sizes, **values)
    check_size(int(count), int(size), int(largest), session=session, shown=database.shown)
    names = ", ".join(f'"{column}"' for column in layout.name)
    found = database.rows(f"SELECT {value}, {names} FROM {table}", **values)  # noqa: S608
    entries = {name: _data(name, value) if layout.is_entity else value for name, value in _entries(found)}
    credentials = next((entries.pop(name) for name in _CREDENTIALS if name in entries), None)
    return checked_device(
        credentials, entries.items(), session=session, shown=database.shown, skip_damaged=skip_damaged
    )


def _data(name: str, value: bytes) -> bytes:
    try:
        match json.loads(value):
            case {"id": id_, "data": data} if id_ == name:
                return json.dumps(data).encode()
    except (ValueError, RecursionError):
        return value  # the checks that follow say what is wrong with it
    return value


def _entries(rows: Sequence[Sequence[object]]) -> Iterator[tuple[str, bytes]]:
    for value, *name in rows:
        yield "-".join(map(str, name)), str(value or "").encode(errors="replace")
