"""The folder of backups: which there are, whether they are whole, and which may go.

It must never remove one that a person asked for.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.backup.archive import ArchiveReader
from holdfast.backup.cancellation import CancelToken
from holdfast.backup.creating import ENDING
from holdfast.backup.encryption import SUFFIX, is_sealed, unseal
from holdfast.backup.errors import BadBackup, Locked
from holdfast.backup.manifest import Manifest

SCHEDULED = "scheduled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """What opens encrypted backups."""

    passphrase: str | None = None
    identity: Path | None = None

    @contextlib.contextmanager
    def open(self, path: Path) -> Iterator[ArchiveReader]:
        """A backup, decrypted beside itself for as long as the block takes. Raises `BadBackup`."""
        try:
            if not is_sealed(path):
                with ArchiveReader(path, name=str(path)) as reader:
                    yield reader
                return
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".opened-") as folder:
                plain = Path(folder) / "plain"
                unseal(path, plain, passphrase=self.passphrase, identity=self.identity)
                with ArchiveReader(plain, name=str(path)) as reader:
                    yield reader
        except FileNotFoundError:
            raise BadBackup(f'there is no backup "{path}": `holdfast backup list` shows those there are') from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One file in the folder."""

    path: Path
    size_bytes: int
    manifest: Manifest | None
    """None when it can't be looked into."""
    trouble: str | None
    """What is wrong with it; None when nothing was found."""

    @property
    def is_encrypted(self) -> bool:
        return self.path.name.endswith(SUFFIX)


def names(folder: Path) -> list[Path]:
    """All backups, newest first."""
    found = [*folder.glob(f"holdfast-*{ENDING}"), *folder.glob(f"holdfast-*{ENDING}{SUFFIX}")]
    return sorted(found, key=lambda path: path.name, reverse=True)


def look(path: Path, opener: Opener, *, verify: bool = True, wanted: CancelToken | None = None) -> Found:
    """`verify` reads all of it, for as long as it is wanted."""
    manifest, trouble = None, None
    try:
        with opener.open(path) as reader:
            manifest = reader.manifest
            if verify:
                reader.check(wanted or CancelToken())
    except Locked:
        pass  # neither whole nor damaged, as far as anybody can tell here
    except BadBackup as error:
        trouble = error.why
    return Found(path=path, size_bytes=path.stat().st_size, manifest=manifest, trouble=trouble)


def prune(folder: Path, *, keep: int) -> list[Path]:
    """Remove all but the newest scheduled ones; returns what went."""
    scheduled = [path for path in names(folder) if f"-{SCHEDULED}{ENDING}" in path.name]
    for path in scheduled[keep:]:
        path.unlink(missing_ok=True)
    return scheduled[keep:]
