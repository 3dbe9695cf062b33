"""Ends the waits of open requests when Holdfast stops: for a QR code, the rest of a body, or the next event.

Without this, an open request would delay the shutdown until uvicorn's grace period is over.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from holdfast.base.errors import HoldfastError


class Stopping(HoldfastError):
    """Holdfast is shutting down."""

    code = "stopping"

    def __init__(self) -> None:
        super().__init__("Holdfast is stopping: try again when it is back")


class ShutdownScope:
    """The waits of one HTTP application that end at its shutdown."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self.has_ended = False
        """Holdfast is stopping."""

    def until_stopping(self) -> AbstractAsyncContextManager[object]:
        """Run a block that may wait. Raises `Stopping` from it when Holdfast stops."""
        return _Wait(self)

    def end(self) -> None:
        """End all current waits, and refuse new ones."""
        self.has_ended = True
        now = asyncio.get_running_loop().time()
        for timeout in self._open:
            timeout.reschedule(now)

    def begin(self, wait: asyncio.Timeout) -> None:
        """Raises `Stopping` when Holdfast is stopping already."""
        if self.has_ended:
            raise Stopping
        self._open.add(wait)

    def finish(self, wait: asyncio.Timeout) -> None:
        self._open.discard(wait)


class _Wait:
    """No generator: every request that reads a body passes it."""

    def __init__(self, scope: ShutdownScope) -> None:
        self._scope = scope
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        self._scope.begin(self._timeout)
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        self._scope.finish(self._timeout)
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError:  # not one that the block raised
            raise Stopping from None
