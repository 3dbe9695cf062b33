"""`holdfast logs`: what is asked of the server, and what is shown of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from holdfast.base.errors import HoldfastError
from holdfast.cli import logs
from holdfast.client import Client, Json, NoServer, Refused
from holdfast.delivery.events import TYPES
from tests.doubles.fake_clock import FakeClock


class SkippingClock(FakeClock):
    """A sleep ends at once, with the time at which it would have ended."""

    async def sleep(self, seconds: float) -> None:
        self.advance_to(self.monotonic() + seconds)
        await asyncio.sleep(0)


def page(*numbers: int, more: bool = False) -> Json:
    return {"items": [{"seq": number} for number in numbers], "next": str(numbers[-1]) if more else None}


class Server:
    """Gives these answers one after the other."""

    def __init__(self, *answers: Json | NoServer | Refused) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def get(self, path: str, **query: str) -> Json:
        assert (path, query["format"], query["company"]) == ("/v1/events", "json", "962302")
        self.asked.append(query.get("after", "since"))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


END = Refused(401, "the end of a test")


async def shown(server: Server, *, follow: bool) -> tuple[list[int], HoldfastError | None]:
    """The events that were shown, and what ended it."""
    clock, found = SkippingClock(), list[int]()
    try:
        async for event in logs.events(cast(Client, server), "962302", since=clock.now(), follow=follow, clock=clock):
            found.append(event["seq"])
    except (NoServer, Refused) as error:
        return found, error
    return found, None


@pytest.mark.parametrize(
    ("at", "words"),
    [("10.020", "next attempt at once"), ("10.990", "next attempt in 0.9 s"), ("43.000", "next attempt in 33 s")],
)
def test_the_wait_until_the_next_attempt_is_shown(at: str, words: str) -> None:
    """As in the log of the server, also when it is shorter than a second."""
    times = {"since": "2026-11-28T07:10:10.000Z", "nextAttemptAt": f"2026-11-28T07:10:{at}Z"}
    data = {"companyId": "962302", "before": "connected", "state": "reconnecting", "reason": None, **times}
    event = {"type": "session.state", "timestamp": "2026-11-28T07:10:10.000Z", "data": data}
    assert logs.line(event) == f"2026-11-28 07:10:10 962302 connected → reconnecting; {words}"


_CALLER = {"chat": "962790000001@s.whatsapp.net", "sender": "962790000001@s.whatsapp.net", "senderName": None}
_OTHERS: dict[str, tuple[dict[str, object], str]] = {
    "call.received": (
        {**_CALLER, "id": "msg_1", "type": "call", "content": {"call": {"state": "ringing"}}},
        "call received: from +962790000001 (msg_1)",
    ),
    "call.ended": (
        {**_CALLER, "id": "msg_1", "type": "call", "content": {"call": {"state": "missed"}}},
        "call ended: from +962790000001, missed (msg_1)",
    ),
    "group.updated": (
        {"group": "1@g.us", "subject": None, "change": "members_added", "actor": {"jid": "2@lid", "name": "a\nb"}},
        "group 1@g.us: members added by a\\nb",
    ),
    "operation.updated": (
        {"id": "op_1", "kind": "block", "state": "failed", "error": {"code": "refused", "message": None}},
        "operation block failed: refused (op_1)",
    ),
    "presence.updated": ({"chat": "1@g.us", "sender": "2@lid", "state": "composing"}, "2@lid is composing in 1@g.us"),
    "message.receipt": (
        {"member": "2@lid", "chat": "1@g.us", "receipt": "read", "messageId": "msg_1"},
        "read by 2@lid in 1@g.us (msg_1)",
    ),
    "something.new": ({}, "something.new"),
}


@pytest.mark.parametrize("type_", _OTHERS)
def test_events_that_are_no_messages_are_lines_too(type_: str) -> None:
    """Anybody can cause some of them: they call, or create a group with the company."""
    data, words = _OTHERS[type_]
    event = {"type": type_, "timestamp": "2026-11-28T07:10:10.000Z", "data": {"companyId": "962302", **data}}
    assert logs.line(event) == f"2026-11-28 07:10:10 962302 {words}"


def test_every_type_of_event_is_known() -> None:
    """Those of messages of ours are described alike."""
    others = {type_ for type_ in TYPES if not type_.startswith("message.")} - {"session.state"}
    assert others <= _OTHERS.keys()


async def test_all_parts_are_shown_and_that_is_the_end() -> None:
    """Each page begins after the last event of the page before."""
    server = Server(page(3, 4, more=True), page(7))
    assert await shown(server, follow=False) == ([3, 4, 7], None)
    assert server.asked == ["since", "4"]


async def test_followed_logs_show_later_events_once() -> None:
    """Also when nothing had happened before."""
    server = Server(page(), page(), page(5), page(), page(6, 9), END)
    assert await shown(server, follow=True) == ([5, 6, 9], END)
    assert server.asked == ["since", "since", "since", "5", "5", "9"]


async def test_following_survives_a_restart_of_the_server() -> None:
    """While the server is down or starting, the same page is requested again."""
    server = Server(page(5), NoServer("away"), Refused(503, "starting"), page(6), END)
    assert await shown(server, follow=True) == ([5, 6], END)
    assert server.asked == ["since", "5", "5", "5", "6"]


@pytest.mark.parametrize(
    ("answers", "follow"),
    [([NoServer("away")], True), ([page(5, more=True), NoServer("away")], False)],
    ids=["it never answered", "nobody follows"],
)
async def test_an_unreachable_server_ends_everything_else(answers: Sequence[Json | NoServer], follow: bool) -> None:
    """The command reports at once that no server answers."""
    _, error = await shown(Server(*answers), follow=follow)
    assert isinstance(error, NoServer)
