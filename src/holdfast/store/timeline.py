"""The history of sessions as rows."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, select

from holdfast.delivery.events import SESSION
from holdfast.session.reasons import current_name, stored_reason
from holdfast.session.state import State
from holdfast.session.stores import Transition
from holdfast.store.connection import Prepared
from holdfast.store.database import Database
from holdfast.store.events import record
from holdfast.store.leases import NO_FENCE, Fence
from holdfast.store.shared_secrets import note, noted
from holdfast.store.tables import transitions

_ALIVE = "alive-at"
_ADD = Prepared(lambda insert: insert(transitions))


class TimelineRows:
    """Implements `holdfast.session.stores.Timeline`."""

    def __init__(self, database: Database, *, fence: Fence = NO_FENCE) -> None:
        self._database = database
        self._fence = fence

    async def add(self, transition: Transition) -> None:
        values = asdict(transition)
        values |= {
            "company_id": values.pop("company"),
            "before": transition.before.value,
            "after": transition.after.value,
        }
        check = self._fence.check(transition.company)

        def work(connection: Connection) -> None:
            check(connection)
            _ADD.rows(connection, values)
            if transition.is_event:
                record(connection, transition.company, SESSION, _body(transition), chat=None, at=transition.at)

        await self._database.write(work)

    async def last(self, company: str, *, since: str, limit: int) -> list[Transition]:
        mine = select(transitions).where(transitions.c.company_id == company).order_by(transitions.c.seq.desc())
        newest = mine.where(transitions.c.at >= since).limit(limit)
        before = mine.where(transitions.c.at < since).limit(1)

        def work(connection: Connection) -> list[Transition]:
            rows = [*connection.execute(newest).mappings(), *connection.execute(before).mappings()]
            return [_transition(row) for row in reversed(rows)]

        return await self._database.read(work)

    async def seen_alive(self, at: str) -> str | None:
        def work(connection: Connection) -> str | None:
            earlier = noted(connection, _ALIVE)
            note(connection, _ALIVE, at)
            return earlier

        return await self._database.write(work)


def _transition(row: RowMapping) -> Transition:
    values = {name: value for name, value in row.items() if name not in {"seq", "company_id"}}
    values |= {"before": State(row["before"]), "after": State(row["after"]), "reason": current_name(row["reason"])}
    return Transition(company=row["company_id"], **values)


def _body(transition: Transition) -> dict[str, object]:
    """Return the event body of a state transition."""
    reason = None if transition.reason is None else stored_reason(transition.reason, transition.code)
    explanation = {} if reason is None else {"message": reason.sentence, "action": reason.action.value}
    return {
        "companyId": transition.company,
        "state": transition.after.value,
        "before": transition.before.value,
        "since": transition.at,
        "reconnectAttempts": transition.attempts,
        "nextAttemptAt": transition.next_attempt_at,
        "reason": None if reason is None else {"code": reason.name, "number": reason.code, **explanation},
    }
