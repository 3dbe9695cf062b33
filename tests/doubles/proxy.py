"""A proxy for tests: HTTP CONNECT and SOCKS 5 on one port, optionally with credentials; it counts connections and
bytes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHUNK = 65_536


@dataclass(slots=True, kw_only=True)
class Tunnel:
    """One connection through the proxy."""

    host: str
    port: int
    up: int = 0
    down: int = 0
    """Bytes to and from the target."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when both directions are closed: no more bytes follow."""


@dataclass(slots=True, kw_only=True)
class TestProxy:
    __test__ = False

    user: str | None = None
    password: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """Addresses of host names that only the proxy knows."""
    refuses: bool = False
    """Whether it answers that it can't reach the target."""
    answer: bytes | None = None
    """What it answers instead, repeatedly, 20 times a second; empty: nothing."""
    tunnels: list[Tunnel] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def url(self, scheme: str = "http", *, password: str | None = None) -> str:
        login = "" if self.user is None else f"{self.user}:{self.password if password is None else password}@"
        host = "localhost" if scheme == "https" else "127.0.0.1"
        return f"{scheme}://{login}{host}:{self.port}"

    def bytes_to(self, port: int) -> tuple[int, int]:
        """Bytes in both directions, of all tunnels to a port."""
        mine = [tunnel for tunnel in self.tunnels if tunnel.port == port]
        return sum(tunnel.up for tunnel in mine), sum(tunnel.down for tunnel in mine)

    async def start(self) -> None:
        """Start it, on the previous port if it was stopped."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and cut all tunnels."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self.answer is not None:
                await self._answer_with(self.answer, reader, writer)
            elif (first := await reader.readexactly(1)) == b"\x05":
                await self._socks(reader, writer)
            else:
                await self._http(first, reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _answer_with(self, answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(_CHUNK)
        while not reader.at_eof():
            writer.write(answer)
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await reader.read(_CHUNK)

    async def _http(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *headers = head.split("\r\n")
        login = f"{self.user}:{self.password}".encode()
        wanted = f"proxy-authorization: basic {base64.b64encode(login).decode()}".lower()
        if self.user is not None and wanted not in [header.lower() for header in headers]:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return await writer.drain()
        host, _, port = line.split(" ")[1].rpartition(":")
        target = await self._connect(host.strip("[]"), int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if target else b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        if target is not None:
            await self._relay((reader, writer), target, self.tunnels[-1])
        return None

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        method = 0 if self.user is None else 2
        writer.write(bytes([5, method if method in methods else 255]))
        if method not in methods:
            return await writer.drain()
        if method == 2:
            await reader.readexactly(1)
            login = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
            is_right = login == [self.user, self.password]
            writer.write(bytes([1, 0 if is_right else 1]))
            if not is_right:
                return await writer.drain()
        kind = (await reader.readexactly(4))[3]
        host = await self._socks_host(reader, kind)
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        target = await self._connect(host, port)
        writer.write(bytes([5, 0 if target else 4, 0, 1, 0, 0, 0, 0, 0, 0]))
        if target is not None:
            await self._relay((reader, writer), target, self.tunnels[-1])
        return None

    async def _socks_host(self, reader: asyncio.StreamReader, kind: int) -> str:
        if kind == 1:
            return ".".join(str(byte) for byte in await reader.readexactly(4))
        return (await reader.readexactly((await reader.readexactly(1))[0])).decode()

    async def _connect(self, host: str, port: int) -> Streams | None:
        if self.refuses:
            return None
        target = await asyncio.open_connection(self.names.get(host, host), port)
        self.tunnels.append(Tunnel(host=host, port=port))
        return target

    async def _relay(self, client: Streams, target: Streams, tunnel: Tunnel) -> None:
        self._open.add(target[1])
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pump(client[0], target[1], tunnel, "up"))
                ways.create_task(self._pump(target[0], client[1], tunnel, "down"))
        except* OSError:
            pass
        finally:
            self._open.discard(target[1])
            target[1].close()
            tunnel.ended.set()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, tunnel: Tunnel, way: str) -> None:
        while chunk := await source.read(_CHUNK):
            setattr(tunnel, way, getattr(tunnel, way) + len(chunk))
            sink.write(chunk)
            await sink.drain()
        with contextlib.suppress(OSError, NotImplementedError):
            sink.write_eof() if sink.can_write_eof() else sink.close()


@contextlib.asynccontextmanager
async def running_proxy(
    *,
    user: str | None = None,
    password: str = "",
    names: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[TestProxy]:
    """A proxy on a free port, until the block ends."""
    proxy = TestProxy(user=user, password=password, names=names or {}, tls=tls)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
