"""A web site on the loopback for tests: its responses, and the requests that it got."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web


class Site:
    """`pages` by path; `asked` are the requests so far."""

    def __init__(self) -> None:
        self.port = 0
        self.pages: dict[str, web.Response | bytes] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.targets: list[str] = []
        """Request targets as they were sent."""
        self.over = asyncio.Event()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def gives(self, path: str, body: bytes, mimetype: str | None = "application/octet-stream") -> str:
        """Add a page; returns its URL."""
        headers = {} if mimetype is None else {"Content-Type": mimetype}
        self.pages[path] = web.Response(body=body, headers=headers)
        return self.url(path)

    def redirects(self, path: str, target: str) -> str:
        self.pages[path] = web.Response(status=302, headers={"Location": target})
        return self.url(path)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Site]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            self.over.set()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.targets.append(request.raw_path)
        self.asked.append((request.method, request.path, dict(request.headers), await request.read()))
        match request.path:
            case "/hangs":
                await self.over.wait()
            case "/dawdles":
                return await self._stream(request, endless=False)
            case "/endless":
                return await self._stream(request, endless=True)
            case "/breaks":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                await response.write(b"x" * 10)
                assert request.transport is not None
                request.transport.abort()
                return response
        page = self.pages.pop(request.path, None)
        return page if isinstance(page, web.Response) else web.Response(status=404)

    async def _stream(self, request: web.Request, *, endless: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        await response.prepare(request)
        await response.write(b"\xff\xd8\xff")
        with contextlib.suppress(ConnectionError):
            while endless:
                await response.write(b"x" * 65536)
        await self.over.wait()
        return response
