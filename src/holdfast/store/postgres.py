"""Opens PostgreSQL, which several Holdfast processes may share. It must never reveal the password.

The server ends a transaction that is idle for a few seconds: a process that was suspended within one would otherwise
keep its leases locked against the process that takes over. A connection that breaks silently is detected in about the
same time.

These session options are set with `SET` after connecting, and read back, because a pooler such as PgBouncer does not
pass on those of the start-up packet. A pooler must reserve a server connection for each client connection (session
mode): options, advisory locks and prepared statements would otherwise reach transactions of other clients.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from holdfast.base.errors import BadSetting, Misconfigured
from holdfast.store.connection import Opened
from holdfast.store.migrate import log_migration, migrate

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

SETTING = "HOLDFAST_DATABASE_URL"
_FORM = "postgresql://user:password@host:5432/database"
_OLDEST = 13
MIGRATING = 0x686F6C64
"""Number of the advisory lock with which processes that start together migrate one after the other."""
_LOCK_POLL_S = 0.2
_POLLS_PER_LOG_LINE = 50
_CONNECTION = {
    "application_name": "holdfast",
    "connect_timeout": 5,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 6000,
}
_POOLER_CURE = "set the pooler to session mode (PgBouncer: pool_mode = session), or connect to PostgreSQL directly"
_CURES = {
    "permission denied": "give its user permission to create tables there (GRANT CREATE, USAGE ON SCHEMA public)",
    "connection slots": "end other clients, or raise max_connections of the server",
    "too many clients": "end other clients, or raise max_connections of the server",
    "pooling mode": _POOLER_CURE,
}
"""Cures by words in the error of the server or pooler."""
_SESSION = {"idle_in_transaction_session_timeout": "4s", "synchronous_commit": "on"}
_BRIEF = {**_SESSION, "lock_timeout": "1s", "statement_timeout": "3s"}
"""For statements that must not wait: those of leases may take half of a lease's duration."""


def parse(text: str, *, name: str = SETTING) -> URL:
    """Parse an address for SQLAlchemy. Raises `BadSetting`, which shows nothing of a malformed one."""
    malformed = BadSetting(
        f"{name} can't be parsed: write {_FORM}, and in user and password %40 for @, %3A for :, %2F for /",
        field=name,
    )
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise malformed from None  # its text may hold the password
    if url.get_backend_name() not in {"postgresql", "postgres"} or not url.database or "@" in (url.host or ""):
        raise malformed
    return url.set(drivername="postgresql+psycopg")


def open_postgres(url: URL) -> Opened:
    """Connect and migrate. Raises `Misconfigured` with the cure."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            _refuse_old(connection, url)
            _refuse_transaction_pooling(engine, connection, url)
            _migrate(connection, url)
    except SQLAlchemyError as error:
        engine.dispose()
        raise unusable(url, error) from None  # its text may hold the password
    except BaseException:
        engine.dispose()
        raise
    return Opened(
        writing=engine,
        reading=_reading(engine),
        is_shared=True,
        close=engine.dispose,
        brief=lambda: _engine(url, session=_BRIEF),
        notifications=functools.partial(_notifications, url),
    )


async def _notifications(url: URL, channel: str) -> AsyncGenerator[str]:
    import psycopg
    from psycopg.conninfo import make_conninfo

    options = {name: str(value) for name, value in _CONNECTION.items() if name not in url.query}
    address = make_conninfo(url.set(drivername="postgresql").render_as_string(hide_password=False), **options)
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        await connection.execute(f"LISTEN {channel}".encode())
        async for notification in connection.notifies():
            yield notification.payload


def open_reading(url: URL) -> Engine:
    """Connect read-only, without migrating."""
    return _reading(_engine(url))


def _reading(engine: Engine) -> Engine:
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def shown(url: URL) -> str:
    """Return `user@host/database` for messages."""
    return f"{url.username or ''}@{url.host or 'localhost'}{f':{url.port}' if url.port else ''}/{url.database}"


def _engine(url: URL, *, session: Mapping[str, str] = _SESSION) -> Engine:
    given = {name: value for name, value in _CONNECTION.items() if name not in url.query}
    try:
        engine = create_engine(url, connect_args=given, pool_pre_ping=True, hide_parameters=True)
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"{SETTING} asks for PostgreSQL and its driver is not installed: pip install 'holdfast[postgres]'",
            field=SETTING,
        ) from error

    @event.listens_for(engine, "connect")
    def _set_up(connection: psycopg.Connection, record: object) -> None:
        """Raises `Misconfigured` when the options are not in force afterwards."""
        connection.autocommit = True
        for name, value in session.items():
            connection.execute(f"SET {name} = '{value}'".encode())
        shown = {name: _first(connection, f"SHOW {name}") for name in session}
        connection.autocommit = False
        if shown != session:
            raise Misconfigured(
                f"the database or the pooler before it ignores options of a session ({shown} instead of "
                f"{dict(session)}): set {SETTING} to PostgreSQL itself, or to a pooler in session mode",
                field=SETTING,
            )

    @event.listens_for(engine, "handle_error")
    def _strip_values(context: ExceptionContext) -> None:
        """PostgreSQL's details quote whole rows, which are keys and messages, and errors go to the log."""
        for error in (context.original_exception, context.sqlalchemy_exception):
            if error is not None:
                error.args = tuple(_without_detail(part) for part in error.args)

    return engine


