"""WhatsApp rate-limits queries and messages for a while, with real Baileys: no message fails, and few queries are sent.

CHAOS_LIMITED_S sets the duration (12 s). Measurements are printed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from holdfast.client import Json
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COMPANY, NUMBER = "comp", "962790000001"
KNOWN = "962790009000"
MESSAGES = 30
LIMITED_S = float(os.environ.get("CHAOS_LIMITED_S", "12"))
DELIVERED_WITHIN_S = 90.0
"""Seconds after the end of the limit: the longest pause, and some time for the messages themselves."""
MAX_QUERIES = 20
"""Queries of one kind while limited: a burst until the limit is noticed, and a probe after 2, 4, 8 … s."""


def contact(n: int) -> str:
    return f"9627900080{n:02}"


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    async with served(tmp_path, wasim=wasim) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)
        for number in (KNOWN, *(contact(n) for n in range(MESSAGES))):
            await wasim.post("/phones", {"number": number})
        await until_delivered(gateway, [await gateway.send(COMPANY, KNOWN, "known from now on")])
        yield gateway


async def until_delivered(gateway: Served, messages: list[Json]) -> None:
    for message in messages:
        await gateway.until_message(message["id"], "delivered", "read", within_s=DELIVERED_WITHIN_S)


def is_same_second(one: str, other: str) -> bool:
    """WhatsApp reports whole seconds."""
    return abs((datetime.fromisoformat(one) - datetime.fromisoformat(other)).total_seconds()) <= 1.5


async def ended(wasim: Wasim, fault: Json) -> Json:
    """The fault, as soon as it has ended."""

    async def look() -> Json | None:
        faults = await wasim.get("/faults", all="true")
        return next((each for each in faults if each["id"] == fault["id"] and each["endedAt"]), None)

    return await eventually(look, within_s=LIMITED_S + 10, what="the end of the fault")


async def send_while_limited(gateway: Served, wasim: Wasim, chats: list[str], fault: Json) -> Json:
    """Send one message to each chat while a fault is active; returns the fault after all messages are delivered."""
    sent = [await gateway.send(COMPANY, chat, f"message {n}") for n, chat in enumerate(chats)]
    over = await ended(wasim, fault)
    begun = time.monotonic()
    states = {(await gateway.message(message["id"]))["state"] for message in sent}
    assert "failed" not in states
    await until_delivered(gateway, sent)
    print(f"{over['kind']}: {over['hits']} hits in {LIMITED_S:.0f} s, delivered {time.monotonic() - begun:.1f} s later")  # noqa: T201
    return over


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ({"xmlns": "usync"}, 429, "rate-limited"),
        ({"xmlns": "w:g2"}, 429, "rate-limited"),
        ({"xmlns": "encrypt", "tag": "key"}, 503, "server-busy"),
    ],
    ids=["usync", "w:g2", "prekeys"],
)
async def test_queries_are_limited(gateway: Served, wasim: Wasim, query: Json, code: int, reason: str) -> None:
    """Messages that need such a query wait and say why, others are sent; few queries are sent in the meantime."""
    chats = [contact(n) for n in range(MESSAGES)]
    if query["xmlns"] == "w:g2":
        groups = [await wasim.post("/groups", {"subject": "Team", "members": [NUMBER, chat]}) for chat in chats]
        chats = [group["id"] for group in groups]
    fault = await wasim.fault("query-error", **query, code=code, seconds=LIMITED_S, number=NUMBER)
    waits = asyncio.create_task(send_while_limited(gateway, wasim, chats, fault))

    async def look() -> Json | None:
        messages = await gateway.messages(COMPANY)
        return next((message for message in messages if (message["retries"] or {}).get("code") == reason), None)

    waiting = await eventually(look, within_s=LIMITED_S, what="a message that says why it waits")
    assert query["xmlns"] in waiting["retries"]["message"]
    known = await gateway.send(COMPANY, KNOWN, "known chats are not affected")
    await gateway.until_message(known["id"], "delivered", "read", within_s=5)
    assert (await waits)["hits"] <= MAX_QUERIES


@pytest.mark.parametrize("code", [408, 429, 599])
async def test_messages_are_refused_for_a_time(gateway: Served, wasim: Wasim, code: int) -> None:
    """This holds for unknown codes as well: sending pauses, one message probes, and all arrive in the end."""
    fault = await wasim.fault("ack-error", code=code, seconds=LIMITED_S, number=NUMBER)
    chats = [contact(n) for n in range(MESSAGES)]
    over = await send_while_limited(gateway, wasim, chats, fault)
    assert over["hits"] <= 2 * MESSAGES


async def test_the_quota_of_new_chats_holds_first_messages_until_whatsapps_own_end(
    gateway: Served, wasim: Wasim
) -> None:
    """475 causes a query for the quota: message, limits and diagnostics show the end of WhatsApp's cycle, known chats
    are not affected, and held messages are sent when the cycle ends."""
    fault = await wasim.fault("new-chat-quota", quota=1, number=NUMBER, seconds=LIMITED_S)
    sent = [await gateway.send(COMPANY, contact(n), "hello") for n in range(4)]

    async def look() -> list[Json] | None:
        messages = [await gateway.message(message["id"]) for message in sent]
        held = [message for message in messages if (message["held"] or {}).get("code") == "new-chat-quota"]
        is_named = all(is_same_second(message["held"]["until"], fault["endsAt"]) for message in held)
        return held if len(held) == 3 and is_named else None

    await eventually(look, within_s=10, what="three messages held until the end of the cycle")
    limits = await gateway.client.get(f"/v1/sessions/{COMPANY}/limits")
    assert is_same_second(limits["newChatQuotaUntil"], fault["endsAt"])
    diagnosis = await gateway.client.get(f"/webhook/whatsapp/baileys/diagnostics/{COMPANY}")
    assert is_same_second(diagnosis["limits"]["newChatQuotaUntil"], fault["endsAt"])
    known = await gateway.send(COMPANY, KNOWN, "known chats are not affected")
    await gateway.until_message(known["id"], "delivered", "read", within_s=5)
    await ended(wasim, fault)
    await until_delivered(gateway, sent)
