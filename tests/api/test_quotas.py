"""Quotas by HTTP: a tenant's key is refused with the time to wait, the operator's never."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import pytest

from holdfast.delivery.media import MB
from tests.api.api_client import KEY, KEY_OF_ONE, ApiClient, make_client
from tests.dashboard.browser import make_browser
from tests.gateway_harness import COMPANY, NUMBER, UNLIMITED, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
MESSAGES = f"{SESSION}/messages"
MESSAGE = {"to": NUMBER, "text": "hello"}


async def test_a_tenant_waits_after_too_many_requests(harness: GatewayHarness) -> None:
    """429 with `Retry-After`, also on the fast path of messages; the operator's key is not limited."""
    async with harness.running() as gateway:
        quotas = harness.quotas(replace(UNLIMITED, requests_per_minute=3))
        client = make_client(harness, gateway, quotas=quotas)
        await client("PUT", SESSION)
        for _ in range(3):
            assert (await client("POST", MESSAGES, MESSAGE, key=KEY_OF_ONE)).status == 202
        for method, path, body in (("POST", MESSAGES, MESSAGE), ("GET", SESSION, None)):
            refused = await client(method, path, body, key=KEY_OF_ONE)
            assert "HOLDFAST_QUOTA_REQUESTS_PER_MINUTE" in refused.problem(429, "quota-exceeded")
            assert refused.headers["retry-after"] == "20"
        for _ in range(10):
            assert (await client("GET", SESSION)).status == 200


async def test_a_tenant_has_a_limited_number_of_requests_open(harness: GatewayHarness) -> None:
    """A request counts until its response has been sent; the operator's key is not limited."""
    async with harness.running() as gateway:
        client = make_client(harness, gateway, quotas=harness.quotas(replace(UNLIMITED, open_requests=2)))
        client.leaps = False
        await client("PUT", SESSION)
        for _ in range(3):
            assert (await client("GET", SESSION, key=KEY_OF_ONE)).status == 200
        streams = [asyncio.create_task(client("GET", "/v1/events", key=KEY_OF_ONE)) for _ in range(2)]
        await asyncio.sleep(0.05)
        for method, path, body in (("GET", SESSION, None), ("POST", MESSAGES, MESSAGE)):
            refused = await client(method, path, body, key=KEY_OF_ONE)
            assert "has 2 requests open" in refused.problem(429, "quota-exceeded")
            assert (await client(method, path, body)).status < 300
        streams[0].cancel()
        await asyncio.wait(streams[:1])
        assert (await client("GET", SESSION, key=KEY_OF_ONE)).status == 200
        streams[1].cancel()


async def test_a_tenant_waits_while_its_outbox_is_full(harness: GatewayHarness) -> None:
    """By number and by size; cancelled messages free space; the operator's messages are accepted."""
    for limit, text in (({"outbox_messages": 2}, "hello"), ({"outbox_bytes": 150_000}, "x" * 60_000)):
        async with harness.running() as gateway:
            client = make_client(harness, gateway, quotas=harness.quotas(replace(UNLIMITED, **limit)))
            await client("PUT", SESSION)
            await client("POST", f"{SESSION}/stop")
            sent = [await client("POST", MESSAGES, {**MESSAGE, "text": text}, key=KEY_OF_ONE) for _ in range(3)]
            assert [answer.status for answer in sent] == [202, 202, 429]
            assert sent[2].headers["retry-after"] == "5"
            mine = await client("POST", MESSAGES, {**MESSAGE, "text": text})
            for answer in (*sent[:2], mine):
                assert (await client("DELETE", f"/v1/messages/{answer.json['id']}", key=KEY_OF_ONE)).status == 200
            await harness.wait(5)
            again = await client("POST", MESSAGES, {**MESSAGE, "text": text}, key=KEY_OF_ONE)
            assert again.status == 202
            await client("DELETE", f"/v1/messages/{again.json['id']}")


