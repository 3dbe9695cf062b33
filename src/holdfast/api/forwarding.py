"""Forwards requests that only the owner of a session can answer, so that any node accepts any request.

A route that needs the owner raises `RunsElsewhere`. Its handler here asks the database who owns the session now, sends
the request there and passes the response on as it arrives, event streams included. While the owner can't be reached, or
a session changes its owner, it waits a few seconds; then the caller gets a 503 with `node` and `retryAfterS`.

A request is forwarded once. It must never be sent a second time when the first may have been carried out, unless it
only reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from yarl import URL

from holdfast.api import problems
from holdfast.api.forwarded_responses import DEADLINE, HOP_BY_HOP, PassedOnResponse, RepeatedRequest
from holdfast.base.clock import Clock
from holdfast.base.limited_log import LimitedLog
from holdfast.http.forwarded import FORWARDED, HEADER, NOT_HERE, BadMark, Hop, NodeSignatures
from holdfast.http.shutdown import ShutdownScope
from holdfast.runtime.ownership import Ownership, RunsElsewhere
from holdfast.session.stores import ClusterNode

log = logging.getLogger(__name__)

WAIT_S = 6.0
"""How long a request waits for an owner that can be reached: a process that is restarted in order has its sessions
again within this time, or another process has them."""
RECORD_WAIT_S = 2.0
"""How long a page waits that can show the stored record instead."""
RETRY_AFTER_S = 5
"""When a caller may ask again: the leases of a node that died have expired after eight seconds."""
CONNECT_S = 1.0
ALIVE_S = 5.0
"""A node that has not renewed its leases for this long is not waited for."""
GATHER_S = 10.0
"""How long other nodes may take to answer for their part of a list."""
_POLL_INTERVAL_S = 0.25
_WATCH_S = 1.0
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_RAW_HEADER = HEADER.lower().encode()
"""As a server names it in the ASGI scope."""
_KEYS = frozenset(["authorization", "x-api-key"])
"""Not sent on: the signed header has the caller's rights."""


class _NotExecuted(Exception):
    """The node did not carry the request out: it can't be reached, or does not run the session."""


class _Unanswered(Exception):
    """The request was sent, and no response came: it may have been carried out."""


