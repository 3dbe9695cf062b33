"""The HTTP server: uvicorn with our own signal handling and log, and deadlines for slow callers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any

import httptools
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.api.body_limit import ARRIVED
from holdfast.api.connections import Connections
from holdfast.base.limited_log import LimitedLog
from holdfast.http.callers import CALLER, Caller

log = logging.getLogger(__name__)

API_HEADER = ("Holdfast-API", "1")
"""A header of every response, by which commands recognise Holdfast."""

HEAD_DEADLINE_S = 10
LARGEST_HEAD = 64 * 1024
"""Maximum bytes of a request's head; the parser itself has no limit."""
READ_DEADLINE_S = 60
"""Seconds within which a caller must take the next part of a response, 64 kB."""
KEEP_ALIVE_S = 75
"""Longer than the minute for which proxies keep idle connections, because the server must not be the side that closes
first."""
STOP_S = 4
"""Seconds for requests in progress when Holdfast stops. Requests that are only waiting are ended at once."""

_INVALID = "Invalid HTTP request received."
"""Uvicorn's own text."""


class HttpServer(uvicorn.Server):
    """`serve(sockets=[…])` runs it. It installs no signal handlers, unlike uvicorn's own."""

    def __init__(
        self,
        api: FastAPI,
        *,
        head_deadline_s: float = HEAD_DEADLINE_S,
        read_deadline_s: float = READ_DEADLINE_S,
        stop_s: float = STOP_S,
        max_connections: int = 0,
        trusted_proxies: str = "",
    ) -> None:
        """`max_connections`: how many may be open; 0: no limit. `trusted_proxies`: networks, separated by commas."""
        shared = {
            "head_deadline_s": head_deadline_s,
            "read_deadline_s": read_deadline_s,
            "open_connections": Connections(max_connections),
            "refusals": LimitedLog(log, monotonic=api.state.access.quotas.clock.monotonic),
        }
        connection = type("Connection", (_Connection,), shared)
        super().__init__(
            uvicorn.Config(
                api,
                http=connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(trusted_proxies),
                forwarded_allow_ips=trusted_proxies,
                headers=[API_HEADER, ("X-Content-Type-Options", "nosniff")],
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=stop_s,  # type: ignore[arg-type]  # it becomes a float deadline
            )
        )
        self._shutdown = api.state.shutdown
        _build_routes(api)

    def stop(self) -> None:
        """Accept no more requests, end those that are only waiting, and finish the others."""
        self._shutdown.end()
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _WithoutInvalid(logging.LoggerAdapter[logging.Logger]):
    """Uvicorn's logger without its line about each bad request, which has no address and is not rate-limited."""

    def warning(self, msg: object, *arguments: object, **options: Any) -> None:
        if msg != _INVALID:
            super().warning(msg, *arguments, **options)

    @property
    def level(self) -> int:
        return self.logger.level


class _Part(Enum):
    """The part of a request that is being received."""

    NONE = auto()
    HEAD = auto()
    BODY = auto()


def _build_routes(api: FastAPI) -> None:
    """Build the tables of routes now. FastAPI would do it at the first request, and no session would be served for the
    third of a second that it takes."""
    no_request = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
    for route in api.router.routes:
        route.matches(dict(no_request))


class _Connection(HttpToolsProtocol):
    """Closes when the head of a request, or the rest of one that is already answered, does not arrive in time, and when
    the caller does not read a response.

    Uvicorn's own deadline covers only the time between requests. `BodyLimit` covers the body of a request.
    """

    head_deadline_s: float
    read_deadline_s: float
    open_connections: Connections
    refusals: LimitedLog

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _WithoutInvalid(self.logger)  # type: ignore[assignment]  # an adapter is used alike
        self._receiving = _Deadline(self.loop, self.head_deadline_s, lambda: self.transport.close())
        self._reading = _Deadline(self.loop, self.read_deadline_s, lambda: self.transport.abort())
        self._part = _Part.NONE
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if not self.open_connections.opened(self):
            self.refusals.warning("Connection refused from %s: the limit of HTTP connections is reached", self._address)
            transport.close()
            return
        self._receiving.begin()

    def close(self) -> None:
        """Called for an idle connection when another caller needs its slot, or when it was idle for too long."""
        self.transport.close()  # which first sends what the caller has not read yet
        self._reading.begin()

    def timeout_keep_alive_handler(self) -> None:
        self.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._reading.end()

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else "an unknown address"

    def send_400_response(self, msg: str) -> None:
        if msg == _INVALID:
            self.refusals.warning("Invalid HTTP request from %s", self._address)
        super().send_400_response(msg)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._part is _Part.HEAD:
            self._limit_head(len(data))
        if self._is_owed_more():
            self._receiving.begin()
        else:
            self._receiving.end()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part, self._head_bytes = _Part.HEAD, 0

    def on_headers_complete(self) -> None:
        if sum(name == b"host" for name, _ in self.headers) != 1 and self.parser.get_http_version() == "1.1":
            raise httptools.HttpParserError("exactly one Host header is required")
        caller = self.scope[CALLER] = Caller()  # type: ignore[literal-required]  # a key of ours
        self.open_connections.receiving(self, is_keyed=lambda: caller.is_keyed)
        super().on_headers_complete()
        self._part = _Part.BODY

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.scope[ARRIVED] = True  # type: ignore[literal-required]  # a key of ours
        if not self.cycle.response_complete:
            self.open_connections.busy(self)
        self._part = _Part.NONE

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.open_connections.idle(self, is_keyed=self._is_keyed)
        if self.transport.is_closing():
            self._reading.begin()
        if self._part is _Part.BODY and self._is_owed_more():
            self._receiving.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiving.end()
        self._reading.end()
        self.open_connections.closed(self)
        super().connection_lost(exc)

    @property
    def _is_keyed(self) -> bool:
        caller = self.scope.get(CALLER)
        return isinstance(caller, Caller) and caller.is_keyed

    def _is_owed_more(self) -> bool:
        """Is the rest of a head awaited, or the rest of a request that is already answered?"""
        if self._part is _Part.HEAD or self.cycle is None:
            return True
        return self.cycle.response_complete

    def _limit_head(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > LARGEST_HEAD:
            self.send_400_response(_INVALID)


class _Deadline:
    """Calls a function unless it is ended in time. Beginning one that runs already changes nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, within_s: float, passed: Callable[[], None]) -> None:
        self._loop = loop
        self._within_s = within_s
        self._passed = passed
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._within_s, self._passed)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
