"""Creates backups: one snapshot of the database in one file, which appears complete or not at all.

The snapshot does not block the writer: sessions continue to send. Only the file's owner may read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from holdfast.backup import rows
from holdfast.backup.archive import ArchiveWriter
from holdfast.backup.cancellation import CancelToken
from holdfast.backup.encryption import NO_ENCRYPTION, SUFFIX, BackupEncryption, encrypt_file, read_encryption
from holdfast.backup.errors import BackupFailed
from holdfast.backup.manifest import FORMAT, CompanySummary, Manifest
from holdfast.backup.ratchets import Fingerprint
from holdfast.base.clock import iso
from holdfast.base.private import sync
from holdfast.settings import Settings
from holdfast.store.database import Database
from holdfast.store.migrate import revision_of
from holdfast.store.tables import credentials, sessions, signal_keys

FOLDER = "backups"
"""Name of the folder of backups in the data folder."""
ENDING = ".backup"
_UNFINISHED = ".part"

MIN_REPORTED_ROWS = 1000
"""Number of rows from which progress is reported; fewer take no time."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult:
    """A finished backup on the disk."""

    path: Path
    manifest: Manifest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOrigin:
    """Where a backup comes from."""

    made_by: str
    settings: Mapping[str, Any]


class BackupMaker:
    """Makes backups of one database into one folder."""

    def __init__(
        self, database: Database, folder: Path, *, origin: BackupOrigin, encryption: BackupEncryption = NO_ENCRYPTION
    ) -> None:
        self._database = database
        self._folder = folder
        self._origin = origin
        self._encryption = encryption
        self._lock = asyncio.Lock()

    async def make(
        self, *, kind: str, now: datetime, company: str | None = None, progress: Progress = lambda _: None
    ) -> BackupResult:
        """Back up everything, or one company. Raises `BackupFailed`; the folder is then unchanged."""
        kind_of_file = kind if company is None else f"{kind}-{company}"
        try:
            async with self._lock:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                remove_unfinished(self._folder)
                while (self._folder / (name := self._name(kind_of_file, now))).exists():
                    now += timedelta(milliseconds=1)  # another backup began in the same millisecond
                with _unfinished(self._folder / f".{name}{_UNFINISHED}") as plain, CancelToken() as cancel_token:
                    manifest = await self._database.read(
                        lambda each: self._write(each, plain, kind, now, company, progress, cancel_token)
                    )
                    size = await self._finish(plain, self._folder / name, cancel_token)
        except OSError as error:
            raise BackupFailed(
                f'no backup could be made in "{self._folder}" ({error.strerror or error}): '
                "check that the disk has free space and that the folder is writable"
            ) from error
        return BackupResult(path=self._folder / name, manifest=manifest, size_bytes=size)

    def _name(self, kind: str, now: datetime) -> str:
        return f"{begin_of_name(now)}-{kind}{ENDING}{SUFFIX if self._encryption.is_used else ''}"

    async def _finish(self, plain: Path, name: Path, cancel_token: CancelToken) -> int:
        """Encrypt the file if configured, and rename it; returns its size.

        Called after the snapshot's transaction: PostgreSQL would end one that is idle while the file is encrypted.
        """
        if self._encryption.is_used:
            return await asyncio.to_thread(self._encrypt, plain, name, cancel_token)
        return _publish(plain, name)

    def _encrypt(self, plain: Path, name: Path, cancel_token: CancelToken) -> int:
        with _unfinished(plain.with_name(f".sealed{plain.name}")) as encrypted:
            encrypted.unlink()
            encrypt_file(plain, encrypted, self._encryption, cancel_token)
            cancel_token.check()
            return _publish(encrypted, name)

    def _write(
        self,
        connection: Connection,
        path: Path,
        kind: str,
        now: datetime,
        company: str | None,
        progress: Progress,
        cancel_token: CancelToken,
    ) -> Manifest:
        with ArchiveWriter(path) as archive:
            companies = companies_of(connection, company)  # the first query fixes the snapshot
            parts = {}
            for table in rows.KEPT:
                if company is not None and not rows.is_of_companies(table):
                    continue
                found = rows.read(connection, table, company)
                # `clear` makes a backup of one company, which may take longer: other companies must not wait for it.
                read = cancel_token.each(found) if company is None else cancel_token.each_gently(found)
                parts[table.name] = archive.add(table.name, table.columns.keys(), read)
                if parts[table.name].rows >= MIN_REPORTED_ROWS:
                    progress(f"{table.name}: {parts[table.name].rows} rows")
            manifest = Manifest(
                format=FORMAT,
                created_at=iso(now),
                made_by=self._origin.made_by,
                revision=revision_of(connection),
                kind=kind,
                companies=tuple(companies),
                tables=parts,
                settings=dict(self._origin.settings),
                only_company=company,
            )
            archive.finish(manifest)
        return manifest


def begin_of_name(now: datetime) -> str:
    """How the name of a backup begins that is made now. Names are in the order of time."""
    return f"holdfast-{iso(now).replace(':', '-')}"


def maker_of(settings: Settings, database: Database, *, folder: Path) -> BackupMaker:
    """Return the backup maker for these settings. Raises `Misconfigured`."""
    encryption = read_encryption(passphrase=settings.backup_passphrase, recipients=settings.backup_recipients)
    origin = BackupOrigin(made_by=version("holdfast"), settings=settings.model_dump(mode="json"))
    return BackupMaker(database, folder, origin=origin, encryption=encryption)


def companies_of(connection: Connection, only: str | None = None) -> Sequence[CompanySummary]:
    """Return each session, or one, with the current fingerprint of its keys."""
    prints: dict[str, Fingerprint] = {}
    paired: dict[str, bool] = {}
    for row in connection.execute(_of(credentials, only, select(credentials))):
        paired[row.company_id] = row.paired
        prints.setdefault(row.company_id, Fingerprint()).add(row.creds)
    keys = _of(signal_keys, only, select(signal_keys))
    for row in connection.execute(keys, execution_options={"yield_per": 500}):
        prints.setdefault(row.company_id, Fingerprint()).add(row.type, row.id, row.value)
    found = select(sessions.c.company_id, sessions.c.state).order_by(sessions.c.company_id)
    return [
        CompanySummary(
            company_id=row.company_id,
            state=row.state,
            is_paired=paired.get(row.company_id, False),
            keys=str(prints.get(row.company_id, Fingerprint())),
        )
        for row in connection.execute(_of(sessions, only, found))
    ]


def _of(table: Table, company: str | None, statement: Select[Any]) -> Select[Any]:
    return statement if company is None else statement.where(table.c.company_id == company)


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of interrupted backups."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Create a temporary file that is removed after the block unless it was renamed."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _publish(path: Path, name: Path) -> int:
    """Sync the file to the disk, then rename it; returns its size.

    Raises `FileExistsError`: a backup is never overwritten.
    """
    if name.exists():
        raise FileExistsError(errno.EEXIST, f"{name.name} is there already")
    sync(path)
    path.rename(name)
    sync(name.parent)
    return name.stat().st_size
