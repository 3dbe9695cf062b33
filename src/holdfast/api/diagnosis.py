"""Health, diagnostics and metrics: what is known about sessions, for people and for machines."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import Query, Request, Response

from holdfast.api import description
from holdfast.api.diagnosis_models import DiagnosticsModel, EvidenceModel, HealthModel, ms, rounded
from holdfast.api.forwarding import others_of
from holdfast.api.metrics import exposition, merged
from holdfast.api.routing import DiagnoserDependency, KeyDependency, Moment, keyed_router, keyless_router
from holdfast.base.clock import iso
from holdfast.health.verdict import Status
from holdfast.http.forwarded import FORWARDED

_TENANT_SETTINGS = frozenset(
    [
        *("mediaMaxMb", "mediaKeepDays", "eventsKeepDays", "healthIntervalS", "whatsappVersion", "deviceName"),
        *("keepaliveIntervalS", "keepalivePresence", "backoffBaseMs", "backoffFactor", "backoffCapMs"),
        *("pacingPerMinute", "pacingBurst", "pacingGapMs", "pacingBulkPerMinute", "pacingBulkBurst"),
        *("pacingNewPerMinute", "pacingNewBurst", "pacingNewPerDay"),
    ]
)
"""What a key limited to companies may see: how its sessions behave, and nothing about the operator's installation."""
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

Since = Annotated[
    Moment | None,
    Query(description="also measure the time from then to now, at most 7 days (ISO 8601)"),
]


open_router = keyless_router("health")
router = keyed_router("health")


@open_router.get(
    "/webhook/whatsapp/baileys/health/{company}",
    responses={
        404: description.problem("there is no such company"),
        503: {"model": HealthModel, "description": "the session is degraded or unhealthy; `reasons` say why"},
    },
)
async def get_health(company: str, diagnoser: DiagnoserDependency, response: Response) -> HealthModel:
    """200 when the session is healthy, 503 when it is degraded or unhealthy, 404 when it is unknown."""
    view, verdict = await diagnoser.health(company)
    response.status_code = 200 if verdict.status is Status.HEALTHY else 503
    return HealthModel.of(view, verdict)


@router.get("/webhook/whatsapp/baileys/diagnostics/{company}")
async def get_diagnostics(
    company: str, request: Request, grant: KeyDependency, diagnoser: DiagnoserDependency, since: Since = None
) -> DiagnosticsModel:
    """Everything known about a session."""
    found = await diagnoser.diagnose(company, since=since)
    if grant.companies is not None:
        found = replace(found, alerts=())
    evidence = EvidenceModel(
        last_frame_at=found.view.record.last_activity,
        last_ping_rtt_ms=ms(found.signals.keepalives.last_s),
        last_ack_at=iso(diagnoser.wall(found.view.acked_at)),
        oldest_unacked_s=rounded(found.signals.link.unacked_s if found.signals.link else None),
        link_open_s=rounded(found.signals.link.open_s if found.signals.link else None),
    )
    settings = request.app.state.settings_in_force
    if grant.companies is not None:
        settings = {name: value for name, value in settings.items() if name in _TENANT_SETTINGS}
    return DiagnosticsModel.of(found, evidence=evidence, settings=settings, grant=grant)


@router.get("/metrics", response_class=Response)
async def get_metrics(
    request: Request,
    grant: KeyDependency,
    diagnoser: DiagnoserDependency,
    nodes: Annotated[
        Literal["all"] | None, Query(description="all: of every node of a cluster, each series with a label `node`")
    ] = None,
) -> Response:
    """Metrics for Prometheus of the companies that the key may see, labelled by id, never by phone number. Each
    company is at the node that runs it."""
    seen = [each for each in await diagnoser.all_health() if grant.covers(each[0].record.company)]
    webhooks = [
        each
        for each in await request.app.state.webhooks.seen(grant)
        if not each.endpoint.company or each.endpoint.company in diagnoser.running
    ]
    text = exposition(seen, diagnoser.hosts, webhooks=webhooks, version=diagnoser.client_version, now=diagnoser.now())
    if nodes is not None and FORWARDED not in request.scope:
        texts = {diagnoser.node or "": text, **await others_of(request)}
        text = merged({node: each for node, each in texts.items() if each is not None})
    return Response(text, media_type=_PROMETHEUS)
