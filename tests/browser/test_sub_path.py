"""The dashboard in a real Chromium behind a reverse proxy that serves Holdfast below a path of its host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from tests.browser.visitor import Visitor, visiting
from tests.processes import Wasim
from tests.served import KEY, served

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

BASE = "/holdfast"
_HOP_BY_HOP = {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}


@dataclass(slots=True)
class Proxy:
    """A reverse proxy that removes the path from requests, as nginx does with `proxy_pass http://…/;`."""

    http: aiohttp.ClientSession
    url: str = ""
    target: str = ""

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Pass the browser's Host on, and each part of a stream as it arrives."""
        path = request.raw_path.removeprefix(BASE)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        body = await request.read()
        async with self.http.request(
            request.method, self.target + path, headers=headers, data=body, allow_redirects=False
        ) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
            response = web.StreamResponse(status=answer.status)
            response.headers.extend(kept)
            await response.prepare(request)
            with suppress(aiohttp.ClientPayloadError):  # a stream ends with its gateway
                async for part in answer.content.iter_any():
                    await response.write(part)
            return response


@asynccontextmanager
async def proxy() -> AsyncIterator[Proxy]:
    app = web.Application()
    async with aiohttp.ClientSession() as http:
        made = Proxy(http)
        app.router.add_route("*", f"{BASE}/{{path:.*}}", made.forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield made
        finally:
            await runner.cleanup()


async def test_the_dashboard_works_below_a_path_of_a_proxy(
    browser: Browser, whatsapp: Wasim, bridge: Path, tmp_path: Path
) -> None:
    """A deep link is opened after the sign-in, forms are accepted, changes arrive live, and no file is missing."""
    async with (
        proxy() as front,
        served(tmp_path, wasim=whatsapp, HOLDFAST_PUBLIC_URL=front.url + BASE) as gateway,
    ):
        front.target = gateway.url
        await gateway.client.put("/v1/sessions/962302")
        async with visiting(browser, gateway, width=1280) as somebody:
            visitor = Visitor(somebody.page, front.url + BASE, KEY)
            page = visitor.page
            await visitor.go("/companies/962302")
            assert page.url == f"{front.url}{BASE}/login?next=/companies/962302"
            await page.get_by_label("API key").fill(KEY)
            await page.get_by_role("button", name="Sign in").click()
            await page.wait_for_url(f"{front.url}{BASE}/companies/962302")
            await page.get_by_label("Label").fill("Bakery Irbid")
            await page.get_by_role("button", name="Save").click()
            await page.get_by_role("link", name="Companies", exact=True).first.click()
            await page.wait_for_url(f"{front.url}{BASE}/")
            await expect(page.get_by_text("Bakery Irbid")).to_be_visible()
            await gateway.client.put("/v1/sessions/962303")
            await expect(page.get_by_role("link", name="962303")).to_be_visible()
            assert visitor.complaints == []
