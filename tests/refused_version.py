"""WhatsApp raises its minimum revision while many sessions are connected, waits, and publishes a newer one. Counts the
logins and queries of the sessions.

Every figure is counted by the simulated WhatsApp.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from tests.processes import Wasim
from tests.served import Served, eventually

PINNED, NEWER = 1_043_857_760, 1_043_999_999
"""The revision of Baileys itself, and one that WhatsApp demands later."""
CYCLE_S = 300
"""Seconds between two probes while no newer version is known: `LimiterPolicy.probe_outdated_s`."""
_PAIRED_AT_ONCE = 10
_ALERT = "WhatsApp refuses client version"
_AT_MOST_S = 60
_QUIET_S = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Logins that WhatsApp refused."""

    at_once: int
    """Seconds until every session waited for a newer version, and an alert named the one that was tried."""
    by_cycle: tuple[int, ...]
    """Logins in each cycle without a newer version."""
    total: int
    """Seconds until all sessions were connected again."""
    back_s: float
    """Seconds from the moment when `/sw.js` showed the newer version until all were connected."""
    alert: str


async def pair_many(gateway: Served, wasim: Wasim, count: int) -> None:
    turns = asyncio.Semaphore(_PAIRED_AT_ONCE)

    async def pair(number: int) -> None:
        async with turns:
            await gateway.pair(f"c{number}", f"9627900{number:05}", wasim)

    await asyncio.gather(*(pair(number) for number in range(count)))


async def refuse_and_publish(gateway: Served, wasim: Wasim, *, cycles: int = 0) -> Refusals:
    """Cut all sessions while their version is refused; publish a newer one after so many cycles."""
    loop = asyncio.get_running_loop()
    await wasim.post("/version", {"minimum": NEWER})
    await wasim.fault("cut")
    alert = await eventually(lambda: _alert(gateway), within_s=_AT_MOST_S, what="the alert")
    counted = [await _settled(wasim)]
    for _ in range(cycles):
        await asyncio.sleep(CYCLE_S)
        counted.append(await refused(wasim))
    await wasim.post("/version", {"published": NEWER})
    published_at = loop.time()
    await eventually(lambda: _all_connected(gateway), within_s=_AT_MOST_S, what="all sessions connected")
    return Refusals(
        at_once=counted[0],
        by_cycle=tuple(after - before for before, after in itertools.pairwise(counted)),
        total=await refused(wasim),
        back_s=loop.time() - published_at,
        alert=alert,
    )


async def refused(wasim: Wasim) -> int:
    return int((await wasim.get("/stats"))["loginsRefused"])


async def _settled(wasim: Wasim) -> int:
    """Wait until there are no more refused logins for a while, and return their number: every session waits then."""
    loop = asyncio.get_running_loop()
    count, since = 0, loop.time()

    async def look() -> int | None:
        nonlocal count, since
        if (found := await refused(wasim)) != count:
            count, since = found, loop.time()
        return count if loop.time() - since >= _QUIET_S else None

    return await eventually(look, within_s=_AT_MOST_S, what="the end of the refused logins")


async def _all_connected(gateway: Served) -> bool:
    return {each["state"] async for each in gateway.client.items("/v1/sessions")} == {"connected"}


async def _alert(gateway: Served) -> str | None:
    return next(iter(gateway.log_lines("Alert", "WhatsApp refuses client version")), None)
