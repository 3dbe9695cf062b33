"""Chats as a messenger shows them: the list, one chat with its messages, answers with or without a file."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from holdfast.base.errors import NotFound
from holdfast.dashboard.chat_views import chat_view, message_view
from holdfast.dashboard.company_pages import CompanyPath
from holdfast.dashboard.context import AppContext, context_of, label_of, login_of
from holdfast.dashboard.live import event, event_stream
from holdfast.dashboard.page_auth import ProtectedPage, UploadPage, is_part, page, part
from holdfast.delivery.chats import Chat, ChatCursor, Names, TimelineCursor, TimelinePage
from holdfast.delivery.content import MessageBody, check_filename
from holdfast.delivery.kinds import Audio, Document, Image, Text, Video
from holdfast.delivery.recipient import parse_recipient
from holdfast.delivery.requests import MessageOptions
from holdfast.http.event_stream import Chunks
from holdfast.runtime.composer import SendRequest

pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)
uploads = APIRouter(route_class=UploadPage, include_in_schema=False)

_CHATS_SHOWN, _MESSAGES_SHOWN, _MAX_NEWER = 40, 40, 100
_HEARTBEAT_S = 10.0
_SHOWN_IN_PLACE = ("image/jpeg", "image/png", "image/webp", "image/gif", "audio/", "video/")
_PICTURES = frozenset({"image/jpeg", "image/png"})
"""Pictures that WhatsApp shows as such; others are sent as documents."""
_BEGINNING = "0~~0"
"""The position before the first message of a chat."""


async def _chat(chat: str) -> str:
    """The chat in the path."""
    return parse_recipient(unquote(chat), field="chat")[1]


ChatPath = Annotated[str, Depends(_chat)]


@pages.get("/companies/{company}/chats")
async def show_chats(request: Request, company: CompanyPath) -> Response:
    listed = await _list(request, company, open_chat=request.query_params.get("open"))
    if is_part(request):
        return part(request, "chat_list.html", company=company, **listed)
    return page(request, "chats.html", company=company, label=await label_of(request, company), opened=None, **listed)


@pages.get("/companies/{company}/chats/{chat}")
async def show_chat(request: Request, company: CompanyPath, chat: ChatPath) -> Response:
    context = context_of(request)
    found = await context.chats.chat(company, chat)
    newest = await context.chats.timeline(company, chat, limit=_MESSAGES_SHOWN)
    return page(
        request,
        "chats.html",
        company=company,
        label=await label_of(request, company),
        opened=chat_view(found or _new(chat)),
        form_id=context.randomness.secret(),
        **await _list(request, company, open_chat=chat),
        **_messages(context, company, newest),
    )


@pages.get("/companies/{company}/chats/{chat}/messages")
async def show_chat_messages(request: Request, company: CompanyPath, chat: ChatPath) -> Response:
    """The page of messages before a position, or all messages from one on."""
    context, query = context_of(request), request.query_params
    if since := query.get("since"):
        after = TimelineCursor.parse(since)
        found = await context.chats.timeline(company, chat, after=after, limit=_MAX_NEWER)
        if found.has_newer:
            found = await context.chats.timeline(company, chat, limit=_MESSAGES_SHOWN)
    else:
        before = TimelineCursor.parse(query.get("before", ""))
        found = await context.chats.timeline(company, chat, before=before, limit=_MESSAGES_SHOWN)
    opened = chat_view(await context.chats.chat(company, chat) or _new(chat))
    is_older = "before" in query
    template = "chat_older.html" if is_older else "chat_renewed.html"
    return part(request, template, company=company, opened=opened, **_messages(context, company, found))


@pages.post("/companies/{company}/chats/{chat}/messages")
async def answer(request: Request, company: CompanyPath, chat: ChatPath) -> Response:
    """Send a text, or a stored file with a caption. The id of the form is its idempotency key, so a second click does
    not send it twice."""
    context, form = context_of(request), request.state.form
    body = _body(form.get("text", "").strip(), form.get("media", ""), form.get("mimetype", ""))
    message = SendRequest(body=body, options=MessageOptions(to=chat), idempotency_key=form.get("form_id") or None)
    is_tenant, size = login_of(request).grant.companies is not None, len(form.get("text", ""))
    async with context.quotas.message(company, size) if is_tenant else contextlib.nullcontext():
        await context.sending.accept(company, message)
    if not is_part(request):
        return RedirectResponse(f"/companies/{company}/chats/{quote(chat)}", status_code=303)
    return part(request, "chat_answer.html", company=company, form_id=context.randomness.secret())


@pages.post("/companies/{company}/chats/{chat}/read")
async def mark_read(request: Request, company: CompanyPath, chat: ChatPath) -> Response:
    context = context_of(request)
    await context.reading.mark_read(company, chat)
    return await _after_action(request, company, chat)


@pages.post("/companies/{company}/chats/{chat}/unread")
async def mark_unread(request: Request, company: CompanyPath, chat: ChatPath) -> Response:
    await context_of(request).reading.mark_unread(company, chat)
    return await _after_action(request, company, chat)


async def _after_action(request: Request, company: str, chat: str) -> Response:
    if not is_part(request):
        return RedirectResponse(f"/companies/{company}/chats/{quote(chat)}", status_code=303)
    opened = chat_view(await context_of(request).chats.chat(company, chat) or _new(chat))
    return part(request, "chat_actions.html", company=company, opened=opened, swap=False)


def _body(text: str, media: str, mimetype: str) -> MessageBody:
    if not media:
        return Text(text=text)
    caption = text or None
    group = mimetype.partition("/")[0]
    if mimetype in _PICTURES:
        return Image(media=media, caption=caption)
    if group == "video":
        return Video(media=media, caption=caption)
    if group == "audio" and caption is None:
        return Audio(media=media)
    return Document(media=media, caption=caption)


@uploads.post("/companies/{company}/chats/{chat}/media")
async def upload(request: Request, company: CompanyPath, chat: ChatPath) -> Response:
    """Store a file for the next answer. The body is the file itself."""
    context = context_of(request)
    filename = unquote(request.headers.get("x-filename", ""))[:200] or None
    check_filename(filename, field="filename")
    is_tenant, length = login_of(request).grant.companies is not None, request.headers.get("content-length", "")
    limit = int(length) if length.isdigit() else context.files.limit_bytes
    async with context.quotas.media(company, limit) if is_tenant else contextlib.nullcontext():
        mimetype = request.headers.get("content-type") or None
        stored = await context.files.put(company, request.stream(), mimetype=mimetype, filename=filename)
    return JSONResponse({"id": stored.id, "mimetype": stored.mimetype, "bytes": stored.size_bytes})


@pages.get("/companies/{company}/media/{media}")
async def show_media(request: Request, company: CompanyPath, media: str) -> Response:
    """A file that the company sent."""
    opened = await context_of(request).files.open(company, media)
    if opened is None:
        raise NotFound(f'file "{media[:80]}" is not stored any more')
    is_shown = opened.mimetype.startswith(_SHOWN_IN_PLACE)
    name = "" if opened.filename is None else f"; filename*=UTF-8''{quote(opened.filename, safe='')}"
    headers = {
        "Content-Disposition": ("inline" if is_shown else "attachment") + name,
        "Content-Length": str(opened.size_bytes),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=3600",
    }
    return StreamingResponse(opened.pieces, media_type=opened.mimetype, headers=headers)


@pages.get("/companies/{company}/live-chats")
async def stream_chats(request: Request, company: CompanyPath) -> Response:
    """Announces that the list changed (`chats`), and that the open chat did (`timeline`)."""
    context, opened = context_of(request), request.query_params.get("open", "")

    async def changes() -> Chunks:
        seen = await context.events.newest()
        yield event("alive", "")
        with context.events.listening(companies=[company]) as flag:
            while True:
                flag.clear()
                found = await context.events.after(seen, companies=[company], limit=500)
                if found:
                    seen = found[-1].seq
                    yield event("chats", "")
                    if any(each.chat == opened for each in found):
                        yield event("timeline", "")
                if found.has_more:
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(context.events.poll_interval_s or _HEARTBEAT_S):
                        await flag.wait()
                        yield event("chats", "")  # a chat may have been read, which is no event
                        continue
                yield event("alive", "")

    return event_stream(request, changes())


async def _list(request: Request, company: str, *, open_chat: str | None) -> dict[str, Any]:
    """One page of chats that match the search."""
    query = request.query_params
    words, unread, after = query.get("words", "").strip()[:80], query.get("unread") == "yes", query.get("after")
    found = await context_of(request).chats.overview(
        company, after=ChatCursor.parse(after) if after else None, limit=_CHATS_SHOWN, unread=unread, words=words
    )
    return {
        "chats": [chat_view(chat) for chat in found.chats],
        "open_chat": open_chat,
        "words": words,
        "unread": unread,
        "is_first": not after,
        "older": None if found.next is None else str(found.next),
    }


def _messages(context: AppContext, company: str, found: TimelinePage) -> dict[str, Any]:
    """Messages, oldest first."""
    files = f"{context.base_path}/companies/{company}/media"
    messages = [message_view(entry, files=files, media=context.media) for entry in reversed(found.entries)]
    return {
        "messages": messages,
        "older_messages": None if found.older is None else str(found.older),
        "since": _BEGINNING if found.older is None else str(found.older),
    }


def _new(chat: str) -> Chat:
    """A chat in which nobody has written yet."""
    user, _, server = chat.partition("@")
    return Chat(
        chat=chat,
        names=Names(number=user if server == "s.whatsapp.net" else None),
        last_at=None,
        last=None,
        unread=0,
        pinned_at=None,
        is_archived=False,
        muted_until=None,
    )
