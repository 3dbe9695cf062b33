"""Profile pictures of people and groups. Browsers cache them; Holdfast stores none."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from holdfast.base.errors import HoldfastError, NotFound
from holdfast.dashboard.chat_pages import ChatPath
from holdfast.dashboard.company_pages import CompanyPath
from holdfast.dashboard.context import context_of
from holdfast.dashboard.page_auth import ProtectedPage
from holdfast.runtime.session_queries import PACE, NotPermitted, QueryFailed
from holdfast.session.queries import PictureFile, picture_file

pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)

_RESERVE = PACE.burst // 2
"""Queries that are left to others, such as callers of the API: a page with many pictures must not use them up."""
_TIMEOUT_S = 5.0
"""How long a page waits for a picture. Browsers open few connections, and every picture that waits takes one."""
_A_DAY, _AN_HOUR, _NEVER = "private, max-age=86400", "private, max-age=3600", "no-store"
_TRANSPARENT = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


@pages.get("/companies/{company}/chats/{chat}/picture")
async def show_picture(request: Request, company: CompanyPath, chat: ChatPath) -> Response:
    """The picture covers the initials of the chat, which remain visible when there is none.

    Browsers don't cache 204. That there is no picture is cached as a transparent one, or every message that
    arrives would ask WhatsApp again for all chats of the list.
    """
    try:
        found = await _picture(request, company, chat)
    except (NotFound, NotPermitted, QueryFailed):
        return _image(_TRANSPARENT, "image/svg+xml", _AN_HOUR)
    except HoldfastError:  # no connection, or too many queries
        found = None
    if found is None:
        return Response(status_code=204, headers={"Cache-Control": _NEVER})
    return _image(found.base64, found.mimetype, _A_DAY)


async def _picture(request: Request, company: str, chat: str) -> PictureFile | None:
    """None: WhatsApp did not answer soon enough."""
    context = context_of(request)
    queries = (await context.gateway.actor(company)).work.queries
    async with context.shutdown.until_stopping(), context.clock.until(context.clock.monotonic() + _TIMEOUT_S):
        return await queries.ask(picture_file(chat, reserve=_RESERVE))
    return None


def _image(content: bytes, mimetype: str, cache_control: str) -> Response:
    headers = {"Cache-Control": cache_control, "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type=mimetype, headers=headers)
