"""Lets requests that arrive during startup wait until the sessions are loaded, instead of refusing them."""

from __future__ import annotations

from typing import Protocol

from fastapi import Request

from holdfast.base.errors import HoldfastError
from holdfast.http.shutdown import ShutdownScope

LOADING_WAIT_S = 5
"""How long a request waits. Loading usually takes less than a second; the first start installs Baileys before."""


class Loading(Protocol):
    """The part of the gateway that is needed here."""

    @property
    def is_ready(self) -> bool: ...

    async def wait_until_ready(self, *, within_s: float) -> bool: ...


class Starting(HoldfastError):
    """The sessions are not loaded yet."""

    code = "starting"

    def __init__(self) -> None:
        super().__init__("Holdfast is starting and has not loaded its sessions yet: try again shortly")


async def until_loaded(request: Request, gateway: Loading) -> None:
    """Wait until the sessions are loaded. Raises `Starting` after `LOADING_WAIT_S`, and `Stopping` at shutdown."""
    if gateway.is_ready:
        return
    shutdown: ShutdownScope = request.app.state.shutdown
    async with shutdown.until_stopping():
        if not await gateway.wait_until_ready(within_s=LOADING_WAIT_S):
            raise Starting
