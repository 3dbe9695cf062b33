"""What each company may write, as rows."""

from __future__ import annotations

import json

from sqlalchemy import Connection, select

from holdfast.delivery.ports import Account, Content
from holdfast.store.database import Database
from holdfast.store.opened import insert
from holdfast.store.tables import chats, limits


class AccountRows:
    """Keeps `holdfast.delivery.ports.Accounts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def account(self, company: str, *, since: str) -> Account:
        mine = select(*limits.c["pacing", "reach_out_until", "tight_until"]).where(limits.c.company_id == company)
        first = select(chats.c.first_sent_at).where(
            # Whoever wrote first is no stranger.
            chats.c.company_id == company,
            chats.c.first_sent_at >= since,
            chats.c.first_received_at.is_(None) | (chats.c.first_received_at > chats.c.first_sent_at),
        )

        def work(connection: Connection) -> Account:
            row = connection.execute(mine).first()
            contacts = list(connection.scalars(first.order_by(chats.c.first_sent_at)))
            if row is None:
                return Account(first_contacts=contacts)
            return Account(
                pacing=None if row.pacing is None else json.loads(row.pacing),
                reach_out_until=row.reach_out_until,
                tight_until=row.tight_until,
                first_contacts=contacts,
            )

        return await self._database.read(work)

    async def set_lock(self, company: str, *, until: str | None) -> None:
        await self._set(company, reach_out_until=until)

    async def set_tight(self, company: str, *, until: str) -> None:
        await self._set(company, tight_until=until)

    async def set_pacing(self, company: str, pacing: Content | None) -> None:
        await self._set(company, pacing=None if pacing is None else json.dumps(pacing))

    async def _set(self, company: str, **values: str | None) -> None:
        def work(connection: Connection) -> None:
            row = insert(connection, limits).values(company_id=company, **values)
            connection.execute(row.on_conflict_do_update(index_elements=["company_id"], set_=values))

        await self._database.write(work)
