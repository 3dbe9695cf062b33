"""One Chromium, one wasim and one gateway for all browser tests; each page of each width has a browser context of its
own.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, async_playwright

from holdfast.base.ids import SystemRandomSource
from tests.processes import Wasim, running_wasim
from tests.served import Served, served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium; `scripts/test` installs it."""
    found = shutil.which("chromium")
    assert found, "there is no chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        await running.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whatsapp(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wasim]:
    async with running_wasim(tmp_path_factory.mktemp("wasim")) as running:
        yield running


class Receiver:
    """A user's webhook receiver, which can be told to fail."""

    def __init__(self) -> None:
        self.url = ""
        self.answers = 200
        self.taken: list[str] = []

    async def receive(self, request: web.Request) -> web.Response:
        await request.read()
        if self.answers == 200:
            self.taken.append(request.headers["webhook-id"])
        return web.Response(status=self.answers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    made, app = Receiver(), web.Application()
    app.router.add_post("/", made.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, whatsapp: Wasim, bridge: Path, receiver: Receiver
) -> AsyncIterator[Served]:
    settings = {
        "HOLDFAST_WEBHOOK_URL": receiver.url,
        "HOLDFAST_WEBHOOK_SECRET": SystemRandomSource().webhook_secret(),
        "HOLDFAST_ALLOWED_ADDRESSES": "127.0.0.1",
        "NODE_EXTRA_CA_CERTS": whatsapp.ca,
    }
    async with served(tmp_path_factory.mktemp("gateway"), wasim=whatsapp, **settings) as running:
        yield running
