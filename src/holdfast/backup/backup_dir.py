"""The folder of backups: lists them, verifies them and removes old scheduled ones.

It must never remove a backup that a person requested.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from holdfast.backup.archive import ArchiveReader
from holdfast.backup.cancellation import CancelToken
from holdfast.backup.creating import ENDING, begin_of_name
from holdfast.backup.encryption import SUFFIX, decrypt_file, is_encrypted_file
from holdfast.backup.errors import BadBackup, Locked
from holdfast.backup.manifest import Manifest

MANUAL, SCHEDULED = "manual", "scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """Opens backups, encrypted ones with a passphrase or an age identity."""

    passphrase: str | None = None
    identity: Path | None = None

    @contextlib.contextmanager
    def open(self, path: Path) -> Iterator[ArchiveReader]:
        """Open a backup; an encrypted one is decrypted into a temporary file beside it. Raises `BadBackup`."""
        try:
            if not is_encrypted_file(path):
                with ArchiveReader(path, name=str(path)) as reader:
                    yield reader
                return
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".opened-") as folder:
                plain = Path(folder) / "plain"
                decrypt_file(path, plain, passphrase=self.passphrase, identity=self.identity)
                with ArchiveReader(plain, name=str(path)) as reader:
                    yield reader
        except FileNotFoundError:
            raise BadBackup(f'there is no backup "{path}": `holdfast backup list` lists all') from None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFile:
    """One file in the folder."""

    path: Path
    size_bytes: int
    manifest: Manifest | None
    """None when the file can't be read."""
    problem: str | None
    """What is wrong with the file; None when no fault was found."""

    @property
    def is_encrypted(self) -> bool:
        return self.path.name.endswith(SUFFIX)


def names(folder: Path) -> list[Path]:
    """All backups, newest first."""
    found = [*folder.glob(f"holdfast-*{ENDING}"), *folder.glob(f"holdfast-*{ENDING}{SUFFIX}")]
    return sorted(found, key=lambda path: path.name, reverse=True)


def inspect(path: Path, opener: Opener, *, verify: bool = True, cancel_token: CancelToken | None = None) -> BackupFile:
    """Read the manifest; with `verify`, read the whole file and compare checksums until `cancel_token` is cancelled."""
    manifest, problem = None, None
    try:
        with opener.open(path) as reader:
            manifest = reader.manifest
            if verify:
                reader.check(cancel_token or CancelToken())
    except Locked:
        pass  # without the key nobody can say whether it is damaged
    except BadBackup as error:
        problem = error.why
    return BackupFile(path=path, size_bytes=path.stat().st_size, manifest=manifest, problem=problem)


def inspect_all(
    folder: Path, opener: Opener, *, verify: bool = True, cancel_token: CancelToken | None = None
) -> Iterator[BackupFile]:
    """Inspect all backups, newest first. Skip a backup that is removed in the meantime, as old scheduled ones are."""
    for path in names(folder):
        try:
            found = inspect(path, opener, verify=verify, cancel_token=cancel_token)
        except FileNotFoundError:
            continue
        yield found


def prune(folder: Path, *, keep: int, now: datetime) -> list[Path]:
    """Remove all scheduled backups but the newest; returns the removed files.

    One of a time that is still to come was made before the clock was set back, so it is older than all others.
    """
    scheduled = [path for path in names(folder) if f"-{SCHEDULED}{ENDING}" in path.name]
    by_age = sorted(scheduled, key=lambda path: path.name[: len(begin_of_name(now))] > begin_of_name(now))
    for path in by_age[keep:]:
        path.unlink(missing_ok=True)
    return by_age[keep:]
