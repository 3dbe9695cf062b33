"""Writes stored media to files for the engine, and removes media that no message needs any more.

The files are a cache: a file that was removed is written again at the next request.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from datetime import timedelta
from pathlib import Path

from holdfast.base.clock import Clock, iso
from holdfast.base.errors import Fault, HoldfastError
from holdfast.delivery.content import Content
from holdfast.delivery.media_stores import MediaStore

log = logging.getLogger(__name__)

SPOOL_KEPT_S = 15 * 60
"""How long the engine may take to read a file."""
MAX_BYTES = 1024 * 1024 * 1024
"""Upper bound of the size of all files together."""
FIRST_SWEEP_S = 300
SWEEP_INTERVAL_S = 6 * 3600
UNUSED_KEPT = timedelta(days=1)
"""How long an uploaded file is kept without a message that uses it."""


class MediaGone(HoldfastError):
    """The media file of a message is no longer stored."""

    code = "media-gone"
    fault = Fault.HOLDFAST


class Spool:
    """Implements `holdfast.delivery.stores.MediaFiles`."""

    def __init__(self, store: MediaStore, *, folder: Path, clock: Clock, max_bytes: int = MAX_BYTES) -> None:
        """Files that an earlier process left in the folder are removed."""
        self._store = store
        self._max_bytes = max_bytes
        self.folder = folder.absolute()
        self._clock = clock
        self._requested_at: dict[str, float] = {}
        self._writing: dict[str, asyncio.Lock] = {}
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)

    async def content_for_engine(self, content: Content) -> Content:
        """Raises `MediaGone`."""
        return {name: await self._part_for_engine(part) for name, part in content.items()}

    async def _part_for_engine(self, part: object) -> object:
        if not isinstance(part, dict) or "media" not in part:
            return part
        file = await self.path(str(part["media"]))
        return {name: value for name, value in part.items() if name != "media"} | {"file": str(file)}

    async def path(self, media_id: str) -> Path:
        """The path of a complete file, which stays for 15 minutes unless space is short. Raises `MediaGone`."""
        file = self.folder / media_id
        async with self._writing.setdefault(media_id, asyncio.Lock()):
            if not file.exists():
                await self._write_file(media_id, file)
            self._requested_at.pop(media_id, None)
            self._requested_at[media_id] = self._clock.monotonic()
        return file

    async def _write_file(self, media_id: str, file: Path) -> None:
        fresh = file.with_suffix(".new")
        try:
            if not await self._store.copy(media_id, fresh):
                raise MediaGone("the file of the message is no longer stored: send the message again")
            fresh.rename(file)
        finally:
            fresh.unlink(missing_ok=True)
        self._evict_oldest()

    def _evict_oldest(self) -> None:
        """Remove the least recently used files; a file that is still needed is written again."""
        sizes = {file.name: file.stat().st_size for file in self.folder.iterdir()}
        total = sum(sizes.values())
        for media_id in [media_id for media_id in self._requested_at if not self._is_being_written(media_id)]:
            if total <= self._max_bytes:
                return
            total -= sizes.get(media_id, 0)
            self._remove(media_id)

    async def run(self) -> None:
        """Remove files that have not been used recently, until cancelled."""
        while True:
            await self._clock.sleep(SPOOL_KEPT_S / 3)
            self._remove_old(self._clock.monotonic() - SPOOL_KEPT_S)

    def _remove_old(self, before: float) -> None:
        old = [
            media_id
            for media_id, at in self._requested_at.items()
            if at < before and not self._is_being_written(media_id)
        ]
        for media_id in old:
            try:
                self._remove(media_id)
            except OSError as error:
                log.warning("%s can't be removed; this will be retried later: %s", self.folder / media_id, error)
        self._writing = {
            media_id: lock
            for media_id, lock in self._writing.items()
            if media_id in self._requested_at or lock.locked()
        }

    def _is_being_written(self, media_id: str) -> bool:
        """Whether the file is being written. Then it must stay: a caller is about to use it."""
        making = self._writing.get(media_id)
        return making is not None and making.locked()

    def _remove(self, media_id: str) -> None:
        (self.folder / media_id).unlink(missing_ok=True)
        del self._requested_at[media_id]
        self._writing.pop(media_id, None)


class MediaSweeper:
    """Removes media that no message needs any more, several times a day."""

    def __init__(self, store: MediaStore, *, clock: Clock, keep_days: int) -> None:
        self._store = store
        self._clock = clock
        self._keep = timedelta(days=keep_days)

    async def run(self) -> None:
        """Sweep until cancelled."""
        pause_s = FIRST_SWEEP_S
        while True:
            await self._clock.sleep(pause_s)
            pause_s, now = SWEEP_INTERVAL_S, self._clock.now()
            try:
                removed = await self._store.sweep(
                    unused_since=iso(now - UNUSED_KEPT), settled_since=iso(now - self._keep)
                )
            except Exception:  # a database that is unavailable must not end Holdfast
                log.exception("Unused media could not be removed; this will be retried later")
                continue
            if removed:
                log.info("%d unused media files were removed", removed)
