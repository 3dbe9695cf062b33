"""wasim serves unmodified Baileys that knows nothing of Holdfast."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.processes import Wasim, running_wasim

SCRIPT = Path(__file__).with_name("wasim_bare_baileys.mjs")
PHONE = "962399"
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

Told = dict[str, dict[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def talk(
    node_bin: Path, baileys_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Told, Wasim]]:
    """The script's reports by event, and the wasim that it connected to."""
    async with running_wasim(tmp_path_factory.mktemp("wasim")) as wasim:
        arguments = [str(SCRIPT), str(baileys_dir), wasim.url, wasim.control, "962302", "962303"]
        process = await asyncio.create_subprocess_exec(
            str(node_bin), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        told = [json.loads(line) for line in out.splitlines()]
        assert process.returncode == 0, f"{told} {err.decode()}"
        yield {one["event"]: one for one in told}, wasim


async def test_two_baileys_clients_link_and_exchange_messages(talk: tuple[Told, Wasim]) -> None:
    """QR codes are scanned, texts arrive once in both directions with acks, delivery and read receipts, and a text that
    was sent while its recipient was offline arrives at its next login.
    """
    told, wasim = talk
    sent = told["sent"]["received"]
    assert (sent["text"], sent["alt"], sent["type"]) == ("hello", "962302@s.whatsapp.net", "notify")
    assert told["answered"]["received"]["text"] == "hello back"
    missed = told["caught-up"]["received"]
    assert (missed["text"], missed["type"]) == ("while you were away", "append")
    assert told["done"]["unknownExists"] is False
    messages = await wasim.get("/messages", **{"from": "962302", "to": "962303"})
    assert [(m["count"], m["resends"], m["acked"], m["error"]) for m in messages] == [(1, 0, True, None)]


async def test_a_simulated_phone_reads_and_writes(talk: tuple[Told, Wasim]) -> None:
    """The phone decrypts libsignal's messages, and libsignal decrypts the phone's, across ratchet steps."""
    told, wasim = talk
    answer = told["talked"]["received"]
    assert (answer["text"], answer["alt"], answer["fromMe"]) == ("three", f"{PHONE}@s.whatsapp.net", False)
    inbox = await wasim.get(f"/phones/{PHONE}/inbox")
    texts = [message["text"] for message in inbox]
    assert texts == ["one", "two", "four", "five", "six"]
    assert all(message["from"] == "962302" and message["kind"] == "text" for message in inbox)


async def test_a_key_that_baileys_uses_twice_is_detected(talk: tuple[Told, Wasim]) -> None:
    """A client whose key update was lost encrypts two messages with one key: the phone counts exactly that one, asks
    for the message again, and can read it then."""
    told, wasim = talk
    (phone,) = [phone for phone in await wasim.get("/phones") if phone["number"] == PHONE]
    assert (phone["signal"]["reusedKeys"], phone["signal"]["undecryptable"]) == (1, 1)
    messages = {message["id"]: message for message in await wasim.get(f"/phones/{PHONE}/inbox")}
    reused = messages.pop(told["reused"]["id"])
    assert (reused["text"], reused["count"], reused["undecryptable"]) == ("six", 1, 1)
    assert all((message["count"], message["undecryptable"]) == (1, 0) for message in messages.values())


async def test_wasim_answers_every_query_of_baileys(talk: tuple[Told, Wasim]) -> None:
    """No query during pairing, login, sending or lookup is unknown to wasim, and nobody violated the protocol."""
    _, wasim = talk
    stats = await wasim.get("/stats")
    assert (stats["unknownQueries"], stats["protocolErrors"]) == (0, 0)


async def test_a_baileys_client_links_by_pairing_code(
    node_bin: Path, baileys_dir: Path, talk: tuple[Told, Wasim]
) -> None:
    """A wrong code is refused with an explanation; the right one links the device, and it logs in."""
    _, wasim = talk
    script = SCRIPT.with_name("wasim_pairing_code.mjs")
    arguments = [str(script), str(baileys_dir), wasim.url, wasim.control, "962305"]
    process = await asyncio.create_subprocess_exec(str(node_bin), *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    told = json.loads(out)
    assert (told["wrong"]["status"], told["wrong"]["error"]) == (404, "the code is wrong")
    assert (told["right"]["status"], told["right"]["device"]) == (200, 1)
    assert (told["outcome"], told["me"]) == ("open", "962305:1@s.whatsapp.net")
