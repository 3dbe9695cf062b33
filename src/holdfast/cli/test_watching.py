"""`holdfast watch`: what is asked of the server, what is made of its answers, and when there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from holdfast.api.diagnosis_models import StabilityModel
from holdfast.cli.watching import Sample, Watch
from holdfast.client import Client, Json, NoServer, Refused
from holdfast.delivery.stores import DeliveryTally
from holdfast.health.stability import Connectivity, ConnectivityChange, stability
from tests.doubles.fake_clock import FakeClock

DISCONNECTED, UP = Connectivity.DISCONNECTED, Connectivity.CONNECTED


class SkippingClock(FakeClock):
    """A sleep ends at once, after all other tasks have run, with the time at which it would have ended."""

    async def sleep(self, seconds: float) -> None:
        self.advance_to(self.monotonic() + seconds)
        await asyncio.sleep(0)


class Server:
    """A Holdfast whose session has these `changes` (seconds after the beginning); between `down` it is not there."""

    def __init__(
        self, clock: FakeClock, changes: Sequence[ConnectivityChange], *, down: tuple[float, float] = (0, 0)
    ) -> None:
        self._clock, self._changes, self._down = clock, changes, down
        self._began = clock.monotonic()
        self.refusal: Refused | None = None
        self.slow_s = 0.0
        """How long each answer takes until the server looks."""

    async def get(self, path: str, **query: str) -> Json:
        now = self._clock.monotonic() - self._began
        if self._down[0] < now < self._down[1]:
            raise NoServer("no Holdfast answers")
        if self.refusal is not None:
            raise self.refusal
        assert path == "/webhook/whatsapp/baileys/diagnostics/962302"
        now += self.slow_s
        past = [each for each in self._changes if each.at <= now]
        since = float(query.get("since", now - 1))
        self.window_s = now - since
        judged = stability(past, DeliveryTally(), now=now, window_s=self.window_s)
        return {
            "at": str(now),
            "session": {"state": str(past[-1].connectivity), "reason": None},
            "stability": {"requested": StabilityModel.of(judged).model_dump(mode="json", by_alias=True)},
            "history": [{"at": f"{each.at + 1000:010.1f}", "after": str(each.connectivity)} for each in reversed(past)],
        }


def made(server: Server, clock: FakeClock, shown: list[Sample], *, for_s: float = 60) -> Watch:
    return Watch(cast(Client, server), "962302", for_s=for_s, clock=clock, show=shown.append)


async def watched(*changes: ConnectivityChange, down: tuple[float, float] = (0, 0)) -> tuple[Sample, list[Sample]]:
    """How a minute's watch ended, and what it showed meanwhile."""
    clock = SkippingClock()
    shown: list[Sample] = []
    return await made(Server(clock, [ConnectivityChange(-100, UP), *changes], down=down), clock, shown).run(), shown


async def test_a_calm_minute_is_good() -> None:
    """All goals are met; without messages, delivery is not evaluated."""
    seen, shown = await watched()
    assert (seen.holds, seen.failing, seen.watched_s, seen.history) == (True, [], 60, [])
    assert seen.as_json("962302")["uptimePercent"] == 100
    assert [row["measured"] for row in seen.stability["table"]][1] == "no messages to evaluate"
    assert [glance.watched_s for glance in shown[:3]] == [1, 2, 3]


async def test_a_loss_between_two_samples_counts_and_its_row_is_named() -> None:
    """What happened within a second is in the server's history, and so in the result."""
    seen, _ = await watched(ConnectivityChange(10.2, DISCONNECTED), ConnectivityChange(10.8, UP))
    assert (seen.holds, seen.failing) == (False, ["disconnections an hour"])
    printed = seen.as_json("962302")
    assert (printed["disconnections"], printed["reconnectP95S"], printed["holds"]) == (1, 0.6, False)
    assert [each["after"] for each in printed["history"]] == ["disconnected", "connected"]


async def test_a_slow_answer_does_not_move_the_watched_time() -> None:
    """A loss in the first moments counts, although the server's last response took seconds."""
    clock = SkippingClock()
    server = Server(
        clock, [ConnectivityChange(-100, UP), ConnectivityChange(0.5, DISCONNECTED), ConnectivityChange(0.9, UP)]
    )
    watch = made(server, clock, [], for_s=60)
    watching = asyncio.ensure_future(watch.run())
    await asyncio.sleep(0)
    server.slow_s = 3
    assert (await watching).failing == ["disconnections an hour"]


async def test_only_the_watched_time_is_judged() -> None:
    """Problems before the watch began are ignored."""
    seen, _ = await watched(ConnectivityChange(-50, DISCONNECTED), ConnectivityChange(-10, UP))
    assert (seen.holds, seen.history) == (True, [])


async def test_a_session_that_stays_disconnected_names_every_row_that_fails() -> None:
    """Uptime, and an absence that has not ended."""
    seen, _ = await watched(ConnectivityChange(2, DISCONNECTED))
    assert seen.failing == ["connection uptime", "reconnection, p95", "disconnections an hour"]


async def test_a_gateway_that_restarts_is_waited_for() -> None:
    """The live line says so, with the last figures; the restarted server provides the result."""
    seen, shown = await watched(down=(20, 25))
    assert [glance.problem for glance in shown[18:26]] == ["", "", *["no Holdfast answers"] * 4, "", ""]
    assert seen.holds
    seen, _ = await watched(down=(55, 70))
    assert (seen.holds, seen.watched_s) == (True, 70)


async def test_a_gateway_that_stays_unreachable_is_a_failure() -> None:
    """The result is not "good" if the end of the period was not observed."""
    with pytest.raises(NoServer):
        await watched(down=(20, 10_000))


@pytest.mark.parametrize(("status", "looks"), [(404, 0), (503, 60)])
async def test_only_a_server_that_is_starting_is_waited_for(status: int, looks: int) -> None:
    """A company that is gone, or a key that no longer fits, ends the watch at once."""
    clock = SkippingClock()
    server = Server(clock, [ConnectivityChange(-1, UP)])
    watch = made(server, clock, [])
    began = clock.monotonic()
    task = asyncio.ensure_future(watch.run())
    await asyncio.sleep(0)
    server.refusal = Refused(status, "not now")
    with pytest.raises(Refused):
        await task
    assert clock.monotonic() - began >= looks
    assert clock.monotonic() - began < looks + 20


async def test_ctrl_c_ends_with_the_results_so_far() -> None:
    """The time until then is evaluated."""
    clock = FakeClock()
    server = Server(clock, [ConnectivityChange(-100, UP)])
    task = asyncio.ensure_future(made(server, clock, [], for_s=3600).run())
    await asyncio.sleep(0)
    clock.advance_to(clock.monotonic() + 5)
    task.cancel()
    seen = await task
    assert (seen.watched_s, seen.of_s, seen.holds) == (5, 3600, True)
    assert server.window_s == 5
