"""The way into every page: who is signed in, which form may be sent, what a browser may do with the answer.

Pages load nothing from elsewhere, run no script but our own files, and are shown in no frame. A form counts only with
the token of its session and from our own pages. Errors are pages, or parts of one where a part was asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from holdfast.base.errors import BadInput, Conflict, HoldfastError, NotFound
from holdfast.base.ids import is_company_id
from holdfast.dashboard.attention import NOTHING
from holdfast.dashboard.context import AppContext, NotYours, context_of
from holdfast.dashboard.logins import COOKIE, SECURE_COOKIE, Login, TooManyTries, WrongKey
from holdfast.dashboard.return_path import login_address
from holdfast.http.startup import Starting, until_loaded
from holdfast.runtime.errors import SessionRestarting
from holdfast.runtime.pairing import PairingCodeRefused
from holdfast.runtime.passkeys import WhatsAppSilent
from holdfast.runtime.quotas import DiskFull, QuotaExceeded
from holdfast.session.machine import NotPossible
from holdfast.session.stores import LeaseLost

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with none at all, browsers leave out the Origin that forms are checked by
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STATUS = {
    BadInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    NotPossible: HTTPStatus.CONFLICT,
    NotYours: HTTPStatus.FORBIDDEN,
    WrongKey: HTTPStatus.UNAUTHORIZED,
    TooManyTries: HTTPStatus.TOO_MANY_REQUESTS,
    SessionRestarting: HTTPStatus.SERVICE_UNAVAILABLE,
    LeaseLost: HTTPStatus.SERVICE_UNAVAILABLE,
    Starting: HTTPStatus.SERVICE_UNAVAILABLE,
    WhatsAppSilent: HTTPStatus.GATEWAY_TIMEOUT,
    QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
    PairingCodeRefused: HTTPStatus.BAD_GATEWAY,
}
_LONGEST_FORM_FIELDS = 50
KEYED = "holdfast.keyed"
"""In the ASGI scope: the server closes connections of those who are signed in last."""


class ForgedForm(HoldfastError):
    """A form that did not come from one of our pages."""

    code = "forged-form"


_STATUS[ForgedForm] = HTTPStatus.FORBIDDEN


class PublicPage(APIRoute):
    """A page that anybody may ask for."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def sealed(request: Request) -> Response:
            try:
                response = await self.enter(request) or await answer(request)
            except HoldfastError as error:
                response = failed(request, error)
            except OperationalError as error:
                log.error("Database fails, a page is refused: %s", error.orig or error)  # noqa: TRY400 – no trace
                response = _database_failed(request)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return sealed

    async def enter(self, request: Request) -> Response | None:
        """What stands before the page; an answer of its own where the page is not to be shown."""
        if request.method == "POST":
            check_origin(request)
            request.state.form = await _form(request)
        return None


class ProtectedPage(PublicPage):
    """A page for those who are signed in."""

    async def enter(self, request: Request) -> Response | None:
        context = context_of(request)
        login = await signed_in(request)
        if login is None:
            return to_login(request)
        request.state.login = login
        request.scope[KEYED] = True
        if login.grant.companies is not None:
            context.quotas.check_request(login.mark, writes=request.method == "POST")
        await super().enter(request)
        if request.method == "POST" and not context.logins.is_form_token(login, request.state.form.get("token", "")):
            raise ForgedForm("this form is out of date or was not made here: load the page again, then send it")
        await until_loaded(request, context.gateway)
        if request.method == "GET" and not is_part(request):
            request.state.attention = await context.attention.of(login.grant)
        return None


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise BadInput(f'the form came as "{kind[:40]}": send it as application/x-www-form-urlencoded')
    try:
        pairs = parse_qsl((await request.body()).decode(), True, errors="strict", max_num_fields=_LONGEST_FORM_FIELDS)
    except ValueError as error:
        raise BadInput("the form can't be read: it must be UTF-8 with few fields") from error
    return dict(pairs)


def check_origin(request: Request) -> None:
    """Browsers say where a form comes from. Raises `ForgedForm` for another site, or none."""
    site = request.headers.get("sec-fetch-site")
    origin = urlsplit(request.headers.get("origin", "")).netloc
    if site == "same-origin" or (site is None and origin and origin == request.headers.get("host")):
        return
    raise ForgedForm("this form was sent from another site, or without saying from where: use Holdfast's own pages")


