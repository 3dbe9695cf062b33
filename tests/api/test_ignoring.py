"""Messages that a company does not want to store: the setting, its effect, and the counters."""

from __future__ import annotations

import pytest

from holdfast.session.engine import InboundMessage
from tests.api.api_client import ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
PERSON = "962799999999@s.whatsapp.net"
CHATS = {"a": "status@broadcast", "b": "120363001@newsletter", "c": "120363002@g.us", "d": PERSON}


async def receive(harness: GatewayHarness, chats: dict[str, str]) -> None:
    for id_, chat in chats.items():
        message = InboundMessage(whatsapp_id=id_, chat=chat, sender=PERSON, type="text", text=id_)
        harness.engine.receive(harness.link(), message)
    await harness.until(lambda: harness.engine.receipts_sent[-len(chats) :] == list(chats))


async def test_ignored_kinds_are_acknowledged_and_counted_and_not_stored(client: ApiClient) -> None:
    """The setting takes effect at once; without it everything is stored, as before."""
    harness = client.harness
    await harness.pair()
    assert (await client("GET", SESSION)).json["ignore"] == []
    await receive(harness, CHATS)
    put = await client("PUT", SESSION, {"ignore": ["groups", "status"]})
    assert put.json["ignore"] == ["status", "groups"]
    await receive(harness, {f"{id_}2": chat for id_, chat in CHATS.items()})
    stored = (await client("GET", f"{SESSION}/inbox")).json["items"]
    assert [item["whatsappId"] for item in stored] == ["a", "b", "c", "d", "b2", "d2"]
    diagnosis = (await client("GET", f"/webhook/whatsapp/baileys/diagnostics/{COMPANY}")).json
    assert diagnosis["ignored"] == {"status": 1, "groups": 1}
    metrics = (await client("GET", "/metrics")).body.decode()
    assert f'holdfast_session_messages_ignored_total{{company="{COMPANY}",kind="groups"}} 1.0' in metrics


@pytest.mark.parametrize("given", [None, []])
async def test_the_setting_survives_a_restart_until_it_is_removed(client: ApiClient, given: list[str] | None) -> None:
    await client("PUT", SESSION, {"ignore": ["channels"]})
    record = await client.harness.sessions.find(COMPANY)
    assert record is not None
    assert record.ignored == "channels"
    assert (await client("PUT", SESSION, {"label": "Bakery"})).json["ignore"] == ["channels"]
    assert (await client("PUT", SESSION, {"ignore": given})).json["ignore"] == []


async def test_an_unknown_kind_is_refused(client: ApiClient) -> None:
    answer = await client("PUT", SESSION, {"ignore": ["stories"]})
    assert "status, channels, groups, broadcast" in answer.problem(422, "bad-input", field="ignore")
