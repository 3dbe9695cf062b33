"""Runs all checks. The results are in the order in which a person would go through them."""

from __future__ import annotations

import asyncio

from holdfast.api.keys import first_key, stored_key
from holdfast.base.clock import Clock
from holdfast.base.errors import Misconfigured
from holdfast.checkup import folder, network, programs, whatsapp
from holdfast.checkup.check_result import CheckResult
from holdfast.checkup.database import clock_is_right, database
from holdfast.settings import Settings


async def check(settings: Settings, *, clock: Clock) -> list[CheckResult]:
    """Returns one result or more for each part. What a check finds never raises."""
    (stored, seen), redis, node, sandbox, proxy, running = await asyncio.gather(
        database(settings),
        programs.redis(settings, clock),
        programs.node(settings),
        programs.sandbox(settings),
        whatsapp.proxy(settings),
        network.server(settings, _key(settings)),
    )
    return [
        folder.data_folder(settings),
        *folder.secrets(settings),
        folder.disk(settings),
        stored,
        await clock_is_right(clock.now(), None if seen is None else seen.newest_at),
        redis,
        node,
        sandbox,
        programs.baileys(settings),
        proxy,
        network.exposure(settings.host, settings.port),
        *running,
        programs.alerts(settings),
        folder.backups(settings, clock),
    ]


def _key(settings: Settings) -> str | None:
    try:
        return stored_key(settings.data_dir) if settings.api_key is None else first_key(settings.api_key)
    except Misconfigured:
        return None  # the check of the file reports what is wrong with it