class Forwarder:
    """Use as `async with Forwarder(…) as forwarder:`; its connections to other nodes are closed at the end."""

    def __init__(self, ownership: Ownership, *, secret: bytes, clock: Clock) -> None:
        self._ownership = ownership
        self._signatures = NodeSignatures(secret)
        self._clock = clock
        self._failures = LimitedLog(log, monotonic=clock.monotonic)

    async def __aenter__(self) -> Forwarder:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    # Requests from other nodes.

    def verified(self, mark: str, request: str) -> Hop:
        """Read the mark of a request that another node forwarded. Raises `BadMark`."""
        ownership = self._ownership
        return self._signatures.verified(mark, target=ownership.node_id, request=request, now=ownership.shared_time())

    # Requests for other nodes.

    async def answer(self, request: Request, error: RunsElsewhere) -> Response:
        """Have the owner of the session answer the request."""
        if FORWARDED in request.scope:
            return _unavailable(error.node, error, headers={NOT_HERE: "1"})
        with contextlib.suppress(ClientDisconnect):
            body = await request.body()
            wait_s = RECORD_WAIT_S if error.has_record else WAIT_S
            until = request.scope.setdefault(DEADLINE, self._clock.monotonic() + wait_s)
            return await self._answer(request, body, error, until=until)
        return Response()  # nobody is there to read it

    async def _answer(self, request: Request, body: bytes, error: RunsElsewhere, *, until: float) -> Response:
        node = error.node
        while True:
            owner = await self._owner(error.company)
            if owner is not None:
                node = owner.name
                if owner.id == self._ownership.node_id and self._clock.monotonic() < until:
                    await self._clock.sleep(_POLL_INTERVAL_S)
                    return RepeatedRequest(request, body)
                with contextlib.suppress(_NotExecuted):
                    try:
                        return await self._forward(request, body, owner)
                    except _Unanswered as unanswered:
                        self._failures.warning(
                            "A forwarded request got no response from node %s", f"{node} ({unanswered})"
                        )
                        if request.method not in _READS:
                            return _unreachable_response(request, body, node, error, may_have_run=True)
            if self._clock.monotonic() >= until:
                return _unreachable_response(request, body, node, error)
            await self._clock.sleep(_POLL_INTERVAL_S)

    async def _owner(self, company: str) -> ClusterNode | None:
        try:
            return await self._ownership.owner(company)
        except DBAPIError:
            return None

    async def gather(self, request: Request, *, within_s: float = GATHER_S) -> dict[str, bytes | None]:
        """What each of the other nodes answers to the same request, by its name; None where there was no answer.

        Empty for a request that another node gathers.
        """
        if FORWARDED in request.scope:
            return {}
        nodes = await self.others()
        async with asyncio.TaskGroup() as tasks:
            asked = {node.name: tasks.create_task(self._fetch_body(request, node, within_s)) for node in nodes}
        return {name: task.result() for name, task in asked.items()}

    async def _fetch_body(self, request: Request, node: ClusterNode, within_s: float) -> bytes | None:
        with contextlib.suppress(_NotExecuted, _Unanswered, aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(within_s):
                async with await self._response(request, b"", node) as found:
                    return await found.read() if found.ok else None
        return None

    async def find(self, request: Request) -> Response | None:
        """The response of the first other node that does not answer 404 to the same request."""
        for node in [] if FORWARDED in request.scope else await self.others():
            with contextlib.suppress(_NotExecuted, _Unanswered):
                response = await self._forward(request, b"", node)
                if response.status_code != HTTPStatus.NOT_FOUND:
                    return response
                response.close()
        return None

    async def others(self) -> list[ClusterNode]:
        """The other nodes that are alive and have an address."""
        nodes = await self._ownership.nodes()
        return [node for node in nodes if node.id != self._ownership.node_id and node.url and node.seen_ago_s < ALIVE_S]

    async def _forward(self, request: Request, body: bytes, owner: ClusterNode) -> PassedOnResponse:
        if not owner.url or owner.id == self._ownership.node_id or owner.seen_ago_s > ALIVE_S:
            raise _NotExecuted
        shutdown: ShutdownScope = request.app.state.shutdown
        reads = request.method in _READS
        async with contextlib.AsyncExitStack() as stack:
            if reads:
                await stack.enter_async_context(shutdown.until_stopping())
            found = await self._response(request, body, owner)
        if NOT_HERE in found.headers:
            found.close()
            raise _NotExecuted
        return PassedOnResponse(found, shutdown=shutdown)

    async def _response(self, request: Request, body: bytes, owner: ClusterNode) -> aiohttp.ClientResponse:
        path = _target(request.scope)
        grant = getattr(request.state, "grant", None)
        mark = self._sign_hop(
            owner,
            f"{request.method} {path}",
            key_id=getattr(request.state, "key_id", None),
            companies=None if grant is None or grant.companies is None else sorted(grant.companies),
        )
        headers = [(name, value) for name, value in request.headers.items() if _is_sent_on(name)]
        asking = self._session.request(
            request.method,
            _url(owner, path),
            headers=[*headers, (HEADER, mark)],
            data=body or None,
            allow_redirects=False,
        )
        try:
            return await self._while_alive(asking, owner)
        except aiohttp.ClientConnectorError as error:
            self._failures.warning(
                "Requests can't be forwarded to node %s", f"{owner.name} at {owner.url}: {error.strerror}"
            )
            raise _NotExecuted from error
        except aiohttp.ServerTimeoutError as error:
            self._failures.warning("Requests can't be forwarded to node %s", f"{owner.name} at {owner.url}: timeout")
            raise _NotExecuted from error
        except aiohttp.ClientError as error:
            raise _Unanswered(type(error).__name__) from error

    async def _while_alive(
        self, asking: Awaitable[aiohttp.ClientResponse], owner: ClusterNode
    ) -> aiohttp.ClientResponse:
        """Wait for the response as long as its node renews its leases. Raises `_Unanswered`."""
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(_outcome(asking), name="forwarded request")
            while not (await asyncio.wait([waiting], timeout=_WATCH_S))[0]:
                if not await self._is_alive(owner):
                    waiting.cancel()
                    break
        if waiting.cancelled():
            raise _Unanswered("it does not renew its leases")
        outcome = waiting.result()
        if isinstance(outcome, aiohttp.ClientError):
            raise outcome
        return outcome

    async def _is_alive(self, node: ClusterNode) -> bool:
        try:
            nodes = await self._ownership.nodes()
        except DBAPIError:
            return True  # nobody can know
        return any(each.id == node.id and each.seen_ago_s < ALIVE_S for each in nodes)

    def _sign_hop(self, node: ClusterNode, request: str, **rights: Any) -> str:
        return self._signatures.mark(Hop(target=node.id, request=request, at=self._ownership.shared_time(), **rights))


def install(api: FastAPI, forwarder: Forwarder | None) -> None:
    """Make `api` forward requests to the owner of their session, and answer those that others forward."""

    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, RunsElsewhere)
        return _unavailable(error.node, error) if forwarder is None else await forwarder.answer(request, error)

    api.state.forwarder = forwarder
    api.add_exception_handler(RunsElsewhere, answer)
    api.add_middleware(ForwardedRequests, forwarder=forwarder)


