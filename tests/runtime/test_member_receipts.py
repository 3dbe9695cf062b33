"""Receipts in groups: those of each member, and the resulting state of the message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from holdfast.delivery.stores import MemberReceipt, Message
from holdfast.delivery.webhooks import new_endpoint
from holdfast.session.engine import Acked, Receipted, Written
from tests.world import COMPANY, World

GROUP = "120363001@g.us"
LAYLA, OMAR = "962799999999@s.whatsapp.net", "962788888888@s.whatsapp.net"


async def sent(world: World, *, members: int | None) -> Message:
    """A message to the group that WhatsApp has acked."""
    world.engine.acks = False
    message = await world.send("hello", to=GROUP)
    await world.until(lambda: bool(world.engine.arrived))
    for report in (
        Written(link=world.link(), whatsapp_id=message.whatsapp_id, members=members),
        Acked(link=world.link(), whatsapp_id=message.whatsapp_id, chat=GROUP),
    ):
        world.listener.report(report)
    await world.quiet()
    return message


async def state_after(world: World, message: Message, kind: str, *members: str, chat: str = GROUP) -> str:
    ids = [message.whatsapp_id]
    for member in members:
        report = Receipted(link=world.link(), whatsapp_ids=ids, chat=chat, kind=kind, participant=member)
        world.listener.report(report)
    await world.quiet()
    found = await world.now(world.outbox.message(message.id))
    assert found is not None
    return found.state.value


async def receipts(world: World, message: Message) -> list[MemberReceipt]:
    return await world.now(world.outbox.receipts(message))


async def test_a_message_is_read_when_every_member_has_read_it(world: World) -> None:
    """Delivered with the first receipt; a member who reads it twice counts once."""
    async with world.running():
        await world.pair()
        message = await sent(world, members=2)
        assert await state_after(world, message, "delivered", LAYLA) == "delivered"
        assert await state_after(world, message, "read", LAYLA, LAYLA) == "delivered"
        assert await state_after(world, message, "read", OMAR) == "read"
        assert await state_after(world, message, "played", OMAR) == "read"
        assert await state_after(world, message, "played", LAYLA) == "played"
        found = {each.member: each for each in await receipts(world, message)}
    assert set(found) == {LAYLA, OMAR}
    assert all(each.delivered_at and each.read_at and each.played_at for each in found.values())


async def test_without_the_number_of_members_a_message_stays_delivered(world: World) -> None:
    async with world.running():
        await world.pair()
        message = await sent(world, members=None)
        assert await state_after(world, message, "read", LAYLA, OMAR) == "delivered"
        assert [bool(each.read_at) for each in await receipts(world, message)] == [True, True]


async def test_strangers_add_a_bounded_number_of_receipts(world: World) -> None:
    """A message of another chat gets none."""
    async with world.running():
        await world.pair()
        message = await sent(world, members=2000)
        await state_after(world, message, "delivered", LAYLA, chat="120363999@g.us")
        assert await receipts(world, message) == []
        await state_after(world, message, "delivered", *(f"{number}@lid" for number in range(1500)))
        assert len(await receipts(world, message)) == 1024


async def test_each_receipt_is_an_event_only_if_a_webhook_subscribes_to_it(world: World) -> None:
    async with world.running():
        await world.pair()
        message = await sent(world, members=2)
        await state_after(world, message, "delivered", LAYLA)
        assert await events(world) == []
        await listen(world, None)
        await state_after(world, message, "delivered", OMAR)
        assert await events(world) == []
        await listen(world, ("message.receipt",))
        await state_after(world, message, "read", OMAR, OMAR)
        (event,) = await events(world)
    assert (event["messageId"], event["member"], event["receipt"]) == (message.id, OMAR, "read")


async def listen(world: World, types: tuple[str, ...] | None) -> None:
    endpoint = replace(new_endpoint(COMPANY, url="https://example.com/hook", secret="whsec_x"), events=types)
    await world.now(world.webhooks.rows.put(COMPANY, lambda _: endpoint))


async def events(world: World) -> list[dict[str, Any]]:
    found = await world.now(world.events.after(0, companies=None, most=100))
    return [json.loads(event.body) for event in found if event.type == "message.receipt"]
