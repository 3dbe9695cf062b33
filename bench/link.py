"""Measures login time and memory of a session: Holdfast and bare Baileys in one run against wasim.

    uv run bench/link.py [--sessions 20] [--repeats 3] [--json]

Each repeat restarts both with sessions that were paired before, and logs in one session of each alternately. Bare
Baileys is one Node process as in Baileys' own example, with state in files; a login lasts from reading the state to
`open`. Holdfast is `holdfast serve` with its engine host; a login lasts from the decision to connect to the open link,
by the gateway's log, and includes reading credentials from the database. Memory is the resident memory of all processes
some seconds after the last login. Compare the ratios of one run: times depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.bare import Bare, bare_baileys
from bench.figures import Row, Spread, rss_mb, table
from tests.processes import Wasim, running_wasim
from tests.served import Served, served

_SETTLE_S = 10
_LOGIN_S = 30


@dataclass(slots=True)
class Figures:
    """Measurements of one of the two in all repeats."""

    logins_ms: list[float] = field(default_factory=list)
    base_mb: list[float] = field(default_factory=list)
    """Memory without a session."""
    full_mb: list[float] = field(default_factory=list)
    """Memory with all sessions."""

    def each_mb(self, sessions: int) -> list[float]:
        return [(full - base) / sessions for full, base in zip(self.full_mb, self.base_mb, strict=True)]


class LinkBenchmark:
    def __init__(self, folder: Path, wasim: Wasim, gateway: Served, sessions: int) -> None:
        self._folder = folder
        self._wasim = wasim
        self._gateway = gateway
        self._names = [f"bench-{n}" for n in range(sessions)]
        self.holdfast = Figures()
        self.bare = Figures()

    async def pair(self) -> None:
        """Link separate phones to each; all sessions are closed afterwards."""
        async with bare_baileys(self._folder / "bare", self._wasim) as bare:
            for n, name in enumerate(self._names):
                await self._gateway.pair(name, str(962780000000 + n), self._wasim)
                await self._gateway.client.post(f"/v1/sessions/{name}/stop")
                await bare.pair(name, str(962790000000 + n))

    async def repeat(self) -> None:
        """Restart both and measure memory, all logins alternately, and memory again."""
        await self._gateway.stop()
        await self._gateway.start()
        async with bare_baileys(self._folder / "bare", self._wasim) as bare:
            self._note_memory(bare, self.holdfast.base_mb, self.bare.base_mb)
            for name in self._names:
                self.holdfast.logins_ms.append(await self._log_in(name))
                self.bare.logins_ms.append(await bare.open(name))
            await asyncio.sleep(_SETTLE_S)
            self._note_memory(bare, self.holdfast.full_mb, self.bare.full_mb)
            for name in self._names:
                await self._gateway.client.post(f"/v1/sessions/{name}/stop")

    def _note_memory(self, bare: Bare, holdfast_mb: list[float], bare_mb: list[float]) -> None:
        holdfast_mb.append(sum(rss_mb(pid) for pid in self._gateway.processes()))
        bare_mb.append(bare.rss_mb())

    async def _log_in(self, name: str) -> float:
        await self._gateway.client.post(f"/v1/sessions/{name}/start")
        await self._gateway.until_state(name, "connected", within_s=_LOGIN_S)
        began = _at(self._gateway.log_lines(f"Session {name} stopped → connecting")[-1])
        opened = _at(self._gateway.log_lines(f"Session {name} connecting → connected")[-1])
        return (opened - began).total_seconds() * 1000

    def rows(self) -> list[Row]:
        sessions = len(self._names)
        return [
            Row(
                key="loginMs",
                what="login, connect → open",
                unit="ms",
                holdfast=Spread(self.holdfast.logins_ms),
                bare=Spread(self.bare.logins_ms),
            ),
            Row(
                key="rssPerSessionMb",
                what="memory of one session more",
                unit="MB",
                holdfast=Spread(self.holdfast.each_mb(sessions)),
                bare=Spread(self.bare.each_mb(sessions)),
            ),
            Row(
                key="rssBaseMb",
                what="memory without a session",
                unit="MB",
                holdfast=Spread(self.holdfast.base_mb),
                bare=Spread(self.bare.base_mb),
            ),
            Row(
                key="rssTotalMb",
                what=f"memory with {sessions} sessions",
                unit="MB",
                holdfast=Spread(self.holdfast.full_mb),
                bare=Spread(self.bare.full_mb),
            ),
        ]


def _at(line: str) -> datetime:
    return datetime.fromisoformat(line.split(" ", 1)[0])


async def measure(*, sessions: int, repeats: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            running_wasim(folder / "wasim") as wasim,
            served(folder, wasim=wasim, HOLDFAST_ENGINE_HOSTS="1") as gateway,
        ):
            benchmark = LinkBenchmark(folder, wasim, gateway, sessions)
            await benchmark.pair()
            for _ in range(repeats):
                await benchmark.repeat()
            return benchmark.rows()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    rows = asyncio.run(measure(sessions=options.sessions, repeats=options.repeats))
    if options.json:
        found = {row.key: row.as_json() for row in rows}
        print(json.dumps({"sessions": options.sessions, "repeats": options.repeats, **found}))
        return
    print(f"{options.sessions} sessions each, {options.repeats} times, alternately; median (min–max)\n\n{table(rows)}")


if __name__ == "__main__":
    main()
