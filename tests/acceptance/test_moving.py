"""Companies are imported from Baileys bots and from other gateways, and exported again, without a QR code."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import peer_stores as stores
from tests.cli.command import Command
from tests.postgres_process import PostgresProcess
from tests.processes import Wasim
from tests.redis_process import running_redis
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER, PHONE = "962302", "962790000002", "962790000099"
SCRIPT = Path(__file__).parents[1] / "integration" / "bare_auth_folder.mjs"
LONG_AGO = 1_700_000_000


async def bots(node: Path, baileys: Path, wasim: Wasim, folders: dict[str, Path]) -> list[dict[str, Any]]:
    """Run a bot for each number once, on its folder."""
    of_each = [part for number, folder in folders.items() for part in (number, str(folder))]
    arguments = [str(SCRIPT), str(baileys), wasim.url, wasim.control, PHONE, *of_each]
    process = await asyncio.create_subprocess_exec(str(node), *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return [json.loads(line) for line in out.splitlines()]


async def bot(node: Path, baileys: Path, wasim: Wasim, folder: Path) -> dict[str, Any]:
    return (await bots(node, baileys, wasim, {NUMBER: folder}))[0]


async def read_on_the_phone(wasim: Wasim, *, texts: list[str]) -> None:
    async def look() -> bool:
        return [message["text"] for message in await wasim.get(f"/phones/{PHONE}/inbox")] == texts

    await eventually(look, within_s=10, what=f"{texts} on the phone")


async def test_a_bots_device_is_imported_and_exported_without_a_qr_code(
    tmp_path: Path, wasim: Wasim, node_bin: Path, baileys_dir: Path
) -> None:
    """Messages that waited for the bot are in the inbox, Holdfast continues the same chats, and the device can be
    exported to a bot again.
    """
    for number in (NUMBER, PHONE):
        await wasim.post("/phones", {"number": number})
    folder = tmp_path / "auth"
    assert await bot(node_bin, baileys_dir, wasim, folder) == {"qrs": 1, "received": ["to the bot"]}
    for file in folder.iterdir():
        os.utime(file, (LONG_AGO, LONG_AGO))
    await wasim.post(f"/phones/{PHONE}/send", {"to": NUMBER, "text": "while nobody listened"})
    async with served(tmp_path, wasim=wasim) as gateway:
        holdfast = Command(tmp_path, gateway.settings_of_commands)
        ran = await holdfast("import-baileys", COMPANY, "auth")
        assert (ran.code, ran.err) == (0, ""), ran
        session = await gateway.until_state(COMPANY, "connected", within_s=15)
        assert session["phoneNumber"] == NUMBER

        async def inbox() -> list[str] | None:
            return [item["text"] for item in await gateway.inbox(COMPANY)] or None

        assert await eventually(inbox, within_s=10, what="the message that waited") == ["while nobody listened"]
        sent = await gateway.send(COMPANY, PHONE, "from Holdfast")
        await gateway.until_message(sent["id"], "delivered", "read", within_s=10)
        await gateway.client.post(f"/v1/sessions/{COMPANY}/stop")
        assert (await holdfast("export-baileys", COMPANY, "out")).err == ""
    await wasim.post(f"/phones/{PHONE}/send", {"to": NUMBER, "text": "back again"})
    assert await bot(node_bin, baileys_dir, wasim, tmp_path / "out") == {"qrs": 0, "received": ["back again"]}
    await read_on_the_phone(wasim, texts=["from the bot", "from Holdfast"])
    signal = next(each["signal"] for each in await wasim.get("/phones") if each["number"] == PHONE)
    assert (signal["reusedKeys"], signal["undecryptable"]) == (0, 0)


Store = Callable[[stores.Files], list[str]]
"""Writes the files of a linked device as a program stores them; returns what `holdfast import` is given, COMPANY left
out."""


def _stores(folder: Path, postgres: PostgresProcess, redis: str) -> dict[str, Store]:
    """The stores, by the company that each becomes."""

    def evolution(files: stores.Files) -> list[str]:
        url = stores.evolution_postgres(postgres.new_database(), "shop", files)
        keys = {name: text for name, text in files.items() if name != "creds.json"}
        instances = stores.rested(stores.folder(folder / "instances" / stores.INSTANCE, keys)).parent
        return ["evolution", f"{url}?schema=evolution_api", "--keys", str(instances)]

    def waha_postgres(files: stores.Files) -> list[str]:
        return ["waha", stores.waha_postgres(postgres.new_database(), "moving", files), "--session", "moving"]

    return {
        "evolution": evolution,
        "evolution-redis": lambda files: ["evolution", stores.evolution_redis(f"{redis}/1", files)],
        "waha": lambda files: [
            "waha",
            str(stores.rested(stores.waha_folder(folder / "sessions", "shop", files)).parent),
        ],
        "waha-sqlite": lambda files: ["waha", str(stores.waha_sqlite(folder / "waha.sqlite3", "shop", files))],
        "waha-postgres": waha_postgres,
        "baileys-api": lambda files: ["baileys-api", stores.baileys_api_redis(f"{redis}/2", "+962790000001", files)],
        "openwa": lambda files: ["openwa", str(stores.openwa_sqlite(folder / "openwa.sqlite", "shop", files))],
        "whatsmeow": lambda files: ["whatsmeow", str(stores.whatsmeow_sqlite(folder / "whatsmeow.db", files))],
        "openwa-postgres": lambda files: ["openwa", stores.openwa_postgres(postgres.new_database(), "shop", files)],
    }


async def test_devices_of_other_gateways_are_imported_without_a_qr_code(
    tmp_path: Path, wasim: Wasim, node_bin: Path, baileys_dir: Path, postgres: PostgresProcess
) -> None:
    """Linked by real Baileys, stored as each program stores them, imported by a running Holdfast: they connect, waiting
    messages are in the inbox, and messages are delivered in the same chats.
    """
    async with running_redis(tmp_path) as redis:
        places = _stores(tmp_path, postgres, redis.url.rsplit("/", 1)[0])
        numbers = {company: f"96279000001{index}" for index, company in enumerate(places)}
        folders = {number: tmp_path / "bots" / number for number in numbers.values()}
        await asyncio.gather(*(wasim.post("/phones", {"number": each}) for each in (PHONE, *folders)))
        assert {each["qrs"] for each in await bots(node_bin, baileys_dir, wasim, folders)} == {1}
        for number in folders:
            await wasim.post(f"/phones/{PHONE}/send", {"to": number, "text": "while nobody listened"})
        async with served(tmp_path, wasim=wasim) as gateway:
            holdfast = Command(tmp_path, gateway.settings_of_commands)
            for company, store in places.items():
                kind, *source = store(stores.files_of(folders[numbers[company]]))
                ran = await holdfast("import", kind, company, *source)
                assert ran.code == 0, (company, ran)
            await asyncio.gather(*(_has_moved(gateway, company, number) for company, number in numbers.items()))
    signal = next(each["signal"] for each in await wasim.get("/phones") if each["number"] == PHONE)
    assert (signal["reusedKeys"], signal["undecryptable"]) == (0, 0)


async def _has_moved(gateway: Served, company: str, number: str) -> None:
    session = await gateway.until_state(company, "connected", within_s=20)
    assert session["phoneNumber"] == number

    async def has_come() -> bool:
        """A message whose ratchet was not imported is in the inbox without its text until its sender has sent
        it again.
        """
        return [item["text"] for item in await gateway.inbox(company)] == ["while nobody listened"]

    await eventually(has_come, within_s=20, what=f"the message that waited for {company}")
    sent = await gateway.send(company, PHONE, f"from {company}")
    await gateway.until_message(sent["id"], "delivered", "read", within_s=10)
