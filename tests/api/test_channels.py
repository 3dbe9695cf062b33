"""Channels by HTTP: listed, looked up, followed and left."""

from __future__ import annotations

import pytest

from holdfast.session.engine import OperationAnswered, QueryAnswered, RunOperation, RunQuery
from tests.api.api_client import ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

CHANNELS = f"/v1/sessions/{COMPANY}/channels"
ROSES = {"id": "120363001@newsletter", "name": "Roses", "invite": "0029VaAbCdEf", "followers": 5, "role": "admin"}
SHOWN = {
    "id": "120363001@newsletter", "name": "Roses", "description": None, "followers": 5, "role": "admin", "muted": False,
    "inviteLink": "https://whatsapp.com/channel/0029VaAbCdEf", "createdAt": None, "verified": False,
}  # fmt: skip


@pytest.fixture
async def linked(client: ApiClient, harness: GatewayHarness) -> ApiClient:
    await harness.pair()
    harness.engine.answers = {"channels": lambda _: [ROSES], "channel": lambda _: ROSES}
    return client


async def test_channels_are_listed_and_found(linked: ApiClient, harness: GatewayHarness) -> None:
    """By JID, or by the code of an invite link."""
    assert (await linked("GET", CHANNELS)).json == {"items": [SHOWN], "next": None}
    for named in ("120363001@newsletter", "0029VaAbCdEf"):
        assert (await linked("GET", f"{CHANNELS}/{named}")).json == SHOWN
    given = [command.arguments for command in harness.engine.commands if isinstance(command, RunQuery)]
    assert given[1:] == [{"jid": "120363001@newsletter"}, {"invite": "0029VaAbCdEf"}]


async def test_channels_are_followed_and_left(linked: ApiClient, harness: GatewayHarness) -> None:
    """Each is an operation on the channel; a refusal has an explanation and WhatsApp's code."""
    harness.engine.operations["follow-channel"] = lambda command: {"followed": command.arguments["followed"]}
    for action, followed in (("follow", True), ("unfollow", False)):
        answer = await linked("POST", f"{CHANNELS}/120363001@newsletter/{action}?wait=5")
        assert (answer.json["state"], answer.json["result"]) == ("succeeded", {"followed": followed})
        assert answer.json["target"] == "120363001@newsletter"
    harness.engine.operations["follow-channel"] = lambda _: OperationAnswered(
        link=0, operation="", step="run", error="refused", code=404, detail="Not Found"
    )
    answer = await linked("POST", f"{CHANNELS}/1@newsletter/follow?wait=5")
    assert (answer.json["state"], answer.json["error"]["whatsappCode"]) == ("failed", 404)
    assert "channel" in answer.json["error"]["message"]


async def test_unknown_channels_companies_and_links(client: ApiClient, harness: GatewayHarness) -> None:
    """404 for an unknown company or channel, 422 for an invalid channel id, 503 without a link; operations wait for a
    link.
    """
    (await client("GET", "/v1/sessions/nobody/channels")).problem(404, "not-found", field="company")
    await harness.now(harness.gateway.put(COMPANY))
    assert (await client("GET", CHANNELS)).status == 503
    assert (await client("POST", f"{CHANNELS}/1@newsletter/follow")).json["state"] == "queued"
    for bad in ("962790000001", "5@g.us", "x@newsletter"):
        (await client("POST", f"{CHANNELS}/{bad}/follow")).problem(422, "bad-input", field="id")
    for bad in ("5@g.us", "a%20b"):
        (await client("GET", f"{CHANNELS}/{bad}")).problem(422, "bad-input", field="id")


async def test_a_channel_that_whatsapp_does_not_know(linked: ApiClient, harness: GatewayHarness) -> None:
    harness.engine.answers["channel"] = lambda _: QueryAnswered(
        link=0, request=0, error="not-found", detail="none such"
    )
    (await linked("GET", f"{CHANNELS}/1@newsletter")).problem(404, "not-found")
    assert not [command for command in harness.engine.commands if isinstance(command, RunOperation)]
