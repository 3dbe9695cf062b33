"""Opens databases of other programs so that nothing in them can change.

PostgreSQL is read in one read-only transaction. An SQLite file is opened as immutable, without a lock and without files
beside it. If it has a write-ahead log or a journal, the files are copied to a private temporary folder and the copy is
read, because SQLite would otherwise write to the source's folder to merge them.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from holdfast.importing.device import ImportRefused
from holdfast.importing.folders import recent

_MAX_COPIED = 8 * 1024**3
_LONGEST_VALUE = 64 * 1024 * 1024
_BESIDE = ("-wal", "-journal")
_HEADER = b"SQLite format 3\0"
_PASSED_ON = {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "passfile", "target_session_attrs"}
"""URL parameters that are passed to the driver. Others are meant for the program that the URL comes from."""
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")
_TIMEOUT_MS = 60_000
_COLUMNS = {
    "postgresql": "SELECT c.column_name FROM information_schema.columns c JOIN information_schema.tables t "
    "USING (table_schema, table_name) WHERE c.table_schema = current_schema() AND c.table_name = :table "
    "AND t.table_type = 'BASE TABLE'",
    "sqlite": "SELECT c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c "
    "WHERE m.type = 'table' AND m.name = :table",
}


class ForeignDatabase:
    """A consistent view of a database. Every failure raises `ImportRefused`."""

    def __init__(self, connection: Connection, *, shown: str, secret: str | None, file: Path | None = None) -> None:
        """`secret`: the password, which is removed from errors. `file`: the path of an SQLite database."""
        self._connection = connection
        self._secret = secret
        self._file = file
        self.shown = shown
        self._columns: dict[str, frozenset[str]] = {}

    def use_schema_of(self, table: str) -> None:
        """Switch to the schema that contains `table`, unless the current schema does."""
        if self._connection.dialect.name != "postgresql" or self.has(table):
            return
        holding = "SELECT table_schema FROM information_schema.tables WHERE table_name = :table ORDER BY 1 LIMIT 2"
        found = [str(row[0]) for row in self.rows(holding, table=table)]
        if len(found) == 1 and _SCHEMA.fullmatch(found[0]):
            self._connection.exec_driver_sql(f'SET LOCAL search_path TO "{found[0]}"')
            self._columns.clear()

    def has(self, table: str) -> bool:
        return bool(self.columns(table))

    def columns(self, table: str) -> frozenset[str]:
        """The column names of a table. Empty for a missing table, and for a view."""
        if table not in self._columns:
            found = self.rows(_COLUMNS[self._connection.dialect.name], table=table)
            self._columns[table] = frozenset(str(row[0]) for row in found)
        return self._columns[table]

    def rows(self, statement: str, **values: object) -> Sequence[Sequence[Any]]:
        with self._sentences():
            return self._connection.execute(text(statement), values).all()

    def signs_of_use(self, *, now: datetime) -> list[str]:
        """Signs that a program uses the database: clients of PostgreSQL; locks and a recent write of SQLite."""
        if self._file is None:
            return [f"{each} is connected to {self.shown}" for each in self._other_clients()]
        signs = [f'process {pid} has "{self._file}" open' for pid in _locking_processes(self._file)]
        return [*signs, *recent(_changed_at(self._file), now=now, what=f'"{self._file}"')]

    def _other_clients(self) -> list[str]:
        """Other clients that are connected to this PostgreSQL database, as far as the user may see them."""
        found = self.rows(
            "SELECT coalesce(nullif(application_name, ''), 'without a name'), coalesce(host(client_addr), 'local') "
            "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend' ORDER BY 1, 2 LIMIT 20"
        )
        return [f"{str(name)[:60]} from {address}" for name, address in found]

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise _unreadable(self.shown, error, secret=self._secret) from None  # its text may hold values


@contextlib.contextmanager
def open_postgres(address: str, *, database: str | None = None) -> Iterator[ForeignDatabase]:
    """Open the database at `address`, which is written as in the program's own configuration.

    `database` names another database on the same server. Raises `ImportRefused`.
    """
    url, schema = _url_of(address)
    url = url if database is None else url.set(database=database)
    shown = f"PostgreSQL database {url.host or 'localhost'}{f':{url.port}' if url.port else ''}/{url.database}"
    try:
        engine = create_engine(
            url, connect_args={"application_name": "holdfast import", "connect_timeout": 10}, hide_parameters=True
        )
    except ModuleNotFoundError as error:
        raise ImportRefused(
            "reading PostgreSQL needs a driver that is not installed: pip install 'holdfast[postgres]'"
        ) from error
    reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with contextlib.closing(_DisposeOnClose(engine)), _connected(reading, shown, secret=url.password) as connection:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {_TIMEOUT_MS}")
        if schema is not None:
            connection.exec_driver_sql(f'SET LOCAL search_path TO "{schema}"')
        yield ForeignDatabase(connection, shown=shown, secret=url.password)


def _url_of(address: str) -> tuple[URL, str | None]:
    malformed = ImportRefused(
        "the address can't be parsed: write postgresql://user:password@host:5432/database; in user and password write "
        "%40 for @, %3A for : and %2F for /"
    )
    try:
        url = make_url(address)
        schema = url.query.get("schema")
    except (ArgumentError, ValueError):
        raise malformed from None  # its text may hold the password
    if url.get_backend_name() not in {"postgresql", "postgres"} or not url.database or "@" in (url.host or ""):
        raise malformed
    if schema is not None and not (isinstance(schema, str) and _SCHEMA.fullmatch(schema)):
        raise ImportRefused("the schema in the address is not valid: 1 to 63 letters, digits, _ and $ are allowed")
    kept = {name: value for name, value in url.query.items() if name in _PASSED_ON}
    return url.set(drivername="postgresql+psycopg", query=kept), schema


class _DisposeOnClose:
    def __init__(self, engine: Engine) -> None:
        self.close = engine.dispose


@contextlib.contextmanager
def _connected(engine: Engine, shown: str, *, secret: str | None) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _unreadable(shown, error, secret=secret) from None  # its text may hold the password
    with connection:
        yield connection


def _unreadable(shown: str, error: Exception, *, secret: str | None) -> ImportRefused:
    cause = " ".join(str(getattr(error, "orig", None) or error).split("\nDETAIL:")[0].split("\nLINE ")[0].split())
    if secret:
        cause = cause.replace(str(secret), "…")
    return ImportRefused(
        f"{shown} can't be read ({cause[:300]}): check that the address is right, and that the database runs and is "
        "not damaged"
    )


# SQLite.


@contextlib.contextmanager
def open_sqlite(path: Path) -> Iterator[ForeignDatabase]:
    shown = f'SQLite file "{path}"'
    before = _stamps(path)
    with _whole(path, shown) as (file, mode):
        engine = create_engine("sqlite://", creator=lambda: _opened(file, mode), poolclass=StaticPool)
        with contextlib.closing(_DisposeOnClose(engine)), _connected(engine, shown, secret=None) as connection:
            yield ForeignDatabase(connection, shown=shown, secret=None, file=path)
    if _stamps(path) != before:
        raise ImportRefused(f"{shown} changed while it was read: stop the program that uses it")


def is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_HEADER)) == _HEADER
    except OSError:
        return False


def _opened(file: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(file))}?{mode}", uri=True)
    connection.text_factory = lambda content: content.decode(errors="replace")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA query_only = ON")
    return connection


@contextlib.contextmanager
def _whole(path: Path, shown: str) -> Iterator[tuple[Path, str]]:
    """The file to open and the URI parameters: the file itself, or a copy with its log."""
    files = [path, *(each for each in _beside(path) if _size(each))]
    if len(files) == 1:
        yield path, "mode=ro&immutable=1"
        return
    size = sum(map(_size, files))
    with tempfile.TemporaryDirectory(prefix="holdfast-import-") as folder:
        if size > _MAX_COPIED or size > shutil.disk_usage(folder).free:
            raise ImportRefused(
                f"{shown} has a log of {_size(files[1])} bytes beside it and must be copied ({size} bytes), but "
                f"{folder} has too little space: stop the program cleanly, so that it merges the log"
            )
        try:
            for each in files:
                shutil.copyfile(each, Path(folder, each.name))
        except OSError as error:
            raise ImportRefused(f"{shown} can't be copied: {error.strerror}") from error
        yield Path(folder, path.name), "mode=rw"


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in _BESIDE]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _stamps(path: Path) -> list[tuple[float, int] | None]:
    """Modification time and size of the file and of each log beside it; None for a missing file."""
    stamps = list[tuple[float, int] | None]()
    for each in (path, *_beside(path)):
        try:
            found = each.stat()
            stamps.append((found.st_mtime, found.st_size))
        except FileNotFoundError:
            stamps.append(None)
        except OSError as error:
            raise ImportRefused(f'"{each}" can\'t be read: {error.strerror}') from error
    return stamps


def _changed_at(path: Path) -> float:
    """The time of the last write to an SQLite database, in seconds since 1970."""
    return max(stamp[0] for stamp in _stamps(path) if stamp is not None)


def _locking_processes(path: Path) -> list[int]:
    """The processes that hold a lock on an SQLite file or its log. Empty on systems without /proc/locks."""
    inodes = set[str]()
    for each in (path, path.with_name(path.name + "-shm"), *_beside(path)):
        with contextlib.suppress(OSError):
            inodes.add(str(each.stat().st_ino))
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    found = re.compile(r"^\d+: (?:-> )?\w+ +\w+ +\w+ (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ")
    matches = (found.match(line) for line in lines)
    return sorted({int(match[1]) for match in matches if match is not None and match[2] in inodes})
