"""WhatsApp refuses several sessions for the same reason: one probes, and the others wait until it connects."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.processes import Wasim
from tests.served import served

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bridge")]

NUMBERS = {f"company-{number}": f"96279000010{number}" for number in range(5)}
HELD_S = 25


async def test_one_session_probes_for_all_while_whatsapp_refuses(tmp_path: Path, wasim: Wasim) -> None:
    """Five sessions get 503: few logins are tried, waiting sessions show why they wait, and all reconnect with the
    first.
    """
    async with served(tmp_path, wasim=wasim) as gateway:
        await asyncio.gather(*(gateway.pair(company, number, wasim) for company, number in NUMBERS.items()))
        before = (await wasim.get("/stats"))["loginsRefused"]
        fault = await wasim.fault("failure", reason="503")
        await wasim.fault("cut")
        await asyncio.sleep(HELD_S)  # real time, in which each session alone would have tried six times
        tried = (await wasim.get("/stats"))["loginsRefused"] - before
        assert 3 <= tried <= 10, "five first attempts, and probes after 5, 10 and 20 s"
        sessions = [await gateway.session(company) for company in NUMBERS]
        assert {session["state"] for session in sessions} == {"reconnecting"}
        assert "circuit-breaker-open" in {session["reason"]["code"] for session in sessions}
        await wasim.delete(f"/faults/{fault['id']}")
        for company in NUMBERS:
            await gateway.until_state(company, "connected", within_s=45)
        (line,) = gateway.log_lines(
            "Connection to WhatsApp: several sessions were refused for the same reason", "(503)"
        )
        assert gateway.log_lines("Connection to WhatsApp: WhatsApp accepts logins again"), line
