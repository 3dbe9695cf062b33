"""Login time and memory of a session: the whole of Holdfast beside bare Baileys, both against wasim, in one run.

    uv run python -m bench.link [--sessions 20]

Holdfast: `holdfast serve` in a process of its own and its engine host; a login is timed by the gateway's own log, from
the decision to connect to the open link, credentials read from the store included. Bare Baileys: one Node process with
all sockets, keys in memory, from `makeWASocket` to `open`. Memory is resident, of all processes together. The figures
are to be compared with each other, not across machines.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.engine import CACHE, measure_bare
from holdfast.engine.baileys.install import install
from holdfast.engine.node import find_node
from tests.parts import running_wasim
from tests.served import Served, served

_SETTLE_S = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    logins_ms: Sequence[float]
    rss_base_mb: float
    rss_full_mb: float

    def each_mb(self, sessions: int) -> float:
        return (self.rss_full_mb - self.rss_base_mb) / sessions


async def measure_holdfast(sessions: int) -> Figures:
    companies = [f"bench-{n}" for n in range(sessions)]
    with tempfile.TemporaryDirectory() as folder:
        async with running_wasim(Path(folder) / "wasim") as wasim, served(Path(folder), wasim=wasim) as gateway:
            for n, company in enumerate(companies):
                await gateway.pair(company, str(962780000000 + n), wasim)
                await gateway.client.post(f"/v1/sessions/{company}/stop")
            await gateway.stop()  # a fresh start, without pairing's garbage
            await gateway.start()
            base = _rss_mb(gateway)
            for company in companies:
                await gateway.client.post(f"/v1/sessions/{company}/start")
                await gateway.until_state(company, "connected", within_s=30)
            await asyncio.sleep(_SETTLE_S)
            logins = [_login_ms(gateway, company) for company in companies]
            return Figures(logins_ms=logins, rss_base_mb=base, rss_full_mb=_rss_mb(gateway))


def _login_ms(gateway: Served, company: str) -> float:
    """Between the last two lines that tell of it."""
    began = _at(gateway.log_lines(f"Session {company} stopped → connecting")[-1])
    opened = _at(gateway.log_lines(f"Session {company} connecting → connected")[-1])
    return (opened - began).total_seconds() * 1000


def _at(line: str) -> datetime:
    return datetime.fromisoformat(line.split(" ", 1)[0])


def _rss_mb(gateway: Served) -> float:
    kib = 0
    for pid in gateway.processes():
        status = Path(f"/proc/{pid}/status").read_text()
        kib += int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    return kib / 1024


def _show(name: str, figures: Figures, sessions: int) -> None:
    logins = sorted(figures.logins_ms)
    print(
        f"{name:9} login median {statistics.median(logins):6.1f} ms (min {logins[0]:.1f}, max {logins[-1]:.1f})   "
        f"memory {figures.rss_base_mb:5.0f} MB + {figures.each_mb(sessions):5.2f} MB a session "
        f"= {figures.rss_full_mb:.0f} MB"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20)
    options = parser.parse_args()
    options.texts, options.in_flight = 20, 1
    node = find_node()
    bridge = install(CACHE / "engine", node=node, progress=print)
    print(f"{options.sessions} sessions each, one after the other; about two minutes …")
    holdfast = await measure_holdfast(options.sessions)
    told = await measure_bare(node, bridge, options)
    bare = Figures(
        logins_ms=told.logins_ms, rss_base_mb=told.rss_base_bytes / 2**20, rss_full_mb=told.rss_sessions_bytes / 2**20
    )
    _show("Holdfast", holdfast, options.sessions)
    _show("bare", bare, options.sessions)
    print(
        f"ratio     login {statistics.median(holdfast.logins_ms) / statistics.median(bare.logins_ms):.2f}   "
        f"memory a session {holdfast.each_mb(options.sessions) / bare.each_mb(options.sessions):.2f}"
    )


if __name__ == "__main__":
    asyncio.run(main())
