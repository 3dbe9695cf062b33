"""Errors as `application/problem+json` (RFC 9457): whose fault becomes the status, the sentence the detail."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from holdfast.api.bodies import Unreadable, is_json, other_type
from holdfast.api.keys import NoKey, NotAllowed
from holdfast.api.schemas import Problem
from holdfast.base.errors import BadInput, Conflict, HoldfastError, NotFound
from holdfast.http.shutdown import Stopping
from holdfast.http.startup import Starting
from holdfast.runtime.errors import NotConnected, SessionRestarting
from holdfast.runtime.inbound_media import MediaExpired, NotFetched, TooLargeMedia
from holdfast.runtime.pairing import PairingCodeRefused
from holdfast.runtime.passkeys import PasskeyTimedOut
from holdfast.runtime.quotas import DiskFull, QuotaExceeded
from holdfast.runtime.session_queries import (
    ConnectionEnded,
    NotPermitted,
    PhoneTimedOut,
    QueryFailed,
    QueryTimedOut,
    WhatsAppBusy,
)
from holdfast.runtime.stall_watch import DatabaseStalled
from holdfast.session.machine import NotPossible
from holdfast.session.stores import LeaseLost

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
_LONGEST_FIELD = 80


_STATUS = {
    BadInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unreadable: HTTPStatus.BAD_REQUEST,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    NoKey: HTTPStatus.UNAUTHORIZED,
    NotAllowed: HTTPStatus.FORBIDDEN,
    NotPossible: HTTPStatus.CONFLICT,
    SessionRestarting: HTTPStatus.SERVICE_UNAVAILABLE,
    LeaseLost: HTTPStatus.SERVICE_UNAVAILABLE,
    Starting: HTTPStatus.SERVICE_UNAVAILABLE,
    Stopping: HTTPStatus.SERVICE_UNAVAILABLE,
    NotConnected: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseStalled: HTTPStatus.SERVICE_UNAVAILABLE,
    MediaExpired: HTTPStatus.GONE,
    TooLargeMedia: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NotFetched: HTTPStatus.SERVICE_UNAVAILABLE,
    PasskeyTimedOut: HTTPStatus.GATEWAY_TIMEOUT,
    QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
    PairingCodeRefused: HTTPStatus.BAD_GATEWAY,
    WhatsAppBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    ConnectionEnded: HTTPStatus.SERVICE_UNAVAILABLE,
    PhoneTimedOut: HTTPStatus.SERVICE_UNAVAILABLE,
    QueryTimedOut: HTTPStatus.GATEWAY_TIMEOUT,
    NotPermitted: HTTPStatus.FORBIDDEN,
    QueryFailed: HTTPStatus.BAD_GATEWAY,
}
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_AFTER_S)},
}
_HTTP = {
    HTTPStatus.BAD_REQUEST: ("bad-request", "the body can't be read: it must be JSON in UTF-8"),
    HTTPStatus.NOT_FOUND: ("not-found", "there is no such route: /openapi.json lists all"),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "method-not-allowed",
        "this route does not allow that method: see the header Allow",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("too-large", None),
    HTTPStatus.REQUEST_TIMEOUT: ("too-slow", None),
    HTTPStatus.SERVICE_UNAVAILABLE: (Stopping.code, None),
}
"""Code and sentence for errors of the framework; None: the error carries a sentence of ours."""


def answer(
    status: HTTPStatus,
    detail: str,
    *,
    code: str,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
    node: str | None = None,
    retry_after_s: int | None = None,
) -> JSONResponse:
    problem = Problem(
        type="about:blank",
        title=status.phrase,
        status=status.value,
        detail=detail,
        code=code,
        field=field,
        node=node,
        retry_after_s=retry_after_s,
    )
    headers = {**_HEADERS.get(status, {}), **(headers or {})}
    return JSONResponse(
        problem.model_dump(exclude_none=True, by_alias=True),
        status_code=status.value,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def install(app: FastAPI) -> None:
    """Make `app` respond to every error with a problem document."""
    app.add_exception_handler(HoldfastError, _holdfast_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _database_failed)
    app.add_exception_handler(ClientDisconnect, _nobody_there)
    app.add_exception_handler(Exception, _defect)


async def _holdfast_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HoldfastError)
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        log.error("A request failed: %s", error)
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, QuotaExceeded | WhatsAppBusy) else None
    return answer(status, error.sentence, code=error.code, field=error.field, headers=headers)


async def _nobody_there(_: Request, __: Exception) -> Response:
    """The caller left before its body had arrived: that is no defect, and anybody could fill the log with it."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code, sentence = _HTTP.get(status, (status.name.lower().replace("_", "-"), None))
    return answer(status, sentence or str(error.detail), code=code, headers=error.headers)


async def _database_failed(_: Request, error: Exception) -> JSONResponse:
    """The disk is full, or the connection is lost: often temporary. Only the operator's log has the cause."""
    log.error("Database failure, a request was refused: %s", getattr(error, "orig", None) or error)
    detail = (
        "the database can't be used just now: try again, for a message with the same Idempotency-Key; "
        "Holdfast's log says why"
    )
    return answer(HTTPStatus.SERVICE_UNAVAILABLE, detail, code="database-failed")


async def _defect(request: Request, error: Exception) -> JSONResponse:
    """A defect of ours: the server logs it with its traceback, and the response contains no details."""
    log.error("A request failed inside Holdfast: %s: %s", request.method, type(error).__name__)
    detail = "Holdfast failed to answer this request: its log says why"
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, detail, code="internal")


# Pydantic's errors in our words.

_CURES = {
    "string_type": "give a text",
    "string_unicode": "give a text of whole Unicode characters",
    "string_too_short": "give at least one character",
    "int_parsing": "give a whole number",
    "greater_than_equal": "give {ge} or more",
    "less_than_equal": "give {le} or less",
    "enum": "give {expected}",
    "literal_error": "give {expected}",
    "model_attributes_type": "give a JSON object, sent as Content-Type: application/json",
}


_SECRETS = frozenset(["credentials", "keys", "webhookSecret", "secret", "proxyUrl"])
"""Fields whose values are never shown."""


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """One sentence about the first field that can't be used; its value is shown shortened."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field, content_type = _field(first["loc"]), request.headers.get("Content-Type")
    detail = _sentence(str(first["type"]), field, first)
    if field == "body" and isinstance(first.get("input"), bytes) and not is_json(content_type):
        detail = other_type(content_type)
    if first["type"] == "json_invalid":
        field = "body"
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, detail, code="bad-input", field=field)


def _field(place: Sequence[str | int]) -> str:
    """`to`, `limit`, `Idempotency-Key`; `body` for the whole body."""
    name = ".".join(str(part) for part in place[1:]) or str(place[0])
    return name.title() if place[0] == "header" else _shortened(name)


def _sentence(kind: str, field: str, found: Mapping[str, Any]) -> str:
    if kind == "json_invalid":
        return f"the body is not JSON: {found['ctx']['error']} (character {found['loc'][1]})"
    if kind == "missing":
        return "the body is missing: give a JSON object" if field == "body" else f"{field} is missing"
    if kind == "extra_forbidden":
        return f"{field} is not a known field: remove it, or see /openapi.json for the valid fields"
    message = str(found["msg"])
    known = _CURES.get(kind)
    cure = f"{message[:1].lower()}{message[1:]}" if known is None else known.format_map(found.get("ctx", {}))
    if field.partition(".")[0] in _SECRETS:
        return f"{field} can't be used: {cure}"
    return f"{field} is {_shortened(repr(found.get('input')))}: {cure}"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_FIELD else text[: _LONGEST_FIELD - 1] + "…"
