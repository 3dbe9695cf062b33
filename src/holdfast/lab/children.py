"""Child processes of a lab run: started in a process group of their own, and ended with the run in any case.

Each exits when its standard input is closed, which also happens when this process is killed by `kill -9`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from holdfast.base.errors import HoldfastError

_START_S = 120
_STOP_S = 12


class ChildFailed(HoldfastError):
    """A process of the lab did not start."""

    code = "child-failed"


@contextlib.asynccontextmanager
async def child(module: str, arguments: Sequence[str], *, env: Mapping[str, str], log: Path) -> AsyncIterator[str]:
    """Run `python -m module`; gives the first line it prints. What it logs goes to `log`."""
    with log.open("wb") as log_file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log_file,
            env=dict(env),
            start_new_session=True,
        )
    try:
        yield await _first_line(process, module, log)
    finally:
        await asyncio.shield(_end(process))


async def _first_line(process: asyncio.subprocess.Process, module: str, log: Path) -> str:
    assert process.stdout is not None
    line = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_S):
            line = await process.stdout.readline()
    if not line:
        raise ChildFailed(f"{module} did not start: {_last_lines(log)}")
    return line.decode().strip()


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-5:]) or "it printed nothing"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
