"""The sending limits of each company as rows."""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import Connection, select

from holdfast.delivery.content import Content
from holdfast.delivery.rate_limits import NEW_CHAT_QUOTA, REACH_OUT_LOCK, TENANT
from holdfast.delivery.stores import Account
from holdfast.store.company_locks import lock_company
from holdfast.store.connection import insert
from holdfast.store.database import Database, Refusal
from holdfast.store.outbox_queue import approached_chats
from holdfast.store.sessions import exists, unknown
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
        await self._note(company, **{_LOCKS[code]: until})

    async def set_tight(self, company: str, *, until: str) -> None:
        await self._note(company, tight_until=until)

    async def set_pacing(self, company: str, pacing: Content | None) -> None:
        def work(connection: Connection) -> Refusal | None:
            return _save(connection, company, pacing=None if pacing is None else json.dumps(pacing))

        await self._database.write(work, company=company)

    async def set_tenant_pacing(self, company: str, pacing: Content) -> None:
        stored = select(limits.c.pacing).where(limits.c.company_id == company)

        def work(connection: Connection) -> Refusal | None:
            lock_company(connection, company)
            before = json.loads(connection.scalar(stored) or "{}")
            after = {name: value for name, value in before.items() if name != TENANT}
            after |= {TENANT: pacing} if pacing else {}
            return _save(connection, company, pacing=json.dumps(after) if after else None)

        await self._database.write(work, company=company)

    async def _note(self, company: str, **values: str | None) -> None:
        """Store what WhatsApp restricts, unless the company was removed meanwhile."""

        def work(connection: Connection) -> None:
            _save(connection, company, **values)

        await self._database.write(work, company=company)


def _save(connection: Connection, company: str, **values: str | None) -> Refusal | None:
    # The lock keeps `clear` from removing the company between the check and the commit.
    lock_company(connection, company)
    if not exists(connection, company):
        return unknown(company)
    row = insert(connection, limits).values(company_id=company, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["company_id"], set_=values))
    return None
