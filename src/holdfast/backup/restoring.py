"""Restoring a backup into a database that nobody uses: it is verified, what is there is copied, then all of it comes in
one transaction.

What is restored never encrypts with a ratchet again that may have been used since: every chat negotiates a new one. A
company whose keys have surely, or most likely, been used since the backup is restored stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, func, select, update

from holdfast.backup import backup_dir, rows
from holdfast.backup.archive import ArchiveReader
from holdfast.backup.cancellation import CancelToken
from holdfast.backup.company import close_sending, refuse_in_use
from holdfast.backup.creating import WORTH_TELLING, BackupMaker, BackupResult, Progress, companies_of
from holdfast.backup.errors import CantRestore
from holdfast.backup.manifest import Manifest
from holdfast.backup.staging import make_harmless, refuse_original
from holdfast.backup.staleness import Known, moved_on
from holdfast.backup.upgrade_scratch import upgraded
from holdfast.base.clock import Clock, iso
from holdfast.session.reasons import RESTORED_STALE
from holdfast.session.state import State
from holdfast.store import search_index
from holdfast.store.database import Database
from holdfast.store.migrate import revisions
from holdfast.store.tables import credentials, sessions

EVERY = "all"
"""Instead of a company: take all that went on since."""


class Source(Protocol):
    def rows(self, table: str) -> tuple[Sequence[str], Iterator[Sequence[Any]]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did."""

    manifest: Manifest
    copy: Path | None
    """Of what was there before; None when there was nothing."""
    refused: Mapping[str, str]
    """Companies that are stopped, each with a sentence."""
    rows: int


class Restorer:
    """Restores into one database, whose lock it holds."""

    def __init__(
        self, database: Database, maker: BackupMaker, *, folder: Path, opener: backup_dir.Opener, clock: Clock
    ) -> None:
        self._database = database
        self._maker = maker
        self._folder = folder
        self._opener = opener
        self._clock = clock

    async def restore(
        self, file: Path, *, take_stale: Collection[str] = (), staging: bool = False, progress: Progress
    ) -> Restored:
        """Raises `BadBackup` or `CantRestore`, and then nothing is changed.

        staging: a copy that has no linked device and sends nothing to anybody.
        """
        if staging:
            await self._database.read(refuse_original)
        with self._opener.open(file) as reader:
            progress("The backup is verified …")
            reader.check(CancelToken())
            _refuse_newer(reader.manifest)
            _refuse_unknown(reader.manifest, take_stale)
            copy = await self._copy(progress)
            refused = {} if staging else await self._judge(reader.manifest, take_stale)
            with self._source(reader) as source:
                sizes = {name: part.rows for name, part in reader.manifest.tables.items()}
                await self._database.write(
                    lambda connection: self._replace(connection, source, sizes, refused, progress, staging=staging)
                )
            return Restored(
                manifest=reader.manifest,
                copy=None if copy is None else copy.path,
                refused={company: _sentence(company, why, reader.manifest) for company, why in refused.items()},
                rows=sum(part.rows for part in reader.manifest.tables.values()),
            )

    async def _copy(self, progress: Progress) -> BackupResult | None:
        """Of what is there, if anything is."""
        if not await self._database.read(
            lambda connection: connection.scalar(select(func.count()).select_from(sessions))
        ):
            return None
        progress("A copy of what is there is made …")
        return await self._maker.make(kind="before-restore", now=self._clock.now())

    async def _judge(self, manifest: Manifest, take_stale: Collection[str]) -> dict[str, str]:
        known: dict[str, list[Known]] = {}
        for company in await self._database.read(companies_of):
            if company.is_paired:
                known.setdefault(company.company_id, []).append(Known(keys=company.keys, where="this installation"))
        for later in self._later(manifest):
            for company in later.companies:
                if company.is_paired:
                    where = f"the later backup of {later.created_at}"
                    known.setdefault(company.company_id, []).append(Known(keys=company.keys, where=where))
        went_on = moved_on(manifest, known=known, now=self._clock.now())
        return {} if EVERY in take_stale else {c: why for c, why in went_on.items() if c not in take_stale}

    def _later(self, manifest: Manifest) -> list[Manifest]:
        """Later backups in the folder, as far as they can be looked into."""
        found = (backup_dir.look(path, self._opener, verify=False).manifest for path in backup_dir.names(self._folder))
        return [each for each in found if each is not None and each.created_at > manifest.created_at]

    @contextlib.contextmanager
    def _source(self, reader: ArchiveReader) -> Iterator[Source]:
        if reader.manifest.revision == revisions()[0]:
            yield reader
            return
        with upgraded(reader, self._folder) as source:
            yield source

    def _replace(
        self,
        connection: Connection,
        source: Source,
        sizes: Mapping[str, int],
        refused: Collection[str],
        progress: Progress,
        *,
        staging: bool,
    ) -> None:
        refuse_in_use(connection)
        rows.empty(connection)
        for table in rows.KEPT:
            if sizes.get(table.name, 0) >= WORTH_TELLING:
                progress(f"{table.name}: {sizes[table.name]} rows …")
            columns, values = source.rows(table.name)
            rows.write(connection, table, columns, values)
        rows.count_on(connection)
        progress("Messages are indexed for search …")
        search_index.build(connection)
        now = self._clock.now()
        if staging:
            make_harmless(connection, now=iso(now))
        for company in list(connection.scalars(select(credentials.c.company_id))):
            close_sending(connection, company, closed_at_ms=int(now.timestamp() * 1000))
        stopped = {
            "state": State.STOPPED,
            "reason": RESTORED_STALE.name,
            "code": None,
            "attempts": 0,
            "since": iso(now),
        }
        connection.execute(update(sessions).where(sessions.c.company_id.in_(refused)).values(**stopped))


def _refuse_newer(manifest: Manifest) -> None:
    known = revisions()
    if manifest.revision not in known:
        raise CantRestore(
            f"the backup has database version {manifest.revision}, newer than this Holdfast (up to {known[0]}): "
            f"install Holdfast {manifest.made_by} or newer, then restore"
        )


def _refuse_unknown(manifest: Manifest, take_stale: Collection[str]) -> None:
    unknown = [company for company in take_stale if company != EVERY and manifest.company(company) is None]
    if unknown:
        raise CantRestore(f'company "{unknown[0]}" of --take-stale is not in this backup: take it out')


def _sentence(company: str, why: str, manifest: Manifest) -> str:
    return (
        f"company {company} is restored stopped: {why}. What it received since {manifest.created_at} is not here; "
        f"`holdfast start {company}` connects it all the same, with new keys for its chats"
    )
