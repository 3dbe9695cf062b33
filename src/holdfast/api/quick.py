"""A short way for the one request that comes thousands of times: a well-formed message.

FastAPI's dependencies, validation and answer cost more than accepting the message does. This route stands before the
ordinary one, calls the same function, and hands over whatever it can't take as it is: the ordinary route says what is
wrong with that. It must never answer anything that the ordinary route would not.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from holdfast.api.keys import Grant
from holdfast.api.wishes import MessageWish
from holdfast.runtime.gateway import Gateway

LONGEST_KEY = 255
"""Characters of an Idempotency-Key."""
_PASSED_ON = "holdfast.passed_on"


class Accept(Protocol):
    """The ordinary route's function."""

    def __call__(
        self, company: str, wish: MessageWish, gateway: Gateway, idempotency_key: str | None
    ) -> Awaitable[BaseModel]: ...


class QuickRoute(Route):
    """`POST` of a message; `grant` raises what the ordinary route would without a good key."""

    def __init__(self, path: str, accept: Accept, *, grant: Callable[[Request], Grant]) -> None:
        super().__init__(path, _Door(accept, grant), methods=["POST"], include_in_schema=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.NONE, {}) if _PASSED_ON in scope else super().matches(scope)


class _Door:
    def __init__(self, accept: Accept, grant: Callable[[Request], Grant]) -> None:
        self._accept = accept
        self._grant = grant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(ClientDisconnect):  # nobody is there to hear of it
            await self._take(Request(scope, receive), receive, send)

    async def _take(self, request: Request, receive: Receive, send: Send) -> None:
        company: str = request.path_params["company"]
        self._grant(request).check(company)
        body = await request.body()
        gateway: Gateway = request.app.state.gateway
        key, wish = request.headers.get("Idempotency-Key"), _wish(request, body)
        if wish is None or not gateway.is_ready or (key is not None and not 0 < len(key) <= LONGEST_KEY):
            await request.app.router({**request.scope, _PASSED_ON: True}, _again(body, receive), send)
            return
        accepted = await self._accept(company, wish, gateway, key)
        await _send(accepted.model_dump_json(by_alias=True).encode(), send)


def _wish(request: Request, body: bytes) -> MessageWish | None:
    """None: the ordinary route has to look at it, which finds what is wrong again and has the words for it."""
    if request.headers.get("Content-Type") != "application/json":
        return None
    try:
        return MessageWish.model_validate(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be read once more."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return unread.pop() if unread else await receive()

    return read


async def _send(content: bytes, send: Send) -> None:
    headers = [(b"content-length", str(len(content)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": HTTPStatus.ACCEPTED.value, "headers": headers})
    await send({"type": "http.response.body", "body": content})
