"""`wasim serve` as a process: its output, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

pytestmark = pytest.mark.slow
END_S = 2.0


@asynccontextmanager
async def serving(state_dir: Path, *flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """A running `wasim serve` on free ports, and the line it printed."""
    arguments = ["serve", "--port", "0", "--control-port", "0", "--state-dir", str(state_dir), *flags]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wasim.cli", *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ends_with(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(END_S):
        return await process.wait()


async def test_it_prints_one_line_with_its_addresses(tmp_path: Path) -> None:
    """The only thing on standard output is one JSON line with both addresses, and both answer."""
    async with serving(tmp_path) as (process, where):
        assert where.keys() == {"url", "control", "media", "ca"}
        assert where["url"].startswith("ws://127.0.0.1:")
        assert where["url"].endswith("/ws/chat")
        async with aiohttp.ClientSession() as http:
            async with http.get(where["control"] + "/links") as answer:
                assert await answer.json() == []
            async with http.ws_connect(where["url"]) as socket:
                assert not socket.closed
        process.send_signal(signal.SIGTERM)
        assert await ends_with(process) == 0
        assert process.stdout is not None
        assert await process.stdout.read() == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_it(tmp_path: Path, number: signal.Signals) -> None:
    """Within two seconds, also with a client and a control connection open."""
    async with serving(tmp_path) as (process, where), aiohttp.ClientSession() as http:
        await http.ws_connect(where["url"])
        async with http.get(where["control"] + "/links"):
            process.send_signal(number)
            assert await ends_with(process) == 0


async def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """With --until-stdin-closes it ends with standard input; without the option, the end of standard input has no
    effect.
    """
    async with serving(tmp_path / "a", "--until-stdin-closes") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        assert await ends_with(process) == 0
    async with serving(tmp_path / "b") as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await process.wait()


async def test_state_outlives_the_process(tmp_path: Path) -> None:
    """Also after a kill -9: accounts and the server's own keys exist at the next start."""
    seen = []
    for _ in range(2):
        async with serving(tmp_path) as (process, where), aiohttp.ClientSession() as http:
            async with http.post(where["control"] + "/phones", json={"number": "962302"}) as answer:
                lid = (await answer.json())["lid"]
            async with http.get(where["control"] + "/certificate") as answer:
                seen.append((lid, (await answer.json())["rootKey"]))
            process.kill()
            await process.wait()
    assert seen[0] == seen[1]


async def refusal(*flags: str) -> str:
    """The error of a start that fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wasim.cli", "serve", *flags, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    return errors.decode()


async def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    """A port in use ends the start with one sentence."""
    async with serving(tmp_path / "a") as (_, where):
        port = where["url"].rpartition(":")[2].partition("/")[0]
        control = where["control"].rpartition(":")[2]
        for ports in ((port, "0"), ("0", control)):
            flags = ["--port", ports[0], "--control-port", ports[1], "--state-dir", str(tmp_path / "b")]
            said = await refusal(*flags)
            assert said.startswith(f"wasim can't listen on 127.0.0.1, ports {ports[0]} (clients), {ports[1]} (control)")
            assert "Traceback" not in said


async def test_a_state_directory_has_one_process(tmp_path: Path) -> None:
    """A second process on the same directory would overwrite the records of the first: it is refused with one
    sentence.
    """
    async with serving(tmp_path) as (_, _where):
        said = await refusal("--port", "0", "--control-port", "0", "--state-dir", str(tmp_path))
    assert "is it in use?" in said
    assert "Traceback" not in said
