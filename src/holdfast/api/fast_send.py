"""The fast path for the one request that comes thousands of times: sending a message.

FastAPI's dependencies and responses cost more than accepting the message does. This route precedes the ordinary one and
calls the same function. It passes a request with a bad Idempotency-Key or a query on to the ordinary route, and must
never give a response that the ordinary route would not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from holdfast.api.access import large_body
from holdfast.api.bodies import read_message
from holdfast.api.keys import KeyGrant
from holdfast.delivery.requests import MessageOptions

LONGEST_KEY = 255
"""Maximum length of an Idempotency-Key in characters."""
_PASSED_ON = "holdfast.passed_on"


class Accept(Protocol):
    """Accepts a message whose body was read."""

    def __call__(
        self, request: Request, company: str, message: MessageOptions, *, body_bytes: int, idempotency_key: str | None
    ) -> Awaitable[BaseModel]: ...


class FastSendRoute(Route):
    """`POST` of a message; `authenticate` raises what the ordinary route would raise without a valid key."""

    def __init__(self, path: str, accept: Accept, *, authenticate: Callable[[Request], KeyGrant]) -> None:
        super().__init__(path, _FastSend(accept, authenticate), methods=["POST"], include_in_schema=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.NONE, {}) if _PASSED_ON in scope else super().matches(scope)


class _FastSend:
    def __init__(self, accept: Accept, authenticate: Callable[[Request], KeyGrant]) -> None:
        self._accept = accept
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientDisconnect):  # there is nobody to respond to
            await self._handle(Request(scope, receive), receive, send)

    async def _handle(self, request: Request, receive: Receive, send: Send) -> None:
        company: str = request.path_params["company"]
        self._authenticate(request).check(company)
        async with large_body(request):
            await self._handle_body(request, company, await request.body(), receive, send)

    async def _handle_body(self, request: Request, company: str, body: bytes, receive: Receive, send: Send) -> None:
        key = request.headers.get("Idempotency-Key")
        is_bad_key = key is not None and not 0 < len(key) <= LONGEST_KEY
        if is_bad_key or request.scope["query_string"]:
            await request.app.router({**request.scope, _PASSED_ON: True}, _again(body, receive), send)
            return
        message = await read_message(body, content_type=request.headers.get("Content-Type"))
        accepted = await self._accept(request, company, message, body_bytes=len(body), idempotency_key=key)
        await _send(accepted.model_dump_json(by_alias=True).encode(), send)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that delivers again a body that was already read."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return unread.pop() if unread else await receive()

    return read


async def _send(content: bytes, send: Send) -> None:
    headers = [(b"content-length", str(len(content)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": HTTPStatus.ACCEPTED.value, "headers": headers})
    await send({"type": "http.response.body", "body": content})
