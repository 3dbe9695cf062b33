"""Answers requests for paths that don't exist: browsers get a page, programs the problem document of the API."""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from holdfast.dashboard.page_auth import guarded, page, recognise


def show_unknown_pages(api: FastAPI) -> None:
    """Add the page to `api`, whose own handler answers everybody else."""
    answer_program = api.exception_handlers[HTTPException]

    async def answer(request: Request, error: Exception) -> Response:
        if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
            response = answer_program(request, error)
            return await response if isinstance(response, Awaitable) else response
        return await guarded(_show)(request)

    api.add_exception_handler(HTTPStatus.NOT_FOUND, answer)


async def _show(request: Request) -> Response:
    await recognise(request)
    message = f'there is no page "{request.url.path[:80]}"'
    return page(
        request, "error.html", status=HTTPStatus.NOT_FOUND, title="Page not found", message=message, reload_s=None
    )
