"""Answers the requests that are still in progress when the time for them is over at a stop.

Without this the server answers 500, as for a defect, and callers do not repeat the request elsewhere.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.api import problems
from holdfast.http.shutdown import ShutdownScope, Stopping

_UNFINISHED = "Holdfast stopped before this request was done: repeat it, for a message with the same Idempotency-Key"


class StoppedRequests:
    """ASGI middleware; the outermost one."""

    def __init__(self, app: ASGIApp, *, shutdown: ShutdownScope) -> None:
        self._app = app
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def sent(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except asyncio.CancelledError:
            if has_begun or not self._shutdown.has_ended:
                raise
            answer = problems.answer(HTTPStatus.SERVICE_UNAVAILABLE, _UNFINISHED, code=Stopping.code)
            await answer(scope, receive, send)
