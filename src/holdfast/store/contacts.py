"""People as rows: what WhatsApp reported about each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, select

from holdfast.base.clock import Clock, iso
from holdfast.session.contacts import ContactsPage, Identity, KnownContact
from holdfast.session.untrusted import bounded_identity
from holdfast.store.aliases import canonical
from holdfast.store.chat_merge import move_rest
from holdfast.store.connection import among
from holdfast.store.contact_backfill import fill_part
from holdfast.store.database import Database
from holdfast.store.identities import learn, learn_spelling
from holdfast.store.tables import contacts

_C = contacts.c
_SEARCHED_AT_ONCE = 1000
_MAX_SEARCHED = 5000
"""Contacts whose names one page of a search compares, however many there are."""


class ContactRows:
    """Implements `holdfast.session.contacts.Contacts`."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def canonical(self, company: str, jid: str) -> str:
        return await self._database.read(lambda connection: canonical(connection, company, jid))

    async def find(self, company: str, jid: str) -> KnownContact | None:
        def work(connection: Connection) -> KnownContact | None:
            chat = canonical(connection, company, jid)
            row = connection.execute(select(contacts).where(_C.company_id == company, _C.jid == chat)).mappings()
            return _contact(row.first())

        return await self._database.read(work)

    async def contacts(self, company: str, *, after: str, limit: int, words: str = "") -> ContactsPage:
        wanted = words.casefold().lstrip("+@")
        mine = select(contacts).where(_C.company_id == company).order_by(_C.jid)

        def work(connection: Connection) -> ContactsPage:
            if wanted:
                jids, next_ = _named(connection, company, wanted, after=after, limit=limit)
                chosen = mine.where(among(connection, _C.jid, jids))
                return ContactsPage(people=_people(connection, chosen) if jids else [], next=next_)
            found = _people(connection, mine.where(_C.jid > after).limit(limit + 1))
            return ContactsPage(people=found[:limit], next=found[limit - 1].jid if len(found) > limit else None)

        return await self._database.read(work)

    async def by_username(self, company: str, username: str) -> KnownContact | None:
        mine = select(contacts).where(_C.company_id == company, _C.username == username)
        return await self._database.read(lambda connection: _contact(connection.execute(mine).mappings().first()))

    async def learn(self, company: str, identities: Sequence[Identity]) -> None:
        now = iso(self._clock.now())
        clean = [bounded_identity(identity) for identity in identities]

        def work(connection: Connection) -> None:
            for identity in clean:
                learn(connection, company, identity, now=now)

        await self._database.write(work, company=company)

    async def learn_spellings(self, company: str, spellings: Sequence[tuple[str, str]]) -> None:
        now = iso(self._clock.now())

        def work(connection: Connection) -> None:
            for asked, answered in spellings:
                learn_spelling(connection, company, asked, answered, now=now)

        await self._database.write(work, company=company)

    async def catch_up(self) -> bool:
        now = iso(self._clock.now())

        return await self._database.write(
            lambda connection: move_rest(connection, now=now) or fill_part(connection, now=now)
        )


def _named(connection: Connection, company: str, name: str, *, after: str, limit: int) -> tuple[list[str], str | None]:
    """Compare in Python, because databases fold the case of few scripts only; nothing but names is read.

    Returns the JIDs, and where the search continues.
    """
    columns = contacts.c["jid", "saved_name", "push_name", "business_name", "username"]
    mine = select(*columns).where(_C.company_id == company).order_by(_C.jid).limit(_SEARCHED_AT_ONCE)
    found: list[str] = []
    for _ in range(0, _MAX_SEARCHED, _SEARCHED_AT_ONCE):
        rows = connection.execute(mine.where(_C.jid > after)).all()
        found += [jid for jid, *names in rows if name in "\n".join(filter(None, (jid, *names))).casefold()]
        if len(found) > limit:
            return found[:limit], found[limit - 1]
        if len(rows) < _SEARCHED_AT_ONCE:
            return found, None
        after = rows[-1][0]
    return found, after


def _people(connection: Connection, page: Select[Any]) -> list[KnownContact]:
    return [person for row in connection.execute(page).mappings() if (person := _contact(row)) is not None]


def _contact(row: RowMapping | None) -> KnownContact | None:
    if row is None:
        return None
    values: dict[str, Any] = {str(name): value for name, value in row.items() if name != "company_id"}
    return KnownContact(**values)
