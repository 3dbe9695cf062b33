"""WhatsApp refuses old clients: all sessions reconnect when a newer version is published, after few refused logins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import running_wasim
from tests.refused_version import NEWER, PINNED, pair_many, refuse_and_publish
from tests.served import served

pytestmark = pytest.mark.slow

SESSIONS = 50


async def test_a_raised_minimum_ends_with_the_version_that_is_published(bridge: Path, tmp_path: Path) -> None:
    """50 sessions are cut while WhatsApp refuses their version. After at most 60 refused logins all of them wait, and
    an alert names the version that was tried. When `/sw.js` shows a newer one, all connect again; at most one more
    login is refused. `bench/client_version.py` measures how long that takes, and counts the probes of each cycle."""
    settings = {"HOLDFAST_HEALTH_INTERVAL_S": "1"}
    async with running_wasim(tmp_path / "wasim") as wasim, served(tmp_path, wasim=wasim, **settings) as gateway:
        await pair_many(gateway, wasim, SESSIONS)
        refusals = await refuse_and_publish(gateway, wasim)
        assert f"refuses client version 2.3000.{PINNED} (405) and publishes no newer one" in refusals.alert
        assert 3 <= refusals.at_once <= 60
        assert refusals.total <= refusals.at_once + 1
        about = (await gateway.client.get("/v1/about"))["clientVersion"]
        assert (about["version"], about["origin"], about["refused"]) == (f"2.3000.{NEWER}", "whatsapp", [])
