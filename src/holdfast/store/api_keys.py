"""API keys that were created while Holdfast runs, as hashes."""

from __future__ import annotations

import json

from sqlalchemy import Connection, delete, insert, select, update

from holdfast.base.api_keys import CreatedKey
from holdfast.store.database import Database
from holdfast.store.tables import api_keys


def withdraw_company(connection: Connection, company: str) -> None:
    """Take the company from the keys that name it. A key that is left without a company is revoked."""
    for key_id, text in connection.execute(select(api_keys.c.id, api_keys.c.companies)).all():
        named = json.loads(text)
        others = [each for each in named if each != company]
        if not others:
            connection.execute(delete(api_keys).where(api_keys.c.id == key_id))
        elif others != named:
            changed = update(api_keys).where(api_keys.c.id == key_id).values(companies=json.dumps(others))
            connection.execute(changed)


class ApiKeyRows:
    """Implements `holdfast.base.api_keys.CreatedKeys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[CreatedKey]:
        statement = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)

        def work(connection: Connection) -> list[CreatedKey]:
            rows = connection.execute(statement).mappings()
            return [CreatedKey(**{**row, "companies": frozenset(json.loads(row["companies"]))}) for row in rows]

        return await self._database.read(work)

    async def add(self, key: CreatedKey) -> None:
        values = {
            "id": key.id,
            "name": key.name,
            "digest": key.digest,
            "companies": json.dumps(sorted(key.companies)),
            "created_at": key.created_at,
            "used_at": key.used_at,
        }
        await self._database.write(lambda connection: connection.execute(insert(api_keys).values(values)))

    async def remove(self, key_id: str) -> None:
        statement = delete(api_keys).where(api_keys.c.id == key_id)
        await self._database.write(lambda connection: connection.execute(statement))

    async def mark_used(self, used: dict[str, str]) -> None:
        def work(connection: Connection) -> None:
            for digest, at in used.items():
                connection.execute(update(api_keys).where(api_keys.c.digest == digest).values(used_at=at))

        await self._database.write(work)
