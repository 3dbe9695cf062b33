"""Links that freeze, are cut, stopped or logged out, and the messages that are accepted meanwhile.

Whether a link is open is decided by what wasim shows, not by the gateway.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.mail import CONTACT
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER = "962302", "962790000002"
KEEPALIVE_S = 5
BACK_WITHIN_S = 10.0
"""A lost link must be replaced within this many seconds after the first sign of the loss."""
ARRIVED_WITHIN_S = 20.0


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    """A company with a linked phone, and a contact."""
    await wasim.post("/phones", {"number": CONTACT})
    async with served(tmp_path, wasim=wasim, HOLDFAST_KEEPALIVE_INTERVAL_S=str(KEEPALIVE_S)) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)
        yield gateway


async def test_a_frozen_link_with_a_send_waiting_is_replaced_within_ten_seconds(gateway: Served, wasim: Wasim) -> None:
    """The end is not reported: it is detected by the missing ack and pong. The message arrives once."""
    old = await _link(wasim)
    await wasim.fault("freeze", number=NUMBER)
    message = await gateway.send(COMPANY, CONTACT, "is anybody there")
    await _until_replaced(wasim, old, within_s=BACK_WITHIN_S)
    await gateway.until_message(message["id"], "delivered", "read", within_s=ARRIVED_WITHIN_S)
    assert await _read(wasim) == ["is anybody there"]
    assert gateway.log_lines(f"Session {COMPANY}", "connected → reconnecting")


async def test_an_idle_frozen_link_is_replaced_within_ten_seconds_of_its_next_ping(
    gateway: Served, wasim: Wasim
) -> None:
    """Without anything to send, the keep-alive detects it."""
    old = await _link(wasim)
    await wasim.fault("freeze", number=NUMBER)
    await _until_replaced(wasim, old, within_s=KEEPALIVE_S + BACK_WITHIN_S)


async def test_messages_accepted_while_links_are_cut_arrive_once_and_in_order(gateway: Served, wasim: Wasim) -> None:
    """Whichever way the network ends the links, again and again while messages are sent."""
    texts = [f"line {n:02}" for n in range(30)]
    for n, text in enumerate(texts):
        await gateway.send(COMPANY, CONTACT, text)
        if how := {5: "rst", 12: "fin", 20: "close"}.get(n):
            await wasim.fault("cut", number=NUMBER, how=how)
    await _until_read(wasim, texts)
    assert len(gateway.log_lines(f"Session {COMPANY}", "connected → reconnecting")) >= 1


async def test_a_message_waits_for_a_link_and_is_then_sent(gateway: Served, wasim: Wasim) -> None:
    """`queued` as long as WhatsApp can't be reached, then `sent` and `delivered`, each with its time."""
    refusal = await wasim.fault("refuse")
    await wasim.fault("cut", number=NUMBER)
    await gateway.until_state(COMPANY, "reconnecting", within_s=BACK_WITHIN_S)
    accepted = await gateway.send(COMPANY, CONTACT, "later")
    assert (await gateway.message(accepted["id"]))["state"] == "queued"
    await wasim.delete(f"/faults/{refusal['id']}")
    message = await gateway.until_message(accepted["id"], "delivered", "read", within_s=ARRIVED_WITHIN_S)
    assert message["acceptedAt"] < message["sentAt"] <= message["deliveredAt"]
    assert await _read(wasim) == ["later"]


async def test_all_sessions_reconnect_after_a_restart_of_whatsapp(gateway: Served, wasim: Wasim) -> None:
    """Within ten seconds after WhatsApp can be reached again."""
    await gateway.pair("962303", "962790000003", wasim)
    down_s = 2.0
    old = {link["id"] for link in await wasim.get("/links")}
    await wasim.fault("restart", downS=down_s)

    async def look() -> bool:
        links = [link for link in await wasim.get("/links") if link["state"] == "open" and link["id"] not in old]
        return {link["number"] for link in links} == {NUMBER, "962790000003"}

    await eventually(look, within_s=down_s + BACK_WITHIN_S, what="a new link of each company")


