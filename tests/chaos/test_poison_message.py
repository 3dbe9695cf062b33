"""A message that makes WhatsApp end the link, with real Baileys: other messages are delivered, and it fails in the
end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.client import Json
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

COMPANY, NUMBER = "comp", "962790000001"
POISONED = "962790009000"
INNOCENT = ("962790009001", "962790009002", "962790009003")
MESSAGES_EACH = 20
INNOCENT_WITHIN_S = 60.0
FAILED_WITHIN_S = 240.0

VARIANTS = pytest.mark.parametrize(
    "fault",
    [
        {"kind": "stream-error-on-message"},
        {"kind": "cut-on-message", "how": "close", "closeCode": 1011},
    ],
    ids=["stream error", "closed socket"],
)


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    async with served(tmp_path, wasim=wasim) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)
        for number in (POISONED, *INNOCENT):
            await wasim.post("/phones", {"number": number})
        yield gateway


async def send_all(gateway: Served, wasim: Wasim, fault: Json) -> tuple[Json, list[Json]]:
    """Send the poison message first, then the innocent ones."""
    await wasim.fault(**fault, number=NUMBER, chat=POISONED)
    poison = await gateway.send(COMPANY, POISONED, "poison")
    return poison, [
        await gateway.send(COMPANY, chat, f"innocent {n}") for n in range(MESSAGES_EACH) for chat in INNOCENT
    ]


async def until_delivered(gateway: Served, innocent: list[Json], *, begun: float) -> None:
    for message in innocent:
        within_s = max(INNOCENT_WITHIN_S - (time.monotonic() - begun), 0.1)
        await gateway.until_message(message["id"], "delivered", "read", within_s=within_s)
    print(f"{len(innocent)} innocent messages delivered within {time.monotonic() - begun:.1f} s")  # noqa: T201


@VARIANTS
async def test_it_fails_with_an_explanation_after_all_others_were_delivered(
    gateway: Served, wasim: Wasim, fault: Json
) -> None:
    """Afterwards the link stays open, and messages of its chat are sent again."""
    begun = time.monotonic()
    poison, innocent = await send_all(gateway, wasim, fault)
    await until_delivered(gateway, innocent, begun=begun)
    failed = await gateway.until_message(poison["id"], "failed", within_s=FAILED_WITHIN_S)
    print(f"{fault['kind']}: failed after {time.monotonic() - begun:.1f} s")  # noqa: T201
    assert failed["error"]["code"] == "link-ended"
    assert failed["error"]["message"].startswith("links ended again and again while this message was being sent")
    assert gateway.log_lines("Session comp: message", poison["id"], "sent alone")
    [active] = await wasim.get("/faults")
    await wasim.delete(f"/faults/{active['id']}")
    await gateway.client.post(f"/v1/sessions/{COMPANY}/reconnect")  # after so many losses it would wait for a minute
    after = await gateway.send(COMPANY, POISONED, "no poison")
    await gateway.until_message(after["id"], "delivered", "read", within_s=90)


@VARIANTS
async def test_it_can_be_cancelled_with_force(gateway: Served, wasim: Wasim, fault: Json) -> None:
    """It can be cancelled although it was handed over; after that the link stays open."""
    begun = time.monotonic()
    poison, innocent = await send_all(gateway, wasim, fault)

    async def was_handed_over() -> bool:
        return bool((await gateway.message(poison["id"]))["attempts"] >= 1)

    await eventually(was_handed_over, within_s=10, what="an attempt")
    await gateway.client.delete(f"/v1/messages/{poison['id']}?force=true")
    assert (await gateway.message(poison["id"]))["state"] == "cancelled"
    await until_delivered(gateway, innocent, begun=begun)
    links = (await wasim.get("/stats"))["connects"]
    after = await gateway.send(COMPANY, INNOCENT[0], "innocent after all")
    await gateway.until_message(after["id"], "delivered", "read", within_s=90)
    assert (await wasim.get("/stats"))["connects"] == links
