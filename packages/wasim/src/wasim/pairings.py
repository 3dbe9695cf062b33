"""Requests to link a device to a phone: each waits until the device is linked, or the pairing has failed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager

from wasim.server.core import Server
from wasim.server.directory import Directory
from wasim.server.pairing import PairingError, ScannedQr
from wasim.server.state import Account, Address

DEADLINE_S = 10.0
FIRST_NUMBER = 15_550_100_001
"""The number of the first phone that is created to scan a code."""


class Pairings:
    def __init__(self, update: Callable[[], AbstractContextManager[tuple[Server, float]]]) -> None:
        self._update = update
        self._scanning: set[str] = set()
        """Phones that are scanning a code now."""
        self._waiting: dict[int, asyncio.Future[Address | None]] = {}

    async def scan(self, number: str, qr: ScannedQr) -> Address | None:
        """Link the device that shows this QR code; None: its owner must sign with a passkey first.

        Raises PairingError when that is not possible, TimeoutError when the device does not answer.
        """
        return await self._linked(number, lambda server, account, now: server.pairing_flow.scan(account, qr, now=now))

    async def scan_with_any(self, qr: ScannedQr) -> Address | None:
        """Link the device to the first phone without linked devices, or to a new one; raises the same errors."""
        with self._update() as (server, _):
            number = self._unused(server.directory)
        self._scanning.add(number)
        try:
            return await self.scan(number, qr)
        finally:
            self._scanning.discard(number)

    def _unused(self, directory: Directory) -> str:
        without_devices = (number for number in directory.accounts if len(directory.devices_of(number)) == 1)
        new = (str(number) for number in itertools.count(FIRST_NUMBER) if str(number) not in directory.accounts)
        return next(number for number in itertools.chain(without_devices, new) if number not in self._scanning)

    async def enter_code(self, number: str, code: str) -> Address | None:
        """Link the device that shows this pairing code; raises the same errors as `scan`."""
        return await self._linked(
            number, lambda server, account, now: server.pairing_flow.enter_code(account, code, now=now)
        )

    async def _linked(self, number: str, begin: Callable[[Server, Account, float], int]) -> Address | None:
        """Wait until the device is linked, or a passkey is requested. `begin` returns the device's link."""
        waiting: asyncio.Future[Address | None] = asyncio.get_running_loop().create_future()
        with self._update() as (server, now):
            link = begin(server, server.phone(number, name="", now=now), now)
            self._waiting[link] = waiting
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await waiting
        finally:
            self._waiting.pop(link, None)

    def complete(self, link: int, address: Address | None) -> None:
        """The device is linked, or (None) a passkey was requested, for which the request does not wait."""
        waiting = self._waiting.get(link)
        if waiting is not None and not waiting.done():
            waiting.set_result(address)

    def fail(self, link: int, detail: str) -> None:
        waiting = self._waiting.get(link)
        if waiting is not None and not waiting.done():
            waiting.set_exception(PairingError(detail))
