"""What one company's backlog costs itself and its neighbours.

    uv run bench/neighbours.py [--held 20000] [--burst 10000] [--seconds 15] [--json]

Three companies on one gateway with real Baileys. One of them first has nothing waiting, then many messages to new
contacts that WhatsApp's lock holds, then sends a burst at once. In each situation all three send one message every
200 ms to five chats that are known, in turn: slow enough that no message waits for the one before it in its chat. The
times are from POST to 202 and from POST to WhatsApp's ack. Processor time is that of Python, for each message sent.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.figures import cpu_s, percentile
from bench.load import Caller, callers
from tests.processes import Wasim, running_wasim
from tests.served import Served, served

BUSY, NEIGHBOUR, OTHER = "busy", "neighbour", "other"
_NUMBERS = {BUSY: "962780000001", NEIGHBOUR: "962780000002", OTHER: "962780000003"}
_KNOWN = {name: [f"9627900000{n}{chat}" for chat in range(5)] for n, name in enumerate(_NUMBERS)}
_EVERY_S = 0.2
_DRAINED_WITHIN_S = 900
_CALLERS = 16
_BURST_CHATS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one situation."""

    neighbour_accept_p95_ms: float
    neighbour_ack_p95_ms: float
    own_ack_p95_ms: float
    cpu_ms_a_message: float

    def beside(self, quiet: Figures) -> str:
        mine, its = asdict(self), asdict(quiet)
        return ", ".join(f"{name} {mine[name]:.1f} ({mine[name] / its[name]:.2f} ×)" for name in mine)


class Bench:
    def __init__(self, wasim: Wasim, gateway: Served, *, seconds: float) -> None:
        self._wasim = wasim
        self._gateway = gateway
        self._seconds = seconds

    async def prepare(self) -> None:
        for company, number in _NUMBERS.items():
            await self._gateway.pair(company, number, self._wasim)
            for chat in _KNOWN[company]:
                await self._wasim.post("/phones", {"number": chat})
                first = await self._gateway.send(company, chat, "before")
                await self._gateway.until_message(first["id"], "delivered", "read", within_s=60)

    async def measure(self) -> Figures:
        """The latencies of all three, each in chats that are known."""
        accepts: dict[str, list[float]] = {name: [] for name in _NUMBERS}
        acks: dict[str, list[float]] = {name: [] for name in _NUMBERS}
        cpu_before = cpu_s(self._gateway.pid)
        async with callers(self._gateway, count=len(_NUMBERS)) as open_ones, asyncio.TaskGroup() as tasks:
            for caller, company in zip(open_ones, _NUMBERS, strict=True):
                tasks.create_task(self._write(caller, company, accepts[company], acks[company]))
        neighbours = (NEIGHBOUR, OTHER)
        return Figures(
            neighbour_accept_p95_ms=percentile([ms for name in neighbours for ms in accepts[name]], 95),
            neighbour_ack_p95_ms=percentile([ms for name in neighbours for ms in acks[name]], 95),
            own_ack_p95_ms=percentile(acks[BUSY], 95),
            cpu_ms_a_message=(cpu_s(self._gateway.pid) - cpu_before) * 1000 / sum(map(len, accepts.values())),
        )

    async def _write(self, caller: Caller, company: str, accepts: list[float], acks: list[float]) -> None:
        """One message every 200 ms to somebody known; when each was acked is read from the gateway afterwards."""
        ids: list[str] = []
        chats = itertools.cycle(_KNOWN[company])
        until = time.perf_counter() + self._seconds
        while (began := time.perf_counter()) < until:
            answer = await caller.post(f"/v1/sessions/{company}/messages", {"to": next(chats), "text": "hello"})
            accepts.append((time.perf_counter() - began) * 1000)
            ids.append(answer["id"])
            await asyncio.sleep(max(0.0, _EVERY_S - (time.perf_counter() - began)))
        for message_id in ids:
            seen = await self._gateway.until_message(
                message_id, "sent", "delivered", "read", within_s=_DRAINED_WITHIN_S
            )
            took = datetime.fromisoformat(seen["sentAt"]) - datetime.fromisoformat(seen["acceptedAt"])
            acks.append(took.total_seconds() * 1000)

    async def hold(self, count: int) -> None:
        """WhatsApp's lock holds messages to so many new contacts."""
        await self._wasim.fault("reach-out-lock", number=_NUMBERS[BUSY])
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


async def measure(*, held: int, burst: int, seconds: float) -> dict[str, Figures]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wasim = await stack.enter_async_context(running_wasim(folder / "wasim"))
        gateway = await stack.enter_async_context(served(folder, wasim=wasim))
        bench = Bench(wasim, gateway, seconds=seconds)
        await bench.prepare()
        chats = await bench.know()
        found = {"nothing waits": await bench.measure()}
        _say("nothing waits", found)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bench.burst(burst, chats))
            await asyncio.sleep(1)
            found[f"a burst of {burst}"] = await bench.measure()
        _say(f"a burst of {burst}", found)
        await bench.drained()
        await bench.hold(held)
        found[f"{held} held"] = await bench.measure()
        _say(f"{held} held", found)
        return found


def _say(name: str, found: dict[str, Figures]) -> None:
    print(f"  {name}: {found[name]}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", type=int, default=20_000)
    parser.add_argument("--burst", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15.0, help="for which each situation is measured")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    found = asyncio.run(measure(held=options.held, burst=options.burst, seconds=options.seconds))
    if options.json:
        print(json.dumps({name: asdict(figures) for name, figures in found.items()}))
        return
    quiet = next(iter(found.values()))
    for name, figures in found.items():
        print(f"{name:20} {figures.beside(quiet)}")


if __name__ == "__main__":
    main()
