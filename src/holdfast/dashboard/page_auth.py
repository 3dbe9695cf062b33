"""Authentication and protection of all pages: sessions, form tokens, security headers, error pages.

Pages load nothing from other sites, run only scripts that Holdfast serves, and can't be framed. A form is accepted only
with the token of its session and from the same origin. Errors are rendered as pages, or as fragments for htmx requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from holdfast.base.errors import BadInput, Conflict, HoldfastError, NotFound
from holdfast.base.ids import is_company_id
from holdfast.dashboard.attention import NOTHING
from holdfast.dashboard.context import AppContext, CompanyForbidden, check_company, context_of
from holdfast.dashboard.logins import COOKIE, SECURE_COOKIE, Login, TooManyAttempts, WrongKey
from holdfast.dashboard.return_path import login_address
from holdfast.http.callers import mark_keyed
from holdfast.http.forwarded import FROM_RECORD
from holdfast.http.nul import refuse_nul
from holdfast.http.open_requests import hold
from holdfast.http.startup import Starting, until_loaded
from holdfast.runtime.errors import SessionRestarting
from holdfast.runtime.ownership import RunsElsewhere
from holdfast.runtime.pairing import PairingCodeRefused
from holdfast.runtime.passkeys import PasskeyTimedOut
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
    CompanyForbidden: HTTPStatus.FORBIDDEN,
    WrongKey: HTTPStatus.UNAUTHORIZED,
    TooManyAttempts: HTTPStatus.TOO_MANY_REQUESTS,
    SessionRestarting: HTTPStatus.SERVICE_UNAVAILABLE,
    LeaseLost: HTTPStatus.SERVICE_UNAVAILABLE,
    RunsElsewhere: HTTPStatus.SERVICE_UNAVAILABLE,
    Starting: HTTPStatus.SERVICE_UNAVAILABLE,
    PasskeyTimedOut: HTTPStatus.GATEWAY_TIMEOUT,
    QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
    PairingCodeRefused: HTTPStatus.BAD_GATEWAY,
}
_LONGEST_FORM_FIELDS = 50


class CsrfFailed(HoldfastError):
    """A form that was not submitted from one of Holdfast's pages."""

    code = "csrf-failed"


_STATUS[CsrfFailed] = HTTPStatus.FORBIDDEN


Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def guarded(answer: Handler) -> Handler:
    """Turn errors into pages, and add the security headers."""

    async def guarded_answer(request: Request) -> Response:
        try:
            response = await answer(request)
        except RunsElsewhere as error:
            if FROM_RECORD not in request.scope:
                raise  # forwarded to the node that runs the session
            response = failed(request, error)
        except HoldfastError as error:
            response = failed(request, error)
        except OperationalError as error:
            log.error("Database failure, a page was refused: %s", error.orig or error)  # noqa: TRY400 – no trace
            response = _database_failed(request)
        except (HTTPException, RequestValidationError, ClientDisconnect):
            raise  # the application answers these
        except Exception:
            log.exception("A page failed inside Holdfast: %s", request.method)
            response = _error(
                request,
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "Holdfast failed to show this page: its log has the cause",
                reload_s=None,
            )
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return guarded_answer


class PublicPage(APIRoute):
    """A page without authentication."""

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()

        async def entered(request: Request) -> Response:
            return await self.enter(request) or await answer(request)

        return guarded(entered)

    async def enter(self, request: Request) -> Response | None:
        """Checks before the handler. A returned response replaces the page."""
        refuse_nul((*request.path_params.items(), *request.query_params.multi_items()))
        if request.method == "POST":
            check_origin(request)
            request.state.form = await self.form(request)
            refuse_nul(request.state.form.items())
        return None

    async def form(self, request: Request) -> dict[str, str]:
        """The fields of a submitted form."""
        return await _form(request)


class ProtectedPage(PublicPage):
    """A page that requires a session."""

    async def enter(self, request: Request) -> Response | None:
        context = context_of(request)
        login = await signed_in(request)
        if login is None:
            return to_login(request)
        request.state.login = login
        mark_keyed(request.scope)
        if login.grant.companies is not None:
            context.quotas.check_request(login.mark, writes=request.method == "POST")
            hold(request, context.quotas.request(login.mark))
        await super().enter(request)
        if request.method == "POST" and not context.logins.is_form_token(login, request.state.form.get("token", "")):
            raise CsrfFailed("this form is out of date: reload the page and submit it again")
        await until_loaded(request, context.gateway)
        if (company := request.path_params.get("company")) is not None and FROM_RECORD not in request.scope:
            check_company(request, company)
            await context.gateway.require_here(company)
        if request.method == "GET" and not is_part(request):
            request.state.attention = await context.attention.of(login.grant)
        return None


