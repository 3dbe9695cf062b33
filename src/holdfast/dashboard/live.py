"""Event streams of pages. A stream ends when its user signs out, or its company is removed or moves to another node."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack

from fastapi.sse import format_sse_event
from starlette.requests import Request

from holdfast.base.errors import NotFound
from holdfast.dashboard.context import context_of, login_of
from holdfast.dashboard.page_auth import HEADERS
from holdfast.http.event_stream import Chunks, EventStream
from holdfast.runtime.ownership import RunsElsewhere


def event_stream(request: Request, events: Chunks) -> EventStream:
    """A stream for the signed-in user. Raises `QuotaExceeded` when a tenant has too many streams open."""
    context, login, quota = context_of(request), login_of(request), ExitStack()
    if login.grant.companies is not None:
        quota.enter_context(context.quotas.stream(login.mark))
    return EventStream(_while_signed_in(request, events), shutdown=context.shutdown, quota=quota, headers=HEADERS)


def event(name: str, html: str) -> bytes:
    return format_sse_event(event=name, data_str=html)


async def _while_signed_in(request: Request, events: Chunks) -> Chunks:
    logins, login = context_of(request).logins, login_of(request)
    async with contextlib.aclosing(events):
        with contextlib.suppress(NotFound, RunsElsewhere):
            async for chunk in events:
                if not await logins.is_signed_in(login):
                    return
                yield chunk
