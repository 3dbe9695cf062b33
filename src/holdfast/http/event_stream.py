"""Server-sent events: the response class of the API's event stream and of the dashboard's live pages.

FastAPI's `format_sse_event` produces the wire format. The response class is ours: FastAPI's does not know shutdown or
quotas, and sse-starlette detects a shutdown by patching uvicorn's signal handling, which Holdfast replaces.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager

from fastapi.sse import format_sse_event
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from holdfast.http.shutdown import ShutdownScope, Stopping

HEARTBEAT_S = 15
"""Seconds without events after which a comment is sent, because proxies close idle connections."""
_HEARTBEAT = format_sse_event(comment="heartbeat")
_RETRY_MS = 2000
"""How soon a client reconnects after the connection was lost."""

Chunks = AsyncGenerator[bytes, None]
"""Formatted events; events that occur together share a chunk."""
_Write = Callable[[bytes], Awaitable[None]]


class EventStream(Response):
    """Sends `events` until they end, the client disconnects, or Holdfast stops.

    The next chunk is requested only after the previous one was sent, so a slow client keeps at most one in memory.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: Chunks,
        *,
        shutdown: ShutdownScope,
        quota: AbstractContextManager[object],
        headers: Mapping[str, str] | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        """`quota`: entered when the stream starts, left when it ends. `heartbeat_s`: see `HEARTBEAT_S`."""
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._events = events
        self._shutdown = shutdown
        self._quota = quota
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        with self._quota:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await write(format_sse_event(retry=_RETRY_MS))
            with contextlib.suppress(Stopping):
                async with self._shutdown.until_stopping(), asyncio.TaskGroup() as tasks:
                    writing = tasks.create_task(self._write_all(write), name="event stream")
                    leaving = tasks.create_task(_disconnected(receive), name="event stream client")
                    await asyncio.wait([writing, leaving], return_when=asyncio.FIRST_COMPLETED)
                    writing.cancel()
                    leaving.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write_all(self, write: _Write) -> None:
        async with contextlib.aclosing(self._events), asyncio.TaskGroup() as tasks:
            while True:
                following = tasks.create_task(self._next(), name="next event")
                while not (await asyncio.wait([following], timeout=self._heartbeat_s))[0]:
                    await write(_HEARTBEAT)
                if (chunk := following.result()) is None:
                    return
                await write(chunk)

    async def _next(self) -> bytes | None:
        return await anext(self._events, None)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