class UploadPage(ProtectedPage):
    """Receives a file as the body of a request. The token of the form is in a header, which no other site can set."""

    async def form(self, request: Request) -> dict[str, str]:
        return {"token": request.headers.get("x-form-token", "")}


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise BadInput(f'the content type is "{kind[:40]}": send the form as application/x-www-form-urlencoded')
    try:
        pairs = parse_qsl((await request.body()).decode(), True, errors="strict", max_num_fields=_LONGEST_FORM_FIELDS)
    except ValueError as error:
        raise BadInput("the form is not valid UTF-8 or has more than 50 fields") from error
    return dict(pairs)


def check_origin(request: Request) -> None:
    """Raise `CsrfFailed` unless the browser states that the form comes from the same origin."""
    site = request.headers.get("sec-fetch-site")
    origin = _parts(request.headers.get("origin", "")).netloc
    if site == "same-origin" or (site is None and origin and origin == request.headers.get("host")):
        return
    raise CsrfFailed("this form came from another site or had no origin: use Holdfast's own pages")


def is_part(request: Request) -> bool:
    """Whether htmx requested a fragment instead of a whole page."""
    return request.headers.get("hx-request") == "true"


def to_login(request: Request) -> Response:
    if is_part(request):
        shown = _parts(request.headers.get("hx-current-url", ""))
        path = shown.path.removeprefix(context_of(request).base_path)
        return Response(status_code=401, headers={"HX-Redirect": login_address(_path(path, shown.query))})
    asked = request.url if request.method == "GET" else None
    return RedirectResponse(login_address("/" if asked is None else _path(asked.path, asked.query)), status_code=303)


def _parts(url: str) -> SplitResult:
    """The parts of a URL in a header, which anybody can send; empty if it is not a URL."""
    try:
        return urlsplit(url)
    except ValueError:  # misplaced brackets
        return urlsplit("")


def _path(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def page(request: Request, template: str, *, status: int = 200, **values: object) -> Response:
    """Render a whole page, with or without a session. Renews the session cookie."""
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
    """Render a fragment of a page."""
    context = context_of(request)
    token = context.logins.form_token(request.state.login)
    return HTMLResponse(context.templates.render(template, token=token, **values), status_code=status)


async def signed_in(request: Request) -> Login | None:
    """The session of this browser, or None.

    Over TLS only the `__Host-` cookie is accepted, which no other subdomain can set. Behind a proxy that does not
    report TLS, either cookie is accepted.
    """
    cookie = request.cookies.get(SECURE_COOKIE)
    if cookie is None and not _is_https(request):
        cookie = request.cookies.get(COOKIE)
    return await context_of(request).logins.read(cookie)


async def recognise(request: Request) -> None:
    """Show a public page as to a signed-in user where the browser has a session."""
    login = request.state.login = await signed_in(request)
    if login is not None:
        request.state.attention = await context_of(request).attention.of(login.grant)


def set_cookie(request: Request, response: Response, value: str) -> None:
    secure, max_age = _is_https(request), context_of(request).logins.seconds_left(value)
    name = SECURE_COOKIE if secure else COOKIE
    response.set_cookie(name, value, max_age=max_age, path="/", httponly=True, samesite="strict", secure=secure)


def delete_cookie(request: Request, response: Response) -> None:
    for name in (SECURE_COOKIE, COOKIE):
        if name in request.cookies:
            response.delete_cookie(name, path="/", httponly=True, samesite="strict", secure=name == SECURE_COOKIE)


def _is_https(request: Request) -> bool:
    """Whether the browser used TLS, as reported by the proxy or by the origin of a form."""
    forwarded = request.headers.get("x-forwarded-proto", "")
    return "https" in {request.url.scheme, forwarded} or request.headers.get("origin", "").startswith("https://")


def failed(request: Request, error: HoldfastError) -> Response:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        log.error("A page failed: %s", error)
    if unknown := _unknown_company(request, error):
        return page(request, "unknown_company.html", status=status, company=unknown)
    response = _error(request, status, error.sentence, reload_s=2 if isinstance(error, Starting) else None)
    if isinstance(error, QuotaExceeded):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _unknown_company(request: Request, error: HoldfastError) -> str | None:
    """The company in the path, when a whole page of an unknown company was requested."""
    company = str(request.path_params.get("company", ""))
    is_its_page = isinstance(error, NotFound) and error.field == "company" and not is_part(request)
    return company if is_its_page and is_company_id(company) else None


def _database_failed(request: Request) -> Response:
    sentence = "the database is not available: try again; the log of Holdfast has the cause"
    return _error(request, HTTPStatus.SERVICE_UNAVAILABLE, sentence, reload_s=None)


def _error(request: Request, status: HTTPStatus, sentence: str, *, reload_s: int | None) -> Response:
    if is_part(request):
        html = context_of(request).templates.render("notice.html", tone="critical", message=sentence)
        return HTMLResponse(html, status_code=status)
    return page(
        request, "error.html", status=status, title=status.phrase.capitalize(), message=sentence, reload_s=reload_s
    )
