"""A real Redis that a test starts, and can kill, freeze, fill, lock and empty."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis


class RedisProcess:
    """`redis-server` on its own port, without persistence."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options` of redis-server's command line: `"--requirepass", "secret"`."""
        self.folder = folder
        self.port = free_port()
        self.password: str | None = None
        self._options = options
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it empty; returns when it accepts connections."""
        self._process = await asyncio.create_subprocess_exec(
            *with_its_parent(), _program(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--save", "", "--appendonly", "no", "--notify-keyspace-events", "EA", *self._options,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await self.logs("Ready to accept connections")

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        """It never answers, but still accepts connections, because the kernel does that."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    @contextlib.asynccontextmanager
    async def operator(self) -> AsyncIterator[Redis]:
        """A client like an operator's."""
        client = Redis(port=self.port, password=self.password, decode_responses=True)
        try:
            yield client
        finally:
            await client.aclose()

    async def do(self, *command: str | int) -> object:
        async with self.operator() as client:
            pipeline = client.pipeline(transaction=False)
            pipeline.execute_command(*command)
            return (await pipeline.execute())[0]

    async def logs(self, words: str) -> None:
        """Wait until it has logged these words."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(10):
            while words not in (line := (await self._process.stdout.readline()).decode()):
                assert line, f'redis-server ended and has not logged "{words}"'

    async def clients(self) -> set[str]:
        """The connections to it, by their ids."""
        return set(re.findall(r"^id=(\d+)", await self.cli("client", "list"), re.MULTILINE))

    @contextlib.asynccontextmanager
    async def sets(self) -> AsyncIterator[AsyncIterator[str]]:
        """The keys that are written from now on, one by one."""
        async with self.operator() as client, client.pubsub() as channel:
            await channel.subscribe("__keyevent@0__:set")
            messages = channel.listen()
            await anext(messages)  # the subscription is confirmed
            yield (str(message["data"]) async for message in messages)

    async def cli(self, *command: str) -> str:
        """The output of redis-cli."""
        process = await asyncio.create_subprocess_exec(
            "redis-cli", "-p", str(self.port), *command, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate()
        return printed.decode().rstrip("\n")


@contextlib.asynccontextmanager
async def running_redis(folder: Path, *options: str) -> AsyncIterator[RedisProcess]:
    process = RedisProcess(folder, *options)
    await process.start()
    try:
        yield process
    finally:
        await process.end()


def _program() -> str:
    found = shutil.which("redis-server")
    if found is None:
        pytest.fail("redis-server is missing: install it (Debian: apt-get install redis-server) and run this again")
    return found


def with_its_parent() -> list[str]:
    """Arguments that end it with the test run, even when that is killed, if Linux' setpriv is installed."""
    found = shutil.which("setpriv")
    return [] if found is None else [found, "--pdeathsig", "KILL"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
