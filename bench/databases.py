"""Runs a measurement on SQLite, and on each PostgreSQL that the command line names."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from holdfast.store.database import Database
from holdfast.store.postgres import parse


async def on_each(measure: Callable[[Database, str], Awaitable[None]]) -> None:
    """Call `measure` with each empty database and its display name."""
    with tempfile.TemporaryDirectory() as folder:
        with closing(Database(Path(folder) / "holdfast.db")) as database:
            await measure(database, "SQLite")
        for url in sys.argv[1:]:
            with closing(Database(parse(url))) as database:
                await measure(database, "PostgreSQL")
