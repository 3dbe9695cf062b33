"""Groups, messages of every kind and resends, between unmodified Baileys and simulated phones."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.processes import Wasim, running_wasim

SCRIPT = Path(__file__).with_name("wasim_groups.mjs")
PHONE = "962503"
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

Reports = dict[str, dict[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def exchange(
    node_bin: Path, baileys_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Reports, Wasim]]:
    """The script's reports by event, and the wasim that it connected to."""
    async with running_wasim(tmp_path_factory.mktemp("wasim")) as wasim:
        process = await asyncio.create_subprocess_exec(
            str(node_bin), str(SCRIPT), str(baileys_dir), wasim.url, wasim.control,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"NODE_EXTRA_CA_CERTS": wasim.ca},
        )  # fmt: skip
        out, _ = await process.communicate()
        reports = [json.loads(line) for line in out.splitlines()]
        assert process.returncode == 0, reports
        yield {one["event"]: one for one in reports}, wasim


@pytest.mark.parametrize("addressing", ["lid", "pn"])
async def test_group_messages_reach_every_member(exchange: tuple[Reports, Wasim], addressing: str) -> None:
    """Two Baileys clients and a phone receive each other's messages, whether the group addresses its members by number
    or by LID.
    """
    reports, wasim = exchange
    group = reports[addressing]
    assert (group["subject"], group["addressing"], group["size"]) == (f"Team {addressing}", addressing, 3)
    assert [text for text, _ in group["texts"]] == ["one", "two"]
    assert group["received"] == [["from the phone", True], ["from the phone", True]]
    messages = [one for one in await wasim.get(f"/phones/{PHONE}/inbox") if one["group"] == group["id"]]
    assert [(one["from"], one["text"], one["count"]) for one in messages] == [
        ("962501", "one", 1),
        ("962501", "two", 1),
        ("962502", "answer", 1),
    ]
    assert messages[2]["quoted"] == group["sent"]
    (record,) = await wasim.get("/messages", id=group["answer"])
    assert (record["to"], record["receipts"]["delivered"] >= 2) == (group["id"], True)


async def test_baileys_receives_what_a_phone_sends(exchange: tuple[Reports, Wasim]) -> None:
    """Identical media, a reply with its quoted message, a reaction to Baileys' own message, locations,
    contacts, edits.
    """
    kinds = exchange[0]["kinds"]
    assert kinds["image"] == {"caption": "look", "mimetype": "image/png", "same": True}
    assert kinds["reply"] == [True, {"conversation": "mine"}]
    assert kinds["reaction"] == ["❤", True, True]
    assert (kinds["location"], kinds["contact"]) == ("Amman", "Dan")
    assert kinds["edit"] == ["edited", True]
    assert kinds["delete"] == [0, True]


async def test_a_phone_shows_what_baileys_sends(exchange: tuple[Reports, Wasim]) -> None:
    """Edits and deletions change the earlier message; media is downloaded and decrypted; typing is shown."""
    reports, wasim = exchange
    written = reports["written"]
    inbox = await wasim.get(f"/phones/{PHONE}/inbox")
    messages = {one["id"]: one for one in inbox}
    edited, deleted = messages[written["edited"]], messages[written["deleted"]]
    assert (edited["text"], edited["edited"], deleted["deleted"]) == ("to be edited", "better", True)
    by_kind = {one["kind"]: one for one in inbox if one["group"] is None}
    assert by_kind["edit"]["target"] == written["edited"]
    assert by_kind["delete"]["target"] == written["deleted"]
    assert (by_kind["reaction"]["emoji"], by_kind["reaction"]["target"]) == ("👍", written["reacted"])
    assert by_kind["location"]["location"]["latitude"] == 1.5
    assert messages[written["voice"]]["media"]["voice"] is True
    media = await wasim.get(f"/phones/{PHONE}/inbox/{written['voice']}/media")
    assert (media["sha256"], media["sizeBytes"], media["genuine"]) == (written["sha"], 5000, True)
    (phone,) = [one for one in await wasim.get("/phones") if one["number"] == PHONE]
    assert (phone["typing"]["from"], phone["typing"]["state"]) == ("962501", "composing")
    assert (phone["signal"]["reusedKeys"], phone["signal"]["undecryptable"]) == (0, 0)


async def test_damaged_messages_are_sent_again_after_a_retry_receipt(exchange: tuple[Reports, Wasim]) -> None:
    """One to a person, one to a group: Baileys sends retry receipts, and the phone encrypts again."""
    assert exchange[0]["resent"]["texts"] == ["damaged once", "damaged in the group"]


async def test_a_locked_account_reaches_only_known_chats(exchange: tuple[Reports, Wasim]) -> None:
    """Baileys is notified of the lock and can query it; it gets 463 for a new chat, and no error for a known chat."""
    locked = exchange[0]["locked"]
    assert (locked["cold"], locked["warm"], locked["active"]) == ("463", None, True)


async def test_wasim_answers_every_query_of_baileys(exchange: tuple[Reports, Wasim]) -> None:
    stats = await exchange[1].get("/stats")
    assert (stats["unknownQueries"], stats["protocolErrors"]) == (0, 0)
