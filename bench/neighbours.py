"""What one company's backlog costs itself and its neighbours.

    uv run bench/neighbours.py [--held 20000] [--burst 10000] [--seconds 20] [--json]

Five companies on one gateway with real Baileys. One of them sends a burst at once, and later has many messages to new
contacts that WhatsApp's lock holds. In each situation all of them send one message every 200 ms to five known chats, in
turn: slow enough that no message waits for the one before it in its chat. The times are from POST to 202 and from
acceptance to WhatsApp's ack. Processor time is that of Python, for each message, while only the busy company sends.

Before and after the burst nothing waits: both times count as the situation to compare the burst with. The held messages
are compared with a second gateway that holds nothing, in turns of a few seconds, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.figures import cpu_s, percentile
from bench.load import Caller, callers
from tests.processes import Wasim, running_wasim
from tests.served import Served, served

BUSY, NEIGHBOURS = "busy", ("one", "two", "three", "four")
COMPANIES = (BUSY, *NEIGHBOURS)
_EVERY_S = 0.2
_DRAINED_WITHIN_S = 900
_CALLERS = 16
_BURST_CHATS = 50
_TURNS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one situation."""

    neighbour_accept_p95_ms: float
    neighbour_ack_p95_ms: float
    own_ack_p95_ms: float
    cpu_ms_a_message: float

    def beside(self, quiet: Figures) -> str:
        mine, its = asdict(self), asdict(quiet)
        return ", ".join(f"{name} {mine[name]:.1f} ({mine[name] / its[name]:.2f} ×)" for name in mine if its[name])


@dataclass(slots=True)
class Samples:
    """What was measured in one situation, perhaps at several times."""

    accepts: list[float] = field(default_factory=list)
    acks: list[float] = field(default_factory=list)
    own_acks: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    cpu_messages: int = 0

    def figures(self) -> Figures:
        return Figures(
            neighbour_accept_p95_ms=percentile(self.accepts, 95),
            neighbour_ack_p95_ms=percentile(self.acks, 95),
            own_ack_p95_ms=percentile(self.own_acks, 95),
            cpu_ms_a_message=self.cpu_s * 1000 / self.cpu_messages if self.cpu_messages else 0.0,
        )


class NeighbourBenchmark:
    def __init__(self, wasim: Wasim, gateway: Served, *, number: int) -> None:
        """`number`: of the gateway, which makes its companies' phone numbers."""
        self._wasim = wasim
        self._gateway = gateway
        self._numbers = {name: f"96278000{number}00{n}" for n, name in enumerate(COMPANIES)}
        self._known = {name: [f"96279{number}00{n}0{chat}0" for chat in range(5)] for n, name in enumerate(COMPANIES)}

    async def prepare(self) -> None:
        for company, number in self._numbers.items():
            await self._gateway.pair(company, number, self._wasim)
            for chat in self._known[company]:
                await self._wasim.post("/phones", {"number": chat})
                first = await self._gateway.send(company, chat, "before")
                await self._gateway.until_message(first["id"], "delivered", "read", within_s=60)

    async def measure(self, samples: Samples, *, seconds: float) -> None:
        """The latencies of all companies, each in chats that are known."""
        accepts, acks = await self._write_all(COMPANIES, seconds)
        samples.accepts += [ms for name in NEIGHBOURS for ms in accepts[name]]
        samples.acks += [ms for name in NEIGHBOURS for ms in acks[name]]
        samples.own_acks += acks[BUSY]

    async def measure_cpu(self, samples: Samples, *, seconds: float) -> None:
        """While only the busy company sends."""
        before = cpu_s(self._gateway.pid)
        ids, _ = await self._write_for((BUSY,), seconds)
        samples.cpu_s += cpu_s(self._gateway.pid) - before
        samples.cpu_messages += len(ids[BUSY])

    async def _write_all(
        self, companies: Collection[str], seconds: float
    ) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
        ids, accepts = await self._write_for(companies, seconds)
        return accepts, {name: [await self._ack_ms(each) for each in ids[name]] for name in companies}

    async def _write_for(
        self, companies: Collection[str], seconds: float
    ) -> tuple[dict[str, list[str]], dict[str, list[float]]]:
        """The ids of the messages, and how long each took to be accepted."""
        ids: dict[str, list[str]] = {name: [] for name in companies}
        accepts: dict[str, list[float]] = {name: [] for name in companies}
        async with callers(self._gateway, count=len(companies)) as open_ones, asyncio.TaskGroup() as tasks:
            for n, (caller, name) in enumerate(zip(open_ones, companies, strict=True)):
                first_s = n * _EVERY_S / len(companies)
                tasks.create_task(self._write(caller, name, ids[name], accepts[name], first_s=first_s, seconds=seconds))
        return ids, accepts

    async def _write(
        self, caller: Caller, company: str, ids: list[str], accepts: list[float], *, first_s: float, seconds: float
    ) -> None:
        """One message every 200 ms to somebody known."""
        await asyncio.sleep(first_s)
        chats = itertools.cycle(self._known[company])
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            answer = await caller.post(f"/v1/sessions/{company}/messages", {"to": next(chats), "text": "hello"})
            accepts.append((time.perf_counter() - began) * 1000)
            ids.append(answer["id"])
            await asyncio.sleep(max(0.0, _EVERY_S - (time.perf_counter() - began)))

    async def _ack_ms(self, message_id: str) -> float:
        """As the gateway itself noted it."""
        seen = await self._gateway.until_message(message_id, "sent", "delivered", "read", within_s=_DRAINED_WITHIN_S)
        took = datetime.fromisoformat(seen["sentAt"]) - datetime.fromisoformat(seen["acceptedAt"])
        return took.total_seconds() * 1000

    async def hold(self, count: int) -> None:
        """WhatsApp's lock holds messages to so many new contacts."""
        await self._wasim.fault("reach-out-lock", number=self._numbers[BUSY])
        await self._wasim.post("/phones", {"number": "962791000000"})
        await self._gateway.send(BUSY, "962791000000", "meets the lock")
        await asyncio.sleep(1)
        await self._post(count, [str(962792000000 + n) for n in range(count)])

    async def know(self) -> list[str]:
        """Chats in which the busy company has written before."""
        chats = [str(962793000000 + n) for n in range(_BURST_CHATS)]
        for chat in chats:
            await self._wasim.post("/phones", {"number": chat})
        firsts = [await self._gateway.send(BUSY, chat, "before") for chat in chats]
        for first in firsts:
            await self._gateway.until_message(first["id"], "delivered", "read", within_s=60)
        return chats

    async def burst(self, count: int, chats: list[str]) -> None:
        """So many messages of the busy company are accepted as fast as that goes."""
        await self._post(count, chats)

    async def drained(self) -> None:
        """Nothing of the burst waits or is on its way any more."""
        async with asyncio.timeout(_DRAINED_WITHIN_S):
            for state in ("queued", "sending"):
                path = f"/v1/sessions/{BUSY}/messages?state={state}&limit=1"
                while (await self._gateway.client.get(path))["items"]:  # noqa: ASYNC110 – of another process
                    await asyncio.sleep(1)
        await asyncio.sleep(5)

    async def _post(self, count: int, chats: list[str]) -> None:
        async with callers(self._gateway, count=_CALLERS) as open_ones, asyncio.TaskGroup() as tasks:
            for n, caller in enumerate(open_ones):
                tasks.create_task(_post_some(caller, chats, range(n, count, _CALLERS)))


