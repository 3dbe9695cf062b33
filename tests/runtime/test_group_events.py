"""Changes of groups: one event each, with the actor, the participants and the new value."""

from __future__ import annotations

import json
from typing import Any

from holdfast.session.engine import ChangedMember, GroupChange
from tests.gateway_harness import COMPANY, GatewayHarness

GROUP = "120363001@g.us"
LAYLA, OMAR = "962799999999@s.whatsapp.net", "962788888888@s.whatsapp.net"


async def change(harness: GatewayHarness, *changes: GroupChange) -> None:
    before = len(harness.engine.receipts_sent)
    harness.engine.change_group(harness.link(), *changes)
    await harness.until(lambda: len(harness.engine.receipts_sent) == before + len(changes))


async def events(harness: GatewayHarness) -> list[dict[str, Any]]:
    found = await harness.now(harness.events.after(0, companies=None, limit=100))
    return [json.loads(event.body) for event in found if event.type == "group.updated"]


async def test_a_change_is_an_event_with_names_and_happens_once(harness: GatewayHarness) -> None:
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
    async with harness.running():
        await harness.pair()
        await change(harness, added)
        await change(harness, added)
        assert await events(harness) == [
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


async def test_a_new_subject_is_stored(harness: GatewayHarness) -> None:
    """Messages of the group show it from then on."""
    async with harness.running():
        await harness.pair()
        await change(harness, GroupChange(notice_id="n1", group=GROUP, kind="subject", value="Tulips"))
        (event,) = await events(harness)
        assert (event["subject"], event["value"], event["actor"]) == ("Tulips", "Tulips", None)
        harness.engine.receive(harness.link(), text="hello", sender=GROUP)
        await harness.until(lambda: harness.engine.receipts_sent[-1] == "3A0001")
        (message,) = await harness.now(harness.inbox.received(COMPANY, after=0, limit=9))
        assert message.group_subject == "Tulips"


async def test_untrusted_texts_in_a_change_are_bounded(harness: GatewayHarness) -> None:
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
    async with harness.running():
        await harness.pair()
        await change(harness, hostile)
        (event,) = await events(harness)
    assert len(event["value"]) <= 4096
    assert len(event["participants"]) == 1024
    assert event["participants"][0]["role"] is None
    assert len(event["actor"]["name"]) <= 255
