"""A TCP link between two processes that a test can stall, in one direction or both: nothing arrives, nothing closes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class StallingLink:
    def __init__(self, port: int) -> None:
        """`port`: where it leads to, on loopback."""
        self._port = port
        self._passes = {"there": asyncio.Event(), "back": asyncio.Event()}
        self.heal()

    def stall(self, *ways: str) -> None:
        """`there`: what the caller sends is kept; `back`: what is sent to the caller; without any, both."""
        for way in ways or self._passes:
            self._passes[way].clear()

    def heal(self) -> None:
        """What was kept arrives now."""
        for passes in self._passes.values():
            passes.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._port)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy(reader, onward_writer, "there"))
                tasks.create_task(self._copy(onward_reader, writer, "back"))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._passes[way].wait()
                writer.write(data)
                await writer.drain()
        await self._passes[way].wait()
        writer.close()


@asynccontextmanager
async def stalling_link(port: int) -> AsyncIterator[tuple[StallingLink, int]]:
    """The link, and the port to connect to."""
    link = StallingLink(port)
    server = await asyncio.start_server(link.serve, "127.0.0.1", 0)
    try:
        yield link, server.sockets[0].getsockname()[1]
    finally:
        link.heal()
        server.close()
