"""Migrates a database forward to this version. It must never change one that a newer Holdfast wrote.

A database of this version, as at nearly every start, is recognised without alembic, which takes long to import.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from holdfast.base.errors import Misconfigured
from holdfast.store import chat_filling, search_index

log = logging.getLogger(__name__)

_MIGRATIONS = Path(__file__).parent / "migrations"
_BEFORE_SEARCH, _WITH_SEARCH = "0007", "0008"
"""Indexing millions of messages takes minutes, and a start that is ended during that time must not begin again."""
_WITH_CHATS, _CHATS_FILLED = "0018", "0019"
"""The overview of chats is filled in short transactions, too, and before its indexes are created."""


def migrate(connection: Connection, name: str, *, to: str = "head") -> None:
    """Migrate the database forward; an interrupted migration continues at the next call.

    name: what people know the database by, for messages.
    Raises `Misconfigured` when it is newer than this Holdfast.
    """
    found = revision_of(connection)
    connection.rollback()
    known = revisions()
    if found == known[0]:
        return
    if found and found not in known:
        raise Misconfigured(
            f'the database "{name}" has version {found}, newer than this Holdfast (up to {known[0]}): '
            "install the Holdfast that wrote it, or restore a backup made before the upgrade"
        )
    _upgrade(connection, found, to)


def _upgrade(connection: Connection, revision: str, to: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if to == "head" and revision and revision < _WITH_SEARCH:
        command.upgrade(config, _BEFORE_SEARCH)
        search_index.create_in_parts(connection)
    if to == "head" and revision and revision < _CHATS_FILLED:
        command.upgrade(config, _WITH_CHATS)
        chat_filling.fill_in_parts(connection)
    command.upgrade(config, to)


def log_migration(connection: Connection, name: str) -> None:
    """Log what `migrate` is about to do: on a large database it may take minutes."""
    found, newest = revision_of(connection), revisions()[0]
    connection.rollback()
    if not found:
        log.info("Creating the tables of the database %s", name)
    elif found < newest:
        log.info("Migrating the database %s from version %s to %s", name, found, newest)


def revision_of(connection: Connection) -> str:
    """Which version the database has; "" while it has no tables."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.scalars(text("SELECT version_num FROM alembic_version")).one_or_none() or ""


def revisions() -> list[str]:
    """All that this Holdfast knows, newest first."""
    return sorted((file.name[:4] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py")), reverse=True)