def is_part(request: Request) -> bool:
    """Did a script ask for a part of a page, and not a person for a whole one?"""
    return request.headers.get("hx-request") == "true"


def to_login(request: Request) -> Response:
    if is_part(request):
        shown = urlsplit(request.headers.get("hx-current-url", ""))
        path = shown.path.removeprefix(context_of(request).base_path)
        return Response(status_code=401, headers={"HX-Redirect": login_address(_path(path, shown.query))})
    asked = request.url if request.method == "GET" else None
    return RedirectResponse(login_address("/" if asked is None else _path(asked.path, asked.query)), status_code=303)


def _path(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def page(request: Request, template: str, *, status: int = 200, **values: object) -> Response:
    """A whole page of somebody who is signed in, or of nobody. Keeps the session alive."""
    context: AppContext = context_of(request)
    login: Login | None = getattr(request.state, "login", None)
    common: Mapping[str, object] = {
        "login": login,
        "token": "" if login is None else context.logins.form_token(login),
        "path": request.url.path,
        "attention": getattr(request.state, "attention", NOTHING),
    }
    response = HTMLResponse(context.templates.render(template, **{**common, **values}), status_code=status)
    fresh = None if login is None else context.logins.renewed(login)
    if fresh is not None:
        set_cookie(request, response, fresh)
    return response


def part(request: Request, template: str, *, status: int = 200, **values: object) -> Response:
    """A part of a page."""
    context = context_of(request)
    token = context.logins.form_token(request.state.login)
    return HTMLResponse(context.templates.render(template, token=token, **values), status_code=status)


async def signed_in(request: Request) -> Login | None:
    """Whoever this browser is signed in as.

    Over TLS only the cookie counts that no neighbouring site could have set. A proxy that does not say that TLS was
    used leaves that open: then either counts.
    """
    cookie = request.cookies.get(SECURE_COOKIE)
    if cookie is None and not _is_https(request):
        cookie = request.cookies.get(COOKIE)
    return await context_of(request).logins.read(cookie)


def set_cookie(request: Request, response: Response, value: str) -> None:
    secure, max_age = _is_https(request), context_of(request).logins.seconds_left(value)
    name = SECURE_COOKIE if secure else COOKIE
    response.set_cookie(name, value, max_age=max_age, path="/", httponly=True, samesite="strict", secure=secure)


def delete_cookie(request: Request, response: Response) -> None:
    for name in (SECURE_COOKIE, COOKIE):
        if name in request.cookies:
            response.delete_cookie(name, path="/", httponly=True, samesite="strict", secure=name == SECURE_COOKIE)


def _is_https(request: Request) -> bool:
    """TLS ends at a proxy, which says so; or the browser does, in the origin of its form."""
    forwarded = request.headers.get("x-forwarded-proto", "")
    return "https" in {request.url.scheme, forwarded} or request.headers.get("origin", "").startswith("https://")


def failed(request: Request, error: HoldfastError) -> Response:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        log.error("A page failed: %s", error)
    if unknown := _unknown_company(request, error):
        return page(request, "unknown_company.html", status=status, company=unknown)
    response = _told(request, status, error.sentence, reload_s=2 if isinstance(error, Starting) else None)
    if isinstance(error, QuotaExceeded):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _unknown_company(request: Request, error: HoldfastError) -> str | None:
    """The company of the path, where a whole page of one that does not exist was asked for."""
    company = str(request.path_params.get("company", ""))
    is_its_page = isinstance(error, NotFound) and error.field == "company" and not is_part(request)
    return company if is_its_page and is_company_id(company) else None


def _database_failed(request: Request) -> Response:
    sentence = "the database can't be used just now: try again; Holdfast's log says why"
    return _told(request, HTTPStatus.SERVICE_UNAVAILABLE, sentence, reload_s=None)


def _told(request: Request, status: HTTPStatus, sentence: str, *, reload_s: int | None) -> Response:
    if is_part(request):
        html = context_of(request).templates.render("notice.html", tone="trouble", said=sentence)
        return HTMLResponse(html, status_code=status)
    return page(request, "error.html", status=status, title=status.phrase, said=sentence, reload_s=reload_s)
