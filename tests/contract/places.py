"""Empty databases of this version, of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL

from holdfast.store.postgres import parse
from tests.databases import migrated
from tests.postgres_process import PostgresProcess


def make_place(kind: str, request: pytest.FixtureRequest, folder: Path) -> Path | URL:
    """`kind`: `sqlite`, for a new file in `folder`, or `postgres`."""
    if kind == "postgres":
        server: PostgresProcess = request.getfixturevalue("postgres")
        return parse(server.new_migrated())
    path = folder / f"{len(list(folder.glob('*.db')))}.db"
    path.write_bytes(migrated())
    return path
