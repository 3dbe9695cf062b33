"""Restores a backup into a database that nobody uses.

The backup is verified, the current content is backed up, then everything is replaced in one transaction.

Restored keys never encrypt again, because they may have been used since the backup: every chat negotiates new ones. A
company whose keys were certainly, or most likely, used since the backup is restored stopped.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Table, bindparam, func, select, update
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, StatementError

from holdfast.backup import backup_dir, rows
from holdfast.backup.archive import ArchiveReader
from holdfast.backup.cancellation import CancelToken
from holdfast.backup.clearing import remove
from holdfast.backup.company import close_sending, refuse_duplicate_device, refuse_in_use
from holdfast.backup.creating import MIN_REPORTED_ROWS, BackupMaker, BackupResult, Progress, companies_of
from holdfast.backup.errors import RestoreRefused
from holdfast.backup.manifest import Manifest
from holdfast.backup.staging import make_harmless, refuse_original
from holdfast.backup.staleness import Known, moved_on
from holdfast.backup.upgrade_scratch import upgraded
from holdfast.base.clock import Clock, iso
from holdfast.base.ids import is_company_id
from holdfast.session.reasons import RESTORED_STALE
from holdfast.session.state import State
from holdfast.store import search_index
from holdfast.store.database import Database
from holdfast.store.migrate import revisions
from holdfast.store.tables import credentials, events, inbox, media, media_chunks, sessions, webhook_deliveries

_AT_ONCE = 500
_ITS_CREDENTIALS = select(credentials.c.creds).where(
    credentials.c.company_id == bindparam("company"), credentials.c.paired
)
EVERY = "all"
"""In place of a company: start all companies whose keys were used since the backup."""


class ArchiveSource(Protocol):
    def rows(self, table: str) -> tuple[Sequence[str], Iterator[Sequence[Any]]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The result of a restore."""

    manifest: Manifest
    copy: Path | None
    """Backup of the former content; None when there was none."""
    refused: Mapping[str, str]
    """Companies that were restored stopped, each with the reason as a sentence."""
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
        self,
        file: Path,
        *,
        take_stale: Collection[str] = (),
        staging: bool = False,
        replace: bool = False,
        progress: Progress,
    ) -> Restored:
        """Replace everything with the content of the file, or add the one company in it.

        Raises `BadBackup`, `RestoreRefused` or `Conflict`, and then nothing is changed.

        staging: restore without linked devices, pending messages and webhooks.
        replace: the one company may exist already.
        """
        if staging:
            await self._database.read(refuse_original)
        with self._opener.open(file) as reader:
            progress("Verifying the backup …")
            reader.check(CancelToken())
            manifest = reader.manifest
            _refuse_newer(manifest)
            _refuse_unknown(manifest, take_stale)
            only = manifest.only_company
            if only is not None:
                await self._database.read(lambda connection: _refuse_one(connection, only, staging, replace))
            copy = await self._copy(only, progress)
            refused = {} if staging else await self._judge(manifest, take_stale)
            with self._source(reader) as source:
                await self._write(source, manifest, refused, progress, staging=staging)
            return Restored(
                manifest=manifest,
                copy=None if copy is None else copy.path,
                refused={company: _sentence(company, why, manifest) for company, why in refused.items()},
                rows=sum(part.rows for part in manifest.tables.values()),
            )

    async def _write(
        self, source: ArchiveSource, manifest: Manifest, refused: Collection[str], progress: Progress, *, staging: bool
    ) -> None:
        def work(connection: Connection) -> None:
            refuse_in_use(connection)
            if manifest.only_company is None:
                _replace_all(connection, source, manifest, progress)
            else:
                _replace_company(connection, source, manifest, manifest.only_company, progress)
            self._settle(connection, manifest, refused, staging=staging)

        try:
            await self._database.write(work)
        except (IntegrityError, DataError, StatementError, ValueError, OverflowError) as error:
            if isinstance(error, OperationalError):
                raise
            raise RestoreRefused(
                f"the backup has rows that can't be stored ({type(error).__name__}): it is damaged, or was not made "
                "by Holdfast; nothing was changed, use another"
            ) from error

    async def _copy(self, only: str | None, progress: Progress) -> BackupResult | None:
        """Back up the rows that will be replaced, if there are any."""
        its = select(func.count()).select_from(sessions)
        if only is not None:
            its = its.where(sessions.c.company_id == only)
        if not await self._database.read(lambda connection: connection.scalar(its)):
            return None
        progress("Backing up the current content …")
        return await self._maker.make(kind="before-restore", now=self._clock.now(), company=only)

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
        used_since = moved_on(manifest, known=known, now=self._clock.now())
        return {} if EVERY in take_stale else {c: why for c, why in used_since.items() if c not in take_stale}

    def _later(self, manifest: Manifest) -> list[Manifest]:
        """Return the manifests of the later backups in the folder that can be read."""
        found = (each.manifest for each in backup_dir.inspect_all(self._folder, self._opener, verify=False))
        return [each for each in found if each is not None and each.created_at > manifest.created_at]

    @contextlib.contextmanager
    def _source(self, reader: ArchiveReader) -> Iterator[ArchiveSource]:
        if reader.manifest.revision == revisions()[0]:
            yield reader
            return
        with upgraded(reader, self._folder) as source:
            yield source

    def _settle(self, connection: Connection, manifest: Manifest, refused: Collection[str], *, staging: bool) -> None:
        """Make sure that restored keys are not used twice, and that a staging copy reaches nobody."""
        now = self._clock.now()
        if staging:
            make_harmless(connection, now=iso(now))
        every = list(connection.scalars(select(credentials.c.company_id)))
        for company in every if manifest.only_company is None else (manifest.only_company,):
            close_sending(connection, company, closed_at_ms=int(now.timestamp() * 1000))
        stopped = {
            "state": State.STOPPED,
            "reason": RESTORED_STALE.name,
            "code": None,
            "attempts": 0,
            "since": iso(now),
        }
        connection.execute(update(sessions).where(sessions.c.company_id.in_(refused)).values(**stopped))


