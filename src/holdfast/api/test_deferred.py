"""Deferred dependencies are called after validation, once, and before the endpoint."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.types import Message

from holdfast.api.deferred import DeferringRoute, deferred


async def status(api: FastAPI, query: bytes) -> int:
    """The status of the response to `GET /`."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await api({"type": "http", "method": "GET", "path": "/", "query_string": query, "headers": []}, receive, send)
    found: int = sent[0]["status"]
    return found


def api_of(calls: list[str]) -> FastAPI:
    """An API whose endpoint and one of its two deferred dependencies depend on the other."""

    async def row(id: int) -> str:
        calls.append(f"row {id}")
        return f"row {id}"

    row_dependency: Any = deferred(row)

    async def details(found: str = row_dependency) -> str:
        calls.append(f"details of {found}")
        return f"details of {found}"

    details_dependency: Any = deferred(details)

    async def endpoint(limit: int, found: str = row_dependency, shown: str = details_dependency) -> None:
        calls.append(f"endpoint with {limit}, {found}, {shown}")

    api = FastAPI()
    api.router.route_class = DeferringRoute
    api.get("/")(endpoint)
    return api


async def test_a_deferred_dependency_is_called_once_before_the_endpoint() -> None:
    """Also when two functions depend on it."""
    calls: list[str] = []
    assert await status(api_of(calls), b"id=7&limit=1") == 200
    assert calls == ["row 7", "details of row 7", "endpoint with 1, row 7, details of row 7"]


async def test_a_deferred_dependency_is_not_called_for_an_invalid_request() -> None:
    """Whether its own parameter or one of the endpoint is invalid."""
    calls: list[str] = []
    for query in (b"id=7&limit=many", b"id=seven&limit=1", b"limit=1"):
        assert await status(api_of(calls), query) == 422
    assert calls == []
