"""Inbound messages are all decrypted, and listed in the order in which they were sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.mail import COMPANIES, CONTACT, Mail
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    """Two companies with linked phones, and a contact."""
    await wasim.post("/phones", {"number": CONTACT})
    async with served(tmp_path, wasim=wasim) as gateway:
        for company, number in COMPANIES.items():
            await gateway.pair(company, number, wasim)
        yield gateway


async def test_two_parties_that_start_a_session_simultaneously_can_read_every_message(
    gateway: Served, wasim: Wasim
) -> None:
    """Both start a Signal session with the other; every message is decrypted without a retry receipt."""
    mail = Mail(gateway, wasim)
    await mail.post(60)
    await mail.until_arrived(within_s=30)
    await mail.check()


async def test_a_burst_is_listed_in_the_order_of_sending(gateway: Served, wasim: Wasim) -> None:
    """Also from an unknown contact, to two companies at once."""
    texts = [f"line {n:02}" for n in range(60)]
    async with asyncio.TaskGroup() as tasks:
        for company in COMPANIES:
            tasks.create_task(_write(wasim, company, texts))
    for company in COMPANIES:
        assert await _read(gateway, company, len(texts)) == texts


async def test_messages_sent_while_disconnected_are_listed_before_new_ones(gateway: Served, wasim: Wasim) -> None:
    """The link is restored while a long series of messages arrives."""
    company = next(iter(COMPANIES))
    texts = [f"line {n:03}" for n in range(150)]
    await gateway.client.post(f"/v1/sessions/{company}/stop")
    await _write(wasim, company, texts[:50])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gateway.client.post(f"/v1/sessions/{company}/start"))
        tasks.create_task(_write(wasim, company, texts[50:]))
    assert await _read(gateway, company, len(texts)) == texts


async def _write(wasim: Wasim, company: str, texts: list[str]) -> None:
    """The contact writes to the company, one line after the other."""
    for text in texts:
        await wasim.post(f"/phones/{CONTACT}/send", {"to": COMPANIES[company], "text": text})


async def _read(gateway: Served, company: str, limit: int) -> list[str]:
    async def look() -> list[str] | None:
        texts = [item["text"] for item in await gateway.inbox(company)]
        return texts if len(texts) >= limit else None

    return await eventually(look, within_s=30, what=f"the last of {limit} lines")
