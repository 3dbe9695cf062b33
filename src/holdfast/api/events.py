"""`GET /v1/events`: server-sent events, resumable after the last one that a reader saw; or the same in pages.

A reader gets events in batches of some dozens, each read from the store after the batch before has been sent. So a slow
reader costs no memory, and one that reconnects misses nothing that is still kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Collection
from typing import Annotated, Literal

from fastapi import Header, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import format_sse_event

from holdfast.api.access import access_of, stream_quota, wait_for_page
from holdfast.api.description import Answers
from holdfast.api.routing import Moment, keyed_router
from holdfast.base.clock import iso
from holdfast.base.errors import BadInput
from holdfast.delivery.events import GAP, Event, Events
from holdfast.http.event_stream import Chunks, EventStream

_PART = 50
_NOTES: Answers = {
    200: {
        "description": "an endless stream; with `format=json` one page of it, like all lists",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


async def open_events(after: int | None, *, events: Events, companies: Collection[str] | None) -> Chunks:
    """Events of these companies (None: of all) after event `after`, or events added after this call."""
    newest = await events.newest()
    gap = _gap(after) if after is not None and after < await events.pruned() else b""
    seen = newest if after is None else min(after, newest)
    return _events_after(seen, gap=gap, events=events, companies=companies)


async def _events_after(seen: int, *, gap: bytes, events: Events, companies: Collection[str] | None) -> Chunks:
    if gap:
        yield gap
    with events.listening(companies=companies) as flag:
        while True:
            flag.clear()
            found = await events.after(seen, companies=companies, limit=_PART)
            if found:
                seen = found[-1].seq
                yield b"".join(map(_written, found))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(events.poll_interval_s):
                    await flag.wait()


async def _while_valid(request: Request, events: Chunks) -> Chunks:
    """The events until the request's key is revoked."""
    async with contextlib.aclosing(events):
        async for chunk in events:
            if not access_of(request).is_valid(request):
                return
            yield chunk


def _written(event: Event) -> bytes:
    return format_sse_event(id=str(event.seq), event=event.type, data_str=event.payload)


async def page_of_events(
    after: int, *, events: Events, companies: Collection[str] | None, limit: int
) -> dict[str, object]:
    """Events after event `after`, in the form of the stream, with their numbers."""
    found = await events.after(after, companies=companies, limit=limit)
    items = [{"seq": each.seq, "id": each.id, **json.loads(each.payload)} for each in found]
    return {"items": items, "next": str(found[-1].seq) if found.has_more else None}


def _gap(after: int) -> bytes:
    """The event that reports deleted events which the reader has not seen: it has to fetch the lists once."""
    payload = {"type": GAP, "data": {"after": str(after), "message": "events that you have not seen were deleted"}}
    return format_sse_event(event=GAP, data_str=json.dumps(payload))


def _position(text: str | None, *, field: str) -> int | None:
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadInput(
            f'{field} "{text[:40]}" is not an event id: give the `id` of the last event that you saw', field=field
        )
    return int(text)


router = keyed_router("events")


@router.get("/v1/events", response_model=None, response_class=Response, responses=_NOTES)
async def stream_events(
    request: Request,
    company: Annotated[list[str] | None, Query(description="only these companies")] = None,
    after: Annotated[str | None, Query(description="like Last-Event-ID, which takes precedence")] = None,
    last_event_id: Annotated[
        str | None, Header(description="`id` of the last event seen; default: from now on")
    ] = None,
    shape: Annotated[
        Literal["stream", "json"], Query(alias="format", description="`json`: one page of the stream, at once")
    ] = "stream",
    since: Annotated[Moment | None, Query(description="from this time on (ISO 8601), if no event is given")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="events in a page; only with `format=json`")] = 100,
) -> EventStream | JSONResponse:
    """Server-sent events of sessions and messages: `id`, `event` (the type) and `data` as webhooks have it.

    With `format=json` they come in pages, oldest first, each event with its number `seq`.
    """
    await request.body()  # it is empty: after this, only the end of the connection can arrive
    grant, state = request.state.grant, request.app.state
    for each in company or ():
        grant.check(each)
    place = _position(last_event_id, field="Last-Event-ID")
    place = _position(after, field="after") if place is None else place
    if place is None and since is not None:
        place = await state.events.first_since(iso(since)) - 1
    if shape == "json":
        await wait_for_page(request)
        companies = company or grant.companies
        return JSONResponse(await page_of_events(place or 0, events=state.events, companies=companies, limit=limit))
    opened = await open_events(place, events=state.events, companies=company or grant.companies)
    events = _while_valid(request, opened)
    quota = contextlib.ExitStack()
    quota.enter_context(stream_quota(request))
    return EventStream(events, shutdown=state.shutdown, quota=quota)
