"""wasim serves unmodified Baileys without Holdfast."""

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

Reports = dict[str, dict[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def exchange(
    node_bin: Path, baileys_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Reports, Wasim]]:
    """The script's reports by event, and the wasim that it connected to."""
    async with running_wasim(tmp_path_factory.mktemp("wasim")) as wasim:
        arguments = [str(SCRIPT), str(baileys_dir), wasim.url, wasim.control, "962302", "962303"]
        process = await asyncio.create_subprocess_exec(
            str(node_bin), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        reports = [json.loads(line) for line in out.splitlines()]
        assert process.returncode == 0, f"{reports} {err.decode()}"
        yield {one["event"]: one for one in reports}, wasim


async def test_two_baileys_clients_link_and_exchange_messages(exchange: tuple[Reports, Wasim]) -> None:
    """QR codes are scanned, texts arrive once in both directions with acks, delivery and read receipts, and a text that
    was sent while its recipient was offline arrives at its next login.
    """
    reports, wasim = exchange
    sent = reports["sent"]["received"]
    assert (sent["text"], sent["alt"], sent["type"]) == ("hello", "962302@s.whatsapp.net", "notify")
    assert reports["answered"]["received"]["text"] == "hello back"
    missed = reports["missed-received"]["received"]
    assert (missed["text"], missed["type"]) == ("while you were away", "append")
    assert reports["done"]["unknownExists"] is False
    messages = await wasim.get("/messages", **{"from": "962302", "to": "962303"})
    assert [(m["count"], m["resends"], m["acked"], m["error"]) for m in messages] == [(1, 0, True, None)]


async def test_a_simulated_phone_receives_and_sends(exchange: tuple[Reports, Wasim]) -> None:
    """The phone decrypts libsignal's messages, and libsignal decrypts the phone's, across ratchet steps."""
    reports, wasim = exchange
    answer = reports["phone-answered"]["received"]
    assert (answer["text"], answer["alt"], answer["fromMe"]) == ("three", f"{PHONE}@s.whatsapp.net", False)
    inbox = await wasim.get(f"/phones/{PHONE}/inbox")
    texts = [message["text"] for message in inbox]
    assert texts == ["one", "two", "four", "five", "six"]
    assert all(message["from"] == "962302" and message["kind"] == "text" for message in inbox)


async def test_a_key_that_baileys_uses_twice_is_detected(exchange: tuple[Reports, Wasim]) -> None:
    """A client whose key update was lost encrypts two messages with one key: the phone counts exactly that one, sends
    a retry receipt, and decrypts the resent message."""
    reports, wasim = exchange
    (phone,) = [phone for phone in await wasim.get("/phones") if phone["number"] == PHONE]
    assert (phone["signal"]["reusedKeys"], phone["signal"]["undecryptable"]) == (1, 1)
    messages = {message["id"]: message for message in await wasim.get(f"/phones/{PHONE}/inbox")}
    reused = messages.pop(reports["reused"]["id"])
    assert (reused["text"], reused["count"], reused["undecryptable"]) == ("six", 1, 1)
    assert all((message["count"], message["undecryptable"]) == (1, 0) for message in messages.values())


async def test_wasim_answers_every_query_of_baileys(exchange: tuple[Reports, Wasim]) -> None:
    """No query during pairing, login, sending or lookup is unknown to wasim, and no client violated the protocol."""
    _, wasim = exchange
    stats = await wasim.get("/stats")
    assert (stats["unknownQueries"], stats["protocolErrors"]) == (0, 0)


async def test_a_baileys_client_links_by_pairing_code(
    node_bin: Path, baileys_dir: Path, exchange: tuple[Reports, Wasim]
) -> None:
    """A wrong code is refused with an explanation; the right one links the device, and it logs in."""
    _, wasim = exchange
    script = SCRIPT.with_name("wasim_pairing_code.mjs")
    arguments = [str(script), str(baileys_dir), wasim.url, wasim.control, "962305"]
    process = await asyncio.create_subprocess_exec(str(node_bin), *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    reports = json.loads(out)
    assert (reports["wrong"]["status"], reports["wrong"]["error"]) == (404, "the code is wrong")
    assert (reports["right"]["status"], reports["right"]["device"]) == (200, 1)
    assert (reports["outcome"], reports["me"]) == ("open", "962305:1@s.whatsapp.net")
