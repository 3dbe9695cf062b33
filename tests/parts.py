"""Real parts that tests start by themselves: a running wasim."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp


@dataclass(frozen=True, slots=True, kw_only=True)
class Wasim:
    """A running simulated WhatsApp: where clients connect, and its control interface."""

    url: str
    control: str
    ca: str
    """File with the certificate that clients of the media host must trust."""
    http: aiohttp.ClientSession

    async def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        async with self.http.post(self.control + path, json=body or {}) as answer:
            return await self._read(path, answer)

    async def get(self, path: str, **query: str) -> Any:
        async with self.http.get(self.control + path, params=query) as answer:
            return await self._read(path, answer)

    async def delete(self, path: str) -> Any:
        async with self.http.delete(self.control + path) as answer:
            return await self._read(path, answer)

    async def fault(self, kind: str, **details: Any) -> Any:
        return await self.post("/faults", {"kind": kind, **details})

    async def _read(self, path: str, answer: aiohttp.ClientResponse) -> Any:
        text = await answer.text()
        assert answer.ok, f"wasim {path}: {answer.status} {text}"
        return json.loads(text) if text else None


@asynccontextmanager
async def running_wasim(state_dir: Path) -> AsyncIterator[Wasim]:
    """A wasim on free ports; it ends with the block, and also when the test run is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wasim.cli", "serve", "--port", "0", "--control-port", "0", "--until-stdin-closes",
        "--state-dir", str(state_dir),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            where = json.loads(await process.stdout.readline())
        async with aiohttp.ClientSession() as http:
            yield Wasim(url=where["url"], control=where["control"], ca=where["ca"], http=http)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
