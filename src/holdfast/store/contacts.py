"""People as rows: what WhatsApp reported about each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from holdfast.base.clock import Clock, iso
from holdfast.session.contacts import Contact, Identity
from holdfast.session.untrusted import bounded_identity
from holdfast.store.aliases import canonical
from holdfast.store.chat_merge import move_rest
from holdfast.store.contact_backfill import fill_part
from holdfast.store.database import Database
from holdfast.store.identities import learn, learn_spelling
from holdfast.store.tables import contacts

_C = contacts.c
_SEARCHED_AT_ONCE = 1000


class ContactRows:
    """Keeps `holdfast.session.contacts.Contacts`."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def canonical(self, company: str, jid: str) -> str:
        return await self._database.read(lambda connection: canonical(connection, company, jid))

    async def find(self, company: str, jid: str) -> Contact | None:
        def work(connection: Connection) -> Contact | None:
            chat = canonical(connection, company, jid)
            row = connection.execute(select(contacts).where(_C.company_id == company, _C.jid == chat)).mappings()
            return _contact(row.first())

        return await self._database.read(work)

    async def contacts(self, company: str, *, after: str, most: int, words: str = "") -> list[Contact]:
        wanted = words.casefold().lstrip("+@")

        def work(connection: Connection) -> list[Contact]:
            found: list[Contact] = []
            last = after
            while len(found) < most:
                mine = select(contacts).where(_C.company_id == company, _C.jid > last).order_by(_C.jid)
                rows = connection.execute(mine.limit(_SEARCHED_AT_ONCE if wanted else most)).mappings().all()
                people = [person for row in rows if (person := _contact(row)) is not None]
                found += [person for person in people if _matches(person, wanted)]
                if not wanted or len(rows) < _SEARCHED_AT_ONCE:
                    break
                last = rows[-1]["jid"]
            return found[:most]

        return await self._database.read(work)

    async def by_username(self, company: str, username: str) -> Contact | None:
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


def _matches(person: Contact, wanted: str) -> bool:
    """Compares in Python: databases fold the case of few scripts only."""
    known = (person.saved_name, person.push_name, person.business_name, person.username, person.jid)
    return any(name is not None and wanted in name.casefold() for name in known)


def _contact(row: RowMapping | None) -> Contact | None:
    if row is None:
        return None
    values: dict[str, Any] = {str(name): value for name, value in row.items() if name != "company_id"}
    return Contact(**values)
