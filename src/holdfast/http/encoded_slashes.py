"""Keeps an encoded slash (`%2F`) within its segment of a path.

A server decodes paths before routes are matched, so a value with a slash, such as `https://wa.me/962790000001` in place
of a number, would become several segments, and no route would match.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_MARK = "\ue02f"
"""Replaces an encoded slash while routes are matched. A private character, which has no meaning in any path."""
_ENCODED = re.compile(rb"%2f", re.IGNORECASE)


class EncodedSlashes:
    """ASGI middleware. `with_slashes` gives a matched value its slashes back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if _ENCODED.search(raw):
            marked = _ENCODED.sub(quote(_MARK).encode(), raw)
            scope = {**scope, "path": unquote(marked.decode("ascii", "replace"))}
        await self._app(scope, receive, send)


def with_slashes(value: str) -> str:
    return value.replace(_MARK, "/")
