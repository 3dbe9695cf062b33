"""One webhook on a real socket: the request that the receiver gets, and the meaning of its responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from holdfast.base.clock import SystemClock
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.events import Event
from holdfast.delivery.webhooks import OF_ALL, Attempt, Endpoint, EndpointHealth
from holdfast.notify.webhooks import WebhookPost, retry_after_s
from holdfast.web.addresses import NOTHING_PRIVATE, Allowed, parse_allowed
from holdfast.web.client import WebClient

SECRET = SystemRandomSource().webhook_secret()
EVENT = Event(
    seq=1,
    id="evt_1",
    company="962302",
    type="message.received",
    chat="a",
    at="2026-01-01T00:00:00.000Z",
    body='{"text":"hello \\u00e9"}',
)
LOOPBACK = parse_allowed("127.0.0.1")


@asynccontextmanager
async def receiver(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """The receiver's URL."""
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    server = TestServer(application, host="127.0.0.1")
    await server.start_server()
    try:
        yield str(server.make_url("/hook"))
    finally:
        await server.close()


async def post(url: str, *, allowed: Allowed = LOOPBACK, company: str = "962302", timeout_s: float = 15) -> Attempt:
    endpoint = Endpoint(
        id="session-962302", company=company, url=url, secret=SECRET, events=None, health=EndpointHealth()
    )
    async with WebClient(allowed) as client:
        return await WebhookPost(client, clock=SystemClock(), timeout_s=timeout_s)(endpoint, EVENT)


async def test_a_receiver_gets_the_event_signed() -> None:
    """The public library verifies it; 2xx means accepted."""
    seen: list[object] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(Webhook(SECRET).verify(await request.read(), dict(request.headers)))
        assert request.headers["webhook-id"] == "evt_1"
        assert request.headers["Content-Type"] == "application/json"
        return web.Response(status=202, text="x" * 100_000)

    async with receiver(answer) as url:
        assert await post(url) == Attempt(status=202)
    assert seen == [{"type": EVENT.type, "timestamp": EVENT.at, "data": {"text": "hello é"}}]


async def test_the_operators_own_address_may_be_private() -> None:
    """It comes from the settings and needs no entry in the list of what all companies may reach."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=204)

    async with receiver(answer) as url:
        assert await post(url, allowed=NOTHING_PRIVATE, company=OF_ALL) == Attempt(status=204)
        assert (await post(url, allowed=NOTHING_PRIVATE)).status is None


@pytest.mark.parametrize(
    ("status", "headers", "attempt"),
    [
        (500, {}, Attempt(status=500, error="the receiver answered 500")),
        (410, {}, Attempt(status=410, error="the receiver answered 410")),
        (429, {"Retry-After": "7"}, Attempt(status=429, error="the receiver answered 429", retry_after_s=7.0)),
        (
            302,
            {"Location": "http://127.0.0.1:1/"},
            Attempt(
                status=302,
                error="the receiver answered 302: redirects are not followed, give the address at the end",
            ),
        ),
    ],
)
async def test_the_response_of_a_receiver_is_reported_without_its_body(
    status: int, headers: dict[str, str], attempt: Attempt
) -> None:
    """Status and `Retry-After`; a redirect is not followed."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, text="very secret")

    async with receiver(answer) as url:
        assert await post(url) == attempt


async def test_a_private_address_that_is_not_allowed_gets_nothing() -> None:
    """The error says what to do; a port where nobody listens is an error, too."""

    async def answer(_: web.Request) -> web.Response:
        raise AssertionError("nobody should ask")

    async with receiver(answer) as url:
        refused = await post(url + "?token=very-secret", allowed=NOTHING_PRIVATE)
    assert refused.status is None
    assert refused.error is not None
    assert "is at a private address" in refused.error
    assert "very-secret" not in refused.error
    silent = await post(url)
    assert silent.error is not None
    assert "can't connect to" in silent.error


async def test_a_receiver_that_takes_too_long_gets_the_event_again() -> None:
    """No answer within the timeout counts as a failed attempt."""
    released = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response(status=204)

    async with receiver(answer) as url:
        silent = await post(url, timeout_s=0.05)
        released.set()
    assert silent.status is None
    assert silent.error is not None
    assert "did not answer in time" in silent.error


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("Thu, 01 Jan 99999999999 00:00:00 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    """Any other value is ignored."""
    assert retry_after_s(text, now=datetime(2026, 1, 1, tzinfo=UTC)) == seconds
