"""Opens the database of an installation: the file in its data folder, or the one in its settings."""

from __future__ import annotations

from holdfast.settings import Settings
from holdfast.store.database import Database
from holdfast.store.moved import refuse_moved
from holdfast.store.postgres import parse

FILE = "holdfast.db"


def open_database(settings: Settings) -> Database:
    """Raises `Misconfigured` with the cure, also when another process uses the data folder, or it was moved."""
    url = settings.database_url
    return Database(settings.data_dir / FILE if url is None else parse(url), check=refuse_moved)
