"""Pages of long messages: they end early, and following `next` gives every message once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.api_client import ApiClient
from tests.api.test_chats import RAMI, receive, send
from tests.gateway_harness import COMPANY, GatewayHarness

LONG = "\x01" * 65_000
"""Six characters of JSON for each."""
COUNT = 45
INBOX, TIMELINE = f"/v1/sessions/{COMPANY}/inbox", f"/v1/sessions/{COMPANY}/chats/{RAMI}/messages"
EVENTS = "/v1/events?format=json"


@pytest.fixture
async def flooded(client: ApiClient, harness: GatewayHarness) -> ApiClient:
    """Somebody has written long messages, and the last two are short; one was answered."""
    await harness.pair()
    for n in range(COUNT):
        await receive(harness, f"A{n:02}", text=LONG if n < COUNT - 2 else "short", after_s=1)
    await send(client, "an answer")
    return client


async def read_all(client: ApiClient, path: str, place: str, name: str = "after") -> list[list[Any]]:
    """The items of every page."""
    pages: list[list[Any]] = []
    query = "limit=500"
    while True:
        answer = await client("GET", f"{path}{'&' if '?' in path else '?'}{query}")
        assert answer.status == 200
        assert len(answer.body) < 12_000_000
        pages.append(answer.json["items"])
        if answer.json[place] is None or not pages[-1]:
            return pages
        path = path.partition("?before=")[0]
        query = f"limit=500&{name}={answer.json[place]}"


async def test_a_page_of_the_inbox_ends_early(flooded: ApiClient) -> None:
    """Each message is on one page, in order."""
    pages = await read_all(flooded, INBOX, "next")
    ids = [each["whatsappId"] for page in pages for each in page]
    assert ids == [f"A{n:02}" for n in range(COUNT)]
    assert max(map(len, pages)) < 25


async def test_a_page_of_events_ends_early(flooded: ApiClient) -> None:
    """Each event is on one page, in order."""
    pages = await read_all(flooded, EVENTS, "next")
    items = [each for page in pages for each in page]
    assert [each["data"]["whatsappId"] for each in items if each["type"] == "message.received"] == [
        f"A{n:02}" for n in range(COUNT)
    ]
    seqs = [each["seq"] for each in items]
    assert seqs == sorted(set(seqs))
    assert len(pages) > 3


async def test_a_page_of_a_timeline_ends_early_in_both_directions(flooded: ApiClient) -> None:
    """From the newest message to the oldest, and from the oldest page back to the newest."""
    pages = await read_all(flooded, TIMELINE, "next")
    texts = [each["whatsappId"] for page in pages for each in page]
    assert texts[1:] == [f"A{n:02}" for n in reversed(range(COUNT))]
    assert max(map(len, pages)) < 25
    newer = await read_all(flooded, f"{TIMELINE}?before=0~~0", "previous", name="before")
    assert [each["whatsappId"] for page in newer for each in reversed(page)] == texts[::-1]
    assert max(map(len, newer)) < 25


async def test_a_page_of_a_timeline_ends_early_for_long_edits(client: ApiClient, harness: GatewayHarness) -> None:
    """What is shown of a short message may be long; of an answer that was sent meanwhile as well."""
    await harness.pair()
    for n in range(20):
        await receive(harness, f"A{n:02}", after_s=1)
        await receive(harness, f"E{n:02}", type="edit", target=f"A{n:02}", text=LONG)
    await send(client, "an answer")
    pages = await read_all(client, TIMELINE, "next")
    shown = [each for page in pages for each in page]
    assert [each["whatsappId"] for each in shown[1:]] == [f"A{n:02}" for n in reversed(range(20))]
    assert all(each["text"] == LONG for each in shown[1:])
    assert max(map(len, pages)) < 12


async def test_a_page_of_short_messages_has_as_many_as_asked_for(client: ApiClient, harness: GatewayHarness) -> None:
    """Only the size of the messages ends a page early."""
    await harness.pair()
    for n in range(30):
        await receive(harness, f"A{n:02}", after_s=1)
    for path in (INBOX, TIMELINE):
        first = (await client("GET", f"{path}?limit=25")).json
        rest = (await client("GET", f"{path}?limit=25&after={first['next']}")).json
        assert (len(first["items"]), len(rest["items"]), rest["next"]) == (25, 5, None)
        whole = (await client("GET", f"{path}?limit=30")).json
        assert (len(whole["items"]), whole["next"]) == (30, None)
