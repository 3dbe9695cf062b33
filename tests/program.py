"""`holdfast …` as a program: its own process, its output, its exit, and the processes that it leaves behind."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.conftest import CACHE

_AT_MOST_S = 60
_MARK = "PROGRAM_OF_A_TEST"
"""In the environment of the program and of everything that it starts."""


class Program:
    """A running `holdfast`. Its output is read as it is printed."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str, folder: Path) -> None:
        self.process = process
        self._mark = mark.encode()
        self._folder = f"={folder.absolute()}/".encode()
        self.out: list[str] = []
        self.err: list[str] = []
        self._news = asyncio.Condition()

    async def read(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        while line := await stream.readline():
            async with self._news:
                lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()

    async def until_printed(self, words: str) -> str:
        """Wait for the first line on either stream that contains these words, and return it."""

        def found() -> str | None:
            return next((line for line in [*self.out, *self.err] if words in line), None)

        try:
            async with asyncio.timeout(_AT_MOST_S), self._news:
                await self._news.wait_for(found)
        except TimeoutError:
            raise AssertionError(f"it did not print {words!r}: {self.out} {self.err}") from None
        return found() or ""

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ends(self, *, within_s: float = _AT_MOST_S) -> int:
        """Wait for its end, and return its exit code; negative for the signal that ended it. There must be no
        traceback.
        """
        try:
            async with asyncio.timeout(within_s):
                code = await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"it did not end within {within_s} s: {self.out} {self.err}") from None
        assert not any("Traceback" in line for line in self.err), "\n".join(self.err)
        return code

    def children(self) -> list[int]:
        """Live processes with this program's environment or, for engine hosts, its spool; without itself."""
        found = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
        return [pid for pid in found if self._is_of_this(pid) and pid != self.process.pid]

    def _is_of_this(self, pid: int) -> bool:
        return self._mark in environment(pid) or self._folder in command_line(pid)


def environment(process: int) -> bytes:
    """The environment that a process was started with; empty when it has ended."""
    try:
        return Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return b""


def command_line(process: int) -> bytes:
    """The command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


@asynccontextmanager
async def program(
    folder: Path, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL, **settings: str
) -> AsyncIterator[Program]:
    """Run `holdfast` in `folder`, created if missing, with only these `settings`; nothing of it outlives the block."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 – a moment, in a test
    number = secrets.token_hex(8)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "holdfast", *arguments,
        cwd=folder,
        env={**_settings(settings), _MARK: number},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    running = Program(process, f"{_MARK}={number}", folder)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(running.read(process.stdout, running.out))
            tasks.create_task(running.read(process.stderr, running.err))
            try:
                yield running
            finally:
                _kill(running)
    finally:
        await process.wait()


_PINNED = "2.3000.1043857760"
"""A client version, so that none is read from the network."""


def _settings(settings: Mapping[str, str]) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    defaults = {"HOLDFAST_PORT": "0", "HOLDFAST_DATA_DIR": "data", "HOLDFAST_CACHE_DIR": str(CACHE / "engine")}
    if "HOLDFAST_WHATSAPP_URL" not in settings:
        defaults["HOLDFAST_WHATSAPP_VERSION"] = _PINNED  # with `auto` a start would query WhatsApp's own site
    return {**others, "COLUMNS": "100", **defaults, **settings}


def _kill(running: Program) -> None:
    for pid in [*running.children(), *([running.process.pid] if running.process.returncode is None else [])]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
