"""`holdfast move`: everything from this installation's database to another one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast import terminal
from holdfast.base.errors import Conflict, Misconfigured
from holdfast.cli.exit_codes import UsageError
from holdfast.cli.requests import AsJson, read_settings

if TYPE_CHECKING:
    from holdfast.backup.moving import MoveResult
    from holdfast.settings import Settings
    from holdfast.store.database import Database

_SQLITE = "sqlite"
_ROOM = 1.5
"""Free space that a move to SQLite needs, as a multiple of the database's size."""


def move(
    to: Annotated[
        str,
        typer.Option("--to", metavar="URL", help="postgresql://…, or `sqlite` for the file in HOLDFAST_DATA_DIR"),
    ],
    as_json: AsJson = False,
) -> None:
    """Move everything from the database of the settings to another, which must be empty. Stop Holdfast first.

    Linked phones stay linked. The copy is compared with the original, table by table, before it counts. The original is
    kept as it was, and refuses to run. If it is interrupted, the original is unchanged: run it again.
    """
    from holdfast.backup.moving import Mover
    from holdfast.store.database import Database
    from holdfast.store.open_database import FILE
    from holdfast.store.postgres import parse, shown

    settings = read_settings()
    is_to_sqlite = to == _SQLITE
    if is_to_sqlite == (settings.database_url is None):
        where = "SQLite already: give the URL of a PostgreSQL database" if is_to_sqlite else "PostgreSQL: use `sqlite`"
        raise UsageError(f"--to: Holdfast's settings name {where}")
    file = settings.data_dir / FILE
    target_name = str(file) if is_to_sqlite else shown(parse(to, name="--to"))
    source_name = str(file) if settings.database_url is None else shown(parse(settings.database_url))
    if settings.database_url is None and not file.exists():
        raise UsageError(f'there is no database "{file}" that could be moved: set HOLDFAST_DATA_DIR to its folder')
    with contextlib.closing(
        Database(file if settings.database_url is None else parse(settings.database_url))
    ) as source:
        if is_to_sqlite:
            _prepare_target(source, settings, file)
        with contextlib.closing(Database(file if is_to_sqlite else parse(to, name="--to"))) as target:
            mover = Mover(source, target, source_name=source_name, target_name=target_name)
            found = asyncio.run(mover.move(terminal.print_stderr))
    _show(found, source_name, target_name, is_to_sqlite=is_to_sqlite, as_json=as_json)


async def _size(source: Database) -> int:
    """Bytes of a database that nobody uses. Raises `Conflict`."""
    from sqlalchemy import text

    from holdfast.backup.moving import refuse_running

    await source.read(refuse_running)
    return await source.read(
        lambda connection: connection.scalar(text("SELECT pg_database_size(current_database())")) or 0
    )


def _prepare_target(source: Database, settings: Settings, file: Path) -> None:
    """Check the free space, and rename a file that was moved away from earlier. Raises `Conflict`."""
    needed, free = int(asyncio.run(_size(source)) * _ROOM), shutil.disk_usage(settings.data_dir).free
    if needed > free:
        raise Conflict(
            f'the copy may need {needed / 1e6:.0f} MB, and "{settings.data_dir}" has {free / 1e6:.0f} MB free: '
            "make room, or set HOLDFAST_DATA_DIR to another folder"
        )
    if file.exists() and asyncio.run(_was_moved(file)):
        names = (file.with_name(f"{file.name}.moved-{number}") for number in itertools.count(1))
        kept = file.rename(next(name for name in names if not name.exists()))
        terminal.print_stderr(f"The file from before the move to PostgreSQL is kept as {kept}")


async def _was_moved(file: Path) -> bool:
    from holdfast.store.database import Database
    from holdfast.store.moved import MOVED_TO
    from holdfast.store.shared_secrets import noted

    try:
        with contextlib.closing(Database(file)) as database:
            return await database.read(lambda connection: noted(connection, MOVED_TO)) is not None
    except Misconfigured:
        return False  # the move itself then fails with the same error and its cure


def _show(result: MoveResult, source: str, target: str, *, is_to_sqlite: bool, as_json: bool) -> None:
    if as_json:
        tables = {name: {"rows": digest.rows, "sha256": digest.sha256} for name, digest in result.tables.items()}
        terminal.show_json(
            {"from": source, "to": target, "rows": result.rows, "sessions": result.sessions, "tables": tables}
        )
        return
    cure = "unset HOLDFAST_DATABASE_URL" if is_to_sqlite else "set HOLDFAST_DATABASE_URL to it"
    terminal.print_stdout(
        f"Moved {result.rows} rows of {result.sessions} sessions to {target}; number and hash of the rows of all "
        f"{len(result.tables)} tables agree.\n"
        f"Now {cure}, and start Holdfast. {source} is kept as it was, and refuses to run."
    )
