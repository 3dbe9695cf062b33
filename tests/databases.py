"""Databases for tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from holdfast.store.database import Database


@functools.cache
def migrated() -> bytes:
    """An empty database file of this version: copying one is faster than migrating."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "holdfast.db"
        Database(path).close()
        return path.read_bytes()
