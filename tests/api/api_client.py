"""Calls the HTTP application without a socket: one request, one response, while the fake time of
`tests.gateway_harness` advances.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.types import Message

from holdfast.api.forwarding import Forwarder
from holdfast.api.key_registry import KeyRegistry
from holdfast.api.keys import KnownKeys, parse
from holdfast.api.routes import make_api
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.messages import Messages
from holdfast.runtime.people import People
from holdfast.runtime.quotas import Quotas
from holdfast.store.api_keys import ApiKeyRows
from holdfast.store.figures import FigureRows
from tests.gateway_harness import COMPANY, GatewayHarness, JitterFreeRandomSource

KEY = "a-key-for-all-companies"
KEY_OF_ONE = "a-key-for-one-company"
OTHER = "962303"
"""A company that `KEY_OF_ONE` may not touch."""


def registry_of(
    harness: GatewayHarness, *, keys: str = f"{KEY}, {KEY_OF_ONE}={COMPANY}", is_shared: bool = False
) -> KeyRegistry:
    """The API keys of a gateway with these keys in its settings."""
    return KeyRegistry(
        parse(keys),
        ApiKeyRows(harness.database),
        source="HOLDFAST_API_KEY",
        is_shared=is_shared,
        clock=harness.clock,
        randomness=JitterFreeRandomSource(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, code: str, *, field: str | None = None) -> str:
        """The detail of a problem, which must have this status, code and field."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        found = self.json
        assert (found["status"], found["code"], found.get("field")) == (status, code, field), found
        assert self.status == status
        assert found["type"] == "about:blank"
        assert found["title"]
        detail = found["detail"]
        assert isinstance(detail, str)
        return detail


def api_of(
    harness: GatewayHarness,
    gateway: Gateway,
    keys: KnownKeys,
    *,
    settings: Mapping[str, object] | None = None,
    quotas: Quotas | None = None,
    base_path: str = "",
    forwarder: Forwarder | None = None,
) -> FastAPI:
    """The API of a gateway, with the services of the harness."""
    return make_api(
        gateway,
        keys,
        Diagnoser(gateway, harness.services, figures=FigureRows(harness.database), limits=harness.limits),
        sending=Messages(gateway, harness.outbox, harness.composer, People(gateway, harness.contacts)),
        people=People(gateway, harness.contacts),
        operations=harness.operations,
        outbox=harness.outbox,
        inbox=harness.inbox,
        chat_rows=harness.chats,
        contact_rows=harness.contacts,
        labels=harness.labels,
        call_rows=harness.calls,
        limits=harness.limits,
        events=harness.events,
        webhooks=harness.webhooks,
        media=harness.media_service(),
        quotas=quotas or harness.quotas(),
        settings=settings or {},
        is_writable=lambda: harness.database.is_writable,
        base_path=base_path,
        forwarder=forwarder,
    )


def make_client(
    harness: GatewayHarness,
    gateway: Gateway,
    *,
    keys: KnownKeys | None = None,
    quotas: Quotas | None = None,
    base_path: str = "",
    forwarder: Forwarder | None = None,
) -> ApiClient:
    api = api_of(
        harness,
        gateway,
        keys or parse(f"{KEY}, {KEY_OF_ONE}={COMPANY}"),
        settings={"keepaliveIntervalS": 30},
        quotas=quotas,
        base_path=base_path,
        forwarder=forwarder,
    )
    return ApiClient(harness, api)


class ApiClient:
    def __init__(self, harness: GatewayHarness, api: FastAPI) -> None:
        self.harness = harness
        self.api = api
        self.leaps = True
        """Whether time advances while a response is awaited."""

    async def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = KEY,
        headers: Mapping[str, str] | None = None,
        raw: Sequence[bytes] | None = None,
    ) -> Answer:
        """`body` is sent as JSON; `raw`, as it is, part by part and without its length."""
        given = {"Authorization": f"Bearer {key}"} if key is not None else {}
        parts = list(raw or ())
        if body is not None:
            given["Content-Type"] = "application/json"
            parts = [json.dumps(body).encode()]
        asking = self._ask(method, path, {**given, **(headers or {})}, parts)
        return await (self.harness.now(asking) if self.leaps else asking)

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], parts: Sequence[bytes]) -> Answer:
        bare, _, query = path.partition("?")
        incoming = [
            {"type": "http.request", "body": part, "more_body": n < len(parts)} for n, part in enumerate(parts, start=1)
        ] or [{"type": "http.request", "body": b"", "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if not incoming:
                await asyncio.Event().wait()  # the caller stays for the answer
            return incoming.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(bare),
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 3000),
        }
        await self.api(scope, receive, send)
        return Answer(
            status=sent[0]["status"],
            headers={name.decode(): value.decode() for name, value in sent[0]["headers"]},
            body=b"".join(message.get("body", b"") for message in sent[1:]),
        )
