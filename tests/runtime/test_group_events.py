"""Changes of groups: one event each, with the actor, the participants and the new value."""

from __future__ import annotations

import json
from typing import Any

from holdfast.session.engine import ChangedMember, GroupChange
from tests.world import COMPANY, World

GROUP = "120363001@g.us"
LAYLA, OMAR = "962799999999@s.whatsapp.net", "962788888888@s.whatsapp.net"


async def change(world: World, *changes: GroupChange) -> None:
    before = len(world.engine.receipts_sent)
    world.engine.change_group(world.link(), *changes)
    await world.until(lambda: len(world.engine.receipts_sent) == before + len(changes))


async def events(world: World) -> list[dict[str, Any]]:
    found = await world.now(world.events.after(0, companies=None, most=100))
    return [json.loads(event.body) for event in found if event.type == "group.updated"]


async def test_a_change_is_an_event_with_names_and_happens_once(world: World) -> None:
    """WhatsApp repeats a notification until it is acknowledged; another one with the same content is another change."""
    added = GroupChange(
        notice_id="n1",
        group=GROUP,
        kind="members_added",
        actor=LAYLA,
        actor_name="Layla",
        participants=[ChangedMember(jid=OMAR, lid="3003@lid", role="admin")],
        at_s=1_700_000_000,
    )
    async with world.running():
        await world.pair()
        await change(world, added)
        await change(world, added)
        assert await events(world) == [
            {
                "companyId": COMPANY,
                "group": GROUP,
                "subject": None,
                "change": "members_added",
                "value": None,
                "actor": {"jid": LAYLA, "lid": None, "name": "Layla"},
                "participants": [{"jid": OMAR, "lid": "3003@lid", "name": None, "role": "admin"}],
                "at": "2023-11-14T22:13:20.000Z",
            }
        ]


async def test_a_new_subject_is_stored(world: World) -> None:
    """Messages of the group show it from then on."""
    async with world.running():
        await world.pair()
        await change(world, GroupChange(notice_id="n1", group=GROUP, kind="subject", value="Tulips"))
        (event,) = await events(world)
        assert (event["subject"], event["value"], event["actor"]) == ("Tulips", "Tulips", None)
        world.engine.receive(world.link(), text="hello", sender=GROUP)
        await world.until(lambda: world.engine.receipts_sent[-1] == "3A0001")
        (message,) = await world.now(world.inbox.received(COMPANY, after=0, most=9))
        assert message.group_subject == "Tulips"


async def test_untrusted_texts_in_a_change_are_bounded(world: World) -> None:
    """A notification that can't be stored would end each link."""
    hostile = GroupChange(
        notice_id="n" * 10_000,
        group=GROUP,
        kind="description",
        value="\0" + "x" * 100_000,
        actor="a" * 5000,
        actor_name="\ud800" * 5000,
        participants=[ChangedMember(jid=f"{number}@lid", role="king") for number in range(5000)],
        at_s=10**30,
    )
    async with world.running():
        await world.pair()
        await change(world, hostile)
        (event,) = await events(world)
    assert len(event["value"]) <= 4096
    assert len(event["participants"]) == 1024
    assert event["participants"][0]["role"] is None
    assert len(event["actor"]["name"]) <= 255
