"""Counts over the outbox for health and diagnostics, on SQLite and PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, Connection, text

from holdfast.delivery.stores import Backlog
from holdfast.store.database import Database
from holdfast.store.figures import FigureRows
from tests import filling

SOME = filling.Filling(companies=3, total=2_000)
WAITING, QUIET = SOME.whose(500), filling.company(0)


def fill(connection: Connection) -> None:
    SOME.add_sessions(connection)
    SOME.add_messages(connection, range(1, 2_000))
    connection.execute(text("UPDATE outbox SET held_code = 'new-chats' WHERE seq = 501"))


async def test_a_backlog_has_the_oldest_open_message_and_the_oldest_that_is_late(place: Path | URL) -> None:
    """A message that is held waits, but is not late; other companies do not count in the backlog of one."""
    with closing(Database(place)) as database:
        await database.write(fill)
        figures = FigureRows(database)
        (of_all,) = (await figures.backlogs()).items()
        assert dict([of_all]) == await figures.backlogs(WAITING)
        assert await figures.backlogs(QUIET) == {}
    company, backlog = of_all
    assert company == WAITING
    assert backlog == Backlog(waiting=2, oldest_at=backlog.oldest_at, late_since=backlog.late_since)
    assert backlog.oldest_at is not None
    assert backlog.late_since is not None
    assert backlog.oldest_at < backlog.late_since
