"""Alerts reach a person: from WhatsApp's error to an HTTP receiver that stands for mail, chat or pager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from holdfast.client import Json
from tests.processes import Wasim
from tests.served import eventually, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER = "962302", "962790000002"


class Receiver:
    """Receives the requests of Apprise's json:// address; refuses them while a test requests it."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self.refused = 0
        self.refuses = False

    async def take(self, request: web.Request) -> web.Response:
        if self.refuses:
            self.refused += 1
            return web.Response(status=503)
        self.messages.append(await request.json())
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, int]]:
    made, app = Receiver(), web.Application()
    app.router.add_post("/{path:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield made, runner.addresses[0][1]
    await runner.cleanup()


async def test_the_alert_of_a_ban_arrives_once_although_the_receiver_was_down(
    tmp_path: Path, wasim: Wasim, receiver: tuple[Receiver, int]
) -> None:
    """The alert is stored and shown while its address refuses it, arrives when the address accepts it, and is not
    repeated; it names company and reason, and contains no phone number.
    """
    taker, port = receiver
    taker.refuses = True
    settings = {"HOLDFAST_ALERT_URLS": f"json://127.0.0.1:{port}/", "HOLDFAST_HEALTH_INTERVAL_S": "1"}
    async with served(tmp_path, wasim=wasim, **settings) as gateway:
        await gateway.pair(COMPANY, NUMBER, wasim)
        await wasim.fault("failure", number=NUMBER, reason=406)
        await gateway.client.post(f"/v1/sessions/{COMPANY}/reconnect")
        await gateway.until_state(COMPANY, "paused", within_s=20)

        async def is_shown() -> bool:
            found = await gateway.client.get(f"/webhook/whatsapp/baileys/diagnostics/{COMPANY}")
            return bool(found["alerts"]["undelivered"]) and taker.refused > 0

        await eventually(is_shown, within_s=30, what="an alert that is shown as undelivered")
        taker.refuses = False

        async def has_come() -> bool:
            return bool(taker.messages)

        await eventually(has_come, within_s=30, what="the alert")
        await asyncio.sleep(3)  # three more checks of the monitor
        assert len(taker.messages) == 1
        words = f"{taker.messages[0]['title']} {taker.messages[0]['message']}"
        assert COMPANY in words
        assert "banned" in words
        assert NUMBER not in words
        assert len(gateway.log_lines("Alert raised")) == 1
