"""Presence by HTTP, of contacts and of the account itself."""

from __future__ import annotations

import json

from holdfast.runtime.contact_presence import MOST_SUBSCRIBED, PACE
from holdfast.session.engine import Presence, PresenceSeen, RunQuery
from tests.api.api_client import ApiClient
from tests.world import COMPANY, World

SESSION = f"/v1/sessions/{COMPANY}"
NUMBER = "962799999999"
PERSON = f"{NUMBER}@s.whatsapp.net"
PRESENCE = f"{SESSION}/contacts/{NUMBER}/presence"


def subscriptions(world: World) -> list[object]:
    return [each.arguments["jids"] for each in world.commands(RunQuery) if each.name == "subscribe-presence"]


async def events(world: World) -> list[dict[str, object]]:
    found = await world.now(world.events.after(0, companies=None, most=500))
    return [json.loads(event.body) for event in found if event.type == "presence.updated"]


def show(world: World, state: str, *, sender: str = PERSON, last_seen_s: int | None = None) -> None:
    world.listener.report(
        PresenceSeen(link=world.link(), chat=sender, sender=sender, state=state, last_seen_s=last_seen_s)  # type: ignore[arg-type]
    )


async def test_a_contact_is_followed_on_every_link_until_it_is_removed(client: ApiClient) -> None:
    world = client.world
    await world.pair()
    answer = await client("POST", PRESENCE)
    assert (answer.status, answer.json["subscribed"]) == (202, True)
    assert subscriptions(world) == [[PERSON]]
    link = world.link()
    world.engine.drop(link, code=428)
    await world.until(lambda: world.state() == "connected" and world.link() != link)
    assert subscriptions(world) == [[PERSON], [PERSON]]
    assert (await client("DELETE", PRESENCE)).json["subscribed"] is False
    link = world.link()
    world.engine.drop(link, code=428)
    await world.until(lambda: world.state() == "connected" and world.link() != link)
    assert len(subscriptions(world)) == 2


async def test_presence_of_a_contact_is_an_event_and_can_be_read(client: ApiClient) -> None:
    """It includes the time since when the contact is offline; a new link starts without any state."""
    world = client.world
    await world.pair()
    show(world, "composing")
    show(world, "unavailable", last_seen_s=1_700_000_000)
    await world.quiet()
    seen = (await client("GET", PRESENCE)).json["presences"]
    assert [(each["sender"], each["state"], each["lastSeenAt"]) for each in seen] == [
        (PERSON, "unavailable", "2023-11-14T22:13:20.000Z")
    ]
    assert [(each["state"], each["chat"]) for each in await events(world)] == [
        ("composing", PERSON),
        ("unavailable", PERSON),
    ]
    link = world.link()
    world.engine.drop(link, code=428)
    await world.until(lambda: world.state() == "connected" and world.link() != link)
    assert (await client("GET", PRESENCE)).json["presences"] == []


async def test_presence_events_are_bounded(client: ApiClient) -> None:
    """Thousands of changes add a bounded number of events; the latest state is known all the same."""
    world = client.world
    await world.pair()
    for number in range(5000):
        show(world, "composing", sender=f"{number}@lid")
    show(world, "recording")
    await world.quiet()
    assert len(await events(world)) == PACE.burst
    (seen,) = (await client("GET", PRESENCE)).json["presences"]
    assert seen["state"] == "recording"


async def test_the_number_of_followed_contacts_is_bounded(client: ApiClient) -> None:
    world = client.world
    await world.pair()
    for number in range(MOST_SUBSCRIBED):
        (await world.gateway.actor(COMPANY)).work.contacts.subscribe(f"{number}@lid")
    assert str(MOST_SUBSCRIBED) in (await client("POST", PRESENCE)).problem(409, "conflict", field="chat")


async def test_a_company_decides_whether_it_is_shown_as_online(client: ApiClient) -> None:
    """At once and with each ping, also on later links; null returns to the operator's setting."""
    world = client.world
    await world.pair()
    assert (await client("PUT", f"{SESSION}/presence", {"available": False})).json == {"available": False}
    before = len(world.commands(Presence))
    await world.wait(65)
    later = world.commands(Presence)[before:]
    assert {each.available for each in later} == {False}
    assert len(later) >= 2
    await client("PUT", f"{SESSION}/presence", {"available": None})
    await world.wait(35)
    assert world.commands(Presence)[-1].available is True
