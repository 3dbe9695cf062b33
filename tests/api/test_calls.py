"""Calls by HTTP: listed, ended, rejected by a person and automatically."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from holdfast.session.engine import CallSignal, QueryAnswered, RunQuery
from tests.api.api_client import ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
CALLER = "962799999999@s.whatsapp.net"
CREATOR = "2002@lid"


def signal(kind: str, *, call_id: str = "C1", offline: bool = False) -> CallSignal:
    return CallSignal(
        call_id=call_id,
        kind=kind,  # type: ignore[arg-type]
        caller=CALLER,
        caller_lid=CREATOR,
        creator=CREATOR,
        video=True,
        push_name="Layla",
        offline=offline,
    )


async def come(harness: GatewayHarness, *signals: CallSignal) -> None:
    """Let WhatsApp report calls; the reports are acknowledged."""
    before = len(harness.engine.receipts_sent)
    harness.engine.call(harness.link(), *signals)
    await harness.until(lambda: len(harness.engine.receipts_sent) == before + len(signals))


async def events(harness: GatewayHarness, *types: str) -> list[dict[str, object]]:
    found = await harness.now(harness.events.after(0, companies=None, limit=100))
    return [{**json.loads(event.body), "event": event.type} for event in found if event.type in types]


async def call(client: ApiClient) -> dict[str, object]:
    """The only call in the inbox."""
    (item,) = (await client("GET", f"{SESSION}/inbox")).json["items"]
    assert isinstance(item, dict)
    return item


async def test_a_call_is_an_item_of_the_inbox_and_two_events(client: ApiClient) -> None:
    """With the caller and the outcome; a signal that WhatsApp repeats changes nothing, and the first outcome counts."""
    harness = client.harness
    await harness.pair()
    await come(harness, signal("offer"))
    await come(harness, signal("offer"), signal("missed"), signal("ended"))
    item = await call(client)
    assert (item["type"], item["chat"], item["senderName"], item["senderLid"]) == ("call", CALLER, "Layla", CREATOR)
    content = item["content"]
    assert isinstance(content, dict)
    assert content["call"].pop("endedAt").endswith("Z")
    assert content == {"call": {"state": "missed", "video": True, "creator": CREATOR}}
    seen = await events(harness, "call.received", "call.ended", "message.received")
    assert [event["event"] for event in seen] == ["call.received", "call.ended"]
    assert [event["id"] for event in seen] == [item["id"]] * 2


async def test_the_end_of_a_call_that_never_rang_here_is_ignored(client: ApiClient) -> None:
    await client.harness.pair()
    await come(client.harness, signal("ended"))
    assert (await client("GET", f"{SESSION}/inbox")).json["items"] == []
    assert await events(client.harness, "call.ended") == []


async def test_a_person_rejects_a_call_while_it_rings(client: ApiClient) -> None:
    """WhatsApp gets the caller under the id in the call. Once rejected it can't be rejected again."""
    harness = client.harness
    await harness.pair()
    asked: list[dict[str, object]] = []

    def answer(arguments: dict[str, object]) -> object:
        asked.append(arguments)
        return {}

    harness.engine.answers["reject-call"] = answer
    await come(harness, signal("offer"))
    path = f"{SESSION}/calls/{(await call(client))['id']}/reject"
    assert (await client("POST", path)).json["state"] == "rejected"
    assert asked == [{"callId": "C1", "creator": CREATOR}]
    (await client("POST", path)).problem(409, "conflict", field="id")
    (await client("POST", f"{SESSION}/calls/msg_000000000000000000000000/reject")).problem(404, "not-found", field="id")
    ended = await events(harness, "call.ended")
    assert len(ended) == 1


async def test_a_rejection_that_whatsapp_refuses_changes_nothing(client: ApiClient) -> None:
    harness = client.harness
    await harness.pair()
    harness.engine.answers["reject-call"] = lambda _: QueryAnswered(link=0, request=0, error="server-busy")
    await come(harness, signal("offer"))
    path = f"{SESSION}/calls/{(await call(client))['id']}/reject"
    assert (await client("POST", path)).status == 503
    assert await events(harness, "call.ended") == []


async def test_calls_are_rejected_automatically_and_the_caller_gets_one_text(client: ApiClient) -> None:
    """One text for each call, however often WhatsApp reports it, even when the text is changed meanwhile."""
    harness = client.harness
    await harness.pair()
    await client("PUT", SESSION, {"autoRejectCalls": True, "rejectedCallText": "Please write to us."})
    await come(harness, signal("offer"))
    await client("PUT", SESSION, {"rejectedCallText": "Write, please."})
    await come(harness, signal("offer"), signal("offer", call_id="C2"))
    rejected = [each.arguments["callId"] for each in harness.commands(RunQuery) if each.name == "reject-call"]
    assert rejected == ["C1", "C1", "C2"]
    await harness.until(lambda: len(harness.engine.arrived) == 2)
    assert [(sent.to, sent.content["text"]) for sent in harness.engine.arrived] == [
        (CALLER, "Please write to us."),
        (CALLER, "Write, please."),
    ]
    assert len(await events(harness, "call.ended")) == 2


@pytest.mark.parametrize("caller", ["0@s.whatsapp.net", "77@hosted.lid", "1203@newsletter", ""])
async def test_a_caller_that_no_message_can_be_sent_to_is_rejected_without_a_text(
    client: ApiClient, caller: str
) -> None:
    """WhatsApp delivers a call again until it is acknowledged: a failure would end every link of the session."""
    harness = client.harness
    link = await harness.pair()
    await client("PUT", SESSION, {"autoRejectCalls": True, "rejectedCallText": "Please write to us."})
    await come(harness, replace(signal("offer"), caller=caller))
    assert harness.link() == link
    assert [each.name for each in harness.commands(RunQuery)] == ["reject-call"]
    assert harness.engine.arrived == []


@pytest.mark.parametrize("signals", [[signal("offer", offline=True)], [signal("answered")], []])
async def test_a_call_that_is_over_is_not_rejected(client: ApiClient, signals: list[CallSignal]) -> None:
    harness = client.harness
    await harness.pair()
    await client("PUT", SESSION, {"autoRejectCalls": True})
    await come(harness, *signals)
    assert [each.name for each in harness.commands(RunQuery)] == []


async def test_without_the_setting_a_call_rings(client: ApiClient) -> None:
    harness = client.harness
    await harness.pair()
    put = await client("PUT", SESSION, {"autoRejectCalls": False, "rejectedCallText": "  "})
    assert (put.json["autoRejectCalls"], put.json["rejectedCallText"]) == (False, None)
    await come(harness, signal("offer"))
    assert harness.commands(RunQuery) == []
    assert harness.engine.arrived == []
    refused = await client("PUT", SESSION, {"rejectedCallText": "x" * 5000})
    refused.problem(422, "bad-input", field="rejectedCallText")
