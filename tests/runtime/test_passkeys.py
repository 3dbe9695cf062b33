"""A passkey that WhatsApp asks for is reported to programs, so that they can call the owner of the account."""

from __future__ import annotations

import json

from tests.doubles.authenticator import Authenticator, base64url
from tests.gateway_harness import COMPANY, GatewayHarness
from tests.runtime.test_webhooks import Office

OWNER = Authenticator()
OPTIONS: dict[str, object] = {"challenge": base64url(b"challenge"), "timeout": 600_000, "rpId": "whatsapp.com"}


async def test_a_webhook_gets_the_request_for_a_passkey_and_its_end(harness: GatewayHarness) -> None:
    """One event `session.state` when the owner has to sign, and one when the request ends; neither holds the
    challenge."""
    office = Office(harness)
    await office.set(events=("session.state",))
    async with office.open():
        await harness.now(harness.gateway.put(COMPANY))
        await harness.qr()
        harness.engine.request_passkey(harness.link(), OPTIONS)
        harness.engine.request_passkey(harness.link(), OPTIONS)  # requested again: nothing new for a person
        await harness.until_state("unpaired", within_s=601)
        await office.until(3)
    bodies = [json.loads(event.body) for event in office.receiver.taken]
    assert [(each["before"], each["state"], (each["reason"] or {}).get("code")) for each in bodies] == [
        ("unpaired", "pairing", None),
        ("pairing", "pairing", "passkey-required"),
        ("pairing", "unpaired", "passkey-expired"),
    ]
    assert {event.type for event in office.receiver.taken} == {"session.state"}
    assert bodies[1]["reason"]["action"] == "sign-passkey"
    assert "asks the owner of the account to sign" in bodies[1]["reason"]["message"]
    assert not any(str(OPTIONS["challenge"]) in event.payload for event in office.receiver.taken)
