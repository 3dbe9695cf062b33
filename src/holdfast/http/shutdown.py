"""Ends the waits of open requests when Holdfast stops: for a QR code, the rest of a body, or the next event.

Without this, an open request would delay the shutdown until uvicorn's grace period is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
        self._has_ended = False

    @asynccontextmanager
    async def until_stopping(self) -> AsyncIterator[None]:
        """Run a block that may wait. Raises `Stopping` from it when Holdfast stops."""
        if self._has_ended:
            raise Stopping
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._open.add(timeout)
                yield
        except TimeoutError:
            if timeout.expired():
                raise Stopping from None
            raise
        finally:
            self._open.discard(timeout)

    def end(self) -> None:
        """End all current waits, and refuse new ones."""
        self._has_ended = True
        now = asyncio.get_running_loop().time()
        for timeout in self._open:
            timeout.reschedule(now)
