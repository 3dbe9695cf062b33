"""Limits the size of a request's body and the time that it may take to arrive, so a slow caller can't affect others."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.http.shutdown import ShutdownScope, Stopping

LARGEST_BODY = 1024 * 1024
"""Maximum size of a request's body in bytes."""
ARRIVED = "holdfast.body_arrived"
"""Set in the ASGI scope when the server has the whole body of the request: mostly before it is handled."""
BODY_DEADLINE_S = 30
LARGE_BODY_DEADLINE_S = 300
STOPPING_DEADLINE_S = 0.5
"""How long the next part of a body may take to arrive while Holdfast stops."""
_MB = 1024 * 1024
_LARGER = {
    "/import": (64 * _MB, LARGE_BODY_DEADLINE_S),  # the keys of one device
    "/messages": (23 * _MB, LARGE_BODY_DEADLINE_S),  # 16 MB in base64, and the other fields
    "/media": (100 * _MB, LARGE_BODY_DEADLINE_S),  # read piece by piece; the setting may allow less
}


class BodyLimit:
    """Refuses bodies of more than `max_bytes` bytes, and those that take longer than `within_s` seconds."""

    def __init__(
        self, app: ASGIApp, *, shutdown: ShutdownScope, max_bytes: int = LARGEST_BODY, within_s: float = BODY_DEADLINE_S
    ) -> None:
        self._app = app
        self._shutdown = shutdown
        self._max_bytes = max_bytes
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            max_bytes, within_s = _larger(scope["path"]) or (self._max_bytes, self._within_s)
            receive = _Body(scope, receive, shutdown=self._shutdown, max_bytes=max_bytes, within_s=within_s)
        await self._app(scope, receive, send)


def _larger(path: str) -> tuple[int, float] | None:
    """Bytes and seconds for the routes that accept more; these check the API key before they read the body."""
    return _LARGER.get(path[path.rfind("/") :])


class _Body:
    """`receive` of one request. Its errors are raised where the body is read, and so become problem responses."""

    def __init__(
        self, scope: Scope, receive: Receive, *, shutdown: ShutdownScope, max_bytes: int, within_s: float
    ) -> None:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        self._scope = scope
        self._announced = int(announced) if announced.isdigit() else 0
        self._receive = receive
        self._shutdown = shutdown
        self._max_bytes = max_bytes
        self._within_s = within_s
        self._deadline: float | None = None
        self._received = 0
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()  # the end of the connection, which may be much later
        if self._announced > self._max_bytes:
            raise self._too_large()
        message = await self._next()
        self._received += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._received > self._max_bytes:
            raise self._too_large()
        return message

    async def _next(self) -> Message:
        if ARRIVED in self._scope:
            return await self._receive()  # without timers: it does not wait
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._within_s
        try:
            async with self._shutdown.until_stopping(), asyncio.timeout_at(self._deadline):
                return await self._receive()
        except TimeoutError:
            detail = f"the body did not arrive within {self._within_s:g} s: send it again"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail) from None
        except Stopping as error:
            return await self._arrived(error)

    async def _arrived(self, stopping: Stopping) -> Message:
        """What has been received already: a complete request is still served while Holdfast stops."""
        try:
            async with asyncio.timeout(STOPPING_DEADLINE_S):
                return await self._receive()
        except TimeoutError:  # FastAPI passes on no other error while it reads a body
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, stopping.sentence) from None

    def _too_large(self) -> HTTPException:
        # The connection stays open and the server discards the rest: a close would reach the caller before this
        # response.
        detail = f"the body is larger than {self._max_bytes} bytes: send less at once"
        return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
