"""Code blocks of documents, as people paste them, and running them as programs."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^#+ (?P<heading>[^\n]*)\n|^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
_UV = """#!/bin/sh
shift
case $1 in wasim) shift; exec "$PYTHON" -m wasim.cli "$@";; *) shift; exec "$PYTHON" -m holdfast "$@";; esac
"""
_PATIENCE_S = 60


def all_blocks(page: str) -> list[tuple[str, str, str]]:
    """Heading, language and text of each block of a page."""
    found, heading = list[tuple[str, str, str]](), ""
    for each in _BLOCK.finditer((ROOT / page).read_text("utf-8")):
        if each["heading"] is not None:
            heading = each["heading"]
        else:
            found.append((heading, each["language"], each["text"]))
    return found


def blocks(page: str, language: str, *, heading: str) -> list[str]:
    """The blocks of a section, in order."""
    found = [text for at, in_, text in all_blocks(page) if (at, in_) == (heading, language)]
    assert found, heading
    return found


def with_uv(folder: Path) -> dict[str, str]:
    """An environment in which `uv run` uses what is already installed."""
    shims = folder / "bin"
    shims.mkdir()
    (shims / "uv").write_text(_UV)
    (shims / "uv").chmod(0o755)
    return {"PATH": f"{shims}:{os.environ['PATH']}", "PYTHON": sys.executable}


@asynccontextmanager
async def running(
    *command: str, folder: Path, settings: Mapping[str, str], terminal: int | None = None
) -> AsyncIterator[Process]:
    """Run a program for the duration of the block, with everything it starts. `terminal`: a descriptor for its
    output."""
    mine = ("HOLDFAST_", "COLUMNS", "LINES")  # the size is that of `terminal`, not of the test run's terminal
    others = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={**others, **settings}, stdin=PIPE, stdout=PIPE if terminal is None else terminal,
        stderr=STDOUT, start_new_session=True, limit=1 << 20,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 15)
        await process.communicate()


async def until(process: Process, *words: str) -> str:
    """The program's output until the last of these words, which must appear in their order."""
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
    """All output of the program, after it has exited with 0."""
    assert process.stdout is not None
    async with asyncio.timeout(_PATIENCE_S):
        said = (await process.stdout.read()).decode()
        assert await process.wait() == 0, said
    return said
