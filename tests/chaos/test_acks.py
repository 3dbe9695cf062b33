"""WhatsApp's acks are late, missing, doubled, reordered or errors, or the link freezes in the middle of a send."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from pathlib import Path

import pytest

from holdfast.client import Json
from tests.chaos.matrix import CONTACTS, Trial, trial
from tests.served import eventually

pytestmark = pytest.mark.slow

MISHAPS: list[tuple[str, dict[str, object], float]] = [
    ("delay-acks", {"ms": 700}, 2.0),
    ("double-acks", {}, 1.5),
    ("reorder-acks", {}, 2.0),
    ("withhold-acks", {"release": True}, 3.0),
    ("withhold-acks", {}, 3.0),
    ("drop-receipts", {}, 2.0),
    ("delay-receipts", {}, 2.0),
    ("ack-error", {"code": "500", "count": 3}, 1.5),
    ("ack-error", {"code": "503", "count": 3}, 1.5),
    ("ack-error", {"code": "479", "count": 1}, 1.0),
    ("freeze", {}, 4.0),
    ("blackhole", {}, 3.0),
]
"""Fault, its parameters, and its duration in seconds. None of these may lose a message."""

FINAL = {
    "400": "WhatsApp could not read the message (ack error 400)",
    "403": "WhatsApp does not allow this account to write to this chat (ack error 403)",
    "491": "WhatsApp could not read the message's content (ack error 491)",
}
PASSING = ("408", "429", "599", "987")
"""Codes that are not a definite refusal: the message is retried."""


@pytest.fixture
def randomness() -> random.Random:
    seed = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
    print(f"CHAOS_SEED={seed}")  # noqa: T201 – shown when the test fails
    return random.Random(seed)


@pytest.mark.timeout(240)
async def test_messages_arrive_once_and_in_order_whatever_happens_to_acks(
    tmp_path: Path, randomness: random.Random
) -> None:
    """Under traffic, one fault after the other in random order: nothing is lost, duplicated or out of order, and no key
    is used twice. Then each error code decides about its message."""
    async with trial(tmp_path, randomness, companies=2) as tried:
        mishaps = randomness.sample(MISHAPS, len(MISHAPS))
        async with tried.traffic(per_s=3):
            for kind, details, seconds in mishaps:
                print(f"{kind} {details}; {len(tried.sent)} accepted")  # noqa: T201 – shown when the test fails
                fault = await tried.wasim.fault(kind, **details)
                await asyncio.sleep(seconds)
                await tried.wasim.delete(f"/faults/{fault['id']}")
        await tried.until_calm()
        await tried.until_settled(unsettled=("queued", "sending", "failed"))
        await tried.check()
        await _check_final_errors(tried)
        await _check_lock(tried)


async def _check_final_errors(tried: Trial) -> None:
    """Definite refusals fail the message with their sentence, all others delay it; the next message is sent."""
    company = next(iter(tried.companies))
    for code, sentence in FINAL.items():
        fault = await tried.wasim.fault("ack-error", code=code, count=1)
        answer = await tried.gateway.send(company, CONTACTS[0], f"refused with {code}")
        failed = await tried.gateway.until_message(answer["id"], "failed", within_s=20)
        assert failed["error"] == {"code": f"ack-{code}", "message": sentence}
        await tried.wasim.delete(f"/faults/{fault['id']}")
    for code in PASSING:
        fault = await tried.wasim.fault("ack-error", code=code, count=1)
        answer = await tried.gateway.send(company, CONTACTS[0], f"put off with {code}")
        await tried.gateway.until_message(answer["id"], "delivered", "read", within_s=20)
        await tried.wasim.delete(f"/faults/{fault['id']}")
    answer = await tried.gateway.send(company, CONTACTS[0], "after all")
    await tried.gateway.until_message(answer["id"], "delivered", "read", within_s=20)


async def _check_lock(tried: Trial) -> None:
    """463 holds messages to strangers and says so; known chats are not affected; when WhatsApp lifts the lock, they are
    sent."""
    company = next(iter(tried.companies))
    stranger = "962790009099"
    await tried.wasim.post("/phones", {"number": stranger})
    fault = await tried.wasim.fault("reach-out-lock", number=tried.companies[company])
    held = await tried.gateway.send(company, stranger, "a stranger")
    known = await tried.gateway.send(company, CONTACTS[0], "somebody known")
    await tried.gateway.until_message(known["id"], "delivered", "read", within_s=20)

    async def look() -> Json | None:
        seen: Json = await tried.gateway.message(held["id"])
        return seen if seen["held"] else None

    seen = await eventually(look, within_s=20, what="the hold")
    assert (seen["held"]["code"], seen["sentAt"]) == ("reach-out-lock", None)
    await tried.wasim.delete(f"/faults/{fault['id']}")
    await tried.gateway.until_message(held["id"], "delivered", "read", within_s=20)
