"""`GET /v1/events`: what happens, as server-sent events, resumable from the last one that a reader saw.

A reader gets events a part at a time, read from the store when the part before has left: one that is slow costs no
memory, and one that comes back misses nothing that is still kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from holdfast.api.access import stream_quota
from holdfast.api.description import Answers
from holdfast.api.shutdown import ShutdownScope, Stopping
from holdfast.base.errors import BadInput
from holdfast.delivery.events import GAP, Bell, Event, Events

HEARTBEAT_S = 15
"""A comment after so long without events: proxies cut connections on which nothing moves."""
_PART = 50
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_BEGINNING = "retry: 2000\n\n"
_HEARTBEAT = ": all is quiet\n\n"
_NOTES: Answers = {
    200: {"description": "a stream that does not end", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One reader's events, of some companies or of all (None)."""

    events: Events
    waits: ShutdownScope
    companies: Collection[str] | None
    heartbeat_s: float = HEARTBEAT_S

    async def lines(self, after: int | None) -> AsyncIterator[str]:
        """What comes behind event `after`, or from now on. Ends when Holdfast stops."""
        with self.events.listening(companies=self.companies) as bell:
            newest = await self.events.newest()
            yield _BEGINNING
            if after is not None and after < await self.events.pruned():
                yield _gap(after)
            async for part in self._parts(newest if after is None else min(after, newest), bell):
                yield part

    async def _parts(self, seen: int, bell: Bell) -> AsyncIterator[str]:
        quiet_s = 0.0
        while True:
            bell.clear()
            found = await self.events.after(seen, companies=self.companies, most=_PART)
            if found:
                seen, quiet_s = found[-1].seq, 0.0
                yield "".join(map(_told, found))
                continue
            pause_s = min(self.heartbeat_s, self.events.look_every_s or self.heartbeat_s)
            try:
                rang = await self._rings(bell, within_s=pause_s)
            except Stopping:
                return
            quiet_s += 0 if rang else pause_s
            if quiet_s >= self.heartbeat_s:
                quiet_s = 0.0
                yield _HEARTBEAT

    async def _rings(self, bell: Bell, *, within_s: float) -> bool:
        async with self.waits.until_stopping():
            try:
                async with asyncio.timeout(within_s):
                    await bell.wait()
            except TimeoutError:
                return False
        return True


class _Streaming(StreamingResponse):
    """Counts as an open stream until it ends, however it ends."""

    def __init__(self, lines: AsyncIterator[str], quota: contextlib.ExitStack) -> None:
        super().__init__(lines, media_type="text/event-stream", headers=_HEADERS)
        self._quota = quota

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._quota:
            await super().__call__(scope, receive, send)


def _told(event: Event) -> str:
    return f"id: {event.seq}\nevent: {event.type}\ndata: {event.payload}\n\n"


def _gap(after: int) -> str:
    """The reader was away for too long: it has to look at lists instead, once."""
    told = {"type": GAP, "data": {"after": str(after), "message": "events were dropped that you have not seen"}}
    return f"event: {GAP}\ndata: {json.dumps(told)}\n\n"


def _place(text: str | None, *, field: str) -> int | None:
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadInput(f'{field} "{text[:40]}" is no event: give the `id` of the last one that you saw', field=field)
    return int(text)


def make_router(keyed: type[APIRoute], **options: Any) -> APIRouter:
    """`options` are those of every keyed router."""
    router = APIRouter(tags=["events"], route_class=keyed, **options)

    @router.get("/v1/events", response_class=Response, responses=_NOTES)
    async def stream_events(
        request: Request,
        company: Annotated[list[str] | None, Query(description="only these companies")] = None,
        after: Annotated[str | None, Query(description="as Last-Event-ID, which goes before it")] = None,
        last_event_id: Annotated[
            str | None, Header(description="`id` of the last event seen; without: from now on")
        ] = None,
    ) -> StreamingResponse:
        """Server-sent events of sessions and messages: `id`, `event` (the type) and `data` as webhooks have it."""
        await request.body()  # there is none: from now on all that can come is the end of the connection
        grant, state = request.state.grant, request.app.state
        for each in company or ():
            grant.check(each)
        place = _place(last_event_id, field="Last-Event-ID")
        place = _place(after, field="after") if place is None else place
        stream = Stream(events=state.events, waits=state.waits, companies=company or grant.companies)
        quota = contextlib.ExitStack()
        quota.enter_context(stream_quota(request))
        return _Streaming(stream.lines(place), quota)

    return router
