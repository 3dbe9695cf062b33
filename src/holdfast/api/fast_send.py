"""The fast path for the one request that comes thousands of times: sending a message.

FastAPI's router, dependencies and responses cost more than accepting the message does. This middleware precedes them
and calls the same function as the ordinary route. It leaves every unusual request to that route, and must never give a
response that the ordinary route would not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.api.access import large_body
from holdfast.api.bodies import read_message
from holdfast.api.keys import KeyGrant
from holdfast.base.ids import is_company_id
from holdfast.delivery.requests import MessageOptions

LONGEST_KEY = 255
"""Maximum length of an Idempotency-Key in characters."""
_KEY_HEADER = b"idempotency-key"
"""As a server names it in the ASGI scope."""


class Accept(Protocol):
    """Accepts a message whose body was read."""

    def __call__(
        self, request: Request, company: str, message: MessageOptions, *, body_bytes: int, idempotency_key: str | None
    ) -> Awaitable[BaseModel]: ...


class FastSend:
    """ASGI middleware for `POST` of a message to `path`; the innermost one.

    `authenticate` raises what the ordinary route would raise without a valid key; `handlers` are those of the
    application's errors.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        path: str,
        accept: Accept,
        authenticate: Callable[[Request], KeyGrant],
        handlers: Mapping[Any, Any],
    ) -> None:
        self._app = app
        self._accept = accept
        self._authenticate = authenticate
        self._route = Route(path, self._answer, methods=["POST"])
        handled = {kind: handler for kind, handler in handlers.items() if kind is not Exception}
        self._fast = ExceptionMiddleware(self._route.handle, handlers=handled)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match, found = self._route.matches(scope)
        if match is Match.FULL and _is_usual(scope, found["path_params"]["company"]):
            await self._fast({**scope, **found}, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        company: str = request.path_params["company"]
        self._authenticate(request).check(company)
        async with large_body(request):
            body = await request.body()
            message = await read_message(body, content_type=request.headers.get("Content-Type"))
            key = request.headers.get("Idempotency-Key")
            accepted = await self._accept(request, company, message, body_bytes=len(body), idempotency_key=key)
        content = accepted.model_dump_json(by_alias=True)
        return Response(content, HTTPStatus.ACCEPTED, media_type="application/json")


def _is_usual(scope: Scope, company: str) -> bool:
    has_bad_key = any(name == _KEY_HEADER and not 0 < len(value) <= LONGEST_KEY for name, value in scope["headers"])
    return is_company_id(company) and not scope["query_string"] and not has_bad_key
