"""Failures of Redis seen from outside: a whole gateway, a real Redis, and two companies that write to each other.

One gateway goes through all of them. During each, both companies keep writing and one of them reconnects, so that its
record changes while Redis is unavailable; a third company is idle. Afterwards every message has arrived once, the log
has one line about the failure and one about its end, and within five seconds Redis shows the same as the API.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from holdfast.client import Json
from tests.mail import COMPANIES, CONTACT, Mail
from tests.processes import Wasim, running_wasim
from tests.redis_process import RedisProcess
from tests.served import Served, eventually, served
from tests.traffic import LOOK, POST, Traffic

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

COMPANY = "962302"
QUIET = {"962304": "962790000004"}
"""Connected, without any messages: its record does not change, so only the write-back can restore it."""
SHOWN = COMPANIES | QUIET
RIGHT_WITHIN_S = 5.0
"""Seconds from Redis' return until it shows all sessions correctly."""
NOTICED_WITHIN_S = 8.0
"""A read-only or full Redis is noticed with the next write, which a busy session makes every five seconds."""
ARRIVED_WITHIN_S = 20.0
OUTAGE_S = 2.0
"""Long enough for several attempts of the gateway."""
WELL_S, HANG_S = 4.0, 5.0
SLOWER_AT_MOST_MS = 250
BEHIND = timedelta(seconds=6)
"""How far the last activity in Redis may lag behind."""
LIFETIME_S = 3600
THEIR_FIELDS = ["state", "connectedAt", "lastActivity", "phoneNumber", "reconnectAttempts"]
"""The fields that the user asked for, in this order."""
NOWHERE = ("127.0.0.1", 1)
"""Nothing listens there."""


@dataclass(slots=True, kw_only=True)
class Installation:
    """The gateway, its Redis, and everything that was written."""

    gateway: Served
    wasim: Wasim
    redis: RedisProcess
    traffic: Traffic
    folder: Path
    heard: int = 0
    """Number of log lines about Redis from earlier tests."""

    def said(self) -> list[str]:
        """Log lines about Redis of this test: from the level on, without the time."""
        lines = self.gateway.log_lines("Redis at ")[self.heard :]
        return [line.split(maxsplit=1)[1] for line in lines]

    @asynccontextmanager
    async def failure(self, *told: str) -> AsyncIterator[None]:
        """Exchange messages while the block breaks Redis and repairs it. `told`: all expected log lines, each once."""
        try:
            async with self.traffic.flowing():
                yield
                took_s = await self.until_right()
                print(f"Redis was right again after {took_s:.1f} s")  # noqa: T201 – shown when the test fails
            await self.traffic.mail.until_arrived(within_s=ARRIVED_WITHIN_S)
            await self.traffic.mail.check()
            said = self.said()
            assert len(said) == len(told), said
            assert all(words in line for words, line in zip(told, said, strict=True)), said
            assert not self.gateway.log_lines(" ERROR ")
        finally:
            self.heard += len(self.said())

    async def until_said(self, words: str) -> None:
        async def look() -> bool:
            return any(words in line for line in self.said())

        await eventually(look, within_s=NOTICED_WITHIN_S, what=f'"{words}" in the log')

    async def until_gone(self, why: str) -> None:
        """Wait for the log line. The gateway stays ready, and a session changes while Redis can't be written."""
        await self.until_said(f"is gone: {why}")
        assert (await self.gateway.client.get("/readyz"))["status"] == "ready"
        await self.reconnect()
        await asyncio.sleep(OUTAGE_S)

    async def reconnect(self) -> None:
        before = await self.gateway.session(COMPANY)
        await self.gateway.client.post(f"/webhook/whatsapp/baileys/reconnect/{COMPANY}")

        async def look() -> bool:
            now = await self.gateway.session(COMPANY)
            return bool(now["state"] == "connected" and now["connectedAt"] != before["connectedAt"])

        await eventually(look, within_s=10, what="a new link")

    async def until_right(self) -> float:
        """Wait until Redis shows every session like the API; called when Redis returns. Returns the seconds it took."""
        returned_at = self.traffic.now()
        for company in SHOWN:

            async def look(company: str = company) -> bool:
                return await self._is_right(company)

            left_s = returned_at + RIGHT_WITHIN_S - self.traffic.now()
            await eventually(look, within_s=left_s, what=f"the record of {company} in Redis")
        return self.traffic.now() - returned_at

    async def _is_right(self, company: str) -> bool:
        key = f"whatsapp:session:{company}"
        text = await self.redis.cli("get", key)
        shown = json.loads(text) if text.startswith("{") else None
        if shown is None or not _agree(shown, await self.gateway.session(company), is_quiet=company in QUIET):
            return False
        assert list(shown)[: len(THEIR_FIELDS)] == THEIR_FIELDS
        assert (shown["state"], shown["phoneNumber"]) == ("connected", SHOWN[company])
        return LIFETIME_S - 10 <= int(await self.redis.cli("ttl", key)) <= LIFETIME_S


