"""The pages of one company: state, linking a phone, history, messages, inbox."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from holdfast.base.clock import iso
from holdfast.base.errors import NotFound
from holdfast.dashboard.company import DAY_S, MESSAGES_SHOWN, SESSION_ACTIONS, Fragments
from holdfast.dashboard.company_settings import IGNORABLE_LABELS, company_settings
from holdfast.dashboard.context import check_company, context_of, label_of, login_of
from holdfast.dashboard.inbox_rows import inbox_row
from holdfast.dashboard.live import event, event_stream
from holdfast.dashboard.page_auth import ProtectedPage, is_part, page, part
from holdfast.dashboard.rendering import STATES, hold_sentence
from holdfast.delivery.lookup import OutboundRow
from holdfast.delivery.message import MessageState
from holdfast.health.stability import Connectivity
from holdfast.http.event_stream import Chunks
from holdfast.http.forwarded import FROM_RECORD
from holdfast.runtime.composer import text_request
from holdfast.runtime.diagnosis import connectivity_after
from holdfast.runtime.pairing import pairing_code
from holdfast.session.state import State
from holdfast.session.stores import Transition

pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)

_POLL_INTERVAL_S = 1.0
_SLOW_EVERY = 10
_HEARTBEAT_EVERY = 10
_RECORD_SHOWN = 10
"""Looks after which a stream from the stored record ends."""
_CODE_WAIT_S = 15
_INBOX_SHOWN = 50


async def _company(request: Request, company: str) -> str:
    """The company in the path, if it exists and the signed-in key covers it."""
    check_company(request, company)
    await context_of(request).gateway.cluster_view(company)
    return company


CompanyPath = Annotated[str, Depends(_company)]


@pages.get("/companies/{company}")
async def show_company(request: Request, company: CompanyPath) -> Response:
    context = context_of(request)
    return page(
        request,
        "company.html",
        company=company,
        parts_made=await Fragments(context, company).all_parts(),
        sent_messages=await _messages(request, company),
        was_connected=(await context.gateway.cluster_view(company)).record.connected_at is not None,
        actions=SESSION_ACTIONS.values(),
        form_id=context.randomness.secret(),
        settings=await company_settings(request, company),
        ignorable=IGNORABLE_LABELS,
        may_remove=login_of(request).grant.companies is None and company in context.gateway.running,
    )


@pages.get("/companies/{company}/live")
async def stream_company(request: Request, company: CompanyPath) -> Response:
    context = context_of(request)

    async def events() -> Chunks:
        parts, look = Fragments(context, company), 0
        state = (await context.gateway.cluster_view(company)).record.state
        yield event("company", "".join(_swapped(parts.changed(await parts.all()))))
        await parts.messages_changed()
        yield event("sent_messages", "")
        while True:
            await context.clock.sleep(_POLL_INTERVAL_S)
            look += 1
            if FROM_RECORD not in request.scope:
                await context.gateway.require_here(company)  # else the stream ends, and the next one is forwarded
            elif look > _RECORD_SHOWN:
                return  # the owner may answer again
            made = await parts.quick() | (await parts.slow() if look % _SLOW_EVERY == 0 else {})
            html = _swapped(parts.changed(made))
            seen = (await context.gateway.cluster_view(company)).record.state
            is_other_state = seen is not state
            if is_other_state:
                lines = [f"{company}: {STATES[seen].lower()}"]
                html.append(context.templates.render("announcements.html", announcements=lines))
            state = seen
            if html or look % _HEARTBEAT_EVERY == 0:
                yield event("company", "".join(html))
            # Rows of queued messages say what they wait for, which depends on the state.
            if await parts.messages_changed() or is_other_state:
                yield event("sent_messages", "")

    return event_stream(request, events())


def _swapped(parts: Iterable[str]) -> list[str]:
    """Mark fragments so that htmx replaces the ones on the page."""
    return [html.replace(" data-part", ' data-part hx-swap-oob="true"', 1) for html in parts]


@pages.post("/companies/{company}/action/{name}")
async def action(request: Request, company: CompanyPath, name: str) -> Response:
    """Start, stop, reconnect, log out, or request a QR code."""
    wanted = SESSION_ACTIONS.get(name)
    if wanted is None:
        raise NotFound(f'there is no action "{name[:20]}": reload the page')
    context = context_of(request)
    await context.gateway.ask(company, wanted.event)
    context.fleet.forget()
    if not is_part(request):
        return RedirectResponse(f"/companies/{company}", status_code=303)
    return part(request, "notice.html", tone="success", message=wanted.done)


@pages.post("/companies/{company}/pairing-code")
async def make_pairing_code(request: Request, company: CompanyPath) -> Response:
    context, number = context_of(request), request.state.form.get("number", "")
    async with context.shutdown.until_stopping():
        code = await pairing_code(await context.gateway.actor(company), number, within_s=_CODE_WAIT_S)
    return part(request, "pairing_code.html", code=code)


@pages.post("/companies/{company}/messages")
async def send_test_message(request: Request, company: CompanyPath) -> Response:
    """Send a message. The id of the form is its idempotency key, so a second click does not send it twice."""
    context, form = context_of(request), request.state.form
    body = text_request(form.get("to", ""), form.get("text", ""), idempotency_key=form.get("form_id") or None)
    is_tenant, size = login_of(request).grant.companies is not None, len(form.get("text", ""))
    async with context.quotas.message(company, size) if is_tenant else contextlib.nullcontext():
        message = await context.sending.accept(company, body)
    if not is_part(request):
        return RedirectResponse(f"/companies/{company}", status_code=303)
    sent_message = await context.lookup.sent_message(company, message.id)
    return part(
        request,
        "sent.html",
        company=company,
        sent_message=sent_message,
        steps=_steps(sent_message),
        form_id=context.randomness.secret(),
    )


@pages.get("/companies/{company}/messages/{message}/steps")
async def show_steps(request: Request, company: CompanyPath, message: str) -> Response:
    sent_message = await context_of(request).lookup.sent_message(company, message)
    if sent_message is None:
        raise NotFound(f'message "{message[:80]}" is unknown')
    return part(request, "steps.html", company=company, sent_message=sent_message, steps=_steps(sent_message))


def _steps(sent_message: OutboundRow | None) -> list[tuple[str, bool]]:
    """The delivery steps of a message, and whether each is done."""
    assert sent_message is not None
    times = (sent_message.accepted_at, sent_message.sent_at, sent_message.delivered_at, sent_message.read_at)
    return list(zip(("Accepted", "Sent", "Delivered", "Read"), (at is not None for at in times), strict=True))


@pages.get("/companies/{company}/messages")
async def show_messages(request: Request, company: CompanyPath) -> Response:
    return part(request, "sent_messages.html", company=company, values=await _messages(request, company))


async def _messages(request: Request, company: str) -> dict[str, object]:
    """One page of messages that match the search, with the cursor of the next page."""
    query = request.query_params
    words, before = query.get("words", "").strip()[:80], _number(query.get("before"))
    state = MessageState(query["state"]) if query.get("state") in set(MessageState) else None
    found = await context_of(request).lookup.sent_messages(
        company, words=words, state=state, before=before, limit=MESSAGES_SHOWN + 1
    )
    return {
        "found": found[:MESSAGES_SHOWN],
        "words": words,
        "state": state,
        "states": list(MessageState),
        "before": before,
        "older": found[MESSAGES_SHOWN - 1].seq if len(found) > MESSAGES_SHOWN else None,
        "queue_notes": await _queue_notes(request, company) if any(map(_is_queued, found)) else {},
    }


def _is_queued(message: OutboundRow) -> bool:
    return message.state is MessageState.QUEUED and message.held_code is None


async def _queue_notes(request: Request, company: str) -> dict[bool, str]:
    """Why queued messages wait, by `is_to_new_contact`: the session's state, a hold of new contacts, or pacing."""
    context = context_of(request)
    state = (await context.gateway.cluster_view(company)).record.state
    if state is not State.CONNECTED:
        return dict.fromkeys((False, True), f"waits until the session is connected (now: {STATES[state].lower()})")
    limits = await context.limits.restrictions(company)
    per_minute = limits.pacing.every.per_minute
    paced = "waits in the queue"
    if per_minute:
        paced += f": at most {per_minute:g} messages a minute are sent"
    return {False: paced, True: hold_sentence(limits.hold_code, limits.hold_until) if limits.hold_code else paced}


