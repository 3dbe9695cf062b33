"""What `holdfast watch` does: poll a session, and at the end have the server evaluate the watched time.

The server evaluates its own history of transitions, so that changes between two polls count as well. A period without
any observation must never be reported as good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from holdfast.base.clock import Clock
from holdfast.client import Client, Json, NoServer, Refused, may_pass

_SAMPLES = 300
"""Samples in the whole time, as far as the pauses between them stay within these bounds."""
_MIN_PAUSE_S, _MAX_PAUSE_S = 1.0, 10.0
_BACK_S = 15.0
"""How long the last sample waits for a server that is restarting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample: the session now, and the evaluation of the time since the watch began."""

    watched_s: float
    of_s: float
    state: str
    reason: Json | None
    stability: Json
    history: list[Json]
    """The transitions of the session since then, oldest first."""
    problem: str = ""
    """Why this sample is stale: Holdfast did not answer."""

    @property
    def holds(self) -> bool:
        return bool(self.stability["holds"])

    @property
    def failing(self) -> list[str]:
        """The goals that don't hold."""
        return [row["what"] for row in self.stability["table"] if not row["holds"]]

    def as_json(self, company: str) -> dict[str, Any]:
        return {
            "companyId": company,
            "state": self.state,
            "watchedS": round(self.watched_s, 1),
            "askedS": self.of_s,
            "holds": self.holds,
            "failing": self.failing,
            **{name: value for name, value in self.stability.items() if name != "holds"},
            "history": self.history,
        }


Show = Callable[[Sample], None]


class Watch:
    """Watches one session. Calls `began` at the beginning, and `show` with each sample."""

    def __init__(
        self,
        client: Client,
        company: str,
        *,
        for_s: float,
        clock: Clock,
        show: Show,
        began: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._path = f"/webhook/whatsapp/baileys/diagnostics/{company}"
        self._for_s = for_s
        self._clock = clock
        self._show = show
        self._began = began
        self._since = ""
        """The beginning of the watch, by the server's clock."""
        self._known: str | None = None
        """The time of the newest transition before the watch began."""

    async def run(self) -> Sample:
        """Watch for the whole time, or until cancelled, which Ctrl-C does. Raises `NoServer` and `Refused`."""
        first = await self._client.get(self._path)
        self._since = first["at"]
        self._known = first["history"][0]["at"] if first["history"] else None
        began_at = self._clock.monotonic()
        self._began()
        try:
            await self._sample_until(began_at)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        return await self._last_sample(began_at)

    async def _sample_until(self, began_at: float) -> None:
        pause_s = min(max(self._for_s / _SAMPLES, _MIN_PAUSE_S), _MAX_PAUSE_S)
        last: Sample | None = None
        while (left_s := began_at + self._for_s - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(pause_s, left_s))
            try:
                last = await self._sample(began_at)
            except (NoServer, Refused) as error:
                if not may_pass(error):
                    raise
                last = _stale(last, self._clock.monotonic() - began_at, error.sentence)
            if last is not None:
                self._show(last)

    async def _last_sample(self, began_at: float) -> Sample:
        """Take the last sample; wait for a gateway that is restarting."""
        until = self._clock.monotonic() + _BACK_S
        while True:
            try:
                return await self._sample(began_at)
            except (NoServer, Refused) as error:
                if not may_pass(error) or self._clock.monotonic() >= until:
                    raise
            await self._clock.sleep(_MIN_PAUSE_S)

    async def _sample(self, began_at: float) -> Sample:
        watched_s = self._clock.monotonic() - began_at
        found = await self._client.get(self._path, since=self._since)
        return Sample(
            watched_s=watched_s,
            of_s=self._for_s,
            state=found["session"]["state"],
            reason=found["session"]["reason"],
            stability=found["stability"]["requested"],
            history=[each for each in reversed(found["history"]) if self._known is None or each["at"] > self._known],
        )


def _stale(last: Sample | None, watched_s: float, problem: str) -> Sample | None:
    if last is None:
        return None
    return Sample(
        watched_s=watched_s,
        of_s=last.of_s,
        state=last.state,
        reason=last.reason,
        stability=last.stability,
        history=last.history,
        problem=problem,
    )
