"""Routes about webhooks: the endpoints and their state, failed deliveries, and replay.

A secret is shown once, in the response to the request that set it. A key sees the endpoints and deliveries of its
companies only; the endpoint of all companies is visible only to a key for all companies.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from holdfast.api.keys import KeyGrant
from holdfast.api.routing import After, KeyDependency, Limit, from_state, keyed_router
from holdfast.api.schemas import ApiModel, ListPage, Text, cursor
from holdfast.api.session_models import SessionRequest
from holdfast.base.clock import in_utc, iso
from holdfast.base.errors import BadInput, Conflict, NotFound
from holdfast.base.ids import COMPANY_RULE, RandomSource, is_company_id
from holdfast.base.proxy_urls import proxy_address
from holdfast.delivery.webhooks import (
    OF_ALL,
    Companies,
    Counts,
    Endpoint,
    EndpointHealth,
    Failed,
    Webhooks,
    counts_of,
    endpoint_of,
    new_endpoint,
    next_attempt_at,
)
from holdfast.web.client import WebClient

_OF_WEBHOOK = {"webhook_url", "webhook_secret", "webhook_events"}
"""Fields of a request that are about the webhook."""


class EndpointModel(ApiModel):
    id: str
    company_id: Annotated[str | None, Field(description="null: for all companies without one of their own")]
    url: str | None
    events: Annotated[list[str] | None, Field(description="event types; null: all except message.accepted")]
    state: Annotated[str, Field(description="active, suspended (only probes are sent), off (it answered 410)")]
    pending: int
    failed: int
    oldest_pending_at: str | None
    failing_since: str | None
    next_probe_at: str | None
    last_success_at: str | None
    last_failure_at: str | None
    last_status: int | None
    last_error: str | None


class FailedModel(ApiModel):
    id: Annotated[str, Field(description="id of the event, and the `webhook-id` of all its attempts")]
    company_id: str
    url: Annotated[str | None, Field(description="null also if this key may not see the URL for all companies")]
    type: str
    state: Annotated[str, Field(description="failed: given up; pending: it failed and is retried")]
    endpoint_state: Annotated[
        str | None,
        Field(description="active, suspended (only probes are sent), off (paused until resumed); null: none is set"),
    ]
    attempts: int
    last_status: int | None
    last_error: str | None
    first_at: str | None
    last_at: str | None
    next_attempt_at: Annotated[str | None, Field(description="also null while the endpoint is suspended or off")]


class ReplayRequest(ApiModel):
    company: Annotated[Text | None, Field(description="only of this company")] = None
    since: Annotated[
        Text | None,
        Field(description="everything since then (ISO 8601), delivered or not; default: everything that failed"),
    ] = None


class ReplayedModel(ApiModel):
    replayed: Annotated[int, Field(description="deliveries that are sent once more, in order within each chat")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEndpoint:
    """An endpoint with its pending deliveries."""

    endpoint: Endpoint
    counts: Counts


class WebhookService:
    """What callers may do with webhooks."""

    def __init__(self, rows: Webhooks, *, randomness: RandomSource, web: WebClient) -> None:
        self.rows = rows
        self._randomness = randomness
        self._web = web

    async def own(self) -> dict[str, Endpoint]:
        """Own endpoints of sessions, by company."""
        return {each.company: each for each in await self.rows.endpoints() if each.company != OF_ALL}

    async def seen(self, grant: KeyGrant) -> list[SeenEndpoint]:
        """The endpoints that a key may see."""
        endpoints, counts = await self.rows.endpoints(), await self.rows.counts(grant.companies)
        return [
            SeenEndpoint(endpoint=each, counts=counts_of(each, endpoints, counts))
            for each in endpoints
            if grant.covers(each.company)
        ]

    async def find(self, grant: KeyGrant, endpoint: str) -> SeenEndpoint:
        """Raises `NotFound`, also for an endpoint that the key may not see."""
        found = next((each for each in await self.seen(grant) if each.endpoint.id == endpoint), None)
        if found is None:
            raise NotFound(f'endpoint "{endpoint[:80]}" is unknown: GET /v1/webhooks lists all', field="id")
        return found

    async def failed(
        self, grant: KeyGrant, companies: Companies, *, after: int, limit: int
    ) -> list[tuple[Failed, Endpoint | None, str | None]]:
        """With the endpoint of each, and its URL if the key may see it."""
        endpoints = await self.rows.endpoints()
        found = await self.rows.failed(companies, after=after, limit=limit)
        routes = {each.company: endpoint_of(each.company, endpoints) for each in found}
        urls = {
            company: each.url for company, each in routes.items() if each is not None and grant.covers(each.company)
        }
        return [(each, routes[each.company], urls.get(each.company)) for each in found]

    async def check(self, company: str, body: SessionRequest) -> None:
        """Raises `BadInput` for an address to which no webhook would be sent, or without any."""
        if body.model_fields_set & _OF_WEBHOOK and "webhook_url" not in body.model_fields_set:
            _check_has_webhook(await self.rows.endpoint(company))
        if body.webhook_url is not None:
            await self._web.check_reachable(body.webhook_url, field="webhookUrl")
        if proxy := body.connection().get("proxy_url"):
            await self._web.check_reachable(f"http://{proxy_address(proxy)}", field="proxyUrl")

    async def set(self, company: str, body: SessionRequest) -> str | None:
        """Apply a request's webhook settings. Returns the secret of the company's own endpoint if that is new."""
        given = body.model_fields_set & _OF_WEBHOOK
        made = self._randomness.webhook_secret()

        def change(before: Endpoint | None) -> Endpoint | None:
            return _changed(before, company, body, given, made)

        if not given:
            return None
        before = await self.rows.endpoint(company)
        after = await self.rows.put(company, change)
        is_new = after is not None and (before is None or before.secret != after.secret)
        return after.secret if after is not None and is_new else None

    async def set_url(self, company: str, url: str | None) -> str | None:
        """Give the company a webhook of its own, or remove it; returns its secret if that is new. Raises `BadInput`."""
        body = SessionRequest(webhook_url=url)
        await self.check(company, body)
        return await self.set(company, body)


def _check_has_webhook(endpoint: Endpoint | None) -> None:
    if endpoint is None:
        raise BadInput("webhookUrl is missing: this session has no webhook of its own yet", field="webhookUrl")


def _changed(
    before: Endpoint | None, company: str, body: SessionRequest, given: Collection[str], made_secret: str
) -> Endpoint | None:
    if "webhook_url" in given and body.webhook_url is None:
        return None
    if before is None:
        if body.webhook_url is None:
            _check_has_webhook(before)
        before = new_endpoint(company, url=None, secret=made_secret)
    after = before
    if body.webhook_url is not None and body.webhook_url != before.url:
        after = replace(after, url=body.webhook_url, health=EndpointHealth())
    if "webhook_secret" in given and body.webhook_secret != before.secret:
        after = replace(after, secret=body.webhook_secret or made_secret, health=EndpointHealth())
    if "webhook_events" in given:
        after = replace(after, events=None if body.webhook_events is None else tuple(body.webhook_events))
    return after


def _endpoint_shape(seen: SeenEndpoint) -> EndpointModel:
    endpoint, health = seen.endpoint, seen.endpoint.health
    return EndpointModel.from_fields(
        endpoint,
        company_id=endpoint.company or None,
        events=None if endpoint.events is None else list(endpoint.events),
        state=health.state.value,
        pending=seen.counts.pending,
        failed=seen.counts.failed,
        oldest_pending_at=seen.counts.oldest_at,
        failing_since=iso(health.failing_since),
        next_probe_at=iso(health.probe_at),
    )


def _failed_shape(failed: Failed, endpoint: Endpoint | None, url: str | None) -> FailedModel:
    return FailedModel.from_fields(
        failed,
        company_id=failed.company,
        url=url,
        endpoint_state=None if endpoint is None else endpoint.health.state.value,
        next_attempt_at=next_attempt_at(failed, endpoint),
    )


def _since(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return iso(in_utc(datetime.fromisoformat(text)))
    except ValueError:
        raise BadInput(
            f'since "{text[:40]}" is not a time: give one such as 2026-11-22T10:56:00Z', field="since"
        ) from None


def _of(grant: KeyGrant, company: str | None) -> Companies:
    """The companies that the request is about. Raises `NotAllowed` and `BadInput`."""
    if company is None:
        return grant.companies
    grant.check(company)
    if not is_company_id(company):
        raise BadInput(f'company "{company[:80]}" is not a company id: {COMPANY_RULE}', field="company")
    return [company]


WebhooksDependency = Annotated[WebhookService, from_state("webhooks")]
DeliveryId = Annotated[str, Path(description="the id in the list", max_length=100)]
router = keyed_router("webhooks", prefix="/v1/webhooks")


@router.get("")
async def list_webhooks(grant: KeyDependency, service: WebhooksDependency) -> ListPage[EndpointModel]:
    """The webhook endpoints and their state."""
    return ListPage(items=[_endpoint_shape(each) for each in await service.seen(grant)], next=None)


@router.get("/failed")
async def list_failed_webhooks(
    grant: KeyDependency,
    service: WebhooksDependency,
    company: Annotated[str | None, Query(description="only of this company")] = None,
    after: After = None,
    limit: Limit = 100,
) -> ListPage[FailedModel]:
    """Deliveries that were given up, and those that failed and are being retried; oldest first."""
    found = await service.failed(grant, _of(grant, company), after=cursor(after), limit=limit + 1)
    next_ = str(found[limit - 1][0].seq) if len(found) > limit else None
    return ListPage(items=[_failed_shape(*each) for each in found[:limit]], next=next_)


@router.post("/replay", status_code=202)
async def replay_webhooks(
    grant: KeyDependency, service: WebhooksDependency, body: ReplayRequest | None = None
) -> ReplayedModel:
    """Deliver once more everything that failed or waits for a retry, or everything since a time; under the same
    ids."""
    body = body or ReplayRequest()
    return ReplayedModel(replayed=await service.rows.replay_all(_of(grant, body.company), since=_since(body.since)))


@router.post("/{id}/replay", status_code=202)
async def replay_webhook(grant: KeyDependency, service: WebhooksDependency, id: DeliveryId) -> ReplayedModel:
    """Deliver one webhook again, whether it was delivered, has failed or is still waiting."""
    company = await service.rows.company_of(id)
    if company is None or not grant.covers(company):
        raise NotFound(f'webhook "{id[:80]}" is unknown: the list of failed webhooks has its id', field="id")
    if not await service.rows.replay(id):
        raise Conflict(
            f"company {company} has no webhook: set HOLDFAST_WEBHOOK_URL, or the session's webhookUrl", field="id"
        )
    return ReplayedModel(replayed=1)


@router.post("/endpoints/{id}/resume")
async def resume_webhooks(grant: KeyDependency, service: WebhooksDependency, id: DeliveryId) -> EndpointModel:
    """Switch an endpoint on again that is off or suspended; its pending deliveries are sent at once."""
    await service.find(grant, id)
    await service.rows.resume(id)
    return _endpoint_shape(await service.find(grant, id))  # another request may have removed it meanwhile
