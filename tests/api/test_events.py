"""The event stream: from now on or from a reader's last event, for the companies of the key, until Holdfast stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message

from holdfast.api.events import open_events
from holdfast.delivery.events import Event
from holdfast.http.event_stream import EventStream
from holdfast.http.shutdown import ShutdownScope, Stopping
from holdfast.store.events import record
from tests.api.api_client import KEY, KEY_OF_ONE, OTHER, ApiClient
from tests.api.test_server import Running, serving
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

AT = "2026-01-01T00:00:00.000Z"
StreamEvent = tuple[int, str, dict[str, Any]]


async def add(harness: GatewayHarness, number: int, *, company: str = COMPANY) -> int:
    await harness.database.write(
        lambda connection: record(connection, company, "session.state", {"n": number}, chat=None, at=AT)
    )
    return await harness.events.newest()


def parse_events(text: str) -> list[StreamEvent]:
    """The events in a part of the stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "id" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


class Reader:
    """Reads a stream until it is stopped."""

    def __init__(self, harness: GatewayHarness, *, company: str | None = None, heartbeat_s: float = 60) -> None:
        self.shutdown = ShutdownScope()
        self.text = ""
        self._received = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._harness = harness
        self._companies = None if company is None else [company]
        self._heartbeat_s = heartbeat_s

    @contextlib.asynccontextmanager
    async def reading(self, after: int | None) -> AsyncIterator[asyncio.Task[None]]:
        events = await open_events(after, events=self._harness.events, companies=self._companies)
        stream = EventStream(
            events, shutdown=self.shutdown, quota=contextlib.nullcontext(), heartbeat_s=self._heartbeat_s
        )
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(stream({"type": "http"}, self._receive, self._send))
            await self.until(lambda: bool(self.text))
            yield task
            self.shutdown.end()

    async def _receive(self) -> Message:
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.text += message.get("body", b"").decode()
        self._received.set()

    def disconnect(self) -> None:
        self._disconnected.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        while not enough():
            self._received.clear()
            await self._received.wait()

    @property
    def numbers(self) -> list[int]:
        return [payload["data"]["n"] for _, _, payload in parse_events(self.text)]


async def test_a_reader_gets_new_events(harness: GatewayHarness) -> None:
    """As soon as they are durable, in order, with type and time; no earlier ones."""
    await add(harness, 1)
    reader = Reader(harness)
    async with reader.reading(None):
        seq = await add(harness, 2)
        await reader.until(lambda: len(reader.numbers) == 1)
        assert parse_events(reader.text) == [
            (seq, "session.state", {"type": "session.state", "timestamp": AT, "data": {"n": 2}})
        ]
        await add(harness, 3)
        await reader.until(lambda: reader.numbers == [2, 3])


async def test_a_returning_reader_gets_all_missed_events(harness: GatewayHarness) -> None:
    """It gets several pages, each event once, and then new events."""
    first = await add(harness, 0)
    for number in range(1, 121):
        await add(harness, number)
    reader = Reader(harness)
    async with reader.reading(first):
        await reader.until(lambda: len(reader.numbers) == 120)
        await add(harness, 121)
        await reader.until(lambda: len(reader.numbers) == 121)
    assert reader.numbers == list(range(1, 122))


async def test_a_reader_who_returns_too_late_can_detect_the_gap(harness: GatewayHarness) -> None:
    """Events that it has not read were deleted, so the following events are not contiguous."""
    seen = await add(harness, 1)
    for number in (2, 3):
        await add(harness, number)
    await harness.events.prune(before="2027-01-01T00:00:00.000Z", now="2028-01-01T00:00:00.000Z")
    await add(harness, 4)
    late, punctual = Reader(harness), Reader(harness)
    async with late.reading(seen), punctual.reading(seen + 2):
        await late.until(lambda: late.numbers == [4])
        await punctual.until(lambda: punctual.numbers == [4])
    assert "event: gap\n" in late.text
    assert "event: gap\n" not in punctual.text


async def test_a_position_after_all_events_means_now(harness: GatewayHarness) -> None:
    """This happens after a restored backup: the reader does not wait until the numbers reach its position."""
    await add(harness, 1)
    reader = Reader(harness)
    async with reader.reading(999_999):
        await add(harness, 2)
        await reader.until(lambda: reader.numbers == [2])


async def test_a_quiet_stream_has_a_heartbeat(harness: GatewayHarness) -> None:
    """The heartbeat is a comment, which readers ignore."""
    reader = Reader(harness, heartbeat_s=0.01)
    async with reader.reading(None):
        await reader.until(lambda: reader.text.count(": heartbeat\n\n") >= 3)
    assert parse_events(reader.text) == []


async def test_a_stream_ends_when_holdfast_stops(harness: GatewayHarness) -> None:
    """An open stream ends, and no new one is accepted."""
    reader = Reader(harness)
    async with reader.reading(None) as task:
        reader.shutdown.end()
        await task
    with pytest.raises(Stopping):
        async with reader.shutdown.until_stopping():
            pass


