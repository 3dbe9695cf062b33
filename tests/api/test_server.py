"""The HTTP server on a real socket: slow callers, callers that send too much or disconnect, and a stop that waits for
nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import pytest
from fastapi import FastAPI, Request, Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.api.access import PAGES_AT_ONCE, authenticate, wait_for_page
from holdfast.api.api_keys import add_api_keys
from holdfast.api.body_limit import LARGEST_BODY
from holdfast.api.server import KEEP_ALIVE_S, HttpServer
from holdfast.base.clock import SystemClock
from tests.api.api_client import KEY, KEY_OF_ONE, ApiClient, registry_of
from tests.gateway_harness import COMPANY, NUMBER

HEAD = f"Host: localhost\r\nAuthorization: Bearer {KEY}\r\n"
JSON = "Content-Type: application/json\r\n"
SESSION = f"/v1/sessions/{COMPANY}"
MESSAGES = f"{SESSION}/messages"
LARGE = 40 * 1024 * 1024
"""Bytes of a response that does not fit into the buffers of the operating system."""
_LARGE_BODY = b"x" * LARGE
SOON_S = 5
"""Seconds for a response that should arrive at once, on a busy machine."""


class Caller:
    """A client that sends arbitrary bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, text: str | bytes) -> None:
        self.writer.write(text.encode() if isinstance(text, str) else text)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read the status, headers and body of one response."""
        async with asyncio.timeout(SOON_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            return int(first.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def ended(self) -> bool:
        """Whether the server closes the connection without a response."""
        async with asyncio.timeout(SOON_S):
            return await self.reader.read() == b""


async def read_body(request: Request) -> None:
    """A route without a key that reads its body, as the dashboard's sign-in does."""
    await request.body()


class Running:
    def __init__(self, server: HttpServer, port: int, serving: asyncio.Task[None]) -> None:
        self.server, self.port, self.serving = server, port, serving
        self._callers: list[Caller] = []

    async def call(self) -> Caller:
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self._callers.append(caller)
        return caller

    async def stop(self) -> float:
        """Stop the server; returns how long that took."""
        clock = SystemClock()
        before = clock.monotonic()
        self.server.stop()
        await asyncio.wait([self.serving])
        return clock.monotonic() - before

    def disconnect(self) -> None:
        for caller in self._callers:
            caller.writer.close()


