"""The page of API keys: list, create, revoke. Requires a key for all companies."""

from __future__ import annotations

import re

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.dashboard.context import CompanyForbidden, context_of, login_of
from holdfast.dashboard.page_auth import ProtectedPage, is_part, page, part


class OperatorPage(ProtectedPage):
    async def enter(self, request: Request) -> Response | None:
        response = await super().enter(request)
        if response is None and login_of(request).grant.companies is not None:
            raise CompanyForbidden("only an API key for all companies can manage API keys")
        return response


pages = APIRouter(route_class=OperatorPage, include_in_schema=False)

_SEPARATORS = re.compile(r"[\s,;]+")


@pages.get("/keys")
async def show_keys(request: Request) -> Response:
    return page(request, "keys.html", keys=context_of(request).key_management.listed(), created=None)


@pages.post("/keys")
async def create_key(request: Request) -> Response:
    """Create a key. It is shown in this response only."""
    management, form = context_of(request).key_management, request.state.form
    companies = [each for each in _SEPARATORS.split(form.get("companies", "")) if each]
    _, key = await management.create(name=form.get("name", ""), companies=companies)
    show = part if is_part(request) else page
    template = "keys_changed.html" if is_part(request) else "keys.html"
    return show(request, template, keys=management.listed(), created=key, message=None)


@pages.post("/keys/revoke")
async def revoke_key(request: Request) -> Response:
    management = context_of(request).key_management
    revoked = await management.revoke(request.state.form.get("id", ""))
    if not is_part(request):
        return RedirectResponse("/keys", status_code=303)
    message = f'The key "{revoked.name}" is revoked.'
    return part(request, "keys_changed.html", keys=management.listed(), created=None, message=message)
