"""The data folder: permissions, secrets, free disk space and backups."""

from __future__ import annotations

import os
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from holdfast.api.keys import FILE as KEY_FILE
from holdfast.backup.backup_dir import names
from holdfast.backup.creating import FOLDER as BACKUPS
from holdfast.base.clock import Clock
from holdfast.checkup.check_result import CheckResult, ok, problem, warning
from holdfast.settings import FILE as SETTINGS_FILE
from holdfast.settings import Settings, variable

_GB = 1_000_000_000
FULL_BYTES, NEARLY_FULL_BYTES = _GB // 5, 2 * _GB
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_LATE = 2
"""A scheduled backup is late when the newest one is older than this many intervals."""


def data_folder(settings: Settings) -> CheckResult:
    """Permissions and owner: the folder holds the keys of every company's linked device."""
    what, folder = "data folder", settings.data_dir.absolute()
    try:
        found = folder.stat()
    except FileNotFoundError:
        return ok(what, f"{folder} does not exist yet: the first start creates it")
    except OSError as error:
        return problem(what, f"{folder} can't be examined: {error.strerror}", "run this as the user that runs Holdfast")
    if not stat.S_ISDIR(found.st_mode):
        return problem(what, f"{folder} is not a folder", f"set {variable('data_dir')} to one")
    if found.st_uid != os.geteuid():
        return problem(
            what, f"{folder} belongs to user {found.st_uid}, and this is user {os.geteuid()}",
            "run this as its owner, or chown it",
        )  # fmt: skip
    if not os.access(folder, os.W_OK | os.X_OK):
        return problem(what, f"{folder} can't be written", f"chmod 700 {folder}")
    if found.st_mode & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        return warning(what, f"{folder} is accessible to other users (mode {mode:o})", f"chmod 700 {folder}")
    return ok(what, f"{folder}, accessible to its owner only")


def secrets(settings: Settings) -> list[CheckResult]:
    """Permissions of the files that hold keys."""
    files = {"API key": settings.data_dir / KEY_FILE, "settings file": SETTINGS_FILE}
    return [_private(what, path.absolute()) for what, path in files.items() if path.exists()] or [
        ok("API key", "not created yet: the first start creates it" if settings.api_key is None else "set")
    ]


def _private(what: str, path: Path) -> CheckResult:
    found = path.stat()
    return judge_private(what, path, mode=stat.S_IMODE(found.st_mode), is_own=found.st_uid == os.geteuid() != 0)


def judge_private(what: str, path: Path, *, mode: int, is_own: bool) -> CheckResult:
    """`is_own`: the file belongs to this user, who is not root. Root gives a file to the group of Holdfast on purpose,
    as docs/install.md does, and after `chmod 600` Holdfast could not read it any more.
    """
    if mode & (_OTHERS if is_own else _OTHERS & ~stat.S_IRGRP):
        return warning(
            what, f"{path} is accessible to other users (mode {mode:o})", f"chmod {'600' if is_own else '640'} {path}"
        )
    return ok(what, f"{path}, mode {mode:o}")


def disk(settings: Settings) -> CheckResult:
    """Free disk space: on a full disk Holdfast accepts no messages, so that it loses none."""
    folder = settings.data_dir.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(there)
    return judge_disk(usage.free, usage.total)


def judge_disk(free: int, total: int) -> CheckResult:
    room = f"{free / _GB:.1f} GB of {total / _GB:.0f} GB are free"
    cure = "free some space: on a full disk no message is accepted and links are cut"
    if free < FULL_BYTES:
        return problem("disk", room, cure)
    return warning("disk", room, cure) if free < NEARLY_FULL_BYTES else ok("disk", room)


def backups(settings: Settings, clock: Clock) -> CheckResult:
    """The age of the newest backup, compared with the schedule."""
    folder = settings.data_dir / BACKUPS
    found = names(folder) if folder.exists() else []
    newest = max((datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in found), default=None)
    return judge_backups(len(found), None if newest is None else clock.now() - newest, settings.backup_every_h)


def judge_backups(count: int, age: timedelta | None, every_h: float) -> CheckResult:
    what = "backups"
    if age is None:
        return warning(what, "there is none", "`holdfast backup create` creates one; copy it to another machine")
    hours = age.total_seconds() / 3600
    description = f"{count}, the newest {_old(hours)} old"
    if every_h == 0:
        return warning(what, f"{description}; none are scheduled", f"set {variable('backup_every_h')}, such as 24")
    if hours > every_h * _LATE:
        return warning(
            what,
            f"{description}, though one is due every {every_h:g} h",
            "Holdfast's log says why there is no newer one",
        )
    return ok(what, description)


def _old(hours: float) -> str:
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"
