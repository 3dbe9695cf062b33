"""The settings of one company, as the form on its page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from holdfast.dashboard.context import context_of, login_of
from holdfast.dashboard.fleet import Tone
from holdfast.dashboard.webhook_pages import endpoint_label, endpoint_problem
from holdfast.delivery.rate_limits import TENANT
from holdfast.delivery.webhooks import Endpoint
from holdfast.session.ignoring import ignored_kinds

IGNORABLE_LABELS = (
    ("status", "Status posts"),
    ("channels", "Channels"),
    ("groups", "Groups"),
    ("broadcast", "Broadcast lists"),
)
"""Kinds of messages that a company can ignore, and their labels in the form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookFailure:
    """The state of an endpoint that does not accept deliveries, and why the last one failed."""

    tone: Tone
    label: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanySettings:
    """Values of the form. An empty text means that the settings for all companies apply."""

    label: str
    webhook_url: str
    webhook_failure: WebhookFailure | None
    """Of the company's own endpoint."""
    per_minute: str
    new_per_day: str
    device_name: str
    ignored: tuple[str, ...]
    """Kinds of messages that are not stored."""


async def company_settings(request: Request, company: str) -> CompanySettings:
    """The settings that differ from those for all companies."""
    context = context_of(request)
    endpoint = await context.webhooks.endpoint(company)
    figures = await pacing_figures(request, company)
    record = (await context.gateway.cluster_view(company)).record
    return CompanySettings(
        label=(await context.gateway.labels()).get(company, ""),
        webhook_url="" if endpoint is None else endpoint.url or "",
        webhook_failure=None if endpoint is None else _failure(endpoint),
        per_minute=_shown(figures.get("perMinute")),
        new_per_day=_shown(figures.get("newPerDay")),
        device_name=record.device_name or "",
        ignored=ignored_kinds(record.ignored),
    )


def _failure(endpoint: Endpoint) -> WebhookFailure | None:
    problem = endpoint_problem(endpoint) if endpoint.url is not None else None
    if problem is None:
        return None
    tone, label = endpoint_label(endpoint)
    return WebhookFailure(tone=tone, label=label, problem=problem)


def _shown(figure: object) -> str:
    return f"{figure:g}" if isinstance(figure, int | float) else ""


async def pacing_figures(request: Request, company: str) -> dict[str, object]:
    """The pacing that the signed-in key may change: the operator's, or a tenant's own."""
    stored = await context_of(request).limits.stored_pacing(company)
    if login_of(request).grant.companies is None:
        return dict(stored)
    own = stored.get(TENANT)
    return dict(own) if isinstance(own, Mapping) else {}
