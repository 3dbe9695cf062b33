"""README.md and docs/examples.md are carried out as they are pasted, against a simulated WhatsApp.

Two things differ from what a person types: ports are free ones, and `uv run` runs what is installed already.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import CACHE
from tests.processes import Wasim
from tests.served import Served, served

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COMPANY, NUMBER, FRIEND = "962302", "962790000002", "962790000099"
_UV = """#!/bin/sh
shift
case $1 in wasim) shift; exec "$PYTHON" -m wasim.cli "$@";; *) shift; exec "$PYTHON" -m holdfast "$@";; esac
"""
_PATIENCE_S = 60


def blocks(page: str, language: str, *, heading: str) -> list[str]:
    """The blocks of a section, in order."""
    text = (ROOT / page).read_text("utf-8")
    section = re.search(rf"^#+ {heading}\n(.*?)(?=^#+ [A-Z]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, heading
    return re.findall(rf"^```{language}\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)


@asynccontextmanager
async def running(*command: str, folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Process]:
    """A program that ends with the block, and whatever it started with it."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={**others, **settings}, stdin=PIPE, stdout=PIPE, stderr=STDOUT,
        start_new_session=True, limit=1 << 20,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 15)
        await process.communicate()


async def until(process: Process, *words: str) -> str:
    """All that the program has said when the last of these words comes, in their order."""
    assert process.stdout is not None
    said, left = "", list(words)
    async with asyncio.timeout(_PATIENCE_S):
        while left:
            line = (await process.stdout.readline()).decode()
            assert line, f"it ended without {left[0]!r}: {said}"
            said += line
            while left and left[0] in said:
                left.pop(0)
    return said


async def finished(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(_PATIENCE_S):
        said = (await process.stdout.read()).decode()
        assert await process.wait() == 0, said
    return said


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


# README.


async def test_the_readme_without_a_phone(tmp_path: Path, bridge: Path) -> None:
    """Three terminals, as they stand: a company is linked, a message leaves, a link is cut."""
    shims = tmp_path / "bin"
    shims.mkdir()
    (shims / "uv").write_text(_UV)
    (shims / "uv").chmod(0o755)
    settings = {
        "PATH": f"{shims}:{os.environ['PATH']}", "PYTHON": sys.executable, "HOLDFAST_CACHE_DIR": str(CACHE / "engine"),
    }  # fmt: skip
    ports = {port: free_port() for port in ("8090", "8091", "3001")}
    first, second, third = (
        re.sub("|".join(ports), lambda port: ports[port[0]], block)
        for block in blocks("README.md", "sh", heading="The same without a phone")
    )
    assert first != third
    async with running("bash", "-ec", first, folder=tmp_path, settings=settings) as whatsapp:
        await until(whatsapp, "ws://127.0.0.1:")
        async with running("bash", "-ec", second, folder=tmp_path, settings=settings) as gateway:
            await until(gateway, "Holdfast listens on")
            async with running("bash", "-ec", third, folder=tmp_path, settings=settings) as person:
                said = await finished(person)
    assert '"state":"pairing"' in said.replace(" ", "")
    assert '"to":"962790000099"' in said.replace(" ", "")
    assert "problem" not in said, said


# docs/examples.md.


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim, bridge: Path) -> AsyncIterator[Served]:
    """A linked company, and somebody who has written to it."""
    await wasim.post("/phones", {"number": FRIEND})
    async with served(tmp_path, wasim=wasim) as running_gateway:
        await running_gateway.pair(COMPANY, NUMBER, wasim)
        await wasim.post(f"/phones/{FRIEND}/send", {"to": NUMBER, "text": "is it ready?"})
        yield running_gateway


async def test_the_python_example(gateway: Served, tmp_path: Path) -> None:
    """It sends, waits for the outcome and reads the inbox."""
    (block,) = blocks("docs/examples.md", "python", heading="Python")
    async with running(sys.executable, "-c", block, folder=tmp_path, settings=gateway.settings_of_commands) as example:
        said = await finished(example)
    assert re.match(r"(sent|delivered|read) None\n", said), said
    assert f"{FRIEND}@s.whatsapp.net text is it ready?" in said


async def test_the_node_example(gateway: Served, tmp_path: Path, node_bin: Path) -> None:
    """It sends, and shows events as they come."""
    (block,) = blocks("docs/examples.md", "js", heading="Node")
    (tmp_path / "example.mjs").write_text(block, "utf-8")
    settings = gateway.settings_of_commands
    async with running(str(node_bin), "example.mjs", folder=tmp_path, settings=settings) as example:
        await until(example, "msg_")
        async with chatting(gateway):
            await until(example, "event: message.")


async def test_the_curl_example(gateway: Served, tmp_path: Path) -> None:
    """It sends, lists, and shows events as they come."""
    (block,) = blocks("docs/examples.md", "sh", heading="curl")
    (tmp_path / "holdfast-data").mkdir()
    (tmp_path / "holdfast-data" / "api-key").write_text(gateway.settings_of_commands["HOLDFAST_API_KEY"])
    block = block.replace("http://127.0.0.1:3000", gateway.settings_of_commands["HOLDFAST_URL"])
    async with running("bash", "-ec", block, folder=tmp_path, settings={}) as example, chatting(gateway):
        said = await until(example, '"items"', "event: message.")
    assert re.search(r'"state":\s*"(queued|sending)"', said), said


@asynccontextmanager
async def chatting(gateway: Served) -> AsyncIterator[None]:
    """Messages leave until the block ends: a stream that begins at some time sees some of them."""

    async def chat() -> None:
        while True:
            message = await gateway.send(COMPANY, FRIEND, "one more")
            await gateway.until_message(message["id"], "delivered", "read", within_s=30)

    async with asyncio.TaskGroup() as tasks:
        talking = tasks.create_task(chat())
        try:
            yield
        finally:
            talking.cancel()