@asynccontextmanager
async def serving(
    client: ApiClient,
    *,
    head_deadline_s: float = 10,
    read_deadline_s: float = 60,
    stop_s: float = 5,
    max_connections: int = 0,
    trusted_proxies: str = "",
) -> AsyncIterator[Running]:
    server = HttpServer(
        client.api,
        head_deadline_s=head_deadline_s,
        read_deadline_s=read_deadline_s,
        stop_s=stop_s,
        max_connections=max_connections,
        trusted_proxies=trusted_proxies,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.TaskGroup() as tasks:
            running = Running(server, listener.getsockname()[1], tasks.create_task(server.serve(sockets=[listener])))
            try:
                yield running
            finally:
                running.disconnect()
                await running.stop()


async def test_a_response_identifies_holdfast(client: ApiClient) -> None:
    """By a header that the commands check; it names neither the server software nor its version."""
    async with serving(client) as running:
        caller = await running.call()
        await caller.send(f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n")
        status, headers, body = await caller.answer()
    assert (status, json.loads(body)) == (200, {"status": "alive"})
    assert headers["holdfast-api"] == "1"
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


def test_the_first_request_finds_the_routes_built(client: ApiClient) -> None:
    """It needs no more calls of functions than the next one: building the routes would take thousands of times as
    many, and nothing else would run meanwhile."""
    add_api_keys(client.api, registry_of(client.harness))  # each application builds these anew, the others share theirs
    server = HttpServer(client.api)
    assert isinstance(server.config.app, FastAPI)
    routes = server.config.app.router.routes

    def calls_to_match() -> int:
        count = 0

        def profile(_frame: FrameType, _event: str, _argument: object) -> None:
            nonlocal count
            count += 1

        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            for route in routes:
                route.matches({"type": "http", "method": "GET", "path": "/healthz", "headers": []})
        finally:
            sys.setprofile(before)
        return count

    first, second = calls_to_match(), calls_to_match()
    assert first < 2 * second, (first, second)


async def test_a_connection_serves_many_requests(client: ApiClient) -> None:
    """Also after a refusal, and longer than proxies keep idle connections; the deadline for heads starts again."""
    assert KEEP_ALIVE_S > 60
    async with serving(client, head_deadline_s=0.2) as running:
        caller = await running.call()
        for path, expected in (("/healthz", 200), ("/nothing", 404), ("/v1/sessions", 200)):
            await caller.send(f"GET {path} HTTP/1.1\r\n{HEAD}\r\n")
            assert (await caller.answer())[0] == expected
            await asyncio.sleep(0.3)  # real time: the socket's deadline must not be running


async def test_a_body_that_is_too_large_is_refused_while_it_arrives(client: ApiClient) -> None:
    """The caller can read its 413, whether the length was announced or the body is sent in chunks."""
    async with serving(client) as running:
        for n, head in enumerate((f"Content-Length: {LARGEST_BODY * 3}", "Transfer-Encoding: chunked")):
            caller = await running.call()
            await caller.send(f"PUT {SESSION} HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n{head}\r\n\r\n")
            part = b"x" * 65536
            for _ in range(48):
                await caller.send(part if n == 0 else b"10000\r\n" + part + b"\r\n")
            if n == 1:
                await caller.send(b"0\r\n\r\n")
            status, headers, body = await caller.answer()
            assert (status, headers["content-type"]) == (413, "application/problem+json")
            assert json.loads(body)["code"] == "too-large"
            await caller.send(f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n")
            assert (await caller.answer())[0] == 200


async def test_a_caller_without_a_key_is_refused_before_its_body_arrives(client: ApiClient) -> None:
    """401 after the head; the server waits for the rest no longer than for a head."""
    async with serving(client, head_deadline_s=0.2) as running:
        caller = await running.call()
        await caller.send(f"POST {MESSAGES} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert (await caller.answer())[0] == 401
        await caller.send(b"x")
        assert await caller.ended()


@pytest.mark.parametrize("begun", ["", "GET", f"GET /healthz HTTP/1.1\r\n{HEAD}X-Slow: "])
async def test_a_caller_that_never_completes_its_head_is_disconnected(client: ApiClient, begun: str) -> None:
    """A slow-loris attack: a connection that sends nothing, one word, or one header after the other."""
    async with serving(client, head_deadline_s=0.2) as running:
        caller = await running.call()
        await caller.send(begun)
        assert await caller.ended()


async def test_a_caller_that_sends_its_head_too_slowly_is_disconnected(client: ApiClient) -> None:
    """Each byte arrives in time, but the whole head does not."""
    async with serving(client, head_deadline_s=0.2) as running:
        caller = await running.call()
        await caller.send("GET /healthz HTTP/1.1\r\nX-Drip: ")
        cut = await asyncio.wait_for(_drip(caller), SOON_S)
    assert cut


async def _drip(caller: Caller) -> bool:
    with contextlib.suppress(ConnectionError):
        while not caller.reader.at_eof():
            await caller.send("x")
            await asyncio.sleep(0.02)
    return True


@pytest.mark.parametrize(
    "head", ["NONSENSE\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", f"GET / HTTP/1.1\r\nHost: x\r\nX: {'x' * 1_000_000}\r\n\r\n"]
)
async def test_bytes_that_are_not_http_are_refused(
    client: ApiClient, head: str, caplog: pytest.LogCaptureFixture
) -> None:
    """400, one log line without the bytes, and the next caller is served."""
    async with serving(client) as running:
        caller = await running.call()
        with caplog.at_level(logging.WARNING):
            await caller.send(head)
            async with asyncio.timeout(SOON_S):
                assert b" 400 " in await caller.reader.readline()
        assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request from 127.0.0.1"]
        other = await running.call()
        await other.send(f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n")
        assert (await other.answer())[0] == 200


async def test_a_caller_that_disconnects_affects_no_other(client: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    """During a head, a body or a wait: nothing is logged as an error, and others are served."""
    await client("PUT", f"/v1/sessions/{COMPANY}")
    body = json.dumps({"to": NUMBER, "text": "hello"})
    whole = (
        f"POST {MESSAGES} HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    with caplog.at_level(logging.WARNING):
        client.api.post("/anybody")(read_body)
        async with serving(client) as running:
            begun = await running.call()
            await begun.send("POST /anybody HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nkey=")
            await asyncio.sleep(0.1)
            begun.writer.transport.abort()
            for cut in (10, len(whole) - 5, len(whole)):
                caller = await running.call()
                await caller.send(whole[:cut])
                caller.writer.transport.abort()
            other = await running.call()
            await other.send(f"GET /v1/sessions HTTP/1.1\r\n{HEAD}\r\n")
            assert (await other.answer())[0] == 200
    assert caplog.records == []


async def test_open_connections_do_not_delay_the_stop(client: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    """One is idle, one sends its head, one its body, one waits for a QR code: all end at once, the last two with a
    response.
    """
    client.harness.engine.opens = False
    await client("PUT", f"/v1/sessions/{COMPANY}")
    with caplog.at_level(logging.WARNING):
        async with serving(client) as running:
            idle, head, body, waiting = [await running.call() for _ in range(4)]
            await idle.send(f"GET /healthz HTTP/1.1\r\n{HEAD}\r\n")
            await idle.answer()
            await head.send("GET /healthz")
            await body.send(f"POST {MESSAGES} HTTP/1.1\r\n{HEAD}Content-Length: 1000\r\n\r\nx")
            await waiting.send(f"GET /v1/sessions/{COMPANY}/qr HTTP/1.1\r\n{HEAD}\r\n")
            await asyncio.sleep(0.2)  # until all have got so far, which can't be seen from outside
            assert await running.stop() < 2
            assert await idle.ended()
            assert await head.ended()
            for caller in (body, waiting):
                status, _, answer = await caller.answer()
                assert (status, json.loads(answer)["code"]) == (503, "stopping")
    assert caplog.records == []


async def test_a_request_that_is_unfinished_at_the_stop_gets_503(client: ApiClient) -> None:
    """Not 500, as for a defect: a database that hangs says nothing about the request."""
    await client("PUT", SESSION)
    goes_on = threading.Event()
    body = json.dumps({"to": NUMBER, "text": "hello"})
    async with serving(client, stop_s=0.2) as running:
        blocked = asyncio.ensure_future(client.harness.database.write(lambda connection: goes_on.wait()))
        caller = await running.call()
        await caller.send(f"POST {MESSAGES} HTTP/1.1\r\n{HEAD}{JSON}Content-Length: {len(body)}\r\n\r\n{body}")
        await asyncio.sleep(0.2)  # until it waits for the database, which can't be seen from outside
        try:
            await running.stop()
            status, headers, answer = await caller.answer()
        finally:
            goes_on.set()
            await blocked
    assert (status, json.loads(answer)["code"]) == (503, "stopping")
    assert "retry-after" in headers


async def test_a_request_that_has_arrived_is_served_while_holdfast_stops(client: ApiClient) -> None:
    """A proxy sends requests until the port is closed, and does not repeat them elsewhere when they are refused."""
    await client("PUT", SESSION)
    client.api.state.shutdown.end()
    answer = await client("POST", f"{SESSION}/messages", {"to": NUMBER, "text": "hello"})
    assert answer.status == 202


async def test_idle_connections_do_not_block_new_ones(client: ApiClient) -> None:
    """At the limit the oldest idle one without a key is closed; connections with a key or with a request in progress
    stay open.
    """
    async with serving(client, max_connections=4) as running:
        keyed, stream = await running.call(), await running.call()
        await keyed.send(f"GET /v1/sessions HTTP/1.1\r\n{HEAD}\r\n")
        assert (await keyed.answer())[0] == 200
        await stream.send(f"GET /v1/events HTTP/1.1\r\n{HEAD}\r\n")
        assert b"200 OK" in await stream.reader.readuntil(b"retry: 2000\n\n\r\n")
        idle = [await running.call() for _ in range(10)]
        assert [await caller.ended() for caller in idle[:8]] == [True] * 8
        newest = await running.call()
        for caller in (newest, keyed):
            await caller.send(f"GET /v1/sessions HTTP/1.1\r\n{HEAD}\r\n")
            assert (await caller.answer())[0] == 200
        assert not stream.reader.at_eof()


async def large_response() -> Response:
    return Response(_LARGE_BODY)


async def read_slowly(port: int) -> int:
    """The number of bytes that a caller gets who reads 64 kB each time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    size = 0
    while piece := await reader.read(65536):
        size += len(piece)
        await asyncio.sleep(0)
    writer.close()
    return size


@pytest.mark.parametrize("more", ["", "Connection: close\r\n"])
async def test_a_caller_that_does_not_read_its_response_is_disconnected(client: ApiClient, more: str) -> None:
    """Until then its request is open. Another caller gets the whole response."""
    client.api.get("/large")(large_response)
    async with serving(client, read_deadline_s=1) as running:
        connection = socket.create_connection(("127.0.0.1", running.port))
        with contextlib.closing(connection):
            connection.sendall(f"GET /large HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
            await asyncio.sleep(0.5)
            [protocol] = running.server.server_state.connections
            assert isinstance(protocol, HttpToolsProtocol)
            assert not protocol.cycle.response_complete
            async with asyncio.timeout(SOON_S):
                while running.server.server_state.connections:  # noqa: ASYNC110 – ends by a timer of the server
                    await asyncio.sleep(0.05)
        assert await read_slowly(running.port) == LARGE


async def large_page(request: Request) -> Response:
    """A page of messages with megabytes."""
    authenticate(request)
    await wait_for_page(request)
    return Response(_LARGE_BODY)


async def test_a_tenant_that_does_not_read_its_pages_gets_no_more_of_them(client: ApiClient) -> None:
    """Each is held in memory. Its other requests, and the pages of the operator, are answered."""
    client.api.get("/page")(large_page)
    tenant = f"Host: localhost\r\nX-API-Key: {KEY_OF_ONE}\r\n"
    async with serving(client) as running:
        pages = [await running.call() for _ in range(PAGES_AT_ONCE + 1)]
        for caller in pages:
            await caller.send(f"GET /page HTTP/1.1\r\n{tenant}\r\n")
        for caller in pages[:-1]:
            assert b"200 OK" in await caller.reader.readuntil(b"\r\n\r\n")
        other, operator = await running.call(), await running.call()
        await other.send(f"GET /v1/sessions HTTP/1.1\r\n{tenant}\r\n")
        assert (await other.answer())[0] == 200
        await operator.send(f"GET /page HTTP/1.1\r\n{HEAD}\r\n")
        assert b"200 OK" in await operator.reader.readuntil(b"\r\n\r\n")
        waiting = asyncio.create_task(pages[-1].reader.readuntil(b"\r\n\r\n"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        pages[0].writer.transport.abort()
        async with asyncio.timeout(SOON_S):
            assert b"200 OK" in await waiting
        for caller in (*pages, operator):
            caller.writer.transport.abort()


async def test_bodies_without_a_key_that_never_end_do_not_block_others(client: ApiClient) -> None:
    """Anybody can begin to sign in. At the limit such a connection is closed; an upload with a key is not."""
    client.api.post("/anybody")(read_body)
    await client("PUT", SESSION)
    async with serving(client, max_connections=4) as running:
        upload = await running.call()
        await upload.send(f"POST {SESSION}/media HTTP/1.1\r\n{HEAD}Content-Length: 6\r\n\r\nabc")
        endless = [await running.call() for _ in range(3)]
        for caller in endless:
            await caller.send("POST /anybody HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nkey=")
        await asyncio.sleep(0.2)
        for _ in range(3):
            other = await running.call()
            await other.send(f"GET /v1/sessions HTTP/1.1\r\n{HEAD}\r\n")
            assert (await other.answer())[0] == 200
        assert await endless[0].ended()
        await upload.send("def")
        assert (await upload.answer())[0] == 201


async def test_bad_requests_are_logged_with_the_address_and_bounded(
    client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can send them; uvicorn's own line had neither address nor limit."""
    caplog.set_level(logging.WARNING)
    async with serving(client) as running:
        for _ in range(30):
            caller = await running.call()
            await caller.send("nonsense\r\n\r\n")
            assert (await caller.answer())[0] == 400
    assert caplog.messages == ["Invalid HTTP request from 127.0.0.1"] * 10


@pytest.mark.parametrize(
    ("trusted", "seen"), [("127.0.0.1", "203.0.113.7"), ("10.0.0.0/8,127.0.0.0/8", "203.0.113.7"), ("", "127.0.0.1")]
)
async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(
    client: ApiClient, caplog: pytest.LogCaptureFixture, trusted: str, seen: str
) -> None:
    """The last address that is not a trusted proxy's counts; addresses that the caller put before it are ignored."""
    async with serving(client, trusted_proxies=trusted) as running:
        caller = await running.call()
        head = "Host: localhost\r\nX-API-Key: a-wrong-key\r\nX-Forwarded-For: 198.51.100.1, 203.0.113.7, 10.1.1.1\r\n"
        if "10." not in trusted:
            head = head.replace(", 10.1.1.1", "")
        await caller.send(f"GET /v1/sessions HTTP/1.1\r\n{head}\r\n")
        assert (await caller.answer())[0] == 401
    assert caplog.messages == [f"API key refused from {seen}: unknown key at the API"]
