"""A gateway as people run it: `holdfast serve` as a process, used by HTTP, stopped, or killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from holdfast.client import Client, Json, connect
from tests.conftest import CACHE
from tests.databases import migrated
from tests.processes import Wasim

T = TypeVar("T")

KEY = "hf_key_of_a_test"
_START_S = 60
_STOP_S = 15
_POLL_INTERVAL_S = 0.05
"""Polling interval for what only HTTP or the process table can show."""


async def eventually(
    look: Callable[[], Awaitable[T | None]], *, within_s: float, what: str, every_s: float = _POLL_INTERVAL_S
) -> T:
    """Call `look` until it returns a true value, and return that."""
    found: T | None = None
    try:
        async with asyncio.timeout(within_s):
            while not (found := await look()):  # noqa: ASYNC110 – of another process; nothing here could set an event
                await asyncio.sleep(every_s)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {within_s:g} s; last seen: {found!r}") from None
    return found


class Served:
    """One data folder, and the gateway that serves it, which can be restarted."""

    def __init__(self, folder: Path, *, whatsapp_url: str, settings: Mapping[str, str]) -> None:
        self._data_dir = folder / "data"
        self._log = folder / "holdfast.log"
        others = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        self._environment = {
            **others,
            "HOLDFAST_PORT": "0",
            "HOLDFAST_API_KEY": KEY,
            "HOLDFAST_DATA_DIR": str(self._data_dir),
            "HOLDFAST_CACHE_DIR": str(CACHE / "engine"),
            "HOLDFAST_WHATSAPP_URL": whatsapp_url,
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._held = AsyncExitStack()
        self.up = asyncio.Event()
        """Set while the gateway answers HTTP."""
        self.client: Client
        self.url = ""

    @property
    def settings_of_commands(self) -> dict[str, str]:
        """Settings with which `holdfast …` talks to this gateway."""
        return {"HOLDFAST_URL": self.url, "HOLDFAST_API_KEY": KEY}

    async def start(self) -> None:
        """Start it; returns when it reports that it listens."""
        if "HOLDFAST_DATABASE_URL" not in self._environment and not self._data_dir.exists():
            self._data_dir.mkdir(mode=0o700)
            self.database.write_bytes(migrated())
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "holdfast", "serve", "--until-stdin-closes",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_S):
            line = (await self._process.stdout.readline()).decode()
        url = re.search(r"http://\S+", line)
        assert url, f"the gateway did not start: {self.log_tail()}"
        self.url = url[0]
        self.client = await self._held.enter_async_context(connect(url[0], KEY))
        self.up.set()

    async def stop(self) -> int | None:
        """Stop it as an operator does: SIGTERM, then by force after a while. Returns the exit code."""
        if (process := self._process) is None:
            return None
        self.up.clear()
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            raise AssertionError(f"the gateway did not stop: {self.log_tail()}") from None
        finally:
            await self._part()
        return process.returncode

    async def kill(self) -> None:
        """`kill -9` of only the gateway's own process."""
        assert self._process is not None
        self.up.clear()
        self._process.kill()
        await self._part()

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self._data_dir / "holdfast.db"

    @property
    def pid(self) -> int:
        """Process id of the gateway's own process."""
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        """Stop the gateway's own process with SIGSTOP, as if its machine hung; its engine host keeps running."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def close(self) -> None:
        """End all processes of this gateway, whatever the test did."""
        if self._process is not None:
            await self.kill()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    async def _part(self) -> None:
        assert self._process is not None
        await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None
        await self._held.aclose()

    # Observations from outside.

    def processes(self) -> list[int]:
        """All live processes that serve this data folder: the gateway and its engine hosts."""
        mark, spool = f"HOLDFAST_DATA_DIR={self._data_dir}".encode(), f"{self._data_dir}/spool".encode()
        processes = Path("/proc").glob("[0-9]*")
        return [
            int(path.name) for path in processes if mark in _read(path / "environ") or spool in _read(path / "cmdline")
        ]

    def hosts(self) -> list[int]:
        """The engine hosts among them."""
        gateway = None if self._process is None else self._process.pid
        return [pid for pid in self.processes() if pid != gateway]

    def log_tail(self) -> str:
        """The end of the log, which covers all starts."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    def log_lines(self, *words: str) -> list[str]:
        """The lines of the log that contain all these words."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line for line in lines if all(word in line for word in words)]

    # Actions of users.

    async def pair(self, company: str, number: str, wasim: Wasim) -> None:
        """Link a phone by scanning the QR code from the API."""
        await self.client.put(f"/v1/sessions/{company}")
        code = await self.client.get(f"/v1/sessions/{company}/qr")
        await wasim.post(f"/phones/{number}/scan", {"qr": code["qr"]})
        await self.until_state(company, "connected", within_s=20)

    async def send(self, company: str, to: str, text: str, *, key: str | None = None) -> Json:
        headers = {} if key is None else {"Idempotency-Key": key}
        body = {"to": to, "text": text}
        answer: Json = await self.client.post(f"/v1/sessions/{company}/messages", body, headers)
        return answer

    async def session(self, company: str) -> Json:
        session: Json = await self.client.get(f"/v1/sessions/{company}")
        return session

    async def message(self, message_id: str) -> Json:
        message: Json = await self.client.get(f"/v1/messages/{message_id}")
        return message

    async def messages(self, company: str) -> list[Json]:
        return [message async for message in self.client.items(f"/v1/sessions/{company}/messages")]

    async def inbox(self, company: str) -> list[Json]:
        return [item async for item in self.client.items(f"/v1/sessions/{company}/inbox")]

    async def until_state(self, company: str, state: str, *, within_s: float) -> Json:
        async def look() -> Json | None:
            session = await self.session(company)
            return session if session["state"] == state else None

        return await eventually(look, within_s=within_s, what=f"{company} {state}")

    async def until_message(self, message_id: str, *states: str, within_s: float) -> Json:
        async def look() -> Json | None:
            message = await self.message(message_id)
            return message if message["state"] in states else None

        return await eventually(look, within_s=within_s, what=f"a message {' or '.join(states)}")


def _read(file: Path) -> bytes:
    """The content of a file in /proc; empty when the process has ended or belongs to somebody else."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


@asynccontextmanager
async def served(folder: Path, *, wasim: Wasim, **settings: str) -> AsyncIterator[Served]:
    """A running gateway in its own folder; none of its processes outlives the block.

    settings: further environment variables.
    """
    gateway = Served(folder, whatsapp_url=wasim.url, settings=settings)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.close()
