"""Two engine hosts with real Baileys: one is killed, hangs, or is killed again and again by one session.

Measurements are printed: for how long each other company was disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.client import Json
from tests.processes import Wasim
from tests.served import Served, served

pytestmark = pytest.mark.slow

COMPANIES = {f"comp{number}": f"9627900000{number:02}" for number in range(6)}
CULPRIT = "comp0"
OTHERS = sorted(set(COMPANIES) - {CULPRIT})
BACK_WITHIN_S = 20.0
"""They are back after 1 to 3 s, on a busy machine after 5. This is a bound for sessions that do not come back."""
HUNG_AFTER_S = 10.0 + 2.0
"""The heartbeat deadline plus the interval between two heartbeats."""


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    async with served(tmp_path, wasim=wasim, HOLDFAST_ENGINE_HOSTS="2") as gateway:
        for company, number in COMPANIES.items():
            await gateway.pair(company, number, wasim)
        yield gateway


class Absences:
    """How long each company was disconnected, as seen by the API."""

    def __init__(self, gateway: Served) -> None:
        self._gateway = gateway
        self._since: dict[str, float] = {}
        self.longest: dict[str, float] = defaultdict(float)

    async def watch(self) -> None:
        while True:
            page = await self._gateway.client.get("/v1/sessions")
            now = time.monotonic()
            for session in page["items"]:
                company = session["companyId"]
                if session["state"] == "connected":
                    self._since.pop(company, None)
                else:
                    since = self._since.setdefault(company, now)
                    self.longest[company] = max(self.longest[company], now - since)
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def absences(gateway: Served) -> AsyncIterator[Absences]:
    found = Absences(gateway)
    watching = asyncio.create_task(found.watch())
    try:
        yield found
    finally:
        watching.cancel()
        print({company: round(seconds, 2) for company, seconds in sorted(found.longest.items())})  # noqa: T201


async def diagnosis(gateway: Served, company: str) -> Json:
    found: Json = await gateway.client.get(f"/webhook/whatsapp/baileys/diagnostics/{company}")
    return found


async def until_all_connected(gateway: Served, *companies: str, within_s: float) -> None:
    for company in companies:
        await gateway.until_state(company, "connected", within_s=within_s)


@pytest.mark.parametrize(
    ("number", "noticed_after_s"), [(signal.SIGKILL, 0.0), (signal.SIGSTOP, HUNG_AFTER_S)], ids=["killed", "hung"]
)
async def test_only_the_sessions_of_a_lost_host_are_disconnected(
    gateway: Served, number: signal.Signals, noticed_after_s: float
) -> None:
    """Companies on the other host keep their links; those of the lost one are connected soon after its end."""
    host = (await diagnosis(gateway, CULPRIT))["engineHost"]["pid"]
    [apart] = [each for each in (await diagnosis(gateway, CULPRIT))["engineHosts"] if each["pid"] != host]
    async with absences(gateway) as found:
        os.kill(host, number)
        await asyncio.sleep(noticed_after_s + 0.5)
        await until_all_connected(gateway, *COMPANIES, within_s=BACK_WITHIN_S)
    assert len(apart["sessions"]) == 3
    assert [company for company in apart["sessions"] if found.longest[company]] == []
    assert max(found.longest.values()) < BACK_WITHIN_S


async def test_the_session_that_crashes_its_hosts_is_found_and_all_others_continue(gateway: Served) -> None:
    """It is paused with a reason and named in the log; when a person starts it, it first runs alone on a host."""
    deaths = 0
    async with absences(gateway) as found:
        while (await gateway.session(CULPRIT))["state"] != "paused":
            seen = await diagnosis(gateway, CULPRIT)
            if seen["session"]["state"] == "connected" and seen["engineHost"]["pid"] is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(seen["engineHost"]["pid"], signal.SIGABRT)
                    deaths += 1
            await asyncio.sleep(0.1)
            assert deaths < 30, "the session was not found"
        await until_all_connected(gateway, *OTHERS, within_s=BACK_WITHIN_S)
    print(f"deaths until it was found: {deaths}")  # noqa: T201
    session = await diagnosis(gateway, CULPRIT)
    assert [reason["code"] for reason in session["reasons"]] == ["engine-quarantined"]
    assert gateway.log_lines("Session comp0 is quarantined")
    assert max(found.longest[company] for company in OTHERS) < BACK_WITHIN_S
    await gateway.client.post(f"/v1/sessions/{CULPRIT}/start")
    await gateway.until_state(CULPRIT, "connected", within_s=BACK_WITHIN_S)
    hosts = (await diagnosis(gateway, CULPRIT))["engineHosts"]
    assert [each["isolation"] for each in hosts if each["sessions"] == [CULPRIT]] == [True]
