"""WhatsApp restarts under many sessions of one process: how long until the first, half and all are back.

    uv run python -m bench.fleet_return [--sessions 200] [--down 1] [--fault restart|refuse] [--keep FOLDER] [--json]

Real Baileys in real engine hosts, beside one simulated WhatsApp on the same machine; the last line says what each took
of the processor. Seconds count from the moment when WhatsApp's port is open again. `--fault refuse` adds that it
answers 503 to every new connection for ten seconds after that. `--keep` keeps the paired sessions in a folder for the
next run, also of another version of Holdfast, which makes the two comparable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from bench.figures import cpu_s, percentile
from holdfast.engine.baileys.install import install
from holdfast.engine.node import find_node
from tests.conftest import CACHE
from tests.processes import KillableWasim, killable_wasim
from tests.refused_version import pair_many
from tests.served import Served, eventually, served

_AT_MOST_S = 180
_REFUSED_S = 10
_SETTLE_S = 6
"""After the sessions are connected: the links count as stable, and the machine is quiet."""
_STAMP = re.compile(r"^(\S+)\s.*Session (\S+) \w+ → connected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """One return of a fleet. Seconds count from the moment when WhatsApp can be reached again."""

    sessions: int
    first_s: float
    half_s: float
    p95_s: float
    all_s: float
    connects: int
    """Connections that WhatsApp accepted since then."""
    connects_each_second: tuple[int, ...]
    python_cpu_s: float
    hosts_cpu_s: float
    wasim_cpu_s: float


async def measure(folder: Path, *, sessions: int, down_s: float, fault: str, settings: dict[str, str]) -> Return:
    settings = {"HOLDFAST_PACING_PER_MINUTE": "0", **settings}
    async with killable_wasim(folder / "wasim") as wasim, _gateway(folder, wasim, settings) as gateway:
        known = [each async for each in gateway.client.items("/v1/sessions")]
        if len(known) < sessions:
            await pair_many(gateway, wasim, sessions)
        await eventually(lambda: _connected(gateway, sessions), within_s=_AT_MOST_S, what="all sessions connected")
        await asyncio.sleep(_SETTLE_S)
        return await _restart(gateway, wasim, sessions=sessions, down_s=down_s, fault=fault)


@asynccontextmanager
async def _gateway(folder: Path, wasim: KillableWasim, settings: dict[str, str]) -> AsyncIterator[Served]:
    async with served(folder, wasim=wasim, **settings) as gateway:
        yield gateway


async def _restart(gateway: Served, wasim: KillableWasim, *, sessions: int, down_s: float, fault: str) -> Return:
    before, log_from = await wasim.get("/stats"), len(gateway.log_lines("→ connected"))
    wasim_pid = wasim.life.pid
    cpu = _cpu(gateway, wasim_pid)
    await wasim.fault("restart", downS=down_s)
    await asyncio.sleep(down_s / 2)
    back_at = await _port_open(wasim.url)
    if fault == "refuse":
        await wasim.fault("refuse", status=503, seconds=_REFUSED_S)
        await asyncio.sleep(_REFUSED_S)
        back_at = datetime.now(UTC)
    await eventually(lambda: _connected(gateway, sessions), within_s=_AT_MOST_S, what="all sessions back")
    after = await wasim.get("/stats")
    used = [now - then for now, then in zip(_cpu(gateway, wasim_pid), cpu, strict=True)]
    times = _connect_times(gateway.log_lines("→ connected")[log_from:], back_at)
    begun = [(datetime.fromisoformat(at) - back_at).total_seconds() for at in after["connectTimes"]]
    return Return(
        sessions=sessions,
        first_s=times[0],
        half_s=percentile(times, 50),
        p95_s=percentile(times, 95),
        all_s=times[-1],
        connects=after["connects"] - before["connects"],
        connects_each_second=_by_second(begun),
        python_cpu_s=used[0],
        hosts_cpu_s=used[1],
        wasim_cpu_s=used[2],
    )


def _cpu(gateway: Served, wasim_pid: int) -> tuple[float, float, float]:
    return cpu_s(gateway.pid), sum(cpu_s(pid) for pid in gateway.hosts()), cpu_s(wasim_pid)


def _connect_times(lines: list[str], since: datetime) -> list[float]:
    """When each session was connected, in order, by the gateway's log; a session that was lost again counts last."""
    found: dict[str, float] = {}
    for line in lines:
        if match := _STAMP.match(line):
            found[match[2]] = (datetime.fromisoformat(match[1]) - since).total_seconds()
    return sorted(found.values())


def _by_second(begun: list[float]) -> tuple[int, ...]:
    counts = Counter(int(at) for at in begun if at >= 0)
    return tuple(counts[second] for second in range(max(counts, default=-1) + 1))


async def _port_open(url: str) -> datetime:
    where = urlsplit(url)
    while True:
        try:
            _, writer = await asyncio.open_connection(where.hostname, where.port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return datetime.now(UTC)


async def _connected(gateway: Served, sessions: int) -> bool:
    await asyncio.sleep(0.5)  # each look costs the gateway a page of all sessions
    states = [each["state"] async for each in gateway.client.items("/v1/sessions")]
    return states.count("connected") >= sessions


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast does a fleet come back after WhatsApp's restart?")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--down", type=float, default=1, help="seconds for which WhatsApp is away")
    parser.add_argument("--fault", choices=["restart", "refuse"], default="restart")
    parser.add_argument("--keep", type=Path, help="folder of paired sessions, made when missing")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE", help="setting of the gateway")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    install(CACHE / "engine", node=find_node(), progress=lambda line: print(line, file=sys.stderr))
    settings = dict(each.split("=", 1) for each in asked.setting)
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = asyncio.run(
            measure(folder, sessions=asked.sessions, down_s=asked.down, fault=asked.fault, settings=settings)
        )
    if asked.json:
        print(json.dumps(asdict(found)))
        return
    print(f"{found.sessions} sessions, WhatsApp away for {asked.down:g} s")
    print(
        f"first back {found.first_s:.2f} s, half {found.half_s:.1f} s, p95 {found.p95_s:.1f} s, all {found.all_s:.1f} s"
    )
    print(f"connects {found.connects} ({found.connects / found.sessions:.2f} a session)")
    print(f"a second: {' '.join(map(str, found.connects_each_second))}")
    cpu = (
        f"Python {found.python_cpu_s:.1f} s, engine hosts {found.hosts_cpu_s:.1f} s, WhatsApp {found.wasim_cpu_s:.1f} s"
    )
    print(f"processor: {cpu}")


if __name__ == "__main__":
    main()
