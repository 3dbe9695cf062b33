"""Which data becomes durable on the disk, and in which order; and a file that can't be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

Syncs = list[tuple[int, frozenset[str]]]


def record_syncs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Syncs:
    """Record each fsync from now on: the inode, and the names in `folder` at that time."""
    syncs: Syncs = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        syncs.append((os.fstat(handle).st_ino, frozenset(os.listdir(folder))))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    return syncs


def survives_power_cut(file: Path, syncs: Syncs) -> bool:
    """Whether the content was on the disk before the file had its name, and afterwards the folder with that name."""
    content, folder = file.stat().st_ino, file.parent.stat().st_ino
    has_content = any(inode == content and file.name not in names for inode, names in syncs)
    has_name = any(inode == folder and file.name in names for inode, names in syncs)
    return has_content and has_name


class FileOfAnotherUser(type(Path())):  # type: ignore[misc]  # root, who may run this test, can read every real file
    """A file that this user may not read."""

    def open(self, *_: object, **__: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))
