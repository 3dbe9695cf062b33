"""A webhook receiver as a user would write it: it checks the signature, records new events, and answers 200."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two characters").decode()


@dataclass(slots=True)
class Receiver:
    url: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """Inbound messages, each once, in the order in which they first arrived."""
    repeated: int = 0
    """Number of requests with a known webhook id."""
    _known: set[str] = field(default_factory=set)
    _held: dict[str, tuple[asyncio.Event, asyncio.Event]] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.Response:
        body = Webhook(SECRET).verify(await request.text(), dict(request.headers))
        company = body["data"].get("companyId")
        if company in self._held:
            came, released = self._held[company]
            came.set()
            await released.wait()
        if request.headers["webhook-id"] in self._known:
            self.repeated += 1
        elif body["type"] == "message.received":
            self.messages.append(body["data"])
        self._known.add(request.headers["webhook-id"])
        return web.Response()

    @asynccontextmanager
    async def delayed_responses(self, company: str) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        """Delay responses about this company until the end of the block; yields a function that tells whether one is
        delayed.
        """
        came, released = self._held[company] = asyncio.Event(), asyncio.Event()

        async def asked() -> bool:
            return came.is_set()

        try:
            yield asked
        finally:
            del self._held[company]
            released.set()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free loopback port."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        receiver.url = f"http://{host}:{port}/hook"
        yield receiver
    finally:
        await runner.cleanup()
