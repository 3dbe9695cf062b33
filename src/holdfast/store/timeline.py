"""The history of sessions as rows."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, delete, insert, select

from holdfast.delivery.events import SESSION
from holdfast.session.reasons import stored_reason
from holdfast.session.state import State
from holdfast.session.stores import Turn
from holdfast.store.database import Database
from holdfast.store.events import record
from holdfast.store.leases import NO_FENCE, Fence
from holdfast.store.notes import note, noted
from holdfast.store.tables import turns

_ALIVE = "alive-at"


class TimelineRows:
    """Keeps `holdfast.session.stores.Timeline`."""

    def __init__(self, database: Database, *, fence: Fence = NO_FENCE) -> None:
        self._database = database
        self._fence = fence

    async def add(self, turn: Turn) -> None:
        values = asdict(turn)
        values["company_id"] = values.pop("company")
        check = self._fence.check(turn.company)

        def work(connection: Connection) -> None:
            check(connection)
            connection.execute(insert(turns).values(values))
            if turn.after is not turn.before:
                record(connection, turn.company, SESSION, _body(turn), chat=None, at=turn.at)

        await self._database.write(work)

    async def last(self, company: str, *, since: str, most: int) -> list[Turn]:
        mine = select(turns).where(turns.c.company_id == company).order_by(turns.c.seq.desc())
        newest = mine.where(turns.c.at >= since).limit(most)
        before = mine.where(turns.c.at < since).limit(1)

        def work(connection: Connection) -> list[Turn]:
            rows = [*connection.execute(newest).mappings(), *connection.execute(before).mappings()]
            return [_turn(row) for row in reversed(rows)]

        return await self._database.read(work)

    async def seen_alive(self, at: str) -> str | None:
        def work(connection: Connection) -> str | None:
            earlier = noted(connection, _ALIVE)
            note(connection, _ALIVE, at)
            return earlier

        return await self._database.write(work)

    async def forget(self, *, before: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute(delete(turns).where(turns.c.at < before))

        await self._database.write(work)


def _turn(row: RowMapping) -> Turn:
    values = {name: value for name, value in row.items() if name not in {"seq", "company_id", "before", "after"}}
    return Turn(company=row["company_id"], before=State(row["before"]), after=State(row["after"]), **values)


def _body(turn: Turn) -> dict[str, object]:
    """A session that came from one state to another, as events tell of it."""
    reason = None if turn.reason is None else stored_reason(turn.reason, turn.code)
    told = {} if reason is None else {"message": reason.sentence, "action": reason.action.value}
    return {
        "companyId": turn.company,
        "state": turn.after.value,
        "before": turn.before.value,
        "since": turn.at,
        "reconnectAttempts": turn.attempts,
        "nextAttemptAt": turn.next_attempt_at,
        "reason": None if reason is None else {"code": reason.name, "number": reason.code, **told},
    }
