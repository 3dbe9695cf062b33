"""One person is one chat, by HTTP over an in-process gateway: spellings, hidden ids and usernames."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from holdfast.session.engine import Commit, Committed, InboundMessage, NewChatsLocked, QueryAnswered, RunQuery
from tests.api.api_client import Answer, ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
NINE, EIGHT, LID = "5511987654321", "551187654321", "5550001@lid"
CHAT = f"{EIGHT}@s.whatsapp.net"
SPELLINGS = (
    EIGHT,
    "+55 11 98765-4321",
    f"{EIGHT}@c.us",
    f"{NINE}:3@s.whatsapp.net",
    "\u202a+55\u00a0(0)11\u00a08765\u20114321\u202c",
    "\u0665\u0665\u0661\u0661\u0669\u0668\u0667\u0666\u0665\u0664\u0663\u0662\u0661",
    f"https://wa.me/{NINE}?text=hello",
    LID,
    "5550001:7@lid",
    "@Rami.H",
)
"""The second spelling, `@c.us`, a device, direction marks and `(0)`, Arabic digits, a link, hidden id, username."""


@pytest.fixture
async def linked(client: ApiClient, harness: GatewayHarness) -> ApiClient:
    """WhatsApp knows one person, with the spelling of the number without the 9."""
    await harness.pair()
    harness.engine.answers = {
        "check-numbers": lambda asked: [_row(number) for number in asked["numbers"]],  # type: ignore[attr-defined]
        "find-username": lambda asked: {"jid": LID, "lid": LID} if asked["username"] == "rami.h" else {},
        "find-hidden": lambda asked: [_hidden(lid) for lid in asked["lids"]],  # type: ignore[attr-defined]
        "typing": lambda _: {},
        "read": lambda asked: {"messages": len(asked["messages"])},  # type: ignore[arg-type]
    }
    return client


def _row(number: str) -> dict[str, Any]:
    return {"number": number, "chat": CHAT, "lid": LID} if number in {NINE, EIGHT} else {"number": number}


def _hidden(lid: str) -> dict[str, Any]:
    return {"lid": lid, "exists": lid in {LID, "66@lid"}, **({"username": "nour"} if lid == "66@lid" else {})}


async def receive(harness: GatewayHarness, number: int = 1, **changes: Any) -> None:
    given = {"chat": CHAT, "sender": CHAT, "sender_lid": LID, "push_name": "Rami", "type": "text", "text": "hello"}
    harness.engine.receive(harness.link(), InboundMessage(whatsapp_id=f"3A{number}", **(given | changes)))
    await harness.quiet()


async def send(client: ApiClient, to: str, text: str = "x", **more: object) -> Answer:
    return await client("POST", f"{SESSION}/messages", {"to": to, "text": text, **more})


async def sent(client: ApiClient, to: str, text: str = "x", **more: object) -> Any:
    """The message as the API shows it."""
    answer = await send(client, to, text, **more)
    assert answer.status == 202, answer.json
    return (await client("GET", f"/v1/messages/{answer.json['id']}")).json


async def newest(client: ApiClient) -> Any:
    return (await client("GET", f"{SESSION}/inbox")).json["items"][-1]


async def test_a_reply_under_any_name_of_the_person_is_in_the_chat(linked: ApiClient, harness: GatewayHarness) -> None:
    """The message shows the canonical chat, whatever `to` was."""
    await receive(harness)
    item = await newest(linked)
    for to in SPELLINGS:
        assert (await sent(linked, to, replyTo=item["id"]))["chat"] == CHAT
    assert (await sent(linked, LID, replyTo="3A1"))["chat"] == CHAT


async def test_a_person_under_every_name_is_one_queue_with_one_hold(linked: ApiClient, harness: GatewayHarness) -> None:
    """Before anything is known about the number, and when its hidden id is merged while messages wait under it."""
    harness.engine.acks = False
    by_lid = [await send(linked, LID, "by lid")]
    harness.listener.report(
        NewChatsLocked(link=harness.link(), lock="reach-out-lock", active=True, until_s=4_000_000_000)
    )
    await harness.quiet()
    ids = [(await send(linked, to, str(n))).json["id"] for n, to in enumerate(SPELLINGS[:6])]
    await receive(harness)
    harness.engine.acks = True
    answers = [(await linked("GET", f"/v1/messages/{each}")).json for each in ids]
    assert {answer["chat"] for answer in answers} == {CHAT}
    assert not any(answer.get("held") for answer in answers)
    harness.engine.drop(harness.link(), code=428)
    await harness.until_state("connected")
    await harness.until(lambda: len({each.whatsapp_id for each in harness.engine.arrived}) == 7)
    texts = list(dict.fromkeys(str(each.content["text"]) for each in harness.engine.arrived))
    assert texts == ["by lid", *map(str, range(6))]
    assert by_lid[0].status == 202


async def test_every_list_and_route_accepts_any_name(linked: ApiClient, harness: GatewayHarness) -> None:
    """Lists of messages, the timeline, the overview, read and typing."""
    await receive(harness)
    message = (await send(linked, EIGHT)).json["id"]
    for to in SPELLINGS:
        name = quote(to, safe="")
        listed = (await linked("GET", f"{SESSION}/messages?chat={name}")).json["items"]
        assert [each["id"] for each in listed] == [message]
        assert len((await linked("GET", f"{SESSION}/inbox?chat={name}")).json["items"]) == 1
        assert (await linked("GET", f"{SESSION}/chats/{name}")).json["chat"] == CHAT
        assert len((await linked("GET", f"{SESSION}/chats/{name}/messages")).json["items"]) == 2
        assert (await linked("POST", f"{SESSION}/chats/{name}/typing", {"state": "composing"})).json["chat"] == CHAT
    await linked("POST", f"{SESSION}/chats/5550001%40lid/read")
    assert (await linked("GET", f"{SESSION}/chats/{EIGHT}")).json["unread"] == 0


async def test_numbers_hidden_ids_and_usernames_are_checked_together(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """Each in the given form, with the canonical chat; new names are stored as aliases."""
    given = [f"+{NINE}", "962790000001", LID, "@rami.h", "66@lid", "67@lid", "@nobody"]
    answer = await linked("POST", f"{SESSION}/contacts/check", {"numbers": given})
    rows = [(row["number"], row["exists"], row["chat"], row["lid"], row["username"]) for row in answer.json["items"]]
    assert rows == [
        (f"+{NINE}", True, CHAT, LID, "rami.h"),
        ("962790000001", False, None, None, None),
        (LID, True, CHAT, LID, "rami.h"),
        ("@rami.h", True, CHAT, LID, "rami.h"),
        ("66@lid", True, "66@lid", "66@lid", "nour"),
        ("67@lid", False, None, None, None),
        ("@nobody", False, None, None, None),
    ]
    refused = await linked("POST", f"{SESSION}/contacts/check", {"numbers": ["120363012345678901@g.us"]})
    assert "is a group" in refused.problem(422, "bad-input", field="numbers")


async def test_number_and_hidden_id_are_resolved_to_each_other(linked: ApiClient, harness: GatewayHarness) -> None:
    """What messages contained is used without a query; for unknown people WhatsApp is queried, once."""
    await receive(harness)
    found = (await linked("GET", f"{SESSION}/contacts/5550001%40lid")).json
    assert (found["chat"], found["phoneNumber"], found["lid"], found["names"]["push"]) == (CHAT, EIGHT, LID, "Rami")
    assert not [each for each in harness.engine.commands if isinstance(each, RunQuery)]
    hidden = (await linked("GET", f"{SESSION}/contacts/66%40lid")).json
    assert (hidden["chat"], hidden["phoneNumber"], hidden["names"]["username"]) == ("66@lid", None, "nour")
    for _ in range(2):
        answer = await linked("GET", f"{SESSION}/contacts/962790000001")
        assert "is not on WhatsApp" in answer.problem(404, "not-found", field="chat")
    assert len([each for each in harness.engine.commands if isinstance(each, RunQuery)]) == 2
    group = await linked("GET", f"{SESSION}/contacts/120363012345678901%40g.us")
    assert "is not a person" in group.problem(422, "bad-input", field="chat")


async def test_a_person_without_a_number_can_be_written_to(linked: ApiClient, harness: GatewayHarness) -> None:
    """The hidden id is the chat; a username is resolved to it, also from stored names when there is no connection."""
    await receive(harness, chat="66@lid", sender="66@lid", sender_lid="66@lid", push_name="Nour")
    item = await newest(linked)
    assert item["chat"] == "66@lid"
    assert (await sent(linked, "66@lid", replyTo=item["id"]))["chat"] == "66@lid"
    harness.engine.answers["find-username"] = lambda _: {"jid": "66@lid", "lid": "66@lid"}
    named = await sent(linked, "@nour")
    assert (named["to"], named["chat"]) == ("@nour", "66@lid")
    await linked("POST", f"{SESSION}/stop")
    assert (await sent(linked, "@NOUR"))["chat"] == "66@lid"
    assert (await send(linked, "@somebody")).status == 503


async def test_an_unknown_username_is_refused(linked: ApiClient, harness: GatewayHarness) -> None:
    """Also one that its owner protects with a key; an unclear answer does not count as unknown."""
    assert 'to "@nobody" is not the username' in (await send(linked, "@nobody")).problem(422, "bad-input", field="to")
    harness.engine.answers["find-username"] = lambda _: QueryAnswered(link=0, request=0, error="timeout")
    (await send(linked, "@silence")).problem(504, "whatsapp-timeout")
    for wrong in ("@", "@ab", "@rami h", "@123456", "@rämi"):
        assert "is not a valid recipient" in (await send(linked, wrong)).problem(422, "bad-input", field="to")


async def test_the_username_of_an_inbound_sender_without_a_number_is_stored(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """The engine looks it up when a person who hides the number writes. The chat is then shown by the username."""
    lid = "770@lid"
    await receive(harness, chat=lid, sender=lid, sender_lid=None, push_name=None)
    harness.listener.report(Commit(link=harness.link(), seq=900, usernames={lid: "nour"}))
    await harness.until(lambda: Committed(link=harness.link(), seq=900) in harness.commands(Committed))
    (chat,) = (await linked("GET", f"{SESSION}/chats")).json["items"]
    assert (chat["name"], chat["names"]["username"]) == ("nour", "nour")


async def test_settings_of_a_chat_accept_any_name(linked: ApiClient, harness: GatewayHarness) -> None:
    """The operation names the canonical chat."""
    await receive(harness)
    for to in (NINE, LID, "@rami.h"):
        answer = await linked("PUT", f"{SESSION}/chats/{quote(to, safe='')}/labels/7")
        operation = (await linked("GET", f"/v1/operations/{answer.json['id']}")).json
        assert operation["target"] == CHAT


def asked(harness: GatewayHarness) -> list[RunQuery]:
    return [each for each in harness.engine.commands if isinstance(each, RunQuery)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"location": {"latitude": 100, "longitude": 0}}, "location.latitude"),
        ({"text": " "}, "text"),
        ({"text": "hello", "mentions": ["12ab"]}, "mentions.0"),
        ({"text": "hello", "audience": ["962790000001"]}, "audience"),
        ({"reaction": {"messageId": "1", "emoji": "👍"}, "replyTo": "1"}, "replyTo"),
    ],
)
async def test_whatsapp_is_not_asked_for_the_username_of_a_bad_message(
    linked: ApiClient, harness: GatewayHarness, body: dict[str, object], field: str
) -> None:
    """The queries of an account are few, and a caller that repeats a bad request would use them up."""
    (await linked("POST", f"{SESSION}/messages", {"to": "@rami.h", **body})).problem(422, "bad-input", field=field)
    assert asked(harness) == []


@pytest.mark.parametrize("body", [{"text": "hello"}, {"poll": {"text": "When?", "options": ["now", "later"]}}])
async def test_whatsapp_is_not_asked_again_for_the_username_of_an_accepted_message(
    linked: ApiClient, harness: GatewayHarness, body: dict[str, object]
) -> None:
    """Nor for another message with its Idempotency-Key, which is refused."""
    messages, key = f"{SESSION}/messages", {"Idempotency-Key": "1"}
    first = await linked("POST", messages, {"to": "@rami.h", **body}, headers=key)
    before = len(asked(harness))
    await harness.wait(600)  # WhatsApp's answer is kept for ten minutes
    again = await linked("POST", messages, {"to": "@Rami.h", **body}, headers=key)
    assert (again.status, again.json["id"]) == (202, first.json["id"])
    other = await linked("POST", messages, {"to": "@rami.h", "text": "goodbye"}, headers=key)
    other.problem(409, "conflict", field="Idempotency-Key")
    assert len(asked(harness)) == before


async def test_a_medium_is_not_stored_for_a_message_to_nobody(linked: ApiClient, harness: GatewayHarness) -> None:
    """An invalid number in the audience of a status is found first."""
    image = {"base64": "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////"}
    given = {"to": "status", "image": image, "audience": ["12ab"]}
    (await linked("POST", f"{SESSION}/messages", given)).problem(422, "bad-input", field="audience.0")
    assert (
        await harness.database.read(lambda connection: connection.exec_driver_sql("SELECT id FROM media").all()) == []
    )
