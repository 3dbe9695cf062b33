"""The database: readable, whole, of this version; and the clock, which its newest row knows something about."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from holdfast.base.errors import Misconfigured
from holdfast.checkup.check_result import CheckResult, ok, problem, warning
from holdfast.health.advice import lasting
from holdfast.settings import Settings, variable
from holdfast.store.inspect import Peeked, peek
from holdfast.store.migrate import revisions

_AHEAD_S = 60
"""So far may a row's time lie in the future: several machines may share a database."""
_NTP_S = 10


async def database(settings: Settings) -> tuple[CheckResult, Peeked | None]:
    """Also while a gateway uses it: reading needs no lock."""
    what = "database"
    place: Path | str = settings.database_url or settings.data_dir.absolute() / "holdfast.db"
    if isinstance(place, Path) and not await asyncio.to_thread(place.exists):
        return ok(what, f"{place} is not there yet: the first start makes it"), None
    try:
        seen = await asyncio.to_thread(peek, place)
    except Misconfigured as error:
        cure = f"restore a backup, or set {variable('database_url')} or {variable('data_dir')} to the right one"
        return problem(what, error.sentence, cure), None
    return judge_database(seen, revisions()), seen


def judge_database(seen: Peeked, known: Sequence[str]) -> CheckResult:
    """`known`: this Holdfast's revisions, newest first."""
    what = "database"
    if seen.damage is not None:
        return problem(what, f"{seen.name} is damaged: {seen.damage}", "stop Holdfast and restore the newest backup")
    if not seen.revision:
        return ok(what, f"{seen.name} is empty: the first start fills it")
    if seen.revision not in known:
        return problem(
            what, f"{seen.name} has version {seen.revision}, newer than this Holdfast (up to {known[0]})",
            "install the Holdfast that wrote it, or restore a backup made before the upgrade",
        )  # fmt: skip
    if seen.revision != known[0]:
        return warning(
            what, f"{seen.name} has version {seen.revision}; this Holdfast brings it to {known[0]} at its start",
            "back up, then restart Holdfast",
        )  # fmt: skip
    return ok(what, f"{seen.name}, version {seen.revision}, whole")


async def clock_is_right(now: datetime, newest_at: str | None) -> CheckResult:
    """Against the newest row, and whether the system keeps it right."""
    newest = None if newest_at is None else datetime.fromisoformat(newest_at)
    return judge_clock(now, newest, await _ntp())


def judge_clock(now: datetime, newest: datetime | None, ntp: bool | None) -> CheckResult:
    """`ntp`: whether the system's time is synchronised; None where nobody knows."""
    what, told = "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC"
    cure = "switch time synchronisation on, such as `timedatectl set-ntp true`"
    if newest is not None and (ahead_s := (newest - now).total_seconds()) > _AHEAD_S:
        return problem(what, f"{told}, but the newest row in the database is {lasting(ahead_s)} ahead of that", cure)
    if ntp is False:
        return warning(what, f"{told}, not synchronised", cure)
    return ok(what, told if ntp is None else f"{told}, synchronised")


async def _ntp() -> bool | None:
    """What systemd says; None without it."""
    program = shutil.which("timedatectl")
    if program is None:
        return None
    asked = ("show", "--property=NTPSynchronized", "--value")
    process = await asyncio.create_subprocess_exec(
        program, *asked, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_NTP_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return {b"yes": True, b"no": False}.get(said.strip())
