"""Status posts and channel posts by HTTP: who gets them, who saw them, and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.delivery.requests import MAX_AUDIENCE
from holdfast.session.contacts import Identity
from holdfast.session.engine import Receipted, Send
from tests.api.api_client import ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
MESSAGES = f"{SESSION}/messages"
STATUS = "status@broadcast"
AMAL, RAMI = "962790000001@s.whatsapp.net", "962790000002@s.whatsapp.net"


@pytest.fixture
async def linked(client: ApiClient, harness: GatewayHarness) -> ApiClient:
    await harness.pair()
    return client


async def save(harness: GatewayHarness, *jids: str) -> None:
    people = [Identity(jid=jid, saved_name="a friend") for jid in jids]
    await harness.now(harness.contacts.learn(COMPANY, people))


async def test_a_status_goes_to_the_saved_contacts(linked: ApiClient, harness: GatewayHarness) -> None:
    """People whom the phone has not saved don't get it, and the overview of chats has no chat for it."""
    await save(harness, RAMI, AMAL)
    await harness.now(
        harness.contacts.learn(COMPANY, [Identity(jid="962790000003@s.whatsapp.net", push_name="Nobody")])
    )
    answer = await linked("POST", MESSAGES, {"to": "Status", "text": "fresh bread"})
    shown = (await linked("GET", f"/v1/messages/{answer.json['id']}")).json
    assert (answer.status, shown["to"], shown["chat"]) == (202, "status", STATUS)
    await harness.until(lambda: bool(harness.commands(Send)))
    (sent,) = harness.commands(Send)
    assert (sent.to, sent.content) == (STATUS, {"text": "fresh bread", "audience": [AMAL, RAMI]})
    assert (await linked("GET", f"{SESSION}/chats")).json["items"] == []


async def test_the_caller_can_name_the_audience(linked: ApiClient, harness: GatewayHarness) -> None:
    """Each person once. The same Idempotency-Key with another audience is another request."""
    body, headers = {"to": "status", "text": "roses", "audience": ["+962 79 000 0001", AMAL]}, {"Idempotency-Key": "k"}
    first = await linked("POST", MESSAGES, body, headers=headers)
    await harness.until(lambda: bool(harness.commands(Send)))
    assert harness.commands(Send)[0].content["audience"] == [AMAL]
    assert (await linked("POST", MESSAGES, body, headers=headers)).json["id"] == first.json["id"]
    other = await linked("POST", MESSAGES, body | {"audience": [RAMI]}, headers=headers)
    other.problem(409, "conflict", field="Idempotency-Key")


async def test_a_status_shows_who_saw_it(linked: ApiClient, harness: GatewayHarness) -> None:
    """It is delivered with the first receipt, and has the receipts of each person."""
    answer = await linked("POST", MESSAGES, {"to": "status", "text": "roses", "audience": [AMAL, RAMI]})
    await harness.quiet()
    ids = [answer.json["whatsappId"]]
    report = Receipted(link=harness.link(), whatsapp_ids=ids, chat=STATUS, kind="read", participant=AMAL)
    harness.listener.report(report)
    await harness.quiet()
    shown = (await linked("GET", f"/v1/messages/{answer.json['id']}")).json
    assert shown["state"] == "delivered"
    assert [(each["member"], bool(each["readAt"])) for each in shown["receipts"]] == [(AMAL, True)]


PICTURE = {"base64": "aGVsbG8="}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"to": "status", "text": "x"}, "audience"),
        ({"to": "status", "text": "x", "audience": []}, "audience"),
        ({"to": "status", "text": "x", "audience": ["12ab"]}, "audience.0"),
        ({"to": "status", "text": "x", "audience": ["120363001@g.us"]}, "audience.0"),
        ({"to": "status", "text": "x", "audience": ["962790000001"] * (MAX_AUDIENCE + 1)}, "audience"),
        ({"to": "962790000001", "text": "x", "audience": ["962790000002"]}, "audience"),
        ({"to": "status", "text": "x", "audience": [AMAL], "mentions": ["962790000001"]}, "mentions"),
        ({"to": "status", "text": "x", "audience": [AMAL], "replyTo": "msg_1"}, "replyTo"),
        ({"to": "status", "text": "x", "audience": [AMAL], "typing": True}, "typing"),
        ({"to": "status", "document": PICTURE, "audience": [AMAL]}, "document"),
        ({"to": "5@newsletter", "image": PICTURE}, "image"),
        ({"to": "5@newsletter", "text": "x", "audience": [AMAL]}, "audience"),
        ({"to": "5@newsletter", "text": "x", "replyTo": "msg_1"}, "replyTo"),
        ({"to": "x@newsletter", "text": "x"}, "to"),
        ({"to": "status", "location": {"latitude": 1, "longitude": 2}, "audience": [AMAL]}, "location"),
    ],
)
async def test_invalid_status_and_channel_posts_are_refused(
    linked: ApiClient, body: dict[str, Any], field: str
) -> None:
    """The field is named, and nothing is stored. Without saved contacts the caller must give an audience."""
    (await linked("POST", MESSAGES, body)).problem(422, "bad-input", field=field)
    assert (await linked("GET", MESSAGES)).json["items"] == []


async def test_more_saved_contacts_than_a_status_can_reach_are_refused(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """No contact is left out silently."""
    await save(harness, *(f"9627{n:08}@s.whatsapp.net" for n in range(MAX_AUDIENCE + 1)))
    answer = await linked("POST", MESSAGES, {"to": "status", "text": "x"})
    assert "1,000" in answer.problem(422, "bad-input", field="audience")


async def test_a_channel_gets_a_text(linked: ApiClient, harness: GatewayHarness) -> None:
    """It does not count as a first message to a contact, and the channel is a chat of the overview."""
    answer = await linked("POST", MESSAGES, {"to": "120363001@Newsletter", "text": "fresh bread"})
    shown = (await linked("GET", f"/v1/messages/{answer.json['id']}")).json
    assert (answer.status, shown["to"], shown["chat"]) == (202, "120363001@newsletter", "120363001@newsletter")
    await harness.until(lambda: bool(harness.commands(Send)))
    (sent,) = harness.commands(Send)
    assert (sent.to, sent.content) == ("120363001@newsletter", {"text": "fresh bread"})
    (chat,) = (await linked("GET", f"{SESSION}/chats")).json["items"]
    assert (chat["chat"], chat["kind"]) == ("120363001@newsletter", "channel")
