"""The client version that was last found, as one small fact."""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import Connection

from holdfast.session.client_version import ClientVersion
from holdfast.store.database import Database
from holdfast.store.shared_secrets import note, noted

_NAME = "client-version"


class ClientVersionRows:
    """Keeps `holdfast.runtime.client_versions.VersionStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> ClientVersion | None:
        text = await self._database.read(lambda connection: noted(connection, _NAME))
        return None if text is None else replace(ClientVersion(**json.loads(text)), origin="stored")

    async def save(self, version: ClientVersion) -> None:
        """Unless another process has found a newer one meanwhile."""

        def work(connection: Connection) -> None:
            known = noted(connection, _NAME)
            if known is None or json.loads(known)["revision"] <= version.revision:
                fields = {"revision": version.revision, "origin": version.origin, "read_at": version.read_at}
                note(connection, _NAME, json.dumps(fields))

        await self._database.write(work)
