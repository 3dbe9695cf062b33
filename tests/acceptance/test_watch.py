"""`holdfast watch` on a real link: a stable period is good; one with cuts is not, and the failed row is named."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Wasim
from tests.program import program
from tests.served import Served, eventually, served

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bridge")]

LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (INFO|WARNING|ERROR) (Session|Connection|Keep-alive) \S.*")
COMPANY, NUMBER, CONTACT = "962302", "962790000002", "962790000099"


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    async with served(tmp_path, wasim=wasim) as running:
        await wasim.post("/phones", {"number": CONTACT})
        await running.pair(COMPANY, NUMBER, wasim)
        yield running


async def test_a_stable_period_is_good_and_one_with_cuts_is_not(gateway: Served, wasim: Wasim, tmp_path: Path) -> None:
    """Exit 0, then 1 with the goal that was missed; a message that was sent in the meantime counts."""

    async def watched(*, cut: bool) -> tuple[int, Any]:
        here = gateway.settings_of_commands
        url, key = here["HOLDFAST_URL"], here["HOLDFAST_API_KEY"]
        command = ("watch", COMPANY, "--for", "4s", "--json")
        async with program(tmp_path / "watching", *command, HOLDFAST_URL=url, HOLDFAST_API_KEY=key) as running:
            await running.until_printed(f"Watching {COMPANY}")
            await gateway.send(COMPANY, CONTACT, "hello")
            if cut:
                await wasim.fault("cut", number=NUMBER)
            code = await running.ends()
        return code, json.loads(running.out[0])

    code, calm = await watched(cut=False)
    assert (code, calm["holds"], calm["failing"], calm["deliveryPercent"]) == (0, True, [], 100)
    code, cut = await watched(cut=True)
    assert (code, cut["holds"]) == (1, False)
    assert "disconnections an hour" in cut["failing"]
    assert cut["history"][0]["cause"] == "the connection was closed"


async def test_the_live_log_has_one_readable_line_for_each_event(gateway: Served, wasim: Wasim) -> None:
    """`grep -E "Session|Connection|Keep-alive"` shows: linked, keep-alive answered, cut, reconnected. No phone
    number.
    """
    answered = f"Keep-alive {COMPANY} answered after"

    async def told(links: int) -> list[str]:
        """Wait until that many links have answered a keep-alive, and return the lines that grep finds."""

        async def look() -> list[str] | None:
            lines = [line for line in gateway.log_lines() if re.search("Session|Connection|Keep-alive", line)]
            return lines if sum(answered in line for line in lines) == links else None

        return await eventually(look, within_s=30, what=f"the keep-alive of link {links}")

    await told(1)
    await wasim.fault("cut", number=NUMBER)
    lines = await told(2)
    assert all(LINE.fullmatch(line) for line in lines), lines
    events = [line.split(" ", 2)[2] for line in lines]
    assert [event.partition(";")[0] for event in events if event.startswith("Session")] == [
        f"Session {COMPANY} unpaired → pairing",
        f"Session {COMPANY} pairing → connecting",
        f"Session {COMPANY} connecting → connected",
        f"Session {COMPANY} connected → reconnecting: the connection was closed (428)",
        f"Session {COMPANY} reconnecting → connected",
    ]
    assert NUMBER not in "".join(lines)
