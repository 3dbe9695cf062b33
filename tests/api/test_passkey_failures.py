"""Every way in which signing with a passkey fails: a reason of its own, nothing left behind, and a session that can be
linked afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal

import pytest

from holdfast.session.engine import AnswerPasskey, CutLink, LinkId
from holdfast.session.reasons import BY_CODE, stored_reason
from tests.api.api_client import Answer, ApiClient
from tests.api.test_passkeys import OPTIONS, OWNER, PATH, asked, session
from tests.doubles.authenticator import Authenticator
from tests.gateway_harness import COMPANY, GatewayHarness

SIGNED = OWNER.sign(OPTIONS)
Then = Callable[[ApiClient, GatewayHarness, LinkId], Awaitable[Answer | None]]


async def nobody_acts(_: ApiClient, harness: GatewayHarness, __: LinkId) -> None:
    await harness.until_state("unpaired", within_s=601)


async def the_owner_declines(client: ApiClient, _: GatewayHarness, __: LinkId) -> Answer:
    return await client("DELETE", PATH)


async def the_owner_signs(client: ApiClient, _: GatewayHarness, __: LinkId) -> Answer:
    return await client("POST", PATH, SIGNED)


async def nobody_compares(client: ApiClient, harness: GatewayHarness, link: LinkId) -> None:
    await the_owner_signs(client, harness, link)
    await harness.until_state("unpaired", within_s=301)


async def the_codes_differ(client: ApiClient, harness: GatewayHarness, link: LinkId) -> Answer:
    await the_owner_signs(client, harness, link)
    return await client("POST", f"{PATH}/confirm", {"matches": False})


async def the_owner_declines_when_comparing(client: ApiClient, harness: GatewayHarness, link: LinkId) -> Answer:
    await the_owner_signs(client, harness, link)
    return await client("DELETE", PATH)


async def whatsapp_never_links(client: ApiClient, harness: GatewayHarness, link: LinkId) -> None:
    await the_owner_signs(client, harness, link)
    harness.engine.links[link].pairing = False  # WhatsApp sends nothing after the pairing request
    await client("POST", f"{PATH}/confirm")
    await harness.until_state("unpaired", within_s=31)


@pytest.mark.parametrize(
    ("whatsapp", "then", "status", "code", "reason"),
    [
        ("finish", nobody_acts, None, None, "passkey-expired"),
        ("finish", the_owner_declines, 202, None, "passkey-declined"),
        ("refused", the_owner_signs, 422, "bad-assertion", "passkey-refused"),
        ("silent", the_owner_signs, 504, "passkey-timeout", "passkey-timeout"),
        ("unknown", the_owner_signs, 504, "passkey-failed", "passkey-failed"),
        ("compare", nobody_compares, None, None, "passkey-expired"),
        ("compare", the_codes_differ, 202, None, "passkey-code-mismatch"),
        ("compare", the_owner_declines_when_comparing, 202, None, "passkey-declined"),
        ("compare", whatsapp_never_links, None, None, "passkey-timeout"),
    ],
)
async def test_a_failure_has_its_reason_and_leaves_nothing_behind(
    client: ApiClient,
    harness: GatewayHarness,
    whatsapp: Literal["finish", "compare", "refused", "silent", "unknown"],
    then: Then,
    status: int | None,
    code: str | None,
    reason: str,
) -> None:
    """State, explanation and action for people; no link, challenge, code, task or device is left; and the next code is
    linked.
    """
    await client("PUT", f"/v1/sessions/{COMPANY}")
    await harness.quiet()  # all tasks of the session have begun
    tasks = len(asyncio.all_tasks())
    harness.engine.passkey_answer = whatsapp
    link = await asked(client, harness)
    answer = await then(client, harness, link)
    if answer is not None:
        assert (answer.status, answer.json.get("code")) == (status, code)
    await harness.quiet()
    known, found = stored_reason(reason, None), await session(client)
    assert (found["state"], found["reason"]) == (
        "unpaired",
        {"code": reason, "number": None, "message": known.sentence, "action": known.action.value},
    )
    await check_nothing_is_left(client, harness, link)
    assert len(asyncio.all_tasks()) == tasks
    await check_it_can_be_linked(client, harness)


async def test_an_assertion_of_another_site_is_refused_and_the_challenge_stays_open(
    client: ApiClient, harness: GatewayHarness
) -> None:
    """422 names the site that it was made on and the right one; the owner signs again, and the device is linked."""
    await asked(client, harness)
    elsewhere = Authenticator(key=OWNER.key, id=OWNER.id, origin="https://web.whatsapp.com.evil.example")
    answer = await client("POST", PATH, elsewhere.sign(OPTIONS))
    sentence = answer.problem(422, "bad-assertion", field="response.clientDataJSON")
    assert "https://web.whatsapp.com.evil.example" in sentence
    assert sentence.endswith("sign on https://web.whatsapp.com")
    assert (await session(client))["reason"]["code"] == "passkey-required"
    assert (await client("POST", PATH, SIGNED)).status == 202
    await harness.until_state("connected")


async def test_a_lost_connection_is_distinguished_from_a_timeout(client: ApiClient, harness: GatewayHarness) -> None:
    """The caller gets a specific code, the session shows the reason, and a new QR code appears without the
    challenge.
    """
    harness.engine.passkey_answer = "silent"
    link = await asked(client, harness)
    answering = await signing(client, harness)
    harness.engine.drop(link, code=428, detail="connection lost")
    assert "connection to WhatsApp ended" in (await harness.now(answering)).problem(504, "passkey-link-ended")
    await harness.quiet()
    found = await session(client)
    assert (found["state"], found["reason"]["code"]) == ("pairing", BY_CODE[428].name)
    (await client("GET", PATH)).problem(404, "not-found")
    await check_it_can_be_linked(client, harness)


async def test_a_signature_just_before_the_deadline_is_too_late(client: ApiClient, harness: GatewayHarness) -> None:
    """The deadline of the challenge passes while the request is on its way: 409 says that it ended."""
    harness.engine.passkey_answer = "silent"
    await asked(client, harness)
    passkeys = (await harness.gateway.actor(COMPANY)).passkeys
    harness.clock.advance_to(harness.clock.next_due or 0)  # the deadline; the session has not acted on it yet
    assert passkeys.now is not None
    assert "ended before" in (await client("POST", PATH, SIGNED)).problem(409, "conflict")
    await harness.quiet()
    assert (await session(client))["reason"]["code"] == "passkey-expired"


async def test_a_second_challenge_ends_requests_that_wait_for_the_first(
    client: ApiClient, harness: GatewayHarness
) -> None:
    """WhatsApp may send a new challenge while it has a signature: 409 says to sign that one, which links the device."""
    harness.engine.passkey_answer = "silent"
    link = await asked(client, harness)
    answering = await signing(client, harness)
    newer = {**OPTIONS, "challenge": "bmV3ZXI"}
    harness.engine.request_passkey(link, newer)
    assert "sign the new one" in (await harness.now(answering)).problem(409, "conflict")
    harness.engine.passkey_answer = "finish"
    assert (await client("GET", PATH)).json["options"] == newer
    assert (await client("POST", PATH, OWNER.sign(newer))).status == 202
    await harness.until_state("connected")


async def signing(client: ApiClient, harness: GatewayHarness) -> asyncio.Task[Answer]:
    """A request that waits for WhatsApp, which has the signature."""
    client.leaps = False
    answering = asyncio.ensure_future(client("POST", PATH, SIGNED))
    await harness.until(lambda: bool(harness.commands(AnswerPasskey)))
    client.leaps = True
    return answering


async def check_nothing_is_left(client: ApiClient, harness: GatewayHarness, link: LinkId) -> None:
    (await client("GET", PATH)).problem(404, "not-found")
    for method, path, body in (
        ("POST", PATH, SIGNED),
        ("POST", f"{PATH}/confirm", None),
        ("DELETE", PATH, None),
    ):
        (await client(method, path, body)).problem(409, "conflict")
    view = harness.gateway.view(COMPANY)
    assert (view.passkey, view.qr, view.session.link) == (None, None, None)
    assert CutLink(link=link) in harness.engine.commands
    assert not await harness.now(harness.store.is_paired(COMPANY))
    live = json.dumps(await harness.services.live.get(COMPANY))
    stored = await harness.now(harness.database.read(lambda db: "\n".join(_dump(db.connection.driver_connection))))
    for secret in (OPTIONS["challenge"], SIGNED["response"]["signature"], "G7R3-N352"):  # type: ignore[index]
        assert secret not in live
        assert secret not in stored


def _dump(connection: object) -> Iterator[str]:
    lines: Iterator[str] = connection.iterdump()  # type: ignore[attr-defined]
    return lines


async def check_it_can_be_linked(client: ApiClient, harness: GatewayHarness) -> None:
    harness.engine.passkey_answer = "finish"
    await asked(client, harness)
    assert (await client("POST", PATH, SIGNED)).json == {"step": "finishing"}
    await harness.until_state("connected")
    assert (await session(client))["reason"] is None
