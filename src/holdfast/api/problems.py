"""Errors as `application/problem+json` (RFC 9457): whose fault becomes the status, the sentence the detail."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.api.keys import NoKey, NotAllowed
from holdfast.api.schemas import Problem
from holdfast.base.errors import BadInput, Conflict, HoldfastError, NotFound

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
LARGEST_BODY = 1024 * 1024
"""Bytes of a request."""

_STATUS = {
    BadInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    NoKey: HTTPStatus.UNAUTHORIZED,
    NotAllowed: HTTPStatus.FORBIDDEN,
}
_CODES = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too-large"}


def answer(status: HTTPStatus, detail: str, *, code: str, field: str | None = None) -> JSONResponse:
    problem = Problem(
        type="about:blank", title=status.phrase, status=status.value, detail=detail, code=code, field=field
    )
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else None
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, status_code=status.value, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Teach `app` to answer every error as a problem."""
    app.add_exception_handler(HoldfastError, _holdfast_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)
    app.add_middleware(BodyLimit, most=LARGEST_BODY)


async def _holdfast_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HoldfastError)
    status = _STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("A request failed: %s", error)
    return answer(status, error.sentence, code=error.code, field=error.field)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """What pydantic found, as one sentence about the first field; the value is shown shortened."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = [str(part) for part in first["loc"][1:]]
    field = ".".join(where) or str(first["loc"][0])
    message = str(first["msg"])
    if first["type"] == "json_invalid":
        detail, field = f"the body is not JSON: {first['ctx']['error']}", "body"
    elif first["type"] == "missing":
        detail = f"{field} is missing"
    elif first["type"] == "extra_forbidden":
        detail = f"{field} is not known here: take it out, or see /openapi.json for the fields there are"
    else:
        detail = f"{field} is {_shown(first.get('input'))}: {message[:1].lower()}{message[1:]}"
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, detail, code="bad-input", field=field)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = "there is no such route; /openapi.json lists all" if status is HTTPStatus.NOT_FOUND else str(error.detail)
    return answer(status, detail, code=_CODES.get(status) or status.name.lower().replace("_", "-"))


async def _defect(_: Request, error: Exception) -> JSONResponse:
    """A defect of ours: logged with its trace by the server, and admitted without details."""
    log.error("A request failed inside Holdfast: %s", type(error).__name__)
    detail = "Holdfast failed to answer this request; its log says why"
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, detail, code="internal")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


class BodyLimit:
    """Refuses bodies that are larger than `most` bytes, also when their length is not announced."""

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            response = answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._sentence, code="too-large", field="body")
            await response(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._sentence)
            return message

        await self._app(scope, counted, send)

    @property
    def _sentence(self) -> str:
        return f"the body is larger than {self._most} bytes: send less at once"
