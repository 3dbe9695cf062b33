"""Makes scheduled backups at a fixed interval, across restarts, and removes the oldest.

Where several processes share a database, one of them makes the backup. A failure raises an alert and is retried.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from holdfast.backup import backup_dir
from holdfast.backup.service import BackupService
from holdfast.base.clock import iso
from holdfast.base.errors import HoldfastError
from holdfast.store.shared_secrets import note, noted

log = logging.getLogger(__name__)

RETRY_S = 900
FIRST_AFTER_S = 300
"""Delay after a start; after the very first one there is something to back up by then."""
_NOTE = "backup-begun"


class Schedule:
    def __init__(self, backup_service: BackupService, *, every_h: float, keep: int) -> None:
        """`every_h`: the interval; 0 for no scheduled backups."""
        self._backup_service = backup_service
        self._every = timedelta(hours=every_h)
        self._keep = keep
        self._failing_since: float | None = None

    @property
    def failing_s(self) -> float | None:
        """How long scheduled backups have been failing; None when the last one succeeded."""
        return None if self._failing_since is None else self._backup_service.clock.monotonic() - self._failing_since

    async def run(self) -> None:
        """Run until cancelled, or return at once when there are no scheduled backups."""
        clock = self._backup_service.clock
        pause_s: float = FIRST_AFTER_S
        while self._every:
            await clock.sleep(pause_s)
            try:
                pause_s = await self._make_due(clock.now())
                self._failing_since = None
            except Exception as error:  # whatever fails, Holdfast runs on without this backup
                is_expected = isinstance(error, (HoldfastError, SQLAlchemyError, OSError))
                retry_min = RETRY_S // 60
                log.error("Backup failed: %s; it is retried in %d min", error, retry_min, exc_info=not is_expected)  # noqa: TRY400
                if self._failing_since is None:
                    self._failing_since = clock.monotonic()
                pause_s = RETRY_S

    async def _make_due(self, now: datetime) -> float:
        """Make a backup if one is due; returns the seconds until the next check."""
        left_s = await self._backup_service.database.write(lambda connection: self._claim(connection, now))
        if left_s > 0:
            return left_s
        try:
            made = await self._backup_service.make(kind=backup_dir.SCHEDULED)
        except BaseException:
            await self._backup_service.database.write(lambda connection: self._release(connection, now))
            raise
        service = self._backup_service
        gone = backup_dir.prune(service.folder, keep=self._keep, now=service.clock.now())
        count, size = len(made.manifest.companies), made.size_bytes / 1e6
        words = "Backup made: %s, companies: %d, %.1f MB; old ones removed: %d"
        log.info(words, made.path.name, count, size, len(gone))
        return self._every.total_seconds()

    def _claim(self, connection: Connection, now: datetime) -> float:
        """Claim the backup if it is due, and return zero; otherwise return the seconds until it is due."""
        begun = noted(connection, _NOTE)
        age = self._every if begun is None else now - datetime.fromisoformat(begun)
        if -self._every < age < self._every:  # in the future: of a node whose clock is ahead, or the clock was set back
            return (self._every - age).total_seconds()
        note(connection, _NOTE, iso(now))
        return 0

    def _release(self, connection: Connection, now: datetime) -> None:
        """Make a backup that failed due again."""
        note(connection, _NOTE, iso(now - self._every))
