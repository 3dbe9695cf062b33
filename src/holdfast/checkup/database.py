"""The database: whether it is readable, undamaged and of this version; and the clock, compared with its newest row."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from holdfast.base.errors import Misconfigured
from holdfast.checkup.check_result import CheckResult, ok, problem, warning
from holdfast.health.advice import format_duration
from holdfast.settings import Settings, variable
from holdfast.store.inspect import DatabaseInspection, inspect_database
from holdfast.store.migrate import revisions

_AHEAD_S = 60
"""How far a row's time may lie in the future: machines that share a database differ a little."""
_NTP_S = 10


async def database(settings: Settings) -> tuple[CheckResult, DatabaseInspection | None]:
    """Reads the database without a lock, also while a gateway uses it."""
    what = "database"
    place: Path | str = settings.database_url or settings.data_dir.absolute() / "holdfast.db"
    if isinstance(place, Path) and not await asyncio.to_thread(place.exists):
        return ok(what, f"{place} does not exist yet: the first start creates it"), None
    try:
        seen = await asyncio.to_thread(inspect_database, place)
    except Misconfigured as error:
        cure = f"restore a backup, or set {variable('database_url')} or {variable('data_dir')} to the right one"
        return problem(what, error.sentence, cure), None
    return judge_database(seen, revisions()), seen


def judge_database(seen: DatabaseInspection, known: Sequence[str]) -> CheckResult:
    """`known`: this Holdfast's revisions, newest first."""
    what = "database"
    if seen.damage is not None:
        return problem(what, f"{seen.name} is damaged: {seen.damage}", "stop Holdfast and restore the newest backup")
    if not seen.revision:
        return ok(what, f"{seen.name} is empty: the first start creates its tables")
    if seen.revision not in known:
        return problem(
            what, f"{seen.name} has version {seen.revision}, newer than this Holdfast (up to {known[0]})",
            "install the version of Holdfast that wrote it, or restore a backup made before the upgrade",
        )  # fmt: skip
    if seen.revision != known[0]:
        return warning(
            what, f"{seen.name} has version {seen.revision}; this Holdfast migrates it to {known[0]} at its start",
            "back up, then restart Holdfast",
        )  # fmt: skip
    return ok(what, f"{seen.name}, version {seen.revision}, undamaged")


async def clock_is_right(now: datetime, newest_at: str | None) -> CheckResult:
    """The clock compared with the newest row, and whether the system synchronises it."""
    newest = None if newest_at is None else datetime.fromisoformat(newest_at)
    return judge_clock(now, newest, await _ntp())


def judge_clock(now: datetime, newest: datetime | None, ntp: bool | None) -> CheckResult:
    """`ntp`: whether the system's time is synchronised; None where that is unknown."""
    what, description = "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC"
    cure = "turn on time synchronisation, for example with `timedatectl set-ntp true`"
    if newest is not None and (ahead_s := (newest - now).total_seconds()) > _AHEAD_S:
        return problem(
            what, f"{description}, but the newest row in the database is {format_duration(ahead_s)} ahead of that", cure
        )
    if ntp is False:
        return warning(what, f"{description}, not synchronised", cure)
    return ok(what, description if ntp is None else f"{description}, synchronised")


async def _ntp() -> bool | None:
    """What systemd reports; None without systemd."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    asked = ("show", "--property=NTPSynchronized", "--value")
    process = await asyncio.create_subprocess_exec(
        program, *asked, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_NTP_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return {b"yes": True, b"no": False}.get(output.strip())