async def _post_some(caller: Caller, chats: list[str], numbers: range) -> None:
    for n in numbers:
        body = {"to": chats[n % len(chats)], "text": f"text {n}"}
        await caller.post(f"/v1/sessions/{BUSY}/messages", body)


async def measure(*, held: int, burst: int, seconds: float) -> dict[str, tuple[Figures, Figures]]:
    """Each situation, and the one in which nothing waits that it is compared with."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wasim = await stack.enter_async_context(running_wasim(folder / "wasim"))
        benchmarks: list[NeighbourBenchmark] = []
        for number in range(2):
            place = folder / f"gateway{number}"
            place.mkdir()
            gateway = await stack.enter_async_context(served(place, wasim=wasim))
            benchmarks.append(NeighbourBenchmark(wasim, gateway, number=number))
            await benchmarks[-1].prepare()
        found: dict[str, tuple[Figures, Figures]] = {}
        if burst:
            found |= await _measure_burst(benchmarks[0], burst, seconds)
        if held:
            found |= await _measure_held(loaded=benchmarks[0], empty=benchmarks[1], held=held, seconds=seconds)
        return found


async def _measure_burst(
    benchmark: NeighbourBenchmark, burst: int, seconds: float
) -> dict[str, tuple[Figures, Figures]]:
    chats = await benchmark.know()
    quiet, accepting, sending = Samples(), Samples(), Samples()
    await benchmark.measure(quiet, seconds=seconds)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(benchmark.burst(burst, chats))
        await asyncio.sleep(1)
        await benchmark.measure(accepting, seconds=seconds)
        await task
    await benchmark.measure(sending, seconds=seconds)
    await benchmark.drained()
    await benchmark.measure(quiet, seconds=seconds)
    reference = quiet.figures()
    return {
        f"a burst of {burst} is accepted": (accepting.figures(), reference),
        f"a burst of {burst} is sent": (sending.figures(), reference),
    }


async def _measure_held(
    *, loaded: NeighbourBenchmark, empty: NeighbourBenchmark, held: int, seconds: float
) -> dict[str, tuple[Figures, Figures]]:
    await loaded.hold(held)
    held_samples, reference = Samples(), Samples()
    for _ in range(_TURNS):
        for benchmark, samples in ((empty, reference), (loaded, held_samples)):
            await benchmark.measure(samples, seconds=seconds / _TURNS)
            await benchmark.measure_cpu(samples, seconds=seconds / _TURNS)
    return {f"{held} held": (held_samples.figures(), reference.figures())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", type=int, default=20_000, help="0: leave this situation out")
    parser.add_argument("--burst", type=int, default=10_000, help="0: leave this situation out")
    parser.add_argument("--seconds", type=float, default=20.0, help="for which each situation is measured")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    found = asyncio.run(measure(held=options.held, burst=options.burst, seconds=options.seconds))
    if options.json:
        both = {name: {"found": asdict(mine), "nothing waits": asdict(quiet)} for name, (mine, quiet) in found.items()}
        print(json.dumps(both))
        return
    for name, (figures, quiet) in found.items():
        print(f"{name:28} {figures.beside(quiet)}")


if __name__ == "__main__":
    main()
