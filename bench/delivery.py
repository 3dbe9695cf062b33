"""Measures the delivery of texts: durable Holdfast and bare Baileys in one Node process, alternately, on one wasim.

    uv run bench/delivery.py [--texts 400] [--repeats 3] [--json]

Both get the same three loads: one session with one text at a time; one session with twenty texts in flight, each to
another contact; twenty sessions with one text each. The next text of a lane starts when WhatsApp acked the one before.

Holdfast is measured from the POST to the time at which it received the ack (`sentAt`); the caller is another process.
The text is on disk before the 202, the new ratchet before the frame is sent, and the ack before the next text starts.
Bare Baileys is measured from `sendMessage` to the raw ack, called within its process, with state in files and no
durability. The times of acks are read from Holdfast's database, which costs Holdfast nothing. Processor time includes
all its processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.bare import Bare, bare_baileys
from bench.figures import Row, Spread, cpu_s, percentile, table
from bench.load import Caller, callers
from tests.processes import Wasim, running_wasim
from tests.served import Served, served

SESSIONS = 20
LONGEST_S = 120
_PAIRED_AT_ONCE = 5
_POLL_INTERVAL_S = 0.002

Lane = tuple[str, str]
"""A session and a contact, with one text in flight at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    key: str
    what: str
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a load."""

    took_ms: list[float]
    """Milliseconds of each text, from the request to the ack."""
    lasted_s: float
    cpu_s: float

    @property
    def figures(self) -> dict[str, float]:
        return {
            "acked": len(self.took_ms) / self.lasted_s,
            "p50": percentile(self.took_ms, 50),
            "p99": percentile(self.took_ms, 99),
            "cpu": self.cpu_s * 1000 / len(self.took_ms),
        }


_UNITS = {"acked": ("acked", "a second"), "p50": ("p50", "ms"), "p99": ("p99", "ms"), "cpu": ("processor time", "ms")}


@dataclass(slots=True, kw_only=True)
class Runs:
    """All runs of one load, of both."""

    load: Load
    ours: list[Run] = field(default_factory=list)
    theirs: list[Run] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        for name, (what, unit) in _UNITS.items():
            yield Row(
                key=f"{self.load.key}.{name}",
                what=f"{self.load.what}: {what}",
                unit=unit,
                holdfast=Spread([run.figures[name] for run in self.ours]),
                bare=Spread([run.figures[name] for run in self.theirs]),
            )


def loads() -> list[Load]:
    one = tuple((_name(0), _contact(n)) for n in range(SESSIONS))
    each = tuple((_name(n), _contact(n)) for n in range(SESSIONS))
    return [
        Load(key="oneByOne", what="1 session, one by one", lanes=one[:1]),
        Load(key="oneSession", what=f"1 session, {SESSIONS} in flight", lanes=one),
        Load(key="manySessions", what=f"{SESSIONS} sessions, one each", lanes=each),
    ]


class OurLanes:
    """Sends texts with Holdfast."""

    def __init__(self, gateway: Served, database: Path) -> None:
        self._gateway = gateway
        self._database = database
        self._waiting: dict[str, asyncio.Future[float]] = {}
        """When each message was acked, by id, in seconds since 1970."""

    async def run(self, lanes: tuple[Lane, ...], texts: int) -> Run:
        took_ms: list[float] = []
        cpu_before_s, began = self._cpu_s(), time.perf_counter()
        async with (
            callers(self._gateway, count=len(lanes)) as open_ones,
            asyncio.timeout(LONGEST_S),
            asyncio.TaskGroup() as tasks,
        ):
            watching = tasks.create_task(self._watch())
            sending = [
                tasks.create_task(self._send_all(caller, lane, texts // len(lanes), took_ms))
                for caller, lane in zip(open_ones, lanes, strict=True)
            ]
            await asyncio.wait(sending)
            lasted_s = time.perf_counter() - began
            watching.cancel()
        return Run(took_ms=took_ms, lasted_s=lasted_s, cpu_s=self._cpu_s() - cpu_before_s)

    async def _send_all(self, caller: Caller, lane: Lane, count: int, took_ms: list[float]) -> None:
        name, contact = lane
        for n in range(count):
            began_at = datetime.now(UTC).timestamp()
            accepted = await caller.post(f"/v1/sessions/{name}/messages", {"to": contact, "text": f"text {n}"})
            acked = self._waiting[accepted["id"]] = asyncio.get_running_loop().create_future()
            took_ms.append((await acked - began_at) * 1000)

    async def _watch(self) -> None:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
            while True:
                for message_id, sent_at in self._acked(database):
                    self._waiting.pop(message_id).set_result(datetime.fromisoformat(sent_at).timestamp())
                await asyncio.sleep(_POLL_INTERVAL_S)

    def _acked(self, database: sqlite3.Connection) -> list[tuple[str, str]]:
        marks = ",".join("?" * len(self._waiting))
        which = f"SELECT id, sent_at FROM outbox WHERE id IN ({marks}) AND sent_at IS NOT NULL"
        return database.execute(which, tuple(self._waiting)).fetchall()

    def _cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in (self._gateway.pid, *self._gateway.hosts()))


class DeliveryBenchmark:
    def __init__(self, wasim: Wasim, gateway: Served, bare: Bare, *, database: Path) -> None:
        self._wasim = wasim
        self._gateway = gateway
        self._bare = bare
        self._ours = OurLanes(gateway, database)

    async def prepare(self, loads: list[Load]) -> None:
        """Link twenty phones to each, and let both query the devices of all contacts."""
        for n in range(SESSIONS):
            await self._wasim.post("/phones", {"number": _contact(n)})
        turns = asyncio.Semaphore(_PAIRED_AT_ONCE)
        await asyncio.gather(*(self._pair(n, turns) for n in range(SESSIONS)))
        for load in loads:
            await self._ours.run(load.lanes, 2 * len(load.lanes))
            await self._bare.load(load.lanes, 2 * len(load.lanes))

    async def _pair(self, n: int, turns: asyncio.Semaphore) -> None:
        async with turns:
            await self._gateway.pair(_name(n), str(962780000000 + n), self._wasim)
            await self._bare.pair(_name(n), str(962785000000 + n))
            await self._bare.open(_name(n))

    async def measure(self, runs: Runs, *, texts: int) -> None:
        runs.ours.append(await self._ours.run(runs.load.lanes, texts))
        before_s = cpu_s(self._bare.pid)
        took_ms, lasted_s = await self._bare.load(runs.load.lanes, texts)
        runs.theirs.append(Run(took_ms=took_ms, lasted_s=lasted_s, cpu_s=cpu_s(self._bare.pid) - before_s))


def _name(n: int) -> str:
    return f"bench-{n}"


def _contact(n: int) -> str:
    return str(962790000000 + n)


async def measure(*, texts: int, repeats: int) -> list[Runs]:
    async with AsyncExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        wasim = await held.enter_async_context(running_wasim(folder / "wasim"))
        gateway = await held.enter_async_context(served(folder, wasim=wasim, HOLDFAST_ENGINE_HOSTS="1"))
        bare = await held.enter_async_context(bare_baileys(folder / "bare", wasim))
        benchmark = DeliveryBenchmark(wasim, gateway, bare, database=folder / "data" / "holdfast.db")
        found = [Runs(load=load) for load in loads()]
        _progress(f"linking {SESSIONS} phones to each")
        await benchmark.prepare(loads())
        for repeat in range(repeats):
            for runs in found:
                await benchmark.measure(runs, texts=texts)
                ours, theirs = runs.ours[-1].figures, runs.theirs[-1].figures
                _progress(
                    f"{repeat + 1}/{repeats} {runs.load.what}: {ours['acked']:.0f} and {theirs['acked']:.0f} a second"
                )
        return found


def _progress(line: str) -> None:
    print(f"  {line}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=400, help="of each, in each run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    found = asyncio.run(measure(texts=options.texts, repeats=options.repeats))
    rows = [row for runs in found for row in runs.rows()]
    if options.json:
        figures = {row.key: row.as_json() for row in rows}
        print(json.dumps({"texts": options.texts, "repeats": options.repeats, **figures}))
        return
    print(f"{options.texts} texts of each, {options.repeats} times, alternately; median (min–max)\n\n{table(rows)}\n")
    for row in rows:
        if row.key.endswith("p50"):
            print(f"{row.what}: {row.holdfast.median - row.bare.median:+.1f} ms")


if __name__ == "__main__":
    main()
