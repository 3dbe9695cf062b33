"""`kill -9` at random moments, while messages are in flight in both directions.

A kill happens at the moment of a request; a printed seed decides which one. `CHAOS_SEED=…` in front of the command
repeats it, as far as two runs of several processes can be alike.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.mail import COMPANIES, CONTACT, Mail
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow

KILLS = 4
MESSAGES = 100
"""Messages written around each kill."""
ENDED_WITHIN_S = 2.0
"""How long an engine host may outlive the gateway: an open socket makes WhatsApp answer 440."""
RECONNECTED_WITHIN_S = 10.0
ARRIVED_WITHIN_S = 60.0


@pytest.fixture
def randomness() -> random.Random:
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    print(f"CHAOS_SEED={seed}")  # noqa: T201 – shown when the test fails
    return random.Random(seed)


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    """Two companies with linked phones, and a contact."""
    await wasim.post("/phones", {"number": CONTACT})
    async with served(tmp_path, wasim=wasim) as gateway:
        for company, number in COMPANIES.items():
            await gateway.pair(company, number, wasim)
        yield gateway


async def test_accepted_messages_arrive_once_and_in_order_although_the_gateway_is_killed(
    gateway: Served, wasim: Wasim, randomness: random.Random
) -> None:
    """After each `kill -9` of `holdfast serve` no engine host survives. Restarted on the same data folder, the gateway
    connects without a new QR code, and each message that was answered with 202 arrived once, readable and in order."""
    mail, under_way = Mail(gateway, wasim), []
    for kill in range(KILLS):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(mail.post(MESSAGES))
            await mail.until_requested(kill * MESSAGES + randomness.randint(1, MESSAGES))
            under_way.append(mail.asked - await mail.delivered())
            await gateway.kill()
            await _until_no_process(gateway)
            await gateway.start()
        await _until_all_connected(gateway)
    _check_messages_were_in_flight(mail, under_way)
    await mail.until_arrived(within_s=ARRIVED_WITHIN_S)
    await mail.check()
    await _check_same_devices(wasim)


async def test_a_killed_engine_host_is_replaced_and_nothing_is_lost(
    gateway: Served, wasim: Wasim, randomness: random.Random
) -> None:
    """After each `kill -9` of only the engine hosts, the gateway starts others, connects all sessions within ten
    seconds, and each accepted message arrived once, readable and in order."""
    mail, under_way = Mail(gateway, wasim), []
    for kill in range(KILLS):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(mail.post(MESSAGES))
            await mail.until_requested(kill * MESSAGES + randomness.randint(1, MESSAGES))
            under_way.append(mail.asked - await mail.delivered())
            links = {link["id"] for link in await wasim.get("/links")}
            for host in gateway.hosts():
                os.kill(host, signal.SIGKILL)
            await _until_new_links(wasim, links)
        await _until_all_connected(gateway)
    _check_messages_were_in_flight(mail, under_way)
    await mail.until_arrived(within_s=ARRIVED_WITHIN_S)
    await mail.check()
    await _check_same_devices(wasim)


def _check_messages_were_in_flight(mail: Mail, under_way: Sequence[int]) -> None:
    """Check that messages were in flight at each kill; otherwise it would prove nothing."""
    print(f"in flight at each kill: {under_way}; requests repeated: {mail.repeated_requests}")  # noqa: T201
    assert min(under_way) > 0, "no message was in flight at a kill"


async def _until_no_process(gateway: Served) -> None:
    async def look() -> bool:
        return not gateway.processes()

    await eventually(look, within_s=ENDED_WITHIN_S, what="the end of the killed gateway's engine host")


async def _until_all_connected(gateway: Served) -> None:
    for company in COMPANIES:
        await gateway.until_state(company, "connected", within_s=RECONNECTED_WITHIN_S)


async def _until_new_links(wasim: Wasim, old: set[int]) -> None:
    """Wait until WhatsApp has an open link of each company that it did not have before."""

    async def look() -> bool:
        links = [link for link in await wasim.get("/links") if link["state"] == "open" and link["id"] not in old]
        return {link["number"] for link in links} == set(COMPANIES.values())

    await eventually(look, within_s=RECONNECTED_WITHIN_S, what="a new link of each company")


async def _check_same_devices(wasim: Wasim) -> None:
    """Each phone was scanned once: it still has its one linked device."""
    phones = {phone["number"]: phone for phone in await wasim.get("/phones")}
    for number in COMPANIES.values():
        assert len(phones[number]["devices"]) == 1
