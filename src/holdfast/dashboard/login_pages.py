"""Sign-in, sign-out, the API reference, and static files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from markupsafe import escape
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.base.errors import NotFound
from holdfast.dashboard.context import context_of, login_of
from holdfast.dashboard.logins import TooManyAttempts, WrongKey
from holdfast.dashboard.page_auth import (
    ProtectedPage,
    PublicPage,
    delete_cookie,
    page,
    recognise,
    set_cookie,
    signed_in,
)
from holdfast.dashboard.reference import chapters, shapes
from holdfast.dashboard.return_path import return_path

open_pages = APIRouter(route_class=PublicPage, include_in_schema=False)
pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)

_ANY_URL = "https://holdfast.invalid"
"""Stands for the base URL of the request in the examples."""
_CACHE_FOREVER = "public, max-age=31536000, immutable"


@open_pages.get("/login")
async def show_login(request: Request) -> Response:
    back = return_path(request.query_params.get("next", ""))
    if await signed_in(request) is not None:
        return RedirectResponse(back, status_code=303)
    return page(request, "login.html", message=None, back=back)


@open_pages.post("/login")
async def sign_in(request: Request) -> Response:
    address = request.client.host if request.client else ""
    back = return_path(request.state.form.get("next", ""))
    try:
        cookie = context_of(request).logins.sign_in(request.state.form.get("key", ""), address=address)
    except WrongKey as error:
        return page(request, "login.html", status=401, message=error.sentence, back=back)
    except TooManyAttempts as error:
        return page(request, "login.html", status=429, message=error.sentence, back=back)
    response = RedirectResponse(back, status_code=303)
    set_cookie(request, response, cookie)
    return response


@pages.post("/sign-out")
async def sign_out(request: Request) -> Response:
    await context_of(request).logins.sign_out(login_of(request))
    response = RedirectResponse("/login", status_code=303)
    delete_cookie(request, response)
    return response


@open_pages.get("/docs")
async def show_reference(request: Request) -> Response:
    """Public, like the OpenAPI document that it is rendered from."""
    await recognise(request)
    templates = context_of(request).templates
    body = templates.render_once("reference_body.html", lambda: _reference(request.app.openapi()))
    url = f"{request.url.scheme}://{request.url.netloc}{context_of(request).base_path}"
    return page(request, "reference.html", body=body.replace(_ANY_URL, str(escape(url))))


def _reference(document: Mapping[str, Any]) -> dict[str, object]:
    """Rendered once: it takes a tenth of a second, and anybody may ask for the page."""
    return {"chapters": chapters(document, url=_ANY_URL), "shapes": shapes(document)}


@open_pages.get("/assets/{digest}/{name}")
async def get_asset(request: Request) -> Response:
    asset = context_of(request).assets.find(request.url.path)
    if asset is None:
        raise NotFound("no such file: reload the page")
    headers = {"Cache-Control": _CACHE_FOREVER, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(asset.zipped, media_type=asset.media_type, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)
