"""A company moves in from a bare Baileys bot, and back out: one device all the way, and nobody scans anything."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Command
from tests.processes import Wasim
from tests.served import eventually, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER, PHONE = "962302", "962790000002", "962790000099"
SCRIPT = Path(__file__).parents[1] / "integration" / "bare_auth_folder.mjs"
LONG_AGO = 1_700_000_000


async def bot(node: Path, baileys: Path, wasim: Wasim, folder: Path) -> dict[str, Any]:
    """Run the bot once on that folder."""
    arguments = [str(SCRIPT), str(baileys), wasim.url, wasim.control, NUMBER, PHONE, str(folder)]
    process = await asyncio.create_subprocess_exec(str(node), *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    told: dict[str, Any] = json.loads(out)
    return told


async def read_on_the_phone(wasim: Wasim, *, texts: list[str]) -> None:
    async def look() -> bool:
        return [letter["text"] for letter in await wasim.get(f"/phones/{PHONE}/inbox")] == texts

    await eventually(look, within_s=10, what=f"{texts} on the phone")


async def test_a_bots_device_moves_in_and_out_without_a_qr_code(
    tmp_path: Path, wasim: Wasim, node_bin: Path, baileys_dir: Path
) -> None:
    """What waited for the bot is in the inbox, Holdfast goes on in the same chats, and a bot can have them back."""
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
