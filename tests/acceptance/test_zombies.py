"""Links that look open and accept no messages: detected by missing acks, shown, replaced; nothing is lost or
duplicated.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.client import Json
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bridge")]

COMPANY, NUMBER, CONTACT = "962302", "962790000101", "962790000102"
SHOWN_WITHIN_S = 20


async def health(gateway: Served) -> Json:
    found: Json = await gateway.client.get(f"/webhook/whatsapp/baileys/diagnostics/{COMPANY}")
    return found


async def until_shown(gateway: Served, code: str) -> Json:
    async def look() -> Json | None:
        found = await health(gateway)
        return found if code in {reason["code"] for reason in found["reasons"]} else None

    return await eventually(look, within_s=SHOWN_WITHIN_S, what=f"the finding {code}")


async def until_replaced(gateway: Served, *, times: int) -> None:
    async def look() -> bool:
        return len(gateway.log_lines(f"Session {COMPANY} connected → reconnecting", "accepts no messages")) == times

    await eventually(look, within_s=SHOWN_WITHIN_S, what="the link's replacement")
    await gateway.until_state(COMPANY, "connected", within_s=10)


@pytest.mark.parametrize("kinds", [["blackhole"], ["withhold-acks", "drop-receipts"]], ids=" ".join)
async def test_a_link_that_accepts_no_messages_is_replaced_and_the_second_time_degraded(
    tmp_path: Path, wasim: Wasim, kinds: list[str]
) -> None:
    """Pings are answered and messages are not: degraded within 20 s and replaced on that evidence; messages arrive
    once, even those that WhatsApp had received all along. When it happens again the session is degraded although its
    link is open.
    """
    await wasim.post("/phones", {"number": CONTACT})
    async with served(tmp_path, wasim=wasim) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)
        first = await gateway.send(COMPANY, CONTACT, "text 0")
        await gateway.until_message(first["id"], "delivered", "read", within_s=30)
        for time in (1, 2):
            faults = [await wasim.fault(kind, number=NUMBER) for kind in kinds]
            message = await gateway.send(COMPANY, CONTACT, f"text {time}")
            found = await until_shown(gateway, "sends-unacked")
            assert found["status"] == "degraded"
            await until_replaced(gateway, times=time)
            for fault in faults:
                await wasim.delete(f"/faults/{fault['id']}")
            await gateway.until_message(message["id"], "sent", "delivered", "read", within_s=60)
        found = await until_shown(gateway, "zombie")
        assert (found["session"]["state"], found["status"]) == ("connected", "degraded")
        shown = await wasim.get(f"/phones/{CONTACT}/inbox")
        assert [item["text"] for item in shown] == ["text 0", "text 1", "text 2"]
