"""One WebSocket connection over asyncio, with everything that a real network can do to it: cut, freeze, refuse.

The WebSocket protocol itself is websockets' sans-I/O `ServerProtocol`. The socket is our own, so that a frozen
connection really reads and writes nothing, and a cut one is reset.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Literal, Protocol

from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from wasim.delays import DelayQueue

PATH = "/ws/chat"
SCRIPT_PATH = "/sw.js"
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
Cut = Literal["rst", "fin", "close"]


class SocketOwner(Protocol):
    """The owner of the connections."""

    def socket_opened(self, link: LinkSocket) -> None:
        """A TCP connection was made; the owner may cut it, or set `refuse_status`, at once."""

    def socket_ready(self, link: LinkSocket) -> None:
        """The WebSocket handshake is done."""

    def socket_received(self, link: LinkSocket, data: bytes) -> None: ...

    def script(self) -> str:
        """The response to `GET /sw.js`: a script that contains the newest client revision."""

    def web_handler(self) -> asyncio.Protocol | None:
        """Handles HTTP requests on the clients' port other than GET; None: they are refused."""

    def socket_closed(self, link: LinkSocket) -> None:
        """The connection is closed, whichever side closed it; called exactly once."""


class LinkSocket(asyncio.Protocol):
    def __init__(self, owner: SocketOwner, number: int) -> None:
        self.number = number
        self.frozen = False
        self.latency_s = 0.0
        """The additional time that data takes, in each direction."""
        self.refuse_status: int | None = None
        self._owner = owner
        self._ws = ServerProtocol(max_size=MAX_MESSAGE_BYTES)
        self._transport: asyncio.Transport | None = None
        self._arriving = DelayQueue(self._arrive)
        self._leaving = DelayQueue(self._write)
        self._buffered_in: list[bytes] = []
        self._buffered_out: list[bytes] = []
        self._close_when_thawed = False
        self._close_when_sent = False
        self._closed = False
        self._has_data = False

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._owner.socket_opened(self)

    def data_received(self, data: bytes) -> None:
        self._arriving.put(data, delay_s=self.latency_s)

    def _arrive(self, data: bytes) -> None:
        if self._closed:
            return
        if self.frozen:
            self._buffered_in.append(data)
        else:
            self._process(data)

    def eof_received(self) -> bool:
        self._arriving.flush()
        if not self.frozen:
            self._ws.receive_eof()
            self._flush()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._report_closed()

    def _report_closed(self) -> None:
        if not self._closed:
            self._closed = True
            self._owner.socket_closed(self)

    # WebSocket

    def _process(self, data: bytes) -> None:
        is_first, self._has_data = not self._has_data, True
        if is_first and self.refuse_status is None and not data.startswith(b"GET ") and self._pass_to_web_handler(data):
            return
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT):
                self._owner.socket_received(self, bytes(event.data))
        self._flush()

    def _pass_to_web_handler(self, data: bytes) -> bool:
        """Let the web handler answer an HTTP request that is not a GET, so no WebSocket handshake."""
        handler = self._owner.web_handler()
        if handler is None or self._transport is None:
            return False
        self._report_closed()
        self._transport.set_protocol(handler)
        handler.connection_made(self._transport)
        handler.data_received(data)
        return True

    def _answer(self, request: Request) -> None:
        if self.refuse_status is not None:
            self._ws.send_response(self._ws.reject(self.refuse_status, "refused by a fault\n"))
        elif request.path.partition("?")[0] == SCRIPT_PATH:
            self._ws.send_response(_script(self._owner.script()))
        elif request.path.partition("?")[0] != PATH:
            self._ws.send_response(self._ws.reject(404, f"connect to {PATH}\n"))
        else:
            self._ws.send_response(self._ws.accept(request))
            if self._ws.state is State.OPEN:
                self._owner.socket_ready(self)

    def send(self, frames: list[bytes]) -> None:
        """Send one WebSocket message for each frame; nothing when the connection is closing."""
        if self._ws.state is not State.OPEN:
            return
        for frame in frames:
            self._ws.send_binary(frame)
        self._flush()

    def _flush(self) -> None:
        if self._closed or self._transport is None:
            return
        chunks = self._ws.data_to_send()
        if self.frozen:
            self._buffered_out += chunks
            return
        self._leaving.put(chunks, delay_s=self.latency_s)

    def _write(self, chunks: list[bytes]) -> None:
        if self._closed or self._transport is None:
            return
        data = b"".join(chunks)
        if data:
            self._transport.write(data)
        if b"" in chunks or self._ws.close_expected():
            self._transport.close()
        if self._close_when_sent and self._leaving.is_empty:
            self.cut("close")

    # Network faults

    def freeze(self) -> None:
        """Make it half-open: nothing is read or written, and TCP stays up."""
        if not self.frozen and self._transport is not None:
            self.frozen = True
            self._transport.pause_reading()

    def thaw(self) -> None:
        """Let data flow again in both directions, buffered data first."""
        if not self.frozen or self._closed or self._transport is None:
            return
        self.frozen = False
        chunks, self._buffered_out = self._buffered_out, []
        self._leaving.put(chunks, delay_s=self.latency_s)
        buffered, self._buffered_in = self._buffered_in, []
        for data in buffered:
            self._process(data)
        self._transport.resume_reading()
        if self._close_when_thawed:
            self.close()

    def close(self) -> None:
        """The server ends this connection: a WebSocket close, and then the end of TCP."""
        if self.frozen:
            self._close_when_thawed = True
        elif not self._leaving.is_empty:
            self._close_when_sent = True
        else:
            self.cut("close")

    def cut(self, how: Cut, *, code: int = 1000) -> None:
        """End the connection now: by a TCP reset, a TCP end, or a WebSocket close."""
        if self._closed or self._transport is None:
            return
        if how == "rst":
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            if how == "close":
                self._send_close(code)
            self._transport.close()
        self._report_closed()

    def _send_close(self, code: int) -> None:
        assert self._transport is not None
        try:
            self._ws.send_close(code)
        except InvalidState:
            return  # the peer closed first, or never finished its handshake: there is nothing to send
        self._transport.write(b"".join(self._ws.data_to_send()))


def _script(text: str) -> Response:
    body = text.encode()
    headers = Headers(
        [("Content-Type", "text/javascript"), ("Content-Length", str(len(body))), ("Connection", "close")]
    )
    return Response(200, "OK", headers, body)