def _agree(shown: Json, session: Json, *, is_quiet: bool) -> bool:
    """Only the last activity may be older, because it is written every five seconds: either one of many activities, or
    the answer to a keep-alive after a long silence."""
    same = all(shown[name] == session[name] for name in THEIR_FIELDS if name != "lastActivity")
    told, due = (datetime.fromisoformat(each["lastActivity"]) for each in (shown, session))
    return same and (due - told < BEHIND or (is_quiet and datetime.now(UTC) - due < BEHIND))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(bridge: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """Three companies with linked phones, and a working Redis."""
    folder = tmp_path_factory.mktemp("days")
    redis = RedisProcess(folder)
    async with AsyncExitStack() as held:
        held.push_async_callback(redis.end)
        await redis.start()
        wasim = await held.enter_async_context(running_wasim(folder / "wasim"))
        await wasim.post("/phones", {"number": CONTACT})
        gateway = await held.enter_async_context(served(folder, wasim=wasim, HOLDFAST_REDIS_URL=redis.url))
        for company, number in SHOWN.items():
            await gateway.pair(company, number, wasim)
        traffic = Traffic(gateway, Mail(gateway, wasim))
        made = Installation(gateway=gateway, wasim=wasim, redis=redis, traffic=traffic, folder=folder)
        await made.until_said("is up")
        await made.until_right()
        made.heard = 1
        yield made


async def test_absent_at_the_start(installation: Installation) -> None:
    """The gateway starts without Redis, says so, works, and fills Redis when it is available."""
    await installation.gateway.stop()
    await installation.redis.kill()
    await installation.gateway.start()
    for company in SHOWN:
        await installation.gateway.until_state(company, "connected", within_s=15)
    async with installation.failure("is gone: it can't be reached (Connection refused)", "is back after"):
        await installation.until_gone("it can't be reached")
        await installation.redis.start()


async def test_killed_during_traffic(installation: Installation) -> None:
    """It returns empty after `kill -9`."""
    async with installation.failure("is gone: it can't be reached (Connection refused)", "is back after"):
        await installation.redis.kill()
        await installation.until_gone("it can't be reached")
        await installation.redis.start()


async def test_hanging(installation: Installation) -> None:
    """Redis accepts connections and never answers: no API request waits for it."""
    async with installation.failure("is gone: it does not answer", "is back after"):
        await asyncio.sleep(WELL_S)
        well_until = installation.traffic.now()
        installation.redis.freeze()
        try:
            await installation.until_gone("it does not answer")
            await asyncio.sleep(max(0, well_until + HANG_S - installation.traffic.now()))
        finally:
            installation.redis.thaw()
        thawed = installation.traffic.now()
    for what in (POST, LOOK):
        well = installation.traffic.took_ms(what, since=well_until - WELL_S, until=well_until, percent=99)
        hanging = installation.traffic.took_ms(what, since=well_until, until=thawed, percent=99)
        print(f"{what}: p99 {well:.0f} ms well, {hanging:.0f} ms while Redis hangs")  # noqa: T201
        assert hanging <= well + SLOWER_AT_MOST_MS


async def test_emptied(installation: Installation) -> None:
    """FLUSHALL: lost records are written again, and one log line says so."""
    async with installation.failure("lost 3 of 3 records: they are written again"):
        await asyncio.sleep(1)  # messages flow
        await installation.redis.do("FLUSHALL")
        assert await installation.redis.cli("get", f"whatsapp:session:{COMPANY}") == ""
        await installation.until_right()
        await installation.reconnect()


async def test_read_only(installation: Installation) -> None:
    """Redis becomes the replica of a dead primary, and then a primary again."""
    async with installation.failure("is gone: it is a read-only replica", "is back after"):
        await installation.redis.do("REPLICAOF", *NOWHERE)
        await installation.until_gone("it is a read-only replica")
        await installation.redis.do("REPLICAOF", "NO", "ONE")


async def test_full(installation: Installation) -> None:
    """Other data fills the memory that Redis may use, and nothing is evicted; then that data is removed."""
    used = int((await installation.redis.cli("info", "memory")).split("used_memory:")[1].split()[0])
    async with installation.failure("is gone: it is full", "is back after"):
        await installation.redis.do("SET", "junk", "x" * 2**21)
        await installation.redis.do("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", used + 2**20)
        await installation.until_gone("it is full")
        await installation.redis.do("DEL", "junk")
    await installation.redis.do("CONFIG", "SET", "maxmemory", 0)


async def test_returning_with_an_old_snapshot(installation: Installation) -> None:
    """Redis returns with an old snapshot from disk: its records are overwritten with the newer state."""
    await installation.redis.do("SAVE")
    old = json.loads(await installation.redis.cli("get", f"whatsapp:session:{COMPANY}"))
    async with installation.failure("is gone: it can't be reached (Connection refused)", "is back after"):
        await installation.redis.kill()
        await installation.until_gone("it can't be reached")
        await installation.redis.start()
        assert (installation.folder / "dump.rdb").exists()
        assert old["connectedAt"] != (await installation.gateway.session(COMPANY))["connectedAt"]
