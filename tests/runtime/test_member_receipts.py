"""Receipts in groups: those of each member, and the resulting state of the message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from holdfast.delivery.stores import MemberReceipt, Message
from holdfast.delivery.webhooks import new_endpoint
from holdfast.session.engine import Acked, Receipted, Written
from tests.gateway_harness import COMPANY, GatewayHarness

GROUP = "120363001@g.us"
LAYLA, OMAR = "962799999999@s.whatsapp.net", "962788888888@s.whatsapp.net"


async def sent(harness: GatewayHarness, *, members: int | None) -> Message:
    """A message to the group that WhatsApp has acked."""
    harness.engine.acks = False
    message = await harness.send("hello", to=GROUP)
    await harness.until(lambda: bool(harness.engine.arrived))
    for report in (
        Written(link=harness.link(), whatsapp_id=message.whatsapp_id, members=members),
        Acked(link=harness.link(), whatsapp_id=message.whatsapp_id, chat=GROUP),
    ):
        harness.listener.report(report)
    await harness.quiet()
    return message


async def state_after(harness: GatewayHarness, message: Message, kind: str, *members: str, chat: str = GROUP) -> str:
    ids = [message.whatsapp_id]
    for member in members:
        report = Receipted(link=harness.link(), whatsapp_ids=ids, chat=chat, kind=kind, participant=member)
        harness.listener.report(report)
    await harness.quiet()
    found = await harness.now(harness.outbox.message(message.id))
    assert found is not None
    return found.state.value


async def receipts(harness: GatewayHarness, message: Message) -> list[MemberReceipt]:
    return await harness.now(harness.outbox.receipts(message))


async def test_a_message_is_read_when_every_member_has_read_it(harness: GatewayHarness) -> None:
    """Delivered with the first receipt; a member who reads it twice counts once."""
    async with harness.running():
        await harness.pair()
        message = await sent(harness, members=2)
        assert await state_after(harness, message, "delivered", LAYLA) == "delivered"
        assert await state_after(harness, message, "read", LAYLA, LAYLA) == "delivered"
        assert await state_after(harness, message, "read", OMAR) == "read"
        assert await state_after(harness, message, "played", OMAR) == "read"
        assert await state_after(harness, message, "played", LAYLA) == "played"
        found = {each.member: each for each in await receipts(harness, message)}
    assert set(found) == {LAYLA, OMAR}
    assert all(each.delivered_at and each.read_at and each.played_at for each in found.values())


async def test_without_the_number_of_members_a_message_stays_delivered(harness: GatewayHarness) -> None:
    async with harness.running():
        await harness.pair()
        message = await sent(harness, members=None)
        assert await state_after(harness, message, "read", LAYLA, OMAR) == "delivered"
        assert [bool(each.read_at) for each in await receipts(harness, message)] == [True, True]


async def test_strangers_add_a_bounded_number_of_receipts(harness: GatewayHarness) -> None:
    """A message of another chat gets none."""
    async with harness.running():
        await harness.pair()
        message = await sent(harness, members=2000)
        await state_after(harness, message, "delivered", LAYLA, chat="120363999@g.us")
        assert await receipts(harness, message) == []
        await state_after(harness, message, "delivered", *(f"{number}@lid" for number in range(1500)))
        assert len(await receipts(harness, message)) == 1024


async def test_each_receipt_is_an_event_only_if_a_webhook_subscribes_to_it(harness: GatewayHarness) -> None:
    async with harness.running():
        await harness.pair()
        message = await sent(harness, members=2)
        await state_after(harness, message, "delivered", LAYLA)
        assert await events(harness) == []
        await listen(harness, None)
        await state_after(harness, message, "delivered", OMAR)
        assert await events(harness) == []
        await listen(harness, ("message.receipt",))
        await state_after(harness, message, "read", OMAR, OMAR)
        (event,) = await events(harness)
    assert (event["messageId"], event["member"], event["receipt"]) == (message.id, OMAR, "read")


async def listen(harness: GatewayHarness, types: tuple[str, ...] | None) -> None:
    endpoint = replace(new_endpoint(COMPANY, url="https://example.com/hook", secret="whsec_x"), events=types)
    await harness.now(harness.webhooks.rows.put(COMPANY, lambda _: endpoint))


async def events(harness: GatewayHarness) -> list[dict[str, Any]]:
    found = await harness.now(harness.events.after(0, companies=None, limit=100))
    return [json.loads(event.body) for event in found if event.type == "message.receipt"]
