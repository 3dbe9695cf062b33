"""The sending limits of each company as rows."""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import Connection, select

from holdfast.delivery.rate_limits import NEW_CHAT_QUOTA, REACH_OUT_LOCK, TENANT
from holdfast.delivery.stores import Account, Content
from holdfast.store.company_locks import lock_company
from holdfast.store.connection import insert
from holdfast.store.database import Database
from holdfast.store.outbox_queue import approached_chats
from holdfast.store.tables import chats, limits

_LOCKS = {REACH_OUT_LOCK: "reach_out_until", NEW_CHAT_QUOTA: "quota_until"}


class AccountRows:
    """Implements `holdfast.delivery.stores.Accounts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def account(self, company: str, *, since: str) -> Account:
        names = ("pacing", "reach_out_until", "quota_until", "tight_until")
        mine = select(*limits.c[names]).where(limits.c.company_id == company)
        first = select(chats.c.first_sent_at).where(
            # A contact who wrote first is not a new contact.
            chats.c.company_id == company,
            chats.c.first_sent_at >= since,
            chats.c.first_received_at.is_(None) | (chats.c.first_received_at > chats.c.first_sent_at),
        )

        def work(connection: Connection) -> Account:
            row = connection.execute(mine).first()
            account = Account(
                first_contacts=list(connection.scalars(first.order_by(chats.c.first_sent_at))),
                approached=approached_chats(connection, company),
            )
            if row is None:
                return account
            pacing = None if row.pacing is None else json.loads(row.pacing)
            return replace(account, **{**row._mapping, "pacing": pacing})

        return await self._database.read(work)

    async def set_lock(self, company: str, *, code: str, until: str | None) -> None:
        await self._set(company, **{_LOCKS[code]: until})

    async def set_tight(self, company: str, *, until: str) -> None:
        await self._set(company, tight_until=until)

    async def set_pacing(self, company: str, pacing: Content | None) -> None:
        await self._set(company, pacing=None if pacing is None else json.dumps(pacing))

    async def set_tenant_pacing(self, company: str, pacing: Content) -> None:
        stored = select(limits.c.pacing).where(limits.c.company_id == company)

        def work(connection: Connection) -> None:
            lock_company(connection, company)
            before = json.loads(connection.scalar(stored) or "{}")
            after = {name: value for name, value in before.items() if name != TENANT}
            after |= {TENANT: pacing} if pacing else {}
            _save(connection, company, pacing=json.dumps(after) if after else None)

        await self._database.write(work, company=company)

    async def _set(self, company: str, **values: str | None) -> None:
        def work(connection: Connection) -> None:
            lock_company(connection, company)
            _save(connection, company, **values)

        await self._database.write(work, company=company)


def _save(connection: Connection, company: str, **values: str | None) -> None:
    row = insert(connection, limits).values(company_id=company, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["company_id"], set_=values))
