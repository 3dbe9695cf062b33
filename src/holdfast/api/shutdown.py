"""Long waits of callers – for a QR code, for the rest of a body – which end as soon as Holdfast stops.

Without this an open request would hold the stop until uvicorn's patience is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from holdfast.base.errors import HoldfastError


class Stopping(HoldfastError):
    """Holdfast is going down."""

    code = "stopping"

    def __init__(self) -> None:
        super().__init__("Holdfast is stopping: ask again when it is back")


class ShutdownScope:
    """One for each HTTP application."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self._over = False

    @asynccontextmanager
    async def until_stopping(self) -> AsyncIterator[None]:
        """Run a block that may wait; raises `Stopping` out of it when Holdfast stops."""
        if self._over:
            raise Stopping
        alarm = asyncio.timeout(None)
        try:
            async with alarm:
                self._open.add(alarm)
                yield
        except TimeoutError:
            if alarm.expired():
                raise Stopping from None
            raise
        finally:
            self._open.discard(alarm)

    def end(self) -> None:
        """Holdfast stops: end those that wait now, and let nobody wait from now on."""
        self._over = True
        now = asyncio.get_running_loop().time()
        for alarm in self._open:
            alarm.reschedule(now)
