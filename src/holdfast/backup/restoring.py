"""Restoring a backup into a database that nobody uses: it is verified, what is there is copied, then all of it comes in
one transaction.

What is restored never encrypts with a ratchet again that may have been used since: every chat negotiates a new one. A
company whose keys have surely, or most likely, been used since the backup is restored stopped.
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
from holdfast.backup.company import close_sending, refuse_in_use, refuse_taken
from holdfast.backup.creating import WORTH_TELLING, BackupMaker, BackupResult, Progress, companies_of
from holdfast.backup.errors import CantRestore
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
"""Instead of a company: take all that went on since."""


class ArchiveSource(Protocol):
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
        self,
        file: Path,
        *,
        take_stale: Collection[str] = (),
        staging: bool = False,
        replace: bool = False,
        progress: Progress,
    ) -> Restored:
        """Replace everything with what is in the file, or add the one company that it holds.

        Raises `BadBackup`, `CantRestore` or `Conflict`, and then nothing is changed.

        staging: a copy that has no linked device and sends nothing to anybody.
        replace: the one company may be there already.
        """
        if staging:
            await self._database.read(refuse_original)
        with self._opener.open(file) as reader:
            progress("The backup is verified …")
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
            raise CantRestore(
                f"the backup has rows that can't be stored ({type(error).__name__}): it is damaged, or no backup of "
                "Holdfast's; take another, nothing was changed"
            ) from error

    async def _copy(self, only: str | None, progress: Progress) -> BackupResult | None:
        """Of what is there and will be replaced, if anything is."""
        its = select(func.count()).select_from(sessions)
        if only is not None:
            its = its.where(sessions.c.company_id == only)
        if not await self._database.read(lambda connection: connection.scalar(its)):
            return None
        progress("A copy of what is there is made …")
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
        went_on = moved_on(manifest, known=known, now=self._clock.now())
        return {} if EVERY in take_stale else {c: why for c, why in went_on.items() if c not in take_stale}

    def _later(self, manifest: Manifest) -> list[Manifest]:
        """Later backups in the folder, as far as they can be looked into."""
        found = (backup_dir.look(path, self._opener, verify=False).manifest for path in backup_dir.names(self._folder))
        return [each for each in found if each is not None and each.created_at > manifest.created_at]

    @contextlib.contextmanager
    def _source(self, reader: ArchiveReader) -> Iterator[ArchiveSource]:
        if reader.manifest.revision == revisions()[0]:
            yield reader
            return
        with upgraded(reader, self._folder) as source:
            yield source

    def _settle(self, connection: Connection, manifest: Manifest, refused: Collection[str], *, staging: bool) -> None:
        """What was restored must neither use a key twice nor, in a copy, reach anybody."""
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
    """Rows keep their numbers where these are free, so that the oldest go on having the lowest."""
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
        refuse_taken(connection, company, its_credentials)


def _refuse_mixed(connection: Connection, company: str) -> None:
    """What the restored rows refer to must be the company's own."""
    delivered = webhook_deliveries.join(events, events.c.seq == webhook_deliveries.c.event_seq)
    shown = inbox.join(media, media.c.id == inbox.c.media_id)
    for joined, mine, theirs in (
        (delivered, webhook_deliveries.c.company_id, events.c.company_id),
        (shown, inbox.c.company_id, media.c.company_id),
    ):
        if connection.scalar(select(theirs).select_from(joined).where(mine == company, theirs != company).limit(1)):
            raise CantRestore("it has rows that refer to those of another company")


def _shift(connection: Connection, source: ArchiveSource, table: Table) -> int:
    """What is added to the numbers of the rows: nothing, unless another company has one of them."""
    columns, values = source.rows(table.name)
    place, lowest, is_taken = list(columns).index("seq"), None, False
    while batch := [row[place] for row in itertools.islice(values, _AT_ONCE)]:
        if not all(isinstance(seq, int) for seq in batch):
            raise CantRestore(f"it has rows of {table.name} whose numbers are none")
        lowest = min(batch) if lowest is None else min(lowest, *batch)
        taken = select(table.c.seq).where(table.c.seq.in_(batch)).limit(1)
        is_taken = is_taken or connection.scalar(taken) is not None
    return rows.first_free(connection, table) - lowest if is_taken and lowest is not None else 0


def _log(progress: Progress, table: str, manifest: Manifest) -> None:
    count = manifest.tables[table].rows if table in manifest.tables else 0
    if count >= WORTH_TELLING:
        progress(f"{table}: {count} rows …")


def _refuse_one(connection: Connection, company: str, staging: bool, replace: bool) -> None:
    if staging:
        raise CantRestore(
            f"--staging refused: the backup holds company {company} alone, and a copy is made of a whole backup"
        )
    if not is_company_id(company):
        raise CantRestore(f"the backup is of {company[:80]!r}, which is not a company id")
    its = select(sessions.c.company_id).where(sessions.c.company_id == company)
    if not replace and connection.scalar(its) is not None:
        raise CantRestore(
            f"company {company} is in this installation: --replace backs it up and replaces it with what the backup "
            "holds; other companies stay as they are"
        )


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
