"""Backups by themselves: one every so many hours, however often Holdfast is started, and the oldest go.

Where several processes share a database one of them makes it. A failure is told to a person and tried again soon.
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
"""After the first start of all: by then there is something to keep."""
_NOTE = "backup-begun"


class Schedule:
    def __init__(self, backup_service: BackupService, *, every_h: float, keep: int) -> None:
        """`every_h` 0: never."""
        self._backup_service = backup_service
        self._every = timedelta(hours=every_h)
        self._keep = keep
        self._failing_since: float | None = None

    @property
    def failing_s(self) -> float | None:
        """Since a scheduled backup first failed, while none succeeds."""
        return None if self._failing_since is None else self._backup_service.clock.monotonic() - self._failing_since

    async def run(self) -> None:
        """Until cancelled, if there is anything to do."""
        clock = self._backup_service.clock
        pause_s: float = FIRST_AFTER_S
        while self._every:
            await clock.sleep(pause_s)
            try:
                pause_s = await self._turn(clock.now())
                self._failing_since = None
            except Exception as error:  # whatever fails, Holdfast runs on without this backup
                is_expected = isinstance(error, (HoldfastError, SQLAlchemyError, OSError))
                retry_min = RETRY_S // 60
                log.error("Backup failed: %s; it is retried in %d min", error, retry_min, exc_info=not is_expected)  # noqa: TRY400
                if self._failing_since is None:
                    self._failing_since = clock.monotonic()
                pause_s = RETRY_S

    async def _turn(self, now: datetime) -> float:
        """Make one if it is due; returns how long to wait for the next turn."""
        left_s = await self._backup_service.database.write(lambda connection: self._claim(connection, now))
        if left_s > 0:
            return left_s
        try:
            made = await self._backup_service.make(kind=backup_dir.SCHEDULED)
        except BaseException:
            await self._backup_service.database.write(lambda connection: self._give_back(connection, now))
            raise
        gone = backup_dir.prune(self._backup_service.folder, keep=self._keep)
        count, size = len(made.manifest.companies), made.size_bytes / 1e6
        log.info(
            "Backup made of %d companies, %.1f MB: %s; %d old ones removed", count, size, made.path.name, len(gone)
        )
        return self._every.total_seconds()

    def _claim(self, connection: Connection, now: datetime) -> float:
        """Zero: it is due and this process's to make. Otherwise the seconds until it is due."""
        begun = noted(connection, _NOTE)
        left_s = 0.0 if begun is None else (datetime.fromisoformat(begun) + self._every - now).total_seconds()
        if left_s <= 0:
            note(connection, _NOTE, iso(now))
        return max(left_s, 0)

    def _give_back(self, connection: Connection, now: datetime) -> None:
        """One that failed is due again."""
        note(connection, _NOTE, iso(now - self._every))
