"""A TCP link between two processes that a test can stall, in one direction or both: nothing arrives, nothing closes.

It is a process of its own: within the test's busy event loop it would delay each answer of the database, and thereby
every process that waits for a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class StallingLink:
    def __init__(self, orders: asyncio.StreamWriter) -> None:
        self._orders = orders

    def stall(self, *ways: str) -> None:
        """Hold back what the caller sends (`there`), what is sent to the caller (`back`), or both if neither is
        given.
        """
        self._orders.write(f"{' '.join(ways or _WAYS)}\n".encode())

    def heal(self) -> None:
        """Forward everything that was held back."""
        self._orders.write(b"\n")


@asynccontextmanager
async def stalling_link(port: int) -> AsyncIterator[tuple[StallingLink, int]]:
    """Start a link to this port of loopback; yields it and the port to connect to."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(port), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield StallingLink(process.stdin), int(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


# The process.

_WAYS = ("there", "back")


class _Link:
    def __init__(self, port: int) -> None:
        self._port = port
        self._passes = {way: asyncio.Event() for way in _WAYS}
        self.obey([])

    def obey(self, stalled: list[str]) -> None:
        for way, passes in self._passes.items():
            if way in stalled:
                passes.clear()
            else:
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


async def _main(port: int) -> None:
    link, loop, orders = _Link(port), asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    server = await asyncio.start_server(link.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    while order := await orders.readline():
        link.obey(order.decode().split())


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(int(sys.argv[1])))
