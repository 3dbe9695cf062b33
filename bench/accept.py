"""Measures how messages are accepted while WhatsApp is unreachable, and how they are sent when it is back.

    uv run bench/accept.py [--messages 10000] [--chats 50] [--callers 32] [--json]

There is one session. Its link is cut and WhatsApp refuses new ones. Many callers post concurrently, each on a
keep-alive connection, and wait for each 202, which means that the message is on the disk. Then WhatsApp accepts links
again: the messages are sent, and the recipient's inbox of each chat is compared with the order of acceptance. Memory is
that of Python and Node: before, with all messages waiting, and after. The callers run on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.figures import cpu_s, percentile, rss_mb
from bench.load import Caller, callers
from tests.processes import Wasim, running_wasim
from tests.served import Served, served

NAME = "bench"
_NUMBER = "962780000001"
_CONTACTS = 962790000000
_DRAINED_S = 300.0
_POLL_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Megabytes."""

    python: float
    node: float

    def __str__(self) -> str:
        return f"Python {self.python:.0f} MB, Node {self.node:.0f} MB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    messages: int
    accepted_per_s: float
    accept_p50_ms: float
    accept_p99_ms: float
    accept_cpu_ms: float
    """Processor time of Python for each message, which depends less on other load of the machine."""
    drained_per_s: float
    chats: int
    chats_in_order: int
    """Number of chats whose recipient has every message once, in the order of acceptance."""
    before: Memory
    waiting: Memory
    after: Memory

    @property
    def is_good(self) -> bool:
        return self.chats_in_order == self.chats


class AcceptBenchmark:
    def __init__(self, wasim: Wasim, gateway: Served, *, messages: int, chats: int) -> None:
        self._wasim = wasim
        self._gateway = gateway
        self._messages = messages
        self._contacts = [str(_CONTACTS + n) for n in range(chats)]
        self._accepted: dict[str, list[str]] = {contact: [] for contact in self._contacts}
        """The texts of each chat in the order of acceptance."""

    async def measure(self, *, callers_count: int) -> Figures:
        await self._prepare()
        before = self._memory()
        refusal = await self._lose_whatsapp()
        cpu_before_s = cpu_s(self._gateway.pid)
        rate, took_ms = await self._accept(callers_count)
        accept_cpu_ms = (cpu_s(self._gateway.pid) - cpu_before_s) * 1000 / self._messages
        waiting = self._memory()
        _progress(f"accepted {self._messages} at {rate:.0f} a second; {waiting}")
        await self._wasim.delete(f"/faults/{refusal['id']}")
        drained_per_s = await self._drain()
        in_order = [await self._is_in_order(contact) for contact in self._contacts]
        return Figures(
            messages=self._messages,
            accepted_per_s=rate,
            accept_p50_ms=percentile(took_ms, 50),
            accept_p99_ms=percentile(took_ms, 99),
            accept_cpu_ms=accept_cpu_ms,
            drained_per_s=drained_per_s,
            chats=len(self._contacts),
            chats_in_order=sum(in_order),
            before=before,
            waiting=waiting,
            after=self._memory(),
        )

    async def _prepare(self) -> None:
        """Link a phone and send a first message to each chat, so that only messages are measured."""
        await self._gateway.pair(NAME, _NUMBER, self._wasim)
        for contact in self._contacts:
            await self._wasim.post("/phones", {"number": contact})
        first = [await self._gateway.send(NAME, contact, "before") for contact in self._contacts]
        for message in first:
            await self._gateway.until_message(message["id"], "delivered", "read", within_s=30)

    async def _lose_whatsapp(self) -> Any:
        refusal = await self._wasim.fault("refuse")
        await self._wasim.fault("cut")
        await self._gateway.until_state(NAME, "reconnecting", within_s=10)
        return refusal

    async def _accept(self, count: int) -> tuple[float, list[float]]:
        """Return messages per second, and the milliseconds of each. Each caller has its own chats, in a known order."""
        took_ms: list[float] = []
        began = time.perf_counter()
        async with callers(self._gateway, count=count) as open_ones, asyncio.TaskGroup() as tasks:
            for n, caller in enumerate(open_ones):
                texts = range(n, self._messages, count)
                tasks.create_task(self._post_all(caller, self._contacts[n::count], texts, took_ms))
        return self._messages / (time.perf_counter() - began), took_ms

    async def _post_all(self, caller: Caller, contacts: list[str], texts: range, took_ms: list[float]) -> None:
        for n in texts:
            contact = contacts[n // texts.step % len(contacts)]
            text = f"text {n}"
            began = time.perf_counter()
            await caller.post(f"/v1/sessions/{NAME}/messages", {"to": contact, "text": text})
            took_ms.append((time.perf_counter() - began) * 1000)
            self._accepted[contact].append(text)

    async def _drain(self) -> float:
        """Return messages per second, from the link's return to the last arrival."""
        await self._gateway.client.post(f"/v1/sessions/{NAME}/reconnect")
        await self._gateway.until_state(NAME, "connected", within_s=20)
        began, wanted = time.perf_counter(), self._messages + len(self._contacts)
        while (arrived := (await self._wasim.get("/stats"))["messages"]) < wanted:
            if time.perf_counter() - began > _DRAINED_S:
                raise RuntimeError(f"{wanted - arrived} messages did not arrive within {_DRAINED_S:.0f} s")
            _progress(f"arrived {arrived} of {wanted}")
            await asyncio.sleep(_POLL_INTERVAL_S)
        return self._messages / (time.perf_counter() - began)

    async def _is_in_order(self, contact: str) -> bool:
        inbox = await self._wasim.get(f"/phones/{contact}/inbox")
        arrived = [item["text"] for item in inbox if item["text"] != "before"]
        return arrived == self._accepted[contact] and all(item["count"] == 1 for item in inbox)

    def _memory(self) -> Memory:
        hosts = self._gateway.hosts()
        return Memory(python=rss_mb(self._gateway.pid), node=sum(map(rss_mb, hosts)))


async def measure(*, messages: int, chats: int, callers_count: int) -> Figures:
    async with AsyncExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        wasim = await held.enter_async_context(running_wasim(folder / "wasim"))
        gateway = await held.enter_async_context(served(folder, wasim=wasim))
        benchmark = AcceptBenchmark(wasim, gateway, messages=messages, chats=chats)
        return await benchmark.measure(callers_count=callers_count)


def _progress(line: str) -> None:
    print(f"  {line}", file=sys.stderr)


def table(figures: Figures) -> str:
    lines = {
        "accepted while disconnected": f"{figures.accepted_per_s:.0f} messages/s",
        "  POST to 202": f"p50 {figures.accept_p50_ms:.1f} ms, p99 {figures.accept_p99_ms:.1f} ms",
        "  Python's processor time": f"{figures.accept_cpu_ms:.2f} ms a message",
        "left after the return": f"{figures.drained_per_s:.0f} messages/s",
        "  chats whole, once, in order": f"{figures.chats_in_order} of {figures.chats}",
        "memory before": str(figures.before),
        f"  with {figures.messages} waiting": str(figures.waiting),
        "  when all had left": str(figures.after),
    }
    return "\n".join(f"{name:30} {value}" for name, value in lines.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--chats", type=int, default=50)
    parser.add_argument("--callers", type=int, default=32, help="at most one for each chat")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    count = min(options.callers, options.chats)
    figures = asyncio.run(measure(messages=options.messages, chats=options.chats, callers_count=count))
    print(json.dumps(asdict(figures)) if options.json else table(figures))
    if not figures.is_good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
