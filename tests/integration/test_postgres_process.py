"""The PostgreSQL that tests, benches and chaos commands start."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.served import eventually

pytestmark = pytest.mark.slow

_STARTS_ONE = """
import sys
from tests.postgres_process import running_postgres

with running_postgres() as server:
    print(server.folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
async def test_a_server_ends_with_the_command_that_started_it(ending: signal.Signals) -> None:
    """Whatever ends the command, such as a time limit; nothing of the server is left."""
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _STARTS_ONE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert command.stdout is not None
    assert command.stdin is not None
    folder = Path((await command.stdout.readline()).decode().strip())
    server = _server(folder)
    command.send_signal(ending)
    await command.wait()
    command.stdin.close()

    async def is_gone() -> bool:
        return not any(map(Path.exists, (folder, server)))

    await eventually(is_gone, within_s=20, what="the end of the server")


def _server(folder: Path) -> Path:
    """The directory of its process."""
    pid = (folder / "cluster" / "postmaster.pid").read_text().split()[0]
    assert Path(f"/proc/{pid}").exists()
    return Path(f"/proc/{pid}")