async def test_a_stopped_session_stays_stopped_until_it_is_started(gateway: Served, wasim: Wasim) -> None:
    """Messages accepted in the meantime are kept. A restart of the gateway does not start the session."""
    await gateway.client.post(f"/v1/sessions/{COMPANY}/stop")
    accepted = await gateway.send(COMPANY, CONTACT, "when you are back")
    await gateway.stop()
    await gateway.start()
    assert (await gateway.session(COMPANY))["state"] == "stopped"
    assert (await gateway.message(accepted["id"]))["state"] == "queued"
    assert await wasim.get("/links") == []
    await gateway.client.post(f"/v1/sessions/{COMPANY}/start")
    await gateway.until_message(accepted["id"], "delivered", "read", within_s=ARRIVED_WITHIN_S)
    assert await _read(wasim) == ["when you are back"]


async def test_a_logout_unlinks_the_device_and_keeps_accepted_messages(gateway: Served, wasim: Wasim) -> None:
    """The phone no longer lists the device; messages accepted afterwards are sent when a phone is linked again."""
    await gateway.client.post(f"/v1/sessions/{COMPANY}/logout")
    await gateway.until_state(COMPANY, "logged_out", within_s=BACK_WITHIN_S)

    async def unlinked() -> bool:
        return await _devices(wasim) == []

    await eventually(unlinked, within_s=BACK_WITHIN_S, what="the end of the device on the phone's list")
    accepted = await gateway.send(COMPANY, CONTACT, "from the new device")
    assert (await gateway.message(accepted["id"]))["state"] == "queued"
    await gateway.pair(COMPANY, NUMBER, wasim)
    await gateway.until_message(accepted["id"], "delivered", "read", within_s=ARRIVED_WITHIN_S)
    assert await _read(wasim) == ["from the new device"]


async def test_a_restart_of_the_gateway_needs_no_new_qr_code(gateway: Served, wasim: Wasim) -> None:
    """The same linked device reconnects automatically, and messages that could not be sent before are sent."""
    devices = [device["device"] for device in await _devices(wasim)]
    refusal = await wasim.fault("refuse")
    await wasim.fault("cut", number=NUMBER)
    accepted = await gateway.send(COMPANY, CONTACT, "over the restart")
    await gateway.stop()
    await wasim.delete(f"/faults/{refusal['id']}")
    await gateway.start()
    await gateway.until_message(accepted["id"], "delivered", "read", within_s=ARRIVED_WITHIN_S)
    assert [device["device"] for device in await _devices(wasim)] == devices
    assert await _read(wasim) == ["over the restart"]


async def _link(wasim: Wasim) -> int:
    """The number of the company's link that WhatsApp has open."""
    [link] = [link for link in await wasim.get("/links") if link["number"] == NUMBER and link["state"] == "open"]
    number: int = link["id"]
    return number


async def _until_replaced(wasim: Wasim, old: int, *, within_s: float) -> None:
    """Wait until WhatsApp has another open link of the company, and the old one no more."""

    async def look() -> bool:
        links = {link["id"]: link for link in await wasim.get("/links") if link["number"] == NUMBER}
        alive = [number for number, link in links.items() if link["state"] == "open" and not link["frozen"]]
        return old not in alive and len(alive) == 1

    await eventually(look, within_s=within_s, what="a new link")


async def _read(wasim: Wasim) -> list[str]:
    """The texts on the contact's phone, each as often as it arrived."""
    items = await wasim.get(f"/phones/{CONTACT}/inbox")
    return [item["text"] for item in items for _ in range(item["count"])]


async def _until_read(wasim: Wasim, texts: list[str]) -> None:
    """Wait until the phone shows these texts in this order. One that arrived twice under its id is shown once, as
    phones do.
    """

    async def look() -> list[str] | None:
        seen = [item["text"] for item in await wasim.get(f"/phones/{CONTACT}/inbox")]
        return seen if len(seen) >= len(texts) else None

    assert await eventually(look, within_s=ARRIVED_WITHIN_S, what=f"the last of {len(texts)} lines") == texts


async def _devices(wasim: Wasim) -> list[dict[str, object]]:
    [phone] = [phone for phone in await wasim.get("/phones") if phone["number"] == NUMBER]
    devices: list[dict[str, object]] = phone["devices"]
    return devices
