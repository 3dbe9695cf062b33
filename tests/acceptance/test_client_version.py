"""WhatsApp refuses old clients: all sessions come back when a newer version is published, and hardly any knocks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.processes import running_wasim
from tests.served import eventually, served

pytestmark = pytest.mark.slow

OLD, NEW = 1_043_857_760, 1_043_999_999
SESSIONS = 50


async def test_a_raised_minimum_ends_with_the_version_that_is_published(bridge: Path, tmp_path: Path) -> None:
    """50 sessions are cut while their version is refused. They wait while one of them probes; an alert names the
    version that was tried. When `/sw.js` names a newer one they are back within 15 s, after at most 60 refusals."""
    settings = {"HOLDFAST_HEALTH_INTERVAL_S": "2"}
    async with running_wasim(tmp_path / "wasim") as wasim, served(tmp_path, wasim=wasim, **settings) as gateway:
        companies = {f"c{n}": f"9627900{n:05}" for n in range(SESSIONS)}
        for company, number in companies.items():
            await gateway.pair(company, number, wasim)
        await wasim.post("/version", {"minimum": NEW})
        await wasim.fault("cut")

        async def refused() -> bool:
            return bool((await wasim.get("/stats"))["loginsRefused"])

        await eventually(refused, within_s=20, what="a refused login")
        await asyncio.sleep(10)  # the storm, if there were one
        tried = f"2.3000.{OLD}"
        assert (await gateway.client.get("/v1/about"))["clientVersion"]["refused"] == [tried]
        assert gateway.log_lines("WhatsApp refuses client version", tried, "publishes no newer one")
        before = (await wasim.get("/stats"))["loginsRefused"]
        await wasim.post("/version", {"published": NEW})

        async def connected() -> bool:
            states = [session["state"] async for session in gateway.client.items("/v1/sessions")]
            return len(states) == SESSIONS and set(states) == {"connected"}

        await eventually(connected, within_s=15, what="all sessions")
        stats = await wasim.get("/stats")
        assert stats["loginsRefused"] <= 60
        assert stats["loginsRefused"] - before <= 5
        about = (await gateway.client.get("/v1/about"))["clientVersion"]
        assert (about["version"], about["origin"], about["refused"]) == (f"2.3000.{NEW}", "whatsapp", [])
