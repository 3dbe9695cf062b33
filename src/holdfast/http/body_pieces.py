"""Sends large responses in pieces, each after the caller has taken most of the one before.

The server takes a body that is sent as a whole into its buffer and calls the response complete, although the caller may
never read it. In pieces, the request stays open until the caller has taken nearly all of it, and counts as open.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PIECE_BYTES = 64 * 1024


class BodyPieces:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_pieces(message: Message) -> None:
            body = message.get("body", b"")
            if len(body) > PIECE_BYTES:
                view = memoryview(body)
                last = (len(body) - 1) // PIECE_BYTES * PIECE_BYTES
                for at in range(0, last, PIECE_BYTES):
                    piece = bytes(view[at : at + PIECE_BYTES])
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                message = {**message, "body": bytes(view[last:])}
            await send(message)

        await self._app(scope, receive, send_pieces)
