"""A backup made while ten companies send, restored on an empty machine: all sessions reconnect, nothing is lost or
duplicated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.client import Json
from tests.cli.command import Command, Ran
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow

NUMBERS = {f"9623{n:02}": f"9627900010{n:02}" for n in range(10)}
CONTACT, SILENT = "962790000098", "962790000099"
"""One writes too; the other never does, so that only a company itself can advance that ratchet."""
EVERY_S = 0.2


@asynccontextmanager
async def writing(gateway: Served) -> AsyncIterator[list[Json]]:
    """Each company writes to both, five times a second, during the block; yields the accepted messages."""
    accepted: list[Json] = []
    over = asyncio.Event()

    async def write(company: str) -> None:
        n = 0
        while not over.is_set():
            n += 1
            accepted.append(await gateway.send(company, (CONTACT, SILENT)[n % 2], f"{company} {n:03}"))
            await asyncio.sleep(EVERY_S)

    async with asyncio.TaskGroup() as tasks:
        for company in NUMBERS:
            tasks.create_task(write(company))
        yield accepted
        over.set()


async def texts_of_contacts(wasim: Wasim) -> list[str]:
    return [message["text"] for phone in (CONTACT, SILENT) for message in await wasim.get(f"/phones/{phone}/inbox")]


async def until_all_arrived(gateway: Served, messages: list[Json]) -> None:
    for message in messages:
        await gateway.until_message(message["id"], "delivered", "read", within_s=20)


async def restore(folder: Path, backup: Path) -> Ran:
    """Restore on the machine that has this folder, with no gateway running on it."""
    holdfast = Command(folder, {"HOLDFAST_DATA_DIR": str(folder / "data"), "HOLDFAST_PORT": "9"})
    return await holdfast("backup", "restore", str(backup))


async def test_ten_companies_survive_the_loss_of_their_machine(tmp_path: Path, wasim: Wasim) -> None:
    """The old machine ran for a while after the backup, so every ratchet has advanced: no key is used twice."""
    for phone in (CONTACT, SILENT):
        await wasim.post("/phones", {"number": phone})
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    async with served(first, wasim=wasim) as gateway:
        await asyncio.gather(*(gateway.pair(company, number, wasim) for company, number in NUMBERS.items()))
        async with writing(gateway) as sent:
            await asyncio.sleep(1)
            made = await gateway.client.post("/v1/backups")
            await asyncio.sleep(1)
        await until_all_arrived(gateway, sent)
        await gateway.kill()
    backup = first / "data" / "backups" / made["name"]
    for number in NUMBERS.values():
        await wasim.post(f"/phones/{CONTACT}/send", {"to": number, "text": f"to {number}"})
    restored = await restore(second, backup)
    assert (restored.code, restored.err.count("restored stopped")) == (0, 0), restored
    async with served(second, wasim=wasim) as gateway:
        for company in NUMBERS:
            await gateway.until_state(company, "connected", within_s=20)
        new = [
            await gateway.send(company, phone, f"{company} is back, {phone}")
            for company in NUMBERS
            for phone in (CONTACT, SILENT)
        ]
        await until_all_arrived(gateway, new)
        for company, number in NUMBERS.items():
            await until_read(gateway, company, f"to {number}")
        assert not gateway.log_lines("pairing")
    found = await texts_of_contacts(wasim)
    expected = [f"{company} is back, {phone}" for company in NUMBERS for phone in (CONTACT, SILENT)]
    assert sorted(found) == sorted(set(found)), "nothing is shown twice"
    assert len(found) == len(sent) + len(expected), "nothing is missing"
    assert set(expected) <= set(found)
    for phone in await wasim.get("/phones"):
        if phone["number"] in {CONTACT, SILENT}:
            assert (phone["signal"]["reusedKeys"], phone["signal"]["undecryptable"]) == (0, 0)

    on_the_first = await restore(first, backup)
    assert on_the_first.code == 1
    for company in NUMBERS:
        why = f"holdfast: company {company} is restored stopped: this installation has newer keys of its device"
        assert why in on_the_first.err


async def until_read(gateway: Served, company: str, text: str) -> None:
    async def look() -> bool:
        return text in [item["text"] for item in await gateway.inbox(company)]

    await eventually(look, within_s=20, what=f"{text!r} in the inbox of {company}")
