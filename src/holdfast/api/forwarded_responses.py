"""Responses of a node to requests that another node answers, or that it answers itself after all."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
from fastapi import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from holdfast.http.forwarded import FORWARDED, FROM_RECORD
from holdfast.http.shutdown import ShutdownScope, Stopping

DEADLINE = "holdfast.forwarding_deadline"
_SCOPE = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path")
_SCOPE_KEYS = ("headers", "client", "server", "extensions", DEADLINE, FORWARDED, FROM_RECORD)
HOP_BY_HOP = frozenset(
    ["connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection", "expect"]
)
"""Headers that are about one connection (RFC 9110, 7.6.1)."""
_ADDED = frozenset(["date", "holdfast-api", "x-content-type-options"])
"""Headers of every response, which this node adds itself."""


class PassedOnResponse(Response):
    """The response of another node, passed on as it arrives."""

    def __init__(self, found: aiohttp.ClientResponse, *, shutdown: ShutdownScope) -> None:
        super().__init__(status_code=found.status)
        self.raw_headers = [
            (name.lower(), value) for name, value in found.raw_headers if _is_passed_on(name.decode("latin-1"))
        ]
        self._found = found
        self._shutdown = shutdown

    def close(self) -> None:
        """Drop it unread."""
        self._found.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_stream = self._found.content_type == "text/event-stream"
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with asyncio.TaskGroup() as tasks:
                passing = tasks.create_task(self._pass_on(send, is_stream=is_stream), name="forwarded response")
                leaving = tasks.create_task(_disconnected(receive), name="caller of a forwarded response")
                await asyncio.wait([passing, leaving], return_when=asyncio.FIRST_COMPLETED)
                passing.cancel()
                leaving.cancel()
        finally:
            self._found.close()

    async def _pass_on(self, send: Send, *, is_stream: bool) -> None:
        async with contextlib.AsyncExitStack() as stack:
            if is_stream:  # it ends when Holdfast stops, or when its node is gone: readers connect again
                stack.enter_context(contextlib.suppress(Stopping, aiohttp.ClientError))
                await stack.enter_async_context(self._shutdown.until_stopping())
            async for chunk in self._found.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class RepeatedRequest(Response):
    """Runs the request again on this node, which owns the session by now."""

    def __init__(self, request: Request, body: bytes, *, from_record: bool = False) -> None:
        super().__init__()
        self._app = request.app
        self._scope = {name: request.scope[name] for name in (*_SCOPE, *_SCOPE_KEYS) if name in request.scope}
        if from_record:
            self._scope[FROM_RECORD] = True
        self._unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_again() -> Message:
            return self._unread.pop() if self._unread else await receive()

        await self._app(self._scope, receive_again, send)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_passed_on(name: str) -> bool:
    return name.lower() not in HOP_BY_HOP and name.lower() not in _ADDED
