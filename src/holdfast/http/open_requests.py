"""What a request holds until its response has been sent, whichever route answers it and however long that takes."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

_HELD = "holdfast.held"


class OpenRequests:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as held:
            scope[_HELD] = held
            await self._app(scope, receive, send)


def hold(request: Request, held: AbstractContextManager[object]) -> None:
    """Enter `held` now, and leave it when the request is over: answered, or given up by the caller."""
    request.scope[_HELD].enter_context(held)
