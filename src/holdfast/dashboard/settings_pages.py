"""The settings form of one company (label, webhook, pacing, device name, ignored messages), and its removal."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.base.device_names import BadDeviceName, device_name
from holdfast.base.errors import BadInput
from holdfast.dashboard.company_pages import CompanyPath
from holdfast.dashboard.company_settings import pacing_figures
from holdfast.dashboard.context import CompanyForbidden, context_of, login_of
from holdfast.dashboard.page_auth import ProtectedPage, is_part, part
from holdfast.delivery.rate_limits import TENANT
from holdfast.session.ignoring import IGNORABLE, checked_ignored
from holdfast.session.labels import checked_label

pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)

_FIGURES = {"perMinute": ("messages a minute", 6000), "newPerDay": ("new contacts a day", 100_000)}
"""Fields of the form by their name in the pacing settings: label on the page, and maximum."""


@pages.post("/companies/{company}/settings")
async def save_settings(request: Request, company: CompanyPath) -> Response:
    """Store the form. All fields are validated before any is stored."""
    context, form = context_of(request), request.state.form
    label = checked_label(form.get("label", ""))
    pacing = await _new_pacing(request, company)
    connection = await _new_connection(request, company)
    url, before = form.get("webhook_url", "").strip() or None, await context.webhooks.endpoint(company)
    secret = None
    if url != (None if before is None else before.url):
        secret = await context.webhook_settings.set_url(company, url)
    await context.gateway.set_connection(company, connection)
    await context.gateway.set_label(company, label)
    if login_of(request).grant.companies is None:
        await context.limits.set_pacing(company, pacing or None)
    else:
        await context.limits.set_tenant_pacing(company, pacing)
    context.fleet.forget()
    if not is_part(request):
        return RedirectResponse(f"/companies/{company}", status_code=303)
    return part(request, "settings_saved.html", secret=secret)


async def _new_connection(request: Request, company: str) -> dict[str, str | None]:
    """The changes of the device name and of the ignored messages."""
    form, record = request.state.form, (await context_of(request).gateway.cluster_view(company)).record
    name, ignored = form.get("deviceName", "").strip(), [kind for kind in IGNORABLE if form.get(f"ignore-{kind}")]
    try:
        wanted = {"device_name": device_name(name) if name else None, "ignored": checked_ignored(ignored)}
    except BadDeviceName as error:
        raise BadInput(f"name of the linked device: {error}", field="deviceName") from error
    before = {"device_name": record.device_name, "ignored": record.ignored}
    return {key: value for key, value in wanted.items() if value != before[key]}


async def _new_pacing(request: Request, company: str) -> dict[str, object]:
    """The pacing to store: of a tenant, only the tenant's figures."""
    limits, figures = context_of(request).limits, await pacing_figures(request, company)
    for name in _FIGURES:
        figures.pop(name, None)
        if text := request.state.form.get(name, "").strip():
            figures[name] = _figure(name, text)
    if login_of(request).grant.companies is not None:
        await limits.check_tenant_pacing(company, figures)
        return figures
    tenants = (await limits.stored_pacing(company)).get(TENANT)
    return figures | ({} if tenants is None else {TENANT: tenants})


def _figure(name: str, text: str) -> float | int:
    label, limit = _FIGURES[name]
    is_number = text.isascii() and text.replace(".", "", 1).isdigit() and (name == "perMinute" or text.isdigit())
    if not is_number or float(text) > limit:
        kind = "number" if name == "perMinute" else "whole number"
        raise BadInput(
            f'{label}: "{text[:20]}" can\'t be used; give a {kind} from 0 to {limit}, 0 for no limit', field=name
        )
    return int(text) if text.isdigit() else float(text)


@pages.post("/companies/{company}/remove")
async def remove_company(request: Request, company: CompanyPath) -> Response:
    """Back up and remove a company. Requires a key for all companies, as backups do."""
    context = context_of(request)
    if login_of(request).grant.companies is not None:
        raise CompanyForbidden("only an API key for all companies can remove one", field="company")
    async with context.shutdown.until_stopping():
        await context.removal.clear(company)
    context.fleet.forget()
    if not is_part(request):
        return RedirectResponse("/", status_code=303)
    return Response(status_code=204, headers={"HX-Redirect": f"{context.base_path}/"})
