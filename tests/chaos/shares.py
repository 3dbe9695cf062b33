"""Kill, add, drain and roll three nodes with many sessions: which node runs how many, which sessions moved, and how
long each was disconnected.

    uv run python -m tests.chaos.shares [--sessions 60] [--json]

Real `holdfast serve` processes with real Baileys, on one PostgreSQL and one simulated WhatsApp. All sessions are linked
at the first node before the others start. A session is disconnected from the end of its link until the next one is
open, as WhatsApp sees it, checked every 0.1 s.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from holdfast.base.errors import HoldfastError
from holdfast.engine.baileys.install import install
from holdfast.engine.node import find_node
from tests.conftest import CACHE
from tests.postgres_process import PostgresProcess, running_postgres
from tests.processes import Wasim, running_wasim
from tests.refused_version import pair_many
from tests.served import Served, eventually, served

_print = functools.partial(print, flush=True)
_POLL_INTERVAL_S = 0.1
_SETTLED_S = 60
_WITHIN_S = 60
NODES = ("a", "b", "c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The effect of one operation on the nodes."""

    what: str
    shares: dict[str, int]
    """Sessions of each node a minute later, or when the operation ended."""
    max_logins: int
    """The longest disconnection of one session."""
    logins: int
    longest_away_s: float
    median_away_s: float
    replaced: int
    """Links that WhatsApp closed with 440."""
    doubled: int
    """Number of checks at which a number had two open links."""


@dataclass
class Watch:
    """Checks WhatsApp's links all the time."""

    wasim: Wasim
    numbers: int
    since: dict[str, float] = field(default_factory=dict)
    away: list[float] = field(default_factory=list)
    doubled: int = 0
    known: set[str] = field(default_factory=set)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            counts = Counter(link["number"] for link in await self.wasim.get("/links") if link["state"] == "open")
            now = loop.time()
            self.doubled += sum(count > 1 for count in counts.values())
            self.known |= counts.keys()
            for number in self.known - counts.keys():
                self.since.setdefault(number, now)
            for number in counts.keys() & self.since.keys():
                self.away.append(now - self.since.pop(number))
            await asyncio.sleep(_POLL_INTERVAL_S)

    async def all_open(self) -> None:
        async def look() -> bool:
            open_ones = {link["number"] for link in await self.wasim.get("/links") if link["state"] == "open"}
            return len(open_ones) >= self.numbers

        await eventually(look, within_s=_WITHIN_S, what="all sessions connected")


class Shares:
    def __init__(self, folder: Path, wasim: Wasim, postgres: PostgresProcess, url: str, sessions: int) -> None:
        self._postgres, self._url, self._sessions = postgres, url, sessions
        self._wasim = wasim
        self._watch = Watch(wasim, sessions)
        self.nodes: dict[str, Served] = {}
        self._folder = folder
        self._tasks: asyncio.TaskGroup
        self.steps: list[Step] = []

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            for name in NODES:
                (self._folder / name).mkdir()
                settings = {"HOLDFAST_NODE": name, "HOLDFAST_DATABASE_URL": self._url, "HOLDFAST_ENGINE_HOSTS": "1"}
                self.nodes[name] = await stack.enter_async_context(
                    _node(self._folder / name, self._wasim, settings, starts=name == "a")
                )
            await pair_many(self.nodes["a"], self._wasim, self._sessions)
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            watching = self._tasks.create_task(self._watch.run())
            await self._steps()
            watching.cancel()

    async def _steps(self) -> None:
        nodes = self.nodes
        async with self._step("add b and c"):
            await asyncio.gather(nodes["b"].start(), nodes["c"].start())
            await asyncio.sleep(_SETTLED_S)
        async with self._step("kill -9 c"):
            await nodes["c"].kill()
            await asyncio.sleep(5)
        async with self._step("add c again"):
            await nodes["c"].start()
            await asyncio.sleep(_SETTLED_S)
        async with self._step("drain a, and restart it"):
            await nodes["a"].client.post("/v1/drain")

            async def is_empty() -> bool:
                return not (await nodes["a"].client.get("/v1/drain"))["sessions"]

            await eventually(is_empty, within_s=_WITHIN_S, what="a is empty")
            try:
                await nodes["a"].client.get("/readyz")
            except HoldfastError as error:
                _print(f"/readyz of the drained node: {error}", file=sys.stderr)
            await nodes["a"].stop()
            await nodes["a"].start()
            await asyncio.sleep(_SETTLED_S)
        async with self._step("roll a, b, c"):
            for name in NODES:
                await nodes[name].stop()
                await nodes[name].start()
                await self._watch.all_open()

    @asynccontextmanager
    async def _step(self, what: str) -> AsyncIterator[None]:
        before, watch = await self._counts(), self._watch
        watch.away, watch.doubled = [], 0
        yield
        await watch.all_open()
        after = await self._counts()
        logins = {number: after[0][number] - before[0].get(number, 0) for number in after[0]}
        rows = self._postgres.rows(self._url, "SELECT node, count(*) FROM leases WHERE holder <> '' GROUP BY 1")
        away = sorted(watch.away) or [0.0]
        self.steps.append(
            Step(
                what=what,
                shares={str(node): int(str(count)) for node, count in sorted(rows)},
                max_logins=max(logins.values()),
                logins=sum(logins.values()),
                longest_away_s=round(away[-1], 1),
                median_away_s=round(away[len(away) // 2], 1),
                replaced=after[1] - before[1],
                doubled=watch.doubled,
            )
        )
        _print(self.steps[-1], file=sys.stderr)

    async def _counts(self) -> tuple[dict[str, int], int]:
        stats = await self._wasim.get("/stats")
        replaced = sum(len(node.log_lines("(440)")) for name, node in self.nodes.items() if self._has_log(name))
        return {number: each["logins"] for number, each in stats["numbers"].items()}, replaced

    def _has_log(self, name: str) -> bool:
        return (self._folder / name / "holdfast.log").exists()


@asynccontextmanager
async def _node(folder: Path, wasim: Wasim, settings: dict[str, str], *, starts: bool) -> AsyncIterator[Served]:
    if starts:
        async with served(folder, wasim=wasim, **settings) as node:
            yield node
        return
    node = Served(folder, whatsapp_url=wasim.url, settings=settings)
    try:
        yield node
    finally:
        await node.close()


async def measure(folder: Path, *, sessions: int) -> list[Step]:
    with running_postgres() as postgres:
        async with running_wasim(folder / "wasim") as wasim:
            shares = Shares(folder, wasim, postgres, postgres.new_migrated(), sessions)
            await shares.run()
            return shares.steps


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill, add, drain and roll three nodes with many sessions.")
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    install(CACHE / "engine", node=find_node(), progress=lambda line: _print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory() as folder:
        steps = asyncio.run(measure(Path(folder), sessions=asked.sessions))
    if asked.json:
        _print(json.dumps([asdict(step) for step in steps]))
        return
    for step in steps:
        shares = ", ".join(f"{node} {count}" for node, count in step.shares.items())
        _print(
            f"{step.what}: {shares}; logins {step.logins}, of one session {step.max_logins}; "
            f"away {step.median_away_s} s, at most {step.longest_away_s} s; "
            f"440: {step.replaced}; double: {step.doubled}"
        )


if __name__ == "__main__":
    main()
