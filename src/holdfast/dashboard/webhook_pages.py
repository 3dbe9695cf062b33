"""The webhooks page: endpoints with their state, failed deliveries, replay."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.base.errors import Conflict, NotFound
from holdfast.dashboard.context import context_of, login_of
from holdfast.dashboard.fleet import Tone
from holdfast.dashboard.page_auth import ProtectedPage, is_part, page, part
from holdfast.delivery.webhooks import (
    Counts,
    DeliveryState,
    Endpoint,
    EndpointState,
    Failed,
    counts_of,
    endpoint_of,
    next_attempt_at,
)

pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)

_SHOWN = 30
_ENDPOINTS = {
    EndpointState.ACTIVE: (Tone.SUCCESS, "Active"),
    EndpointState.SUSPENDED: (Tone.CRITICAL, "Suspended"),
    EndpointState.OFF: (Tone.CRITICAL, "Off"),
}
_DELIVERIES = {
    DeliveryState.PENDING: (Tone.WARNING, "Will be retried"),
    DeliveryState.FAILED: (Tone.CRITICAL, "Given up"),
}

_PAUSES = {
    EndpointState.SUSPENDED: "suspended after many failures; single deliveries are tried until one succeeds",
    EndpointState.OFF: "the endpoint is off because it answered 410 (gone); nothing is sent until you resume it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    id: str
    company: str | None
    """None: of all companies without an endpoint of their own."""
    url: str
    tone: Tone
    label: str
    can_resume: bool
    pending: int
    oldest_at: str | None
    problem: str | None
    last_success_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRow:
    id: str
    company: str
    type: str
    tone: Tone
    label: str
    attempts: int
    problem: str
    url: str | None
    last_at: str | None
    next_at: str | None
    waits_for: str | None
    """Why there is no time for the next attempt."""


@pages.get("/webhooks")
async def show_webhooks(request: Request) -> Response:
    return page(request, "webhooks.html", found=await _endpoints_and_deliveries(request))


@pages.post("/webhooks/replay")
async def replay(request: Request) -> Response:
    """Send one failed delivery again, or all of them, with the same ids."""
    webhooks, grant = context_of(request).webhooks, login_of(request).grant
    event = request.state.form.get("id", "")
    if not event:
        count = await webhooks.replay_all(grant.companies, since=None)
        return _done(request, f"{count} {'delivery is' if count == 1 else 'deliveries are'} being sent again")
    company = await webhooks.company_of(event)
    if company is None or not grant.covers(company):
        raise NotFound(f'webhook "{event[:80]}" is unknown: reload the page')
    if not await webhooks.replay(event):
        raise Conflict(f"company {company} no longer has a webhook: set one, then replay")
    return _done(request, "the delivery is being sent again")


@pages.post("/webhooks/resume")
async def resume(request: Request) -> Response:
    """Switch an endpoint on again and send its waiting deliveries at once."""
    webhooks, wanted = context_of(request).webhooks, request.state.form.get("id", "")
    visible = {each.id for each in await webhooks.endpoints() if login_of(request).grant.covers(each.company)}
    # Another request may remove it between the two queries.
    if wanted not in visible or await webhooks.resume(wanted) is None:
        raise NotFound(f'endpoint "{wanted[:80]}" is unknown: reload the page')
    return _done(request, "the endpoint is active again; pending deliveries are being sent")


def _done(request: Request, message: str) -> Response:
    if not is_part(request):
        return RedirectResponse("/webhooks", status_code=303)
    return part(request, "notice.html", tone="success", message=message)


async def _endpoints_and_deliveries(request: Request) -> dict[str, object]:
    webhooks, grant = context_of(request).webhooks, login_of(request).grant
    endpoints, counts = await webhooks.endpoints(), await webhooks.counts(grant.companies)
    failed = await webhooks.failed(grant.companies, after=0, limit=_SHOWN)
    return {
        "endpoints": [
            _endpoint_row(each, counts_of(each, endpoints, counts))
            for each in endpoints
            if each.url is not None and grant.covers(each.company)
        ],
        "failed": [_failed_row(each, endpoint_of(each.company, endpoints)) for each in failed],
        "is_cut": len(failed) == _SHOWN,
    }


def endpoint_label(endpoint: Endpoint) -> tuple[Tone, str]:
    """The state of an endpoint, as a chip shows it."""
    if endpoint.health.state is EndpointState.ACTIVE and endpoint.health.failures:
        return Tone.WARNING, "Failing"
    return _ENDPOINTS[endpoint.health.state]


def endpoint_problem(endpoint: Endpoint) -> str | None:
    """Why the last delivery failed; None when it succeeded."""
    return _last_error(endpoint.last_status, endpoint.last_error) if endpoint.health.failures else None


def _endpoint_row(endpoint: Endpoint, counts: Counts) -> EndpointRow:
    tone, label = endpoint_label(endpoint)
    return EndpointRow(
        id=endpoint.id,
        company=endpoint.company or None,
        url=endpoint.url or "",
        tone=tone,
        label=label,
        can_resume=endpoint.health.state is not EndpointState.ACTIVE,
        pending=counts.pending,
        oldest_at=counts.oldest_at,
        problem=endpoint_problem(endpoint),
        last_success_at=endpoint.last_success_at,
    )


def _waits_for(failed: Failed, endpoint: Endpoint | None) -> str | None:
    if failed.state is not DeliveryState.PENDING:
        return None
    if endpoint is None:
        return "no endpoint is set"
    return _PAUSES.get(endpoint.health.state)


def _failed_row(failed: Failed, endpoint: Endpoint | None) -> FailedRow:
    tone, label = _DELIVERIES.get(failed.state, (Tone.NEUTRAL, failed.state.value))
    waits_for = _waits_for(failed, endpoint)
    if waits_for is not None:
        label = "Waiting"
    return FailedRow(
        id=failed.id,
        company=failed.company,
        type=failed.type,
        tone=tone,
        label=label,
        attempts=failed.attempts,
        problem=_last_error(failed.last_status, failed.last_error),
        url=None if endpoint is None else endpoint.url,
        last_at=failed.last_at,
        next_at=next_attempt_at(failed, endpoint),
        waits_for=waits_for,
    )


def _last_error(status: int | None, error: str | None) -> str:
    """The result of the last attempt. The body of the response is not stored."""
    if error is not None:
        return error
    return "there was no answer" if status is None else f"it answered {status}"
