"""Presence by HTTP, of contacts and of the account itself."""

from __future__ import annotations

import json

from holdfast.runtime.contact_presence import MAX_SUBSCRIBED, PACE
from holdfast.session.engine import Presence, PresenceSeen, RunQuery
from tests.api.api_client import ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
NUMBER = "962799999999"
PERSON = f"{NUMBER}@s.whatsapp.net"
PRESENCE = f"{SESSION}/contacts/{NUMBER}/presence"


def subscriptions(harness: GatewayHarness) -> list[object]:
    return [each.arguments["jids"] for each in harness.commands(RunQuery) if each.name == "subscribe-presence"]


async def events(harness: GatewayHarness) -> list[dict[str, object]]:
    found = await harness.now(harness.events.after(0, companies=None, limit=500))
    return [json.loads(event.body) for event in found if event.type == "presence.updated"]


def show(harness: GatewayHarness, state: str, *, sender: str = PERSON, last_seen_s: int | None = None) -> None:
    harness.listener.report(
        PresenceSeen(link=harness.link(), chat=sender, sender=sender, state=state, last_seen_s=last_seen_s)  # type: ignore[arg-type]
    )


async def test_a_contact_is_followed_on_every_link_until_it_is_removed(client: ApiClient) -> None:
    harness = client.harness
    await harness.pair()
    answer = await client("POST", PRESENCE)
    assert (answer.status, answer.json["subscribed"]) == (202, True)
    assert subscriptions(harness) == [[PERSON]]
    link = harness.link()
    harness.engine.drop(link, code=428)
    await harness.until(lambda: harness.state() == "connected" and harness.link() != link)
    assert subscriptions(harness) == [[PERSON], [PERSON]]
    assert (await client("DELETE", PRESENCE)).json["subscribed"] is False
    link = harness.link()
    harness.engine.drop(link, code=428)
    await harness.until(lambda: harness.state() == "connected" and harness.link() != link)
    assert len(subscriptions(harness)) == 2


async def test_a_contact_is_followed_after_the_database_failed(client: ApiClient) -> None:
    """A failed write ends the session, and Holdfast starts it again."""
    harness = client.harness
    await harness.pair()
    await client("POST", PRESENCE)
    link = harness.link()
    harness.database.failing = "disk full"
    show(harness, "available")
    await harness.quiet()
    harness.database.failing = None
    await harness.until(lambda: harness.state() == "connected" and harness.link() != link)
    assert (await client("GET", PRESENCE)).json["subscribed"] is True
    assert subscriptions(harness) == [[PERSON], [PERSON]]


async def test_presence_of_a_contact_is_an_event_and_can_be_read(client: ApiClient) -> None:
    """It includes the time since when the contact is offline; a new link starts without any state."""
    harness = client.harness
    await harness.pair()
    show(harness, "composing")
    show(harness, "unavailable", last_seen_s=1_700_000_000)
    await harness.quiet()
    seen = (await client("GET", PRESENCE)).json["presences"]
    assert [(each["sender"], each["state"], each["lastSeenAt"]) for each in seen] == [
        (PERSON, "unavailable", "2023-11-14T22:13:20.000Z")
    ]
    assert [(each["state"], each["chat"]) for each in await events(harness)] == [
        ("composing", PERSON),
        ("unavailable", PERSON),
    ]
    link = harness.link()
    harness.engine.drop(link, code=428)
    await harness.until(lambda: harness.state() == "connected" and harness.link() != link)
    assert (await client("GET", PRESENCE)).json["presences"] == []


async def test_presence_events_are_bounded(client: ApiClient) -> None:
    """Thousands of changes add a bounded number of events; the latest state is known all the same."""
    harness = client.harness
    await harness.pair()
    for number in range(5000):
        show(harness, "composing", sender=f"{number}@lid")
    show(harness, "recording")
    await harness.quiet()
    assert len(await events(harness)) == PACE.burst
    (seen,) = (await client("GET", PRESENCE)).json["presences"]
    assert seen["state"] == "recording"


async def test_the_number_of_followed_contacts_is_bounded(client: ApiClient) -> None:
    harness = client.harness
    await harness.pair()
    for number in range(MAX_SUBSCRIBED):
        (await harness.gateway.actor(COMPANY)).work.contacts.subscribe(f"{number}@lid")
    assert str(MAX_SUBSCRIBED) in (await client("POST", PRESENCE)).problem(409, "conflict", field="chat")


async def test_a_company_decides_whether_it_is_shown_as_online(client: ApiClient) -> None:
    """At once and with each ping, also on later links; null returns to the operator's setting."""
    harness = client.harness
    await harness.pair()
    assert (await client("PUT", f"{SESSION}/presence", {"available": False})).json == {"available": False}
    before = len(harness.commands(Presence))
    await harness.wait(65)
    later = harness.commands(Presence)[before:]
    assert {each.available for each in later} == {False}
    assert len(later) >= 2
    await client("PUT", f"{SESSION}/presence", {"available": None})
    await harness.wait(35)
    assert harness.commands(Presence)[-1].available is True
