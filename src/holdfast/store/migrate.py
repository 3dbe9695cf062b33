"""Bringing a database to this version, forward only. It must never touch one that a newer Holdfast wrote."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from holdfast.base.errors import Misconfigured

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(connection: Connection, name: str, *, to: str = "head") -> None:
    """`name` is what people know the database by. Raises `Misconfigured` when it is newer than this Holdfast."""
    config = _config()
    _refuse_newer(connection, config, name)
    config.attributes["connection"] = connection
    command.upgrade(config, to)


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


def _refuse_newer(connection: Connection, config: Config, name: str) -> None:
    found = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise Misconfigured(
            f'the database "{name}" has version {found}, newer than this Holdfast (up to {max(known)}): '
            "install the Holdfast that wrote it, or restore a backup made before the upgrade"
        )
