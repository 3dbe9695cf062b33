"""A process with bare Baileys, driven from Python: the baseline without Holdfast."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.figures import rss_mb
from holdfast.engine.baileys.install import install
from holdfast.engine.node import find_node
from tests.conftest import CACHE
from tests.processes import Wasim

_SCRIPT = Path(__file__).with_name("bare.mjs")
_LONGEST_LINE = 2**20


class BareFailed(Exception):
    """Baileys failed; the text is its error message."""


class Bare:
    """Sessions of bare Baileys in one Node process, which reconnect automatically, as in Baileys' own example."""

    def __init__(self, process: asyncio.subprocess.Process, wasim: Wasim) -> None:
        self._process = process
        self._wasim = wasim
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ids = itertools.count(1)
        self._numbers: dict[str, str] = {}

    async def pair(self, name: str, number: str) -> None:
        """Link a device to that phone and disconnect it."""
        self._numbers[name] = number
        await self._ask("open", name=name)
        await asyncio.sleep(1)  # the first data of a new device are written to its folder
        await self.close(name)

    async def open(self, name: str) -> float:
        """Return the milliseconds from reading the session's state to `open`."""
        return float((await self._ask("open", name=name))["ms"])

    async def close(self, name: str) -> None:
        await self._ask("close", name=name)

    async def write(self, name: str, to: str, text: str) -> None:
        """Send a text; returns when Baileys reports it as sent."""
        await self._ask("write", name=name, to=to, text=text)

    async def send(self, name: str, to: str, text: str, *, whatsapp_id: str) -> float:
        """Send a text; returns the milliseconds until WhatsApp's ack."""
        return float((await self._ask("send", name=name, to=to, text=text, whatsappId=whatsapp_id))["ms"])

    async def load(self, lanes: Sequence[tuple[str, str]], texts: int) -> tuple[list[float], float]:
        """Texts by (session, number) lanes, one at a time in each.

        Milliseconds until each one's ack, and the seconds that all took.
        """
        report = await self._ask("load", lanes=list(lanes), texts=texts // len(lanes))
        return report["tookMs"], report["lastedMs"] / 1000

    @property
    def pid(self) -> int:
        return self._process.pid

    def rss_mb(self) -> float:
        return rss_mb(self.pid)

    async def listen(self) -> None:
        """Read its reports until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = json.loads(line)
            if "qr" in report:
                await self._wasim.post(f"/phones/{self._numbers[report['name']]}/scan", {"qr": report["qr"]})
            elif asked := self._asked.pop(report.get("id", 0), None):
                asked.set_result(report)

    async def _ask(self, what: str, **args: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        number = next(self._ids)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "what": what, **args}).encode() + b"\n")
        report: dict[str, Any] = await answer
        if "error" in report:
            raise BareFailed(f"{what} {args.get('name')}: {report['error']}")
        return report


@asynccontextmanager
async def bare_baileys(folder: Path, wasim: Wasim) -> AsyncIterator[Bare]:
    """Start a new process with the sessions in `folder`, with the same Node and Baileys as Holdfast."""
    node = find_node()
    baileys_dir = install(CACHE / "engine", node=node, progress=print).parent.parent
    process = await asyncio.create_subprocess_exec(
        str(node.executable), str(_SCRIPT), str(baileys_dir), wasim.url, str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    bare = Bare(process, wasim)
    try:
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(bare.listen())
            yield bare
            listening.cancel()
    finally:
        process.stdin.close()
        await process.wait()
