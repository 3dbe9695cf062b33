"""The passkey ceremony on a company's page: the signed answer, the comparison of codes, and the return page."""

from __future__ import annotations

import json
from typing import cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from holdfast.base.errors import BadInput
from holdfast.dashboard.company_pages import CompanyPath
from holdfast.dashboard.context import context_of
from holdfast.dashboard.page_auth import ProtectedPage, PublicPage, page, part
from holdfast.session.state import PasskeyStep

open_pages = APIRouter(route_class=PublicPage, include_in_schema=False)
pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)


@open_pages.get("/passkey/return")
async def show_return(request: Request) -> Response:
    """The page that WhatsApp Web returns the browser to. It is public, because a navigation from another site carries
    no cookie. The answer is in the URL fragment, and a script passes it to the company's page inside the browser."""
    return page(request, "passkey_return.html")


@pages.post("/companies/{company}/passkey")
async def answer_passkey(request: Request, company: CompanyPath) -> Response:
    context = context_of(request)
    assertion = _read(request.state.form.get("assertion", ""))
    async with context.shutdown.until_stopping():
        continued = await (await context.gateway.actor(company)).passkeys.answer(assertion)
    if continued.step is PasskeyStep.COMPARE:
        return part(
            request, "notice.html", tone="success", message="WhatsApp accepted the signature; now compare the codes"
        )
    return part(
        request, "notice.html", tone="success", message="WhatsApp accepted the signature; the device is being linked"
    )


@pages.post("/companies/{company}/passkey/confirm")
async def confirm_passkey(request: Request, company: CompanyPath) -> Response:
    matches = request.state.form.get("matches") == "yes"
    relay = (await context_of(request).gateway.actor(company)).passkeys
    if matches:
        relay.confirm()
        return part(request, "notice.html", tone="success", message="the device is being linked")
    relay.mismatch()
    message = "nothing was linked. Check the phone under Linked devices for unknown devices"
    return part(request, "notice.html", tone="critical", message=message)


@pages.post("/companies/{company}/passkey/decline")
async def decline_passkey(request: Request, company: CompanyPath) -> Response:
    (await context_of(request).gateway.actor(company)).passkeys.decline()
    return part(
        request,
        "notice.html",
        tone="success",
        message="nothing was linked; request a new code when the owner is present",
    )


def _read(text: str) -> dict[str, object]:
    try:
        assertion = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput("the answer is not JSON: paste everything that the console shows", field="assertion") from error
    if not isinstance(assertion, dict):
        raise BadInput("the answer is not a JSON object: paste everything that the console shows", field="assertion")
    return cast("dict[str, object]", assertion)