async def test_a_tenant_stores_media_up_to_the_quota(harness: GatewayHarness) -> None:
    """Uploads, and files in messages; announced bytes count before they have arrived."""
    async with harness.running() as gateway:
        client = make_client(harness, gateway, quotas=harness.quotas(replace(UNLIMITED, media_bytes=MB)))
        await client("PUT", SESSION)
        length = {"Content-Type": "application/pdf", "Content-Length": str(700_000)}
        first = await client("POST", f"{SESSION}/media", key=KEY_OF_ONE, headers=length, raw=[b"%PDF" + bytes(699_996)])
        assert first.status == 201
        refused = await client("POST", f"{SESSION}/media", key=KEY_OF_ONE, headers=length, raw=[b"%PDF"])
        assert "HOLDFAST_QUOTA_MEDIA_MB" in refused.problem(429, "quota-exceeded")
        document = {"to": NUMBER, "document": {"base64": "A" * 600_000}}
        (await client("POST", MESSAGES, document, key=KEY_OF_ONE)).problem(429, "quota-exceeded")
        by_address = {"to": NUMBER, "document": {"url": "https://example.com/file.pdf"}}
        (await client("POST", MESSAGES, by_address, key=KEY_OF_ONE)).problem(429, "quota-exceeded")
        assert (await client("POST", MESSAGES, document)).status == 202


async def test_when_the_disk_is_nearly_full_tenants_only_read_and_remove(harness: GatewayHarness) -> None:
    """507 with an explanation; the operator's key still works, and so do reads and cancellations."""
    async with harness.running() as gateway:
        client = make_client(harness, gateway, quotas=harness.quotas(replace(UNLIMITED, free_disk_bytes=MB)))
        await client("PUT", SESSION)
        await client("POST", f"{SESSION}/stop")
        sent = await client("POST", MESSAGES, MESSAGE, key=KEY_OF_ONE)
        harness.free_disk_bytes = MB - 1
        await harness.wait(1)
        for method, path, body in (("POST", MESSAGES, MESSAGE), ("PUT", SESSION, {}), ("POST", f"{SESSION}/media", {})):
            refused = await client(method, path, body, key=KEY_OF_ONE)
            assert "the operator has to free space" in refused.problem(507, "disk-nearly-full")
        assert (await client("GET", MESSAGES, key=KEY_OF_ONE)).status == 200
        assert (await client("DELETE", f"/v1/messages/{sent.json['id']}", key=KEY_OF_ONE)).status == 200
        assert (await client("POST", MESSAGES, MESSAGE)).status == 202


async def test_quotas_apply_in_the_dashboard_too(harness: GatewayHarness) -> None:
    """A tenant can't bypass them by signing in."""
    async with harness.running() as gateway:
        browser = make_browser(
            harness, gateway, quotas=harness.quotas(replace(UNLIMITED, streams=1, outbox_messages=1))
        )
        await browser.sign_in()
        await browser.post("/companies", company=COMPANY)
        await browser.post(f"/companies/{COMPANY}/action/stop")
        browser.cookie = None
        await browser.sign_in(KEY_OF_ONE)
        sent = [await browser.post(f"/companies/{COMPANY}/messages", to=NUMBER, text="hello") for _ in range(2)]
        assert [b"has 1 messages waiting" in answer.body for answer in sent] == [False, True]
        async with browser.listening("/live"):
            await harness.quiet()
            refused = await browser.get(f"/companies/{COMPANY}/live")
            assert (refused.status, refused.headers["retry-after"]) == (429, "30")


async def test_unknown_keys_are_logged_with_the_address(client: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    """The format is the one for fail2ban in docs/security.md; requests without any key are not logged."""
    caplog.set_level(logging.WARNING)
    await client("GET", "/v1/sessions", key=None)
    await client("GET", "/v1/sessions", key="a-key-of-somebody-else")
    await client("POST", MESSAGES, MESSAGE, key="a-key-of-somebody-else")
    assert caplog.messages == ["API key refused from 127.0.0.1: unknown key at the API"] * 2
    await client("GET", "/v1/sessions", key=KEY)
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("query", "headers", "field"), [("?wait=1", {}, "wait"), ("", {"Idempotency-Key": ""}, "Idempotency-Key")]
)
async def test_a_tenants_large_message_that_is_refused_delays_no_other(
    harness: GatewayHarness, query: str, headers: dict[str, str], field: str
) -> None:
    """A tenant's large bodies are read one at a time."""
    body = json.dumps(
        {"to": NUMBER, "document": {"base64": "A" * 2 * MB, "filename": "a.bin", "mimetype": "application/x-a"}}
    ).encode()
    given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    async with harness.running() as gateway:
        client = make_client(harness, gateway)
        await client("PUT", SESSION)
        async with asyncio.timeout(5):
            refused = await client("POST", MESSAGES + query, raw=[body], headers=given, key=KEY_OF_ONE)
        refused.problem(422, "bad-input", field=field)
