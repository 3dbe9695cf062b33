"""Cheap callers of a gateway: plain HTTP over keep-alive connections.

What a caller costs is time that the gateway beside it doesn't have; a full HTTP client would take as much as it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.served import Served


class Caller:
    """A keep-alive connection with one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self._reader = reader
        self._writer = writer
        self._head = head

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the response's JSON. Raises `RuntimeError` for an error status."""
        content = json.dumps(body).encode()
        self._writer.write(
            f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(content)}\r\n\r\n".encode() + content
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        answer = await self._reader.readexactly(int(head.partition("content-length:")[2].split(maxsplit=1)[0]))
        if not head.startswith("http/1.1 2"):
            raise RuntimeError(f"POST {path}: {head.splitlines()[0]} {answer.decode()}")
        return json.loads(answer)

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def callers(gateway: Served, *, count: int) -> AsyncIterator[list[Caller]]:
    """Open `count` connections to the gateway."""
    where, key = (
        urlsplit(gateway.settings_of_commands["HOLDFAST_URL"]),
        gateway.settings_of_commands["HOLDFAST_API_KEY"],
    )
    head = f"Host: {where.netloc}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    open_ones = [Caller(*await asyncio.open_connection(where.hostname, where.port), head) for _ in range(count)]
    try:
        yield open_ones
    finally:
        for caller in open_ones:
            caller.close()
