"""PostgreSQL behind PgBouncer: session mode works as without it, the other modes are refused at the start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import pytest
from sqlalchemy import Connection

from holdfast.base.errors import Misconfigured
from holdfast.store.database import Database
from holdfast.store.postgres import SETTING, parse
from tests.pgbouncer_process import running_pgbouncer
from tests.postgres_process import PostgresProcess

pytestmark = pytest.mark.slow

OPTIONS = {"idle_in_transaction_session_timeout": "4s", "synchronous_commit": "on"}
BRIEF = {**OPTIONS, "lock_timeout": "1s", "statement_timeout": "3s"}


async def test_a_pooler_in_session_mode_changes_nothing(postgres: PostgresProcess) -> None:
    """The database is migrated, and each connection has the options that end the transactions of a frozen process."""
    with running_pgbouncer(parse(postgres.new_database()), mode="session") as url:
        database = Database(parse(url))
        brief = database.brief_writer()

        def shown(names: Collection[str]) -> Callable[[Connection], dict[str, str]]:
            return lambda connection: {
                name: str(connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in names
            }

        assert await database.write(shown(OPTIONS)) == OPTIONS
        assert await brief.write(shown(BRIEF)) == BRIEF
        numbers = [database.write(lambda connection: connection.exec_driver_sql("SELECT 1")) for _ in range(20)]
        await asyncio.gather(*numbers)
        assert await database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar_one()) == 1
        database.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_in_transaction_or_statement_mode_is_refused(postgres: PostgresProcess, mode: str) -> None:
    """The error says what to do, before anything is migrated: the options of a session would reach other
    transactions.
    """
    empty = postgres.new_database()
    with (
        running_pgbouncer(parse(empty), mode=mode) as url,
        pytest.raises(Misconfigured, match="session mode") as refused,
    ):
        Database(parse(url))
    assert refused.value.field == SETTING
    assert postgres.rows(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
