"""Requests of callers to a session's link (pairing codes, downloads), matched with their answers by number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from holdfast.base.clock import Clock
from holdfast.session.engine import AnyCommand, AskPairingCode, Download, Downloaded, LinkId, PairingCodeShown

Answer = Downloaded | PairingCodeShown
A = TypeVar("A")

_NO_CODE_IN_TIME = "WhatsApp did not answer in time; try again"
_LINK_ENDED = "the connection that showed the QR code ended; try again"


class LinkRequests:
    """The requests of one session that wait for an answer of its engine link."""

    def __init__(self, *, clock: Clock, command: Callable[[AnyCommand], None]) -> None:
        self._clock = clock
        self._command = command
        self._pairing_codes: dict[int, asyncio.Future[PairingCodeShown]] = {}
        self._downloads: dict[int, asyncio.Future[Downloaded]] = {}
        self._last_request = 0

    async def pairing_code(self, link: LinkId | None, phone: str, *, within_s: float) -> PairingCodeShown:
        """Ask WhatsApp for a code to be typed on the phone with this number. Needs a link that shows QR codes."""
        number = self._next_number()
        if link is None:
            return PairingCodeShown(link=0, request=number, error=_LINK_ENDED)
        answer: asyncio.Future[PairingCodeShown] = asyncio.get_running_loop().create_future()
        self._pairing_codes[number] = answer
        self._command(AskPairingCode(link=link, request=number, phone=phone))
        try:
            async with self._clock.until(self._clock.monotonic() + within_s):
                return await answer
            return PairingCodeShown(link=link, request=number, error=_NO_CODE_IN_TIME)
        finally:
            del self._pairing_codes[number]

    async def download(
        self, link: LinkId, media_keys: str, file: Path, *, max_bytes: int, within_s: float
    ) -> Downloaded:
        """Fetch the media of an inbound message into a file."""
        number = self._next_number()
        answer: asyncio.Future[Downloaded] = asyncio.get_running_loop().create_future()
        self._downloads[number] = answer
        self._command(Download(link=link, request=number, media_keys=media_keys, file=str(file), most_bytes=max_bytes))
        try:
            async with self._clock.until(self._clock.monotonic() + within_s):
                return await answer
            return Downloaded(link=link, request=number, error="timeout")
        finally:
            del self._downloads[number]

    def answer(self, report: Answer) -> None:
        """Pass an engine's answer to the caller that waits for it."""
        match report:
            case PairingCodeShown():
                _resolve(self._pairing_codes.get(report.request), report)
            case Downloaded():
                _resolve(self._downloads.get(report.request), report)

    def link_ended(self) -> None:
        """Answer every caller: a link that ended sends no more answers."""
        for number, code in self._pairing_codes.items():
            _resolve(code, PairingCodeShown(link=0, request=number, error=_LINK_ENDED))
        for number, download in self._downloads.items():
            _resolve(download, Downloaded(link=0, request=number, error="link-down"))

    def _next_number(self) -> int:
        self._last_request += 1
        return self._last_request


def _resolve(waiting: asyncio.Future[A] | None, answer: A) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(answer)
