"""Folders of Baileys' `useMultiFileAuthState`, as several programs store them, one for each session."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from holdfast.backup.baileys import CREDENTIALS, IN_USE_S, BadFolder, changed_at, read_folder
from holdfast.health.advice import format_duration
from holdfast.importing.device import MAX_SESSIONS, ImportedDevice, ImportRefused, StoredSession

_BROWSER_PROFILE = ("Default", "Local State", "session", "SingletonLock")
"""Names that Chromium, and programs that drive it, create in their folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """The folder of one session, or a folder that contains such folders."""

    folder: Path
    name_of: Callable[[str], str] = str
    """Derives a session's name from the name of its folder."""

    @property
    def shown(self) -> str:
        return f'folder "{self.folder}"'

    def sessions(self) -> Sequence[StoredSession]:
        try:
            return list(self._sessions())[:MAX_SESSIONS]
        except OSError as error:
            raise ImportRefused(f"{self.shown} can't be read: {error.strerror}") from error

    def _sessions(self) -> Iterator[StoredSession]:
        if (self.folder / CREDENTIALS).is_file():
            yield self._session(self.folder)
            return
        for each in sorted(self.folder.iterdir()):
            if (each / CREDENTIALS).is_file():
                yield self._session(each)

    def _session(self, folder: Path) -> StoredSession:
        return StoredSession(name=self.name_of(folder.resolve().name), id=str(folder))

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        try:
            return recent(changed_at(Path(session.id)), now=now, what="its folder")
        except OSError as error:
            raise ImportRefused(f'"{error.filename}" can\'t be read: {error.strerror}') from error

    def read(self, session: StoredSession, *, now: datetime, skip_damaged: bool) -> ImportedDevice:
        try:
            read = read_folder(Path(session.id), now=now, skip_damaged=skip_damaged)
        except BadFolder as error:
            raise ImportRefused(error.sentence) from error
        return ImportedDevice(device=read.device, session=session.name, skipped=read.skipped, ignored=read.ignored)


def recent(changed_s: float, *, now: datetime, what: str) -> Sequence[str]:
    """A sign of use if `what` was written within the last minute. `changed_s`: time of the write, since 1970."""
    age_s = max(now.timestamp() - changed_s, 0)
    return [f"{what} was written {format_duration(age_s)} ago"] if age_s < IN_USE_S else []


def looks_like_a_browser(folder: Path) -> bool:
    """Whether the folder, or one of its subfolders, is a Chromium profile."""
    with contextlib.suppress(OSError):
        places = [folder, *(each for each in folder.iterdir() if each.is_dir())]
        return any((place / name).exists() for place in places for name in _BROWSER_PROFILE)
    return False
