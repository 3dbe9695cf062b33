"""Real processes that tests start: a running wasim."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wasim:
    """A running simulated WhatsApp: where clients connect, and its control interface."""

    url: str
    control: str
    ca: str
    """File with the certificate that clients of the media host must trust."""
    http: aiohttp.ClientSession

    async def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST to the control interface; a body may have several megabytes."""
        data = io.BytesIO(json.dumps(body or {}).encode())
        async with self.http.post(self.control + path, data=data, headers=JSON) as answer:
            return await self._read(path, answer)

    async def get(self, path: str, **query: str) -> Any:
        async with self.http.get(self.control + path, params=query) as answer:
            return await self._read(path, answer)

    async def patch(self, path: str, body: dict[str, Any]) -> Any:
        async with self.http.patch(self.control + path, json=body) as answer:
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


class _Life:
    """A wasim process that can be restarted on the same ports and state."""

    def __init__(self, state_dir: Path, options: Sequence[str]) -> None:
        self._arguments = ["--state-dir", str(state_dir), *options]
        self._ports = ["0", "0", "0"]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> dict[str, str]:
        """Returns its addresses."""
        names = ("--port", "--control-port", "--media-port")
        ports = [word for pair in zip(names, self._ports, strict=True) for word in pair]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "wasim.cli", "serve", *ports, "--until-stdin-closes", *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            where: dict[str, str] = json.loads(await self._process.stdout.readline())
        self._ports = [str(urlsplit(where[name]).port) for name in ("url", "control", "media")]
        return where

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def end(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            await self.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class KillableWasim(Wasim):
    """A wasim whose process can be killed and restarted; it keeps its addresses."""

    life: _Life

    async def kill(self) -> None:
        """`kill -9`."""
        await self.life.kill()

    async def start(self) -> None:
        await self.life.start()


@asynccontextmanager
async def killable_wasim(state_dir: Path, *options: str) -> AsyncIterator[KillableWasim]:
    """A wasim on free ports. It ends with the block, and also when the test run is killed.

    options: further command line options.
    """
    life = _Life(state_dir, options)
    where = await life.start()
    try:
        async with aiohttp.ClientSession() as http:
            yield KillableWasim(url=where["url"], control=where["control"], ca=where["ca"], http=http, life=life)
    finally:
        await life.end()


@asynccontextmanager
async def running_wasim(state_dir: Path, *options: str) -> AsyncIterator[Wasim]:
    """The same for tests that do not kill it."""
    async with killable_wasim(state_dir, *options) as wasim:
        yield wasim
