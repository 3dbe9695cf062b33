"""Holdfast below a path of its host: `HOLDFAST_PUBLIC_URL=https://example.com/holdfast`.

Routes do not know that path. It is removed from requests and added to the addresses in responses; pages add it to
their links by `root`. A reverse proxy may remove the path from requests itself, so requests without it are served, too.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.http.forwarded import FORWARDED

_ADDRESSES = {b"location", b"hx-redirect"}


def base_path_of(public_url: str | None) -> str:
    """`/holdfast`; empty for the root of a host."""
    return urlsplit(public_url or "").path.rstrip("/")


class BasePath:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, base_path: str) -> None:
        self._app = app
        self._base_path = base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if FORWARDED in scope:  # the node that forwarded it adds the path
            await self._app(scope, receive, send)
            return

        async def send_located(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [(name, self._located(name, value)) for name, value in message["headers"]]
            await send(message)

        path = scope.get("path", "")
        if path == self._base_path or path.startswith(f"{self._base_path}/"):
            scope = {**scope, "path": path[len(self._base_path) :] or "/"}
        await self._app(scope, receive, send_located)

    def _located(self, name: bytes, value: bytes) -> bytes:
        is_own_path = value.startswith(b"/") and not value.startswith(b"//")
        return self._base_path.encode() + value if name.lower() in _ADDRESSES and is_own_path else value
