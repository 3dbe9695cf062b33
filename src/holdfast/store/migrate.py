"""Migrates a database forward to this version. It must never change one that a newer Holdfast wrote."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

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
    config = _config()
    found = revision_of(connection)
    connection.rollback()
    _refuse_newer(found, config, name)
    config.attributes["connection"] = connection
    if to == "head" and found and found < _WITH_SEARCH:
        command.upgrade(config, _BEFORE_SEARCH)
        search_index.create_in_parts(connection)
    if to == "head" and found and found < _CHATS_FILLED:
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
    """Which version the database has."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def revisions() -> list[str]:
    """All that this Holdfast knows, newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _refuse_newer(found: str, config: Config, name: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise Misconfigured(
            f'the database "{name}" has version {found}, newer than this Holdfast (up to {max(known)}): '
            "install the Holdfast that wrote it, or restore a backup made before the upgrade"
        )