def _replace_all(connection: Connection, source: ArchiveSource, manifest: Manifest, progress: Progress) -> None:
    rows.empty(connection)
    search_index.drop_lookup(connection)
    for table in rows.KEPT:
        _log(progress, table.name, manifest)
        columns, values = source.rows(table.name)
        for batch in rows.write(connection, table, columns, values):
            if table in search_index.INDEXED:
                search_index.add_all(connection, table, batch)
    rows.count_on(connection)
    search_index.create_lookup(connection)


def _replace_company(
    connection: Connection, source: ArchiveSource, manifest: Manifest, company: str, progress: Progress
) -> None:
    """Rows keep their numbers when these are free; otherwise all are shifted, so that their order stays."""
    remove(connection, company)
    tables = [table for table in rows.KEPT if table.name in manifest.tables and rows.is_of_companies(table)]
    shift = {table.name: _shift(connection, source, table) for table in tables if "seq" in table.primary_key.columns}
    shift[webhook_deliveries.name] = shift.get(events.name, 0)
    its_media: set[str] = set()
    for table in sorted(tables, key=lambda table: table is media_chunks):
        _log(progress, table.name, manifest)
        if table is media_chunks:
            its_media = set(connection.scalars(select(media.c.id).where(media.c.company_id == company)))
        expected = rows.Expected(company=company, media=its_media, shift=shift)
        columns, values = source.rows(table.name)
        for batch in rows.write(connection, table, columns, values, expected):
            if table in search_index.INDEXED:
                search_index.add_all(connection, table, batch)
    rows.count_on(connection)
    _refuse_mixed(connection, company)
    if (its_credentials := connection.scalar(_ITS_CREDENTIALS, {"company": company})) is not None:
        refuse_duplicate_device(connection, company, its_credentials)


def _refuse_mixed(connection: Connection, company: str) -> None:
    """Raises `RestoreRefused` when restored rows refer to rows of another company."""
    delivered = webhook_deliveries.join(events, events.c.seq == webhook_deliveries.c.event_seq)
    shown = inbox.join(media, media.c.id == inbox.c.media_id)
    for joined, mine, theirs in (
        (delivered, webhook_deliveries.c.company_id, events.c.company_id),
        (shown, inbox.c.company_id, media.c.company_id),
    ):
        if connection.scalar(select(theirs).select_from(joined).where(mine == company, theirs != company).limit(1)):
            raise RestoreRefused("it has rows that refer to those of another company")


def _shift(connection: Connection, source: ArchiveSource, table: Table) -> int:
    """Return what to add to the numbers of the rows: zero unless another company has one of them."""
    columns, values = source.rows(table.name)
    place, lowest, is_taken = list(columns).index("seq"), None, False
    while batch := [row[place] for row in itertools.islice(values, _AT_ONCE)]:
        if not all(isinstance(seq, int) for seq in batch):
            raise RestoreRefused(f"it has rows of {table.name} whose numbers are not integers")
        lowest = min(batch) if lowest is None else min(lowest, *batch)
        taken = select(table.c.seq).where(table.c.seq.in_(batch)).limit(1)
        is_taken = is_taken or connection.scalar(taken) is not None
    return rows.first_free(connection, table) - lowest if is_taken and lowest is not None else 0


def _log(progress: Progress, table: str, manifest: Manifest) -> None:
    count = manifest.tables[table].rows if table in manifest.tables else 0
    if count >= MIN_REPORTED_ROWS:
        progress(f"{table}: {count} rows …")


def _refuse_one(connection: Connection, company: str, staging: bool, replace: bool) -> None:
    if staging:
        raise RestoreRefused(
            f"--staging refused: the backup holds company {company} only, and a staging copy needs one of everything"
        )
    if not is_company_id(company):
        raise RestoreRefused(f"the backup holds {company[:80]!r}, which is not a valid company id")
    its = select(sessions.c.company_id).where(sessions.c.company_id == company)
    if not replace and connection.scalar(its) is not None:
        raise RestoreRefused(
            f"company {company} exists in this installation: --replace backs it up and replaces it with the one in the "
            "backup; other companies are not changed"
        )


def _refuse_newer(manifest: Manifest) -> None:
    known = revisions()
    if manifest.revision not in known:
        raise RestoreRefused(
            f"the backup has database version {manifest.revision}, newer than this Holdfast (up to {known[0]}): "
            f"install Holdfast {manifest.made_by} or newer, then restore"
        )


def _refuse_unknown(manifest: Manifest, take_stale: Collection[str]) -> None:
    unknown = [company for company in take_stale if company != EVERY and manifest.company(company) is None]
    if unknown:
        raise RestoreRefused(f'company "{unknown[0]}" of --take-stale is not in this backup: leave it out')


def _sentence(company: str, why: str, manifest: Manifest) -> str:
    missing = f"Messages that it received since {manifest.created_at} are missing here"
    start = f"`holdfast start {company}` connects it anyway, with new keys for its chats"
    return f"company {company} is restored stopped: {why}. {missing}; {start}"