@pages.get("/companies/{company}/inbox")
async def show_inbox(request: Request, company: CompanyPath) -> Response:
    query = request.query_params
    words, before = query.get("words", "").strip()[:80], _number(query.get("before"))
    found = await context_of(request).lookup.inbound(company, words=words, before=before, limit=_INBOX_SHOWN + 1)
    older = found[_INBOX_SHOWN - 1].seq if len(found) > _INBOX_SHOWN else None
    return page(
        request,
        "inbox.html",
        company=company,
        label=await label_of(request, company),
        found=[inbox_row(each, context_of(request).media) for each in found[:_INBOX_SHOWN]],
        words=words,
        before=before,
        older=older,
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 18 else None


def _band(transition: Transition) -> str:
    """How the chart shows the time after a transition: as the stability counts it, but a missing phone as such."""
    connectivity = connectivity_after(transition)
    is_unlinked = connectivity is Connectivity.DISCONNECTED and transition.after is State.LOGGED_OUT
    return "unlinked" if is_unlinked else connectivity.value


@pages.get("/companies/{company}/chart.json")
async def show_chart(request: Request, company: CompanyPath) -> Response:
    """Connection states and round trips of the last day. Times are Unix seconds, round trips milliseconds."""
    context = context_of(request)
    now = context.clock.now()
    begin = (now - timedelta(seconds=DAY_S)).timestamp()
    view, transitions = (
        await context.gateway.cluster_view(company),
        await context.diagnoser.transitions(company, seconds=DAY_S),
    )
    times = [datetime.fromisoformat(transition.at).timestamp() for transition in transitions]
    ends = [*times[1:], now.timestamp()]
    outcomes = view.round_trips.since(begin)
    return JSONResponse(
        {
            "now": now.timestamp(),
            "since": begin,
            "bands": [
                [max(at, begin), end, _band(transition)]
                for transition, at, end in zip(transitions, times, ends, strict=False)
                if end > begin
            ],
            "at": [round(outcome.at, 1) for outcome in outcomes],
            "ms": [None if outcome.worst_s is None else round(outcome.worst_s * 1000, 1) for outcome in outcomes],
            "missed": [outcome.missed for outcome in outcomes],
            "nowIso": iso(now),
        }
    )
