"""Prepared statements of hot paths: on each database the same results as with SQLAlchemy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from holdfast.store.connection import Prepared
from holdfast.store.database import Database
from holdfast.store.tables import decrypted, events, sessions
from tests.contract.rows import COMPANY, OTHER, Store

ADD = Prepared(lambda insert: insert(decrypted).on_conflict_do_nothing())
STRICT = Prepared(lambda insert: insert(decrypted).returning(decrypted.c.plaintext))
COUNT = Prepared(
    lambda _: (
        update(sessions)
        .where(sessions.c.company_id == bindparam("company"), sessions.c.attempts < 7)
        .values(attempts=sessions.c.attempts + 5)
        .returning(sessions.c.company_id, sessions.c.attempts)
    )
)
ADD_EVENT = Prepared(lambda insert: insert(events))
FIND = Prepared(lambda _: select(decrypted.c.plaintext).where(decrypted.c.company_id == bindparam("company")))


def _row(company: str, *, text: bytes = b"\0 secret words", stored_at: str | None = "2026") -> dict[str, Any]:
    return {"company_id": company, "ciphertext_sha256": "ab", "plaintext": text, "stored_at": stored_at}


def _event(id_: str) -> dict[str, Any]:
    return {"id": id_, "company_id": COMPANY, "type": "t", "chat": "", "at": "2026", "body": "{}"}


async def test_bytes_are_returned_unchanged(store: Store) -> None:
    """Each call has its own values, and a conflict raises nothing where the statement ignores it."""

    def work(connection: Connection) -> list[Any]:
        for company in (COMPANY, OTHER, OTHER):
            assert not ADD.rows(connection, _row(company, text=company.encode()))
        return [FIND.scalar(connection, {"company": company}) for company in (COMPANY, OTHER, "nobody")]

    assert await store.database.write(work) == [COMPANY.encode(), OTHER.encode(), None]


async def test_an_inserted_row_has_the_number_that_is_returned(store: Store) -> None:
    """Also when another row was refused before."""
    await store.database.write(lambda connection: ADD.rows(connection, _row(COMPANY)))

    def work(connection: Connection) -> list[int]:
        assert not ADD.rows(connection, _row(COMPANY))
        return [ADD_EVENT.seq(connection, _event(f"evt_{n}")) for n in range(3)]

    numbers = await store.database.write(work)
    stored = select(events.c.seq, events.c.id).order_by(events.c.seq)
    rows = await store.database.read(lambda connection: connection.execute(stored).all())
    assert [tuple(row) for row in rows] == [(number, f"evt_{n}") for n, number in enumerate(numbers)]


async def test_constants_in_the_statement_are_combined_with_passed_values(store: Store) -> None:
    def work(connection: Connection) -> list[tuple[Any, ...]]:
        return [tuple(row) for _ in range(3) for row in COUNT.rows(connection, {"company": COMPANY})]

    assert await store.database.write(work) == [(COMPANY, 5), (COMPANY, 10)]


async def test_a_refused_row_is_sqlalchemys_error_without_the_values(store: Store) -> None:
    """Errors go to the log, and the rows are keys and messages. Other writes of the group are committed."""
    kept = store.database.write(lambda connection: ADD.rows(connection, _row(OTHER)))
    with pytest.raises(IntegrityError) as refused:
        await store.database.write(lambda connection: STRICT.rows(connection, _row(COMPANY, stored_at=None)))
    await kept
    assert "secret" not in str(refused.value)
    assert await store.database.read(lambda connection: FIND.scalar(connection, {"company": OTHER})) is not None


async def test_a_failed_write_is_rolled_back(place: Path | URL) -> None:
    """Prepared statements run in the transaction of the write, not beside it."""
    database = Database(place)

    def work(connection: Connection) -> None:
        ADD.rows(connection, _row(COMPANY))
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(work)
    assert await database.read(lambda connection: FIND.scalar(connection, {"company": COMPANY})) is None
    database.close()