async def others_of(request: Request) -> dict[str, bytes | None]:
    """See `Forwarder.gather`; empty where there are no other nodes."""
    forwarder: Forwarder | None = request.app.state.forwarder
    return {} if forwarder is None else await forwarder.gather(request)


async def elsewhere(request: Request) -> Response | None:
    """See `Forwarder.find`."""
    forwarder: Forwarder | None = request.app.state.forwarder
    return None if forwarder is None else await forwarder.find(request)


class ForwardedRequests:
    """ASGI middleware that verifies the mark of requests from other nodes."""

    def __init__(self, app: ASGIApp, *, forwarder: Forwarder | None) -> None:
        self._app = app
        self._forwarder = forwarder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mark = next((value for name, value in scope.get("headers", ()) if name == _RAW_HEADER), None)
        if mark is None:
            await self._app(scope, receive, send)
            return
        try:
            hop = self._verified(mark.decode("latin-1"), f"{scope['method']} {_target(scope)}")
        except BadMark as error:
            answer = problems.answer(HTTPStatus.FORBIDDEN, error.sentence, code=error.code, field=HEADER)
            await answer(scope, receive, send)
            return
        await self._app({**scope, FORWARDED: hop}, receive, send)

    def _verified(self, mark: str, request: str) -> Hop:
        if self._forwarder is None:
            raise BadMark(f"this Holdfast has no other nodes: leave the header {HEADER} out")
        return self._forwarder.verified(mark, request)


async def _outcome(asking: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse | aiohttp.ClientError:
    try:
        return await asking
    except aiohttp.ClientError as error:
        return error


def _target(scope: Scope) -> str:
    """Path and query of a request, spelt as the owner spells them too, because the mark is signed with them."""
    query = scope["query_string"].decode("latin-1")
    return quote(scope["path"], safe="/~!$&'()*+,;=:@") + (f"?{query}" if query else "")


def _url(node: ClusterNode, path: str) -> URL:
    return URL(node.url + path, encoded=True)


def _is_sent_on(name: str) -> bool:
    return name not in HOP_BY_HOP and name not in _KEYS and name not in {"content-length", HEADER.lower()}


def _unreachable_response(
    request: Request, body: bytes, node: str, error: RunsElsewhere, *, may_have_run: bool = False
) -> Response:
    """What this node can answer itself: a page from the stored record, or a 503."""
    if error.has_record:
        return RepeatedRequest(request, body, from_record=True)
    return _unavailable(node, error, may_have_run=may_have_run)


def _unavailable(
    node: str, error: RunsElsewhere, *, may_have_run: bool = False, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """503: the owner can't be reached, or there is none."""
    what = f"runs on node {node}, which does not answer" if node else "is being taken over by another node"
    done = "it may have been carried out; " if may_have_run else ""
    return problems.answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"the session of company {error.company} {what}: {done}try again in {RETRY_AFTER_S} s",
        code="owner-unreachable",
        field="company",
        headers={"Retry-After": str(RETRY_AFTER_S), **(headers or {})},
        node=node or None,
        retry_after_s=RETRY_AFTER_S,
    )