def _first(connection: psycopg.Connection, statement: str) -> str:
    row = connection.execute(statement.encode()).fetchone()
    return "" if row is None else str(row[0])


def _without_detail(part: Any) -> Any:
    """`part`: an argument of an exception, of any type."""
    return part.split("\nDETAIL:")[0] if isinstance(part, str) else part


def _refuse_old(connection: Connection, url: URL) -> None:
    version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000
    connection.rollback()
    if version < _OLDEST:
        raise Misconfigured(
            f"the database {shown(url)} is PostgreSQL {version}: Holdfast needs {_OLDEST} or newer", field=SETTING
        )


def _refuse_transaction_pooling(engine: Engine, connection: Connection, url: URL) -> None:
    """Two open connections have two server processes, unless a pooler assigns them for each transaction."""
    pid = "SELECT pg_backend_pid()"
    first = connection.exec_driver_sql(pid).scalar_one()
    connection.commit()
    with engine.connect() as other:
        second = other.exec_driver_sql(pid).scalar_one()
        again = connection.exec_driver_sql(pid).scalar_one()
        connection.commit()
    if second == first or again != first:
        raise Misconfigured(
            f"the database {shown(url)} is behind a pooler that assigns a server connection for each "
            f"transaction: {_POOLER_CURE}",
            field=SETTING,
        )


def _migrate(connection: Connection, url: URL) -> None:
    _lock_migrations(connection)
    log_migration(connection, shown(url))
    migrate(connection, shown(url))
    connection.exec_driver_sql("SELECT pg_advisory_unlock(%s)", (MIGRATING,))
    connection.commit()


def _lock_migrations(connection: Connection) -> None:
    """Poll for the lock: a statement that waits for it would be a transaction for which the process that holds the lock
    waits in turn, when it creates an index concurrently.
    """
    looks = 0
    while not connection.exec_driver_sql("SELECT pg_try_advisory_lock(%s)", (MIGRATING,)).scalar_one():
        connection.commit()
        looks += 1
        if looks % _POLLS_PER_LOG_LINE == 0:
            waited_s = looks * _LOCK_POLL_S
            log.warning("Start: another process migrates or restores the database; waited for it %.0f s", waited_s)
        threading.Event().wait(_LOCK_POLL_S)
    connection.commit()


def unusable(url: URL, error: Exception) -> Misconfigured:
    """Convert a database error for people, without the password."""
    cause = " ".join(str(getattr(error, "orig", None) or error).split("\nLINE ")[0].split())
    if url.password:
        cause = cause.replace(str(url.password), "…")
    known = (cure for words, cure in _CURES.items() if words in cause)
    cure = next(known, "check that it runs and that user, password and database are right")
    return Misconfigured(
        f"the database {shown(url)} can't be used ({cause}): {cure}, or set {SETTING} to another", field=SETTING
    )
