"""The passkey ceremony by HTTP, over an in-process gateway."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from holdfast.base.errors import BadInput
from holdfast.session.assertions import BadAssertion, checked, lifetime_s
from holdfast.session.engine import AnswerPasskey, ConfirmPasskey, CutLink
from tests.api.api_client import KEY_OF_ONE, OTHER, ApiClient
from tests.doubles.authenticator import Authenticator, base64url
from tests.gateway_harness import COMPANY, GatewayHarness

PATH = f"/v1/sessions/{COMPANY}/passkey"
OWNER = Authenticator()
OPTIONS: dict[str, Any] = {
    "challenge": base64url(b"challenge"),
    "timeout": 600_000,
    "rpId": "whatsapp.com",
    "allowCredentials": [{"type": "public-key", "id": base64url(OWNER.id)}],
    "userVerification": "required",
}


async def asked(client: ApiClient, harness: GatewayHarness, options: dict[str, Any] | None = None) -> int:
    """A session whose account requires a passkey; returns its link."""
    await client("PUT", f"/v1/sessions/{COMPANY}")
    await client("GET", f"/v1/sessions/{COMPANY}/qr")
    link = max(harness.engine.links)
    harness.engine.request_passkey(link, options or OPTIONS)
    await harness.until(lambda: harness.gateway.view(COMPANY).passkey is not None)
    await harness.quiet()
    return link


async def session(client: ApiClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client("GET", f"/v1/sessions/{COMPANY}")).json
    return found


async def test_the_challenge_is_shown_while_whatsapp_waits(client: ApiClient, harness: GatewayHarness) -> None:
    """404 before; then its options and expiry, the session in `pairing` with its reason, and no QR code any more."""
    await client("PUT", f"/v1/sessions/{COMPANY}")
    (await client("GET", PATH)).problem(404, "not-found")
    await asked(client, harness)
    answer = await client("GET", PATH)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json["options"] == OPTIONS
    assert answer.json["expiresAt"].endswith("Z")
    found = await session(client)
    assert (found["state"], found["reason"]["code"], found["reason"]["action"]) == (
        "pairing",
        "passkey-required",
        "sign-passkey",
    )
    assert "sign with a passkey first" in (await client("GET", f"/v1/sessions/{COMPANY}/qr")).problem(409, "conflict")


async def test_a_signature_links_the_device(client: ApiClient, harness: GatewayHarness) -> None:
    """202 finishing; the engine gets the assertion with the fields that WhatsApp expects, and the session connects."""
    await asked(client, harness)
    answer = await client("POST", PATH, OWNER.sign(OPTIONS))
    assert (answer.status, answer.json) == (202, {"step": "finishing"})
    (sent,) = [command for command in harness.engine.commands if isinstance(command, AnswerPasskey)]
    assert set(sent.assertion) == {"id", "rawId", "type", "response"}
    await harness.until(lambda: harness.gateway.view(COMPANY).record.state == "connected")
    (await client("GET", PATH)).problem(404, "not-found")
    assert (await session(client))["reason"] is None


async def test_a_code_is_compared_if_whatsapp_requires_it(client: ApiClient, harness: GatewayHarness) -> None:
    """202 with the code; after the confirmation the device is linked; a second confirmation is refused."""
    harness.prepare = lambda engine: setattr(engine, "passkey_answer", "compare")
    harness.engine.passkey_answer = "compare"
    await asked(client, harness)
    answer = await client("POST", PATH, OWNER.sign(OPTIONS))
    assert (answer.status, answer.json) == (202, {"step": "confirm", "code": "G7R3-N352"})
    confirmed = await client("POST", f"{PATH}/confirm")
    assert (confirmed.status, confirmed.json) == (202, {"step": "finishing"})
    assert any(isinstance(command, ConfirmPasskey) for command in harness.engine.commands)
    await harness.until(lambda: harness.gateway.view(COMPANY).record.state == "connected")
    (await client("POST", f"{PATH}/confirm")).problem(409, "conflict")


async def test_codes_that_differ_end_the_ceremony(client: ApiClient, harness: GatewayHarness) -> None:
    """The link is cut, nothing is linked, and the reason says what it may mean."""
    harness.engine.passkey_answer = "compare"
    link = await asked(client, harness)
    await client("POST", PATH, OWNER.sign(OPTIONS))
    assert (await client("POST", f"{PATH}/confirm", {"matches": False})).json == {"step": "stopped"}
    await harness.quiet()
    found = await session(client)
    assert (found["state"], found["reason"]["code"]) == ("unpaired", "passkey-code-mismatch")
    assert CutLink(link=link) in harness.engine.commands


@pytest.mark.parametrize(
    ("answer", "status", "code", "reason"),
    [
        ("refused", 422, "bad-assertion", "passkey-refused"),
        ("silent", 504, "passkey-timeout", "passkey-timeout"),
    ],
)
async def test_a_failure_has_its_own_reason_and_can_be_retried(
    client: ApiClient, harness: GatewayHarness, answer: Any, status: int, code: str, reason: str
) -> None:
    """WhatsApp refuses the signature, or does not answer it; the next code is linked normally."""
    harness.engine.passkey_answer = answer
    await asked(client, harness)
    (await client("POST", PATH, OWNER.sign(OPTIONS))).problem(status, code)
    await harness.quiet()
    found = await session(client)
    assert (found["state"], found["reason"]["code"]) == ("unpaired", reason)
    harness.engine.passkey_answer = "finish"
    await asked(client, harness)
    assert (await client("POST", PATH, OWNER.sign(OPTIONS))).status == 202
    await harness.until(lambda: harness.gateway.view(COMPANY).record.state == "connected")


async def test_a_challenge_expires(client: ApiClient, harness: GatewayHarness) -> None:
    """After ten minutes: 404, 409, and a reason of its own."""
    await asked(client, harness)
    await harness.until(lambda: harness.gateway.view(COMPANY).record.state == "unpaired", within_s=601)
    (await client("GET", PATH)).problem(404, "not-found")
    (await client("POST", PATH, OWNER.sign(OPTIONS))).problem(409, "conflict")
    assert (await session(client))["reason"]["code"] == "passkey-expired"


async def test_the_ceremony_can_be_cancelled(client: ApiClient, harness: GatewayHarness) -> None:
    """DELETE ends the ceremony at once; without one it is refused."""
    await asked(client, harness)
    assert (await client("DELETE", PATH)).json == {"step": "stopped"}
    await harness.quiet()
    assert (await session(client))["reason"]["code"] == "passkey-declined"
    (await client("DELETE", PATH)).problem(409, "conflict")


async def test_only_one_of_two_concurrent_answers_is_sent(client: ApiClient, harness: GatewayHarness) -> None:
    """WhatsApp accepts one answer to a challenge: the second caller gets 409, and the engine is not called."""
    harness.engine.passkey_answer = "silent"
    await asked(client, harness)
    client.leaps = False
    first = asyncio.ensure_future(client("POST", PATH, OWNER.sign(OPTIONS)))
    await asyncio.sleep(0)
    client.leaps = True
    await harness.quiet()
    (await client("POST", PATH, OWNER.sign(OPTIONS))).problem(409, "conflict")
    assert sum(isinstance(command, AnswerPasskey) for command in harness.engine.commands) == 1
    await harness.now(first)


async def test_a_wrong_assertion_leaves_the_challenge_open(client: ApiClient, harness: GatewayHarness) -> None:
    """422 names the field; the engine is not called, and the right answer is still accepted."""
    await asked(client, harness)
    stranger = Authenticator(id=b"another")
    (await client("POST", PATH, stranger.sign(OPTIONS))).problem(422, "bad-assertion", field="rawId")
    (await client("POST", PATH, {"id": "a"})).problem(422, "bad-input", field="rawId")
    assert not any(isinstance(command, AnswerPasskey) for command in harness.engine.commands)
    assert (await client("POST", PATH, OWNER.sign(OPTIONS))).status == 202


async def test_a_challenge_needs_a_key_for_the_company(client: ApiClient, harness: GatewayHarness) -> None:
    """Without a key, or with one for other companies, it is refused."""
    await asked(client, harness)
    (await client("GET", PATH, key=None)).problem(401, "unauthorized")
    (await client("GET", f"/v1/sessions/{OTHER}/passkey", key=KEY_OF_ONE)).problem(403, "forbidden", field="company")
    (await client("POST", f"/v1/sessions/{OTHER}/passkey", OWNER.sign(OPTIONS), key=KEY_OF_ONE)).problem(
        403, "forbidden", field="company"
    )


# What is checked before anything is sent to WhatsApp.


def altered(*path: str, value: object) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(OWNER.sign(OPTIONS)))
    place = made
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return made


@pytest.mark.parametrize(
    ("assertion", "field"),
    [
        (altered("type", value="password"), "type"),
        (altered("rawId", value=5), "rawId"),
        (altered("rawId", value="a+b="), "rawId"),
        (altered("rawId", value="a" * 2000), "rawId"),
        (altered("rawId", value="a" * 9000), "rawId"),
        (altered("id", value="AAAA"), "id"),
        (altered("response", value=None), "response"),
        (altered("response", "signature", value=""), "response.signature"),
        (altered("response", "userHandle", value=[]), "response.userHandle"),
        (altered("response", "clientDataJSON", value=base64url(b"{")), "response.clientDataJSON"),
        (altered("response", "clientDataJSON", value=base64url(b"[" * 5000)), "response.clientDataJSON"),
        (
            altered("response", "clientDataJSON", value=base64url(b'{"type":"webauthn.create"}')),
            "response.clientDataJSON",
        ),
        (Authenticator(id=OWNER.id, origin="https://evil.example").sign(OPTIONS), "response.clientDataJSON"),
        (OWNER.sign({**OPTIONS, "challenge": "AAAA"}), "response.clientDataJSON"),
        (altered("response", "authenticatorData", value="AAAA"), "response.authenticatorData"),
        (altered("response", "authenticatorData", value=base64url(bytes(37))), "response.authenticatorData"),
        (
            altered(
                "response",
                "authenticatorData",
                value=base64url(bytes.fromhex("c1a4ff8e1b1f3a3aa2b5e4f1d9f5d0a7") * 2 + b"\x01" + bytes(4)),
            ),
            "response.authenticatorData",
        ),
    ],
)
def test_an_invalid_assertion_is_refused(assertion: dict[str, Any], field: str) -> None:
    """The error names the field; nothing of it reaches WhatsApp."""
    with pytest.raises(BadAssertion) as refused:
        checked(assertion, OPTIONS)
    assert refused.value.field == field


def test_a_person_who_was_not_verified_is_refused() -> None:
    """User presence alone is not enough: WhatsApp demands verification."""
    data = hashlib.sha256(b"whatsapp.com").digest() + b"\x01" + bytes(4)
    with pytest.raises(BadAssertion, match="not verified"):
        checked(altered("response", "authenticatorData", value=base64url(data)), OPTIONS)


@pytest.mark.parametrize(("timeout", "lasts_s"), [(1000, 1), (None, 600), ("x", 600), (True, 600)])
def test_an_invalid_lifetime_of_a_challenge_is_replaced(timeout: object, lasts_s: float) -> None:
    """WhatsApp's own number, or ten minutes."""
    assert lifetime_s({"timeout": timeout}) == lasts_s


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RESPONSES = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from([str(value), "AAAA", ""])
        for name, value in dict(OWNER.sign(OPTIONS)["response"]).items()  # type: ignore[call-overload]
    },
)
ASSERTIONS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON | st.just(base64url(OWNER.id)),
        "rawId": JSON | st.just(base64url(OWNER.id)),
        "type": JSON | st.just("public-key"),
        "response": JSON | RESPONSES,
        "extra": JSON,
    },
)


