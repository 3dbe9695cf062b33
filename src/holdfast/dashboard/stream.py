"""Server-sent events: one connection that tells a page what changed, until either side ends it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from holdfast.base.errors import HoldfastError, NotFound
from holdfast.dashboard.context import context_of, login_of
from holdfast.dashboard.page_auth import HEADERS
from holdfast.dashboard.ports import WaitScope

Tell = Callable[[str, str], Awaitable[None]]
"""Sends one event: its name and what it carries."""

_RETRY_MS = 2000
"""How soon a browser asks again when the connection breaks."""


class _SignedOut(Exception):
    """Whoever listens may hear no more."""


class EventStream(Response):
    """Runs `source` for as long as the browser listens and `is_signed_in`. It ends by itself when Holdfast stops, and
    when the company that it tells of is removed."""

    media_type = "text/event-stream"

    def __init__(
        self,
        source: Callable[[Tell], Awaitable[None]],
        *,
        is_signed_in: Callable[[], Awaitable[bool]],
        waits: WaitScope,
        quota: ExitStack,
    ) -> None:
        super().__init__(headers={**HEADERS, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._is_signed_in = is_signed_in
        self._waits = waits
        self._quota = quota

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._quota:
            await self._stream(receive, send)

    async def _stream(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def write(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        async def tell(name: str, carried: str) -> None:
            if not await self._is_signed_in():
                raise _SignedOut
            await write(event(name, carried))

        await write(f"retry: {_RETRY_MS}\n\n")
        try:
            async with self._waits.until_stopping(), asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell(tell), name="event stream")
                leaving = tasks.create_task(_left(receive), name="event stream's reader")
                await asyncio.wait([telling, leaving], return_when=asyncio.FIRST_COMPLETED)
                telling.cancel()
                leaving.cancel()
        except HoldfastError:
            pass  # Holdfast stops; the page says that the connection is lost and asks again
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, tell: Tell) -> None:
        with contextlib.suppress(_SignedOut, NotFound):
            await self._source(tell)


def event_stream(request: Request, source: Callable[[Tell], Awaitable[None]]) -> EventStream:
    """For whoever is signed in. Raises `QuotaExceeded` for a tenant who has too many streams open."""
    context, login, quota = context_of(request), login_of(request), ExitStack()
    if login.grant.companies is not None:
        quota.enter_context(context.quotas.stream(login.mark))
    is_signed_in = functools.partial(context.logins.is_signed_in, login)
    return EventStream(source, is_signed_in=is_signed_in, waits=context.waits, quota=quota)


def event(name: str, carried: str) -> str:
    """As the format has it: every line of what is carried stands behind `data:`."""
    lines = "".join(f"data: {line}\n" for line in carried.splitlines() or [""])
    return f"event: {name}\n{lines}\n"


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
