"""wasim serves unmodified Baileys that knows nothing of Holdfast."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.parts import Wasim

SCRIPT = Path(__file__).with_name("wasim_bare_baileys.mjs")


async def run_script(node_bin: Path, baileys_dir: Path, wasim: Wasim) -> dict[str, dict[str, Any]]:
    """What the script reports, by event."""
    arguments = [str(SCRIPT), str(baileys_dir), wasim.url, wasim.control, "962302", "962303"]
    process = await asyncio.create_subprocess_exec(
        str(node_bin), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    told = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, f"{told} {err.decode()}"
    return {one["event"]: one for one in told}


@pytest.mark.slow
async def test_two_bare_baileys_link_and_talk(node_bin: Path, baileys_dir: Path, wasim: Wasim) -> None:
    """QR codes are scanned, texts arrive once in both directions with acks, deliveries and reads, and a text that was
    sent while its recipient was away arrives at its next login."""
    told = await run_script(node_bin, baileys_dir, wasim)
    sent = told["sent"]["received"]
    assert (sent["text"], sent["alt"], sent["type"]) == ("hello", "962302@s.whatsapp.net", "notify")
    assert told["answered"]["received"]["text"] == "hello back"
    missed = told["caught-up"]["received"]
    assert (missed["text"], missed["type"]) == ("while you were away", "append")
    assert told["done"]["unknownExists"] is False
    messages = await wasim.get("/messages", **{"from": "962302"})
    assert [(m["to"], m["count"], m["resends"], m["acked"], m["error"]) for m in messages] == [
        ("962303", 1, 0, True, None)
    ]
    assert (await wasim.get("/stats"))["protocolErrors"] == 0


@pytest.mark.slow
async def test_baileys_asks_nothing_that_is_not_answered(node_bin: Path, baileys_dir: Path, wasim: Wasim) -> None:
    """No query of a pairing, a login, a send or a lookup is unknown to wasim."""
    await run_script(node_bin, baileys_dir, wasim)
    assert (await wasim.get("/stats"))["unknownQueries"] == 0
