"""Webhooks of a real gateway: whatever happens to it and the receiver, the receiver gets the inbox in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from holdfast.base.ids import SystemRandomSource
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER = "962302", "962770000001"
CONTACTS = ("962790000001", "962790000002")
SECRET = SystemRandomSource().webhook_secret()


class Receiver:
    """A user's own server, which can answer with errors or be down."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/hook"
        self.is_broken = False
        self.refused = 0
        self.taken: dict[str, dict[str, Any]] = {}
        """Events by webhook-id, in the order of their first arrival."""
        self.repeated = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_post("/hook", self._take)
        runner = web.AppRunner(application, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        message = Webhook(SECRET).verify(await request.read(), dict(request.headers))
        if self.is_broken:
            self.refused += 1
            return web.Response(status=500)
        id_ = request.headers["webhook-id"]
        self.repeated += id_ in self.taken
        self.taken.setdefault(id_, message)
        return web.Response(status=204)

    def received(self) -> dict[str, list[str]]:
        """Ids of inbound messages by chat, in order of arrival."""
        found: dict[str, list[str]] = defaultdict(list)
        for message in self.taken.values():
            if message["type"] == "message.received":
                found[message["data"]["chat"]].append(message["data"]["id"])
        return found

    def states(self, message_id: str) -> list[str]:
        messages = (each for each in self.taken.values() if each["data"].get("id") == message_id)
        return [message["data"]["state"] for message in messages]


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[tuple[Served, Receiver]]:
    receiver = Receiver()
    for number in CONTACTS:
        await wasim.post("/phones", {"number": number})
    settings = {
        "HOLDFAST_WEBHOOK_URL": receiver.url,
        "HOLDFAST_WEBHOOK_SECRET": SECRET,
        "HOLDFAST_ALLOWED_ADDRESSES": "127.0.0.1",
    }
    async with served(tmp_path, wasim=wasim, **settings) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)
        yield gateway, receiver


async def test_the_receiver_gets_the_inbox_in_order_despite_failures(
    gateway: tuple[Served, Receiver], wasim: Wasim
) -> None:
    """The receiver fails, then is down, and the gateway is killed meanwhile: no message is missing, each chat is in
    order.
    """
    holdfast, receiver = gateway
    async with receiver.running():
        await _write(wasim, 0, 8)
        await _until_complete(holdfast, receiver, 16)
        receiver.is_broken = True
        await _write(wasim, 8, 12)
        await eventually(_refused(receiver), within_s=10, what="a webhook that was refused")
        receiver.is_broken = False
    await _write(wasim, 12, 16)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_write(wasim, 16, 24))
        await holdfast.kill()
    await holdfast.start()
    async with receiver.running():
        sent = await holdfast.send(COMPANY, CONTACTS[0], "hello")
        inbox = await _until_complete(holdfast, receiver, 48)
        assert len({item["id"] for item in inbox}) == len(inbox) == 48
        for number in CONTACTS:
            texts = [item["text"] for item in inbox if item["chat"].startswith(number)]
            assert texts == [f"line {n:02}" for n in range(24)]
        await holdfast.until_message(sent["id"], "delivered", "read", within_s=20)
        await eventually(
            _webhook_arrived(receiver, sent["id"], "delivered"), within_s=20, what="webhooks of a sent message"
        )
        states = receiver.states(sent["id"])
        assert states == [state for state in ("sent", "delivered", "read") if state in states]
    [endpoint] = (await holdfast.client.get("/v1/webhooks"))["items"]
    assert (endpoint["id"], endpoint["state"], endpoint["failed"]) == ("default", "active", 0)


async def _write(wasim: Wasim, first: int, end: int) -> None:
    """Both contacts write to the company, one message after the other."""
    for n in range(first, end):
        for number in CONTACTS:
            await wasim.post(f"/phones/{number}/send", {"to": NUMBER, "text": f"line {n:02}"})


async def _until_complete(holdfast: Served, receiver: Receiver, count: int) -> list[dict[str, Any]]:
    """Wait until the inbox has that many messages and the receiver has exactly these, each chat in order; return the
    inbox.
    """
    inbox: list[dict[str, Any]] = []

    async def look() -> bool:
        inbox[:] = await holdfast.inbox(COMPANY)
        return len(inbox) >= count and sum(map(len, receiver.received().values())) >= len(inbox)

    await eventually(look, within_s=20, what=f"{count} messages at the receiver")
    by_chat: dict[str, list[str]] = defaultdict(list)
    for item in inbox:
        by_chat[item["chat"]].append(item["id"])
    assert receiver.received() == by_chat
    return inbox


def _refused(receiver: Receiver) -> Any:
    async def look() -> bool:
        return receiver.refused > 0

    return look


def _webhook_arrived(receiver: Receiver, message_id: str, state: str) -> Any:
    async def look() -> bool:
        return state in receiver.states(message_id)

    return look
