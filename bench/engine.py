"""Measures the bridge and bare Baileys in one run against wasim: memory, login time, texts per second.

uv run python -m bench.engine [--sessions 50] [--texts 2000] [--in-flight 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from holdfast.base.clock import SystemClock
from holdfast.engine.baileys.install import install
from holdfast.engine.host import EngineHost, HostProgram
from holdfast.engine.node import Node, find_node
from holdfast.session.engine import Acked, AnyReport, CutLink, LinkClosed, LinkOpened, OpenLink, QrShown, Send
from tests.doubles.engine_recorder import Recorder
from tests.processes import Wasim, running_wasim

CACHE = Path(__file__).parent.parent / ".cache"
SETTLE_S = 25
"""Baileys buffers the events of a first connection for up to 20 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    rss_base_bytes: int
    rss_sessions_bytes: int
    logins_ms: list[float]
    texts_per_s: float
    cpu_ms_a_text: float
    """Processor time of the Node process, more meaningful than the rate on a busy machine."""


class EngineBenchmark:
    """One host with many sessions; link numbers: 2n+1 pairs session n, 2n+2 is its first login, 1000+n its second."""

    def __init__(self, host: EngineHost, listener: EngineListener, wasim: Wasim) -> None:
        self.host, self.recorder, self.wasim = host, listener.recorder, wasim
        self.acks: dict[str, asyncio.Event] = {}
        self.recorder.engine = host
        listener.benchmark = self

    async def pair(self, n: int) -> None:
        link = 2 * n + 1
        store = self.recorder.store(link)
        self.recorder.stored[link + 1] = self.recorder.stored[1000 + n] = store
        await self.wasim.post("/phones", {"number": number(n)})
        self.open(link, None)
        shown = await self.recorder.wait(QrShown, link)
        await self.wasim.post(f"/phones/{number(n)}/scan", {"qr": shown.qr})
        await self.recorder.wait(LinkClosed, link)
        self.open(link + 1, store.credentials)
        await self.recorder.wait(LinkOpened, link + 1)
        self.host.command(CutLink(link=link + 1))
        await self.recorder.wait(LinkClosed, link + 1)

    async def log_in(self, n: int) -> float:
        began = time.monotonic()
        self.open(1000 + n, self.recorder.store(1000 + n).credentials)
        await self.recorder.wait(LinkOpened, 1000 + n)
        return (time.monotonic() - began) * 1000

    def open(self, link: int, credentials: str | None) -> None:
        self.host.command(OpenLink(link=link, company=str(link), credentials=credentials, url=self.wasim.url))

    async def rss(self) -> int:
        await asyncio.sleep(6)  # the next heartbeat
        assert self.host.heartbeat is not None
        return self.host.heartbeat.rss_bytes

    async def send(self, n: int) -> None:
        whatsapp_id = f"3EB0CC{n:06}"
        self.acks[whatsapp_id] = asyncio.Event()
        to = f"{number(1)}@s.whatsapp.net"
        self.host.command(Send(link=1000, whatsapp_id=whatsapp_id, to=to, content={"text": f"hello {whatsapp_id}"}))
        await self.acks[whatsapp_id].wait()

    async def texts_per_s(self, texts: int, in_flight: int) -> float:
        numbers = iter(range(1, texts + 1))

        async def lane() -> None:
            for n in numbers:
                await self.send(n)

        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(in_flight):
                tasks.create_task(lane())
        return texts / (time.monotonic() - began)


class EngineListener:
    """Wakes the senders at their acks, and does not store reports: the recorder's list would grow without limit."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.benchmark: EngineBenchmark | None = None

    def report(self, report: AnyReport) -> None:
        if isinstance(report, Acked) and self.benchmark is not None:
            self.benchmark.acks[report.whatsapp_id].set()
        self.recorder.report(report)

    def host_lost(self, *, detail: str) -> None:
        self.recorder.host_lost(detail=detail)


def number(n: int) -> str:
    return str(962780000000 + n)


async def measure_bridge(node: Node, bridge: Path, options: argparse.Namespace) -> Figures:
    listener = EngineListener(Recorder())
    program = HostProgram(argv=[str(node.executable), str(bridge)])

    def start() -> EngineHost:
        return EngineHost(program, listener=listener, clock=SystemClock())

    with tempfile.TemporaryDirectory() as state:
        async with running_wasim(Path(state)) as wasim:
            async with start() as host:
                benchmark = EngineBenchmark(host, listener, wasim)
                for n in range(options.sessions):
                    await benchmark.pair(n)
                await asyncio.sleep(2)
            async with start() as host:  # a new one, without the garbage of pairing
                benchmark = EngineBenchmark(host, listener, wasim)
                base = await benchmark.rss()
                logins = [await benchmark.log_in(n) for n in range(options.sessions)]
                await asyncio.sleep(SETTLE_S)
                full = await benchmark.rss()
                listener.recorder.reports.clear()
                await benchmark.send(0)
                cpu_s = cpu_seconds(host.pid or 0)
                rate = await benchmark.texts_per_s(options.texts, options.in_flight)
                cpu_s = cpu_seconds(host.pid or 0) - cpu_s
    return Figures(
        rss_base_bytes=base,
        rss_sessions_bytes=full,
        logins_ms=logins,
        texts_per_s=rate,
        cpu_ms_a_text=cpu_s * 1000 / options.texts,
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure_bare(node: Node, bridge: Path, options: argparse.Namespace) -> Figures:
    script = bridge.parent.parent / "bare_baileys.mjs"
    script.write_text((Path(__file__).parent / "bare_baileys.mjs").read_text())
    with tempfile.TemporaryDirectory() as state:
        async with running_wasim(Path(state)) as wasim:
            file = str(Path(state) / "auths.json")
            for _ in ("pair", "measure"):
                process = await asyncio.create_subprocess_exec(
                    str(node.executable), str(script), wasim.url, wasim.control,
                    str(options.sessions), str(options.texts), str(options.in_flight), file,
                    stdout=asyncio.subprocess.PIPE,
                )  # fmt: skip
                out, _ = await process.communicate()
    told = json.loads(out)
    return Figures(
        rss_base_bytes=told["rssBase"],
        rss_sessions_bytes=told["rssSessions"],
        logins_ms=told["loginsMs"],
        texts_per_s=told["textsPerSecond"],
        cpu_ms_a_text=told["cpuMsAText"],
    )


def show(name: str, figures: Figures, sessions: int) -> None:
    each = (figures.rss_sessions_bytes - figures.rss_base_bytes) / sessions / 1e6
    logins = sorted(figures.logins_ms)
    print(
        f"{name:8} RSS {figures.rss_base_bytes / 1e6:.0f} MB, + {each:.2f} MB a session · login median "
        f"{statistics.median(logins):.0f} ms, max {logins[-1]:.0f} ms · {figures.texts_per_s:.0f} texts/s acked, "
        f"{figures.cpu_ms_a_text:.1f} ms CPU of Node each"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=20)
    options = parser.parse_args()
    node = find_node()
    bridge = install(CACHE / "engine", node=node, progress=print)
    show("bridge", await measure_bridge(node, bridge, options), options.sessions)
    show("bare", await measure_bare(node, bridge, options), options.sessions)


if __name__ == "__main__":
    asyncio.run(main())