async def test_a_stream_ends_when_its_reader_disconnects(harness: GatewayHarness) -> None:
    """Nothing is left behind that later events would wake."""
    reader = Reader(harness)
    async with reader.reading(None) as task:
        reader.disconnect()
        await task


async def test_a_key_gets_only_events_of_its_companies(harness: GatewayHarness, client: ApiClient) -> None:
    """Also when it requests all; and an open stream does not delay the stop."""
    first = await add(harness, 0)
    for number, company in enumerate((COMPANY, OTHER, COMPANY), start=1):
        await add(harness, number, company=company)
    resumes = f"Last-Event-ID: {first}\r\n"
    async with serving(client) as running:
        readers = [
            await _ask(running, "/v1/events", key=KEY_OF_ONE, more=resumes),
            await _ask(running, f"/v1/events?company={OTHER}&after={first}", key=KEY),
            await _ask(running, "/v1/events", key=KEY, more=resumes),
        ]
        texts = [await _until(reader, count) for reader, count in zip(readers, (2, 1, 3), strict=True)]
        assert [[payload["data"]["n"] for _, _, payload in parse_events(text)] for text in texts] == [
            [1, 3],
            [2],
            [1, 2, 3],
        ]
        assert all("content-type: text/event-stream" in text for text in texts)
        assert await running.stop() < 3
        async with asyncio.timeout(5):
            assert all([(await reader.read()).endswith(b"0\r\n\r\n") for reader in readers])


async def _ask(running: Running, path: str, *, key: str, more: str = "") -> asyncio.StreamReader:
    caller = await running.call()
    await caller.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n{more}\r\n")
    return caller.reader


async def _until(reader: asyncio.StreamReader, count: int) -> str:
    text = ""
    async with asyncio.timeout(5):
        while len(parse_events(text)) < count:
            text += (await reader.read(65536)).decode().replace("\r\n", "\n")
    return text


async def test_a_key_has_no_access_to_events_of_another_company(client: ApiClient) -> None:
    """Whether the company exists or not."""
    refused = await client("GET", f"/v1/events?company={OTHER}", key=KEY_OF_ONE)
    assert OTHER in refused.problem(403, "forbidden", field="company")


@pytest.mark.parametrize("place", ["x", "-1", "1" * 19])
async def test_an_invalid_position_is_refused(client: ApiClient, place: str) -> None:
    """The error names the parameter or header."""
    answer = await client("GET", "/v1/events", headers={"Last-Event-ID": place})
    assert "is not an event id" in answer.problem(422, "bad-input", field="Last-Event-ID")
    answer = await client("GET", f"/v1/events?after={place}")
    assert "is not an event id" in answer.problem(422, "bad-input", field="after")


async def test_an_event_contains_a_message_as_the_api_shows_it(harness: GatewayHarness, client: ApiClient) -> None:
    """All fields are the same, outbound and inbound, so readers of both need only one schema."""
    await harness.pair()
    sent = (await client("POST", f"/v1/sessions/{COMPANY}/messages", {"to": NUMBER, "text": "hello"})).json
    await harness.until_sends(1)
    harness.engine.receive(harness.link(), text="hi")
    await harness.quiet()
    [event] = [each for each in await harness.now(_all(harness)) if each.type == "message.accepted"]
    body, shown = json.loads(event.body), (await client("GET", f"/v1/messages/{sent['id']}")).json
    assert body.keys() == shown.keys() - {"held", "retries", "receipts"}
    assert {name for name in body if body[name] != shown[name]} <= {"state", "attempts", "sentAt"}
    [event] = [each for each in await harness.now(_all(harness)) if each.type == "message.received"]
    [received] = (await client("GET", f"/v1/sessions/{COMPANY}/inbox")).json["items"]
    assert json.loads(event.body) == received


def _all(harness: GatewayHarness) -> Awaitable[list[Event]]:
    return harness.events.after(0, companies=None, limit=100)


async def test_events_are_available_in_pages(harness: GatewayHarness, client: ApiClient) -> None:
    """Oldest first, with their numbers, after an event or from a time on; only of the key's companies."""
    for n in range(3):
        await harness.now(add(harness, n))
    await harness.now(add(harness, 9, company=OTHER))
    first = (await client("GET", "/v1/events?format=json&limit=2")).json
    assert [(item["type"], item["data"]["n"]) for item in first["items"]] == [
        ("session.state", 0),
        ("session.state", 1),
    ]
    assert first["next"] == str(first["items"][-1]["seq"])
    rest = (await client("GET", f"/v1/events?format=json&after={first['next']}")).json
    assert ([item["data"]["n"] for item in rest["items"]], rest["next"]) == ([2, 9], None)
    mine = (await client("GET", "/v1/events?format=json", key=KEY_OF_ONE)).json
    assert [item["data"]["n"] for item in mine["items"]] == [0, 1, 2]
    for since, count in ((AT, 4), ("2026-01-01T00:00:01Z", 0)):
        page = (await client("GET", f"/v1/events?format=json&since={since}")).json
        assert len(page["items"]) == count
    (await client("GET", "/v1/events?format=xml")).problem(422, "bad-input", field="format")
