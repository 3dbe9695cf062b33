"""A steady stream of messages between the companies, and the response times of the API during it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from tests.mail import COMPANIES, Mail, MailMessage
from tests.served import Served

T = TypeVar("T")

POST_EVERY_S = 0.2
POLL_INTERVAL_S = 0.05
POST, LOOK = "POST messages", "GET /v1/sessions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    what: str
    asked_at: float
    took_s: float


@dataclass(slots=True)
class Traffic:
    """Each company writes to the other one five times a second, and the list of sessions is read."""

    gateway: Served
    mail: Mail
    answered: list[Answered] = field(default_factory=list)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Traffic for the duration of the block. Every request has been answered when it ends."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            first, second = COMPANIES
            tasks.create_task(self._write(first, second, ended))
            tasks.create_task(self._write(second, first, ended))
            tasks.create_task(self._look(ended))
            try:
                yield
            finally:
                ended.set()

    async def _write(self, company: str, other: str, ended: asyncio.Event) -> None:
        while not ended.is_set():
            message = MailMessage(
                sender=company, to=COMPANIES[other], text=f"message {len(self.mail.messages):04}", asked=1
            )
            self.mail.messages.append(message)
            asking = self.gateway.send(company, message.to, message.text, key=message.text)
            message.answer = await self._measured(POST, asking)
            await _pause(POST_EVERY_S, ended)

    async def _look(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            await self._measured(LOOK, self.gateway.client.get("/v1/sessions"))
            await _pause(POLL_INTERVAL_S, ended)

    async def _measured(self, what: str, asking: Awaitable[T]) -> T:
        asked_at = self.now()
        answer = await asking
        self.answered.append(Answered(what=what, asked_at=asked_at, took_s=self.now() - asked_at))
        return answer

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def took_ms(self, what: str, *, since: float, until: float, percent: float) -> float:
        """The percentile of the response times in that period."""
        took = sorted(each.took_s for each in self.answered if each.what == what and since <= each.asked_at < until)
        assert took, f"nobody asked {what}"
        return 1000 * took[math.ceil(percent / 100 * len(took)) - 1]


async def _pause(seconds: float, ended: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return