@given(ASSERTIONS, st.sampled_from([OPTIONS, {}, {"allowCredentials": [5, {"id": []}]}, {"allowCredentials": {}}]))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_body_is_refused_or_becomes_a_complete_assertion(
    body: dict[str, object], options: dict[str, object]
) -> None:
    """Never a partial assertion, and no other failure than one that names the caller's field."""
    try:
        made = checked(body, options)
    except BadInput as refused:
        field = refused.field
    else:
        field = "none"
        assert set(made) == {"id", "rawId", "type", "response"}
        assert json.loads(json.dumps(made)) == made
    assert field


@given(JSON | ASSERTIONS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_the_route_answers_any_body_with_a_problem(
    client: ApiClient, harness: GatewayHarness, body: object
) -> None:
    """422 with the field at fault and an explanation for any body. The engine gets nothing of it, and WhatsApp's
    challenge stays open for the right answer.
    """
    assume(not is_whole(body))
    if not harness.gateway.running:
        await asked(client, harness)
    answer = await client("POST", PATH, body)
    refused = answer.json
    assert refused["code"] in {"bad-input", "bad-assertion"}
    assert refused["field"].partition(".")[0] in {"body", "id", "rawId", "type", "response"}
    assert len(answer.problem(422, refused["code"], field=refused["field"]).split()) >= 3
    assert not any(isinstance(command, AnswerPasskey) for command in harness.engine.commands)
    assert (await client("GET", PATH)).status == 200


def is_whole(body: object) -> bool:
    """Whether it would be sent to WhatsApp."""
    try:
        return isinstance(body, dict) and bool(checked(body, OPTIONS))
    except BadInput:
        return False
