"""What a large history of one company costs it and its neighbours.

    uv run python -m bench.history [--messages 100000] [--companies 10] [--seconds 30] [--json]

Companies on one gateway with real Baileys write one message a second each to known chats, in turn. Their times from
POST to 202 and from acceptance to WhatsApp's ack are measured while nothing else happens, and again while one more
company is linked that stores its phone's whole history. Memory is the highest resident memory of the gateway and of its
engine hosts in the same time, seen four times a second; the first figure of both is that before the link.
Goal: memory is bounded, and the p95 of the neighbours at most doubles.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.figures import percentile, rss_mb
from bench.load import Caller, callers
from tests.processes import Wasim, running_wasim
from tests.served import Served, served

COMPANY, NUMBER = "archive", "962780000000"
_CHATS = 100
_EVERY_S = 1.0
_STORED_WITHIN_S = 1200
_SEEN_EVERY_S = 0.25


@dataclass(slots=True)
class Samples:
    """What was measured in one situation."""

    accepts_ms: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    acks_ms: list[float] = field(default_factory=list)
    gateway_mb: list[float] = field(default_factory=list)
    hosts_mb: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    accept_p95_ms: float
    ack_p95_ms: float
    gateway_mb: float
    hosts_mb: float

    @classmethod
    def of(cls, samples: Samples) -> Figures:
        return cls(
            accept_p95_ms=percentile(samples.accepts_ms, 95),
            ack_p95_ms=percentile(samples.acks_ms, 95),
            gateway_mb=max(samples.gateway_mb),
            hosts_mb=max(samples.hosts_mb),
        )


class HistoryBenchmark:
    def __init__(self, wasim: Wasim, gateway: Served, companies: int) -> None:
        self._wasim = wasim
        self._gateway = gateway
        self._chats = {f"company-{n}": [f"9627900{n:02}0{chat}0" for chat in range(5)] for n in range(companies)}

    async def prepare(self) -> None:
        for n, (company, chats) in enumerate(self._chats.items()):
            await self._gateway.pair(company, str(962780000001 + n), self._wasim)
            for chat in chats:
                await self._wasim.post("/phones", {"number": chat})
                first = await self._gateway.send(company, chat, "before")
                await self._gateway.until_message(first["id"], "delivered", "read", within_s=60)

    async def serve_history(self, messages: int) -> None:
        await self._wasim.post("/phones", {"number": NUMBER})
        each = messages // _CHATS
        chats = [
            {"chat": f"9627700000{n:02}@s.whatsapp.net", "count": each, "name": f"Person {n}"} for n in range(_CHATS)
        ]
        await self._wasim.post(f"/phones/{NUMBER}/history", {"chats": chats})

    async def store_history(self, messages: int) -> float:
        """Link the company; returns the seconds until all of it is stored."""
        began = time.perf_counter()
        await self._gateway.client.put(f"/v1/sessions/{COMPANY}", {"history": "full"})
        await self._gateway.pair(COMPANY, NUMBER, self._wasim)
        async with asyncio.timeout(_STORED_WITHIN_S):
            while (await self._gateway.session(COMPANY))["history"]["messages"] < messages:  # noqa: ASYNC110 – of another process
                await asyncio.sleep(0.5)
        return time.perf_counter() - began

    async def measure(self, is_over: Callable[[], bool]) -> Samples:
        """All companies write, until `is_over`."""
        samples = Samples()
        async with callers(self._gateway, count=len(self._chats)) as open_ones, asyncio.TaskGroup() as tasks:
            for n, (caller, company) in enumerate(zip(open_ones, self._chats, strict=True)):
                first_s = n * _EVERY_S / len(self._chats)
                tasks.create_task(self._write(caller, company, samples, first_s=first_s, is_over=is_over))
            while not is_over():
                self._note_memory(samples)
                await asyncio.sleep(_SEEN_EVERY_S)
        for id_ in samples.ids:
            samples.acks_ms.append(await self._ack_ms(id_))
        return samples

    async def _write(
        self, caller: Caller, company: str, samples: Samples, *, first_s: float, is_over: Callable[[], bool]
    ) -> None:
        await asyncio.sleep(first_s)
        chats = itertools.cycle(self._chats[company])
        while not is_over():
            began = time.perf_counter()
            answer = await caller.post(f"/v1/sessions/{company}/messages", {"to": next(chats), "text": "hello"})
            samples.accepts_ms.append((time.perf_counter() - began) * 1000)
            samples.ids.append(answer["id"])
            await asyncio.sleep(max(0.0, _EVERY_S - (time.perf_counter() - began)))

    async def _ack_ms(self, message_id: str) -> float:
        seen = await self._gateway.until_message(message_id, "sent", "delivered", "read", within_s=60)
        took = datetime.fromisoformat(seen["sentAt"]) - datetime.fromisoformat(seen["acceptedAt"])
        return took.total_seconds() * 1000

    def _note_memory(self, samples: Samples) -> None:
        with suppress(FileNotFoundError, StopIteration):  # a host that has just ended
            samples.hosts_mb.append(sum(rss_mb(pid) for pid in self._gateway.hosts()))
        samples.gateway_mb.append(rss_mb(self._gateway.pid))


async def measure(*, messages: int, companies: int, seconds: float) -> tuple[Figures, Figures, float]:
    """Figures before and during, and the seconds until the history was stored."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            running_wasim(folder / "wasim") as wasim,
            served(folder, wasim=wasim, NODE_EXTRA_CA_CERTS=wasim.ca) as gateway,
        ):
            benchmark = HistoryBenchmark(wasim, gateway, companies)
            await benchmark.prepare()
            await benchmark.serve_history(messages)
            until = time.perf_counter() + seconds
            before = await benchmark.measure(lambda: time.perf_counter() >= until)
            async with asyncio.TaskGroup() as tasks:
                storing = tasks.create_task(benchmark.store_history(messages))
                during = await benchmark.measure(storing.done)
            return Figures.of(before), Figures.of(during), storing.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--companies", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30.0, help="for which the situation before is measured")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    before, during, took_s = asyncio.run(
        measure(messages=options.messages, companies=options.companies, seconds=options.seconds)
    )
    if options.json:
        print(json.dumps({"before": asdict(before), "during": asdict(during), "seconds": took_s}))
        return
    print(f"{options.messages} messages of history stored in {took_s:.0f} s\n")
    for key, value in asdict(during).items():
        quiet = asdict(before)[key]
        print(f"{key:16} {quiet:8.1f} before, {value:8.1f} during ({value / quiet:.2f} ×)")


if __name__ == "__main__":
    main()
