"""Crashes at random moments, in both directions; the store loses everything that it had not stored yet."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.doubles.engine_recorder import Recorder
from tests.integration.conftest import Party, StartHost
from tests.processes import Wasim

pytestmark = pytest.mark.slow

FRIEND = "962799999999"
ROUNDS = 8
EACH_WAY = 6
"""Messages per round."""


class Gateway:
    """A minimal Holdfast: it opens links, resends unacknowledged messages under the same ids, and crashes."""

    def __init__(self, party: Party, start_host: StartHost, randomness: random.Random) -> None:
        self.party, self.start_host, self.randomness = party, start_host, randomness
        self.unacked: dict[str, str] = {}

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[Recorder]:
        recorder = Recorder()
        async with self.start_host(recorder) as host:
            await self.party.log_in(host=host, recorder=recorder)
            for whatsapp_id, text in self.unacked.items():
                self.party.send(whatsapp_id, f"{FRIEND}@s.whatsapp.net", text)
            yield recorder
            for whatsapp_id in list(self.unacked):
                if any(ack.whatsapp_id == whatsapp_id and not ack.error for ack in self.party.acks()):
                    del self.unacked[whatsapp_id]

    def accept(self, whatsapp_id: str, text: str) -> None:
        self.unacked[whatsapp_id] = text
        self.party.send(whatsapp_id, f"{FRIEND}@s.whatsapp.net", text)

    async def crash(self, recorder: Recorder) -> None:
        """The store stops storing at one moment, the host dies at a later one, and everything in between is lost."""
        await asyncio.sleep(self.randomness.random() * 0.15)
        recorder.hold()
        await asyncio.sleep(self.randomness.random() * 0.05)
        assert self.party.host.pid is not None
        os.kill(self.party.host.pid, signal.SIGKILL)
        await self.party.host.ended()
        recorder.held.clear()


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_crash_loses_duplicates_or_damages_a_message(
    ours: Party, start_host: StartHost, wasim: Wasim, seed: int
) -> None:
    """Each message of both sides is read exactly once, and no key was ever used for two messages."""
    await wasim.post("/phones", {"number": FRIEND})
    gateway = Gateway(ours, start_host, random.Random(seed))
    for round_ in range(ROUNDS):
        async with gateway.alive() as recorder:
            for n in range(EACH_WAY):
                gateway.accept(f"3EB0{seed:02}{round_:02}{n:02}", f"to the friend {round_}.{n}")
                await wasim.post(
                    f"/phones/{FRIEND}/send",
                    {"to": ours.number, "text": f"from the friend {round_}.{n}", "id": f"3A{seed:02}{round_:02}{n:02}"},
                )
            await gateway.crash(recorder)
    async with gateway.alive():
        texts = await ours.shown(ROUNDS * EACH_WAY)
        inbox = await read_by_friend(wasim, ROUNDS * EACH_WAY)
    each = [f"{round_}.{n}" for round_ in range(ROUNDS) for n in range(EACH_WAY)]
    assert sorted(texts) == sorted(f"from the friend {name}" for name in each)
    assert sorted(item["text"] for item in inbox) == sorted(f"to the friend {name}" for name in each)
    friend = next(phone for phone in await wasim.get("/phones") if phone["number"] == FRIEND)
    assert friend["signal"]["reusedKeys"] == 0


async def read_by_friend(wasim: Wasim, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        while True:
            inbox: list[dict[str, Any]] = await wasim.get(f"/phones/{FRIEND}/inbox")
            if sum(item["text"] is not None for item in inbox) >= count:
                return inbox
            await asyncio.sleep(0.05)
