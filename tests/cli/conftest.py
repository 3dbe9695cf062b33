"""Commands against an in-process gateway (`tests.gateway_harness`) that listens on a real port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.api.api_keys import add_api_keys
from holdfast.api.backups import add_backups
from holdfast.api.server import HttpServer
from tests.api.api_client import api_of, registry_of
from tests.backup_service import backup_service_of
from tests.cli.command import Command
from tests.gateway_harness import GatewayHarness

KEY = "a-key-of-a-test-of-commands"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    made = GatewayHarness(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def alone(tmp_path: Path) -> Command:
    """Commands on a machine without a Holdfast."""
    return Command(tmp_path, {"HOLDFAST_URL": "http://127.0.0.1:9"})


@pytest.fixture
async def holdfast(harness: GatewayHarness, tmp_path: Path) -> AsyncIterator[Command]:
    """Commands that find a running gateway, and have its key."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with harness.running() as gateway, asyncio.TaskGroup() as tasks:
            registry = registry_of(harness, keys=KEY)
            api = api_of(harness, gateway, registry)
            add_backups(api, backup_service_of(gateway, harness.database, tmp_path / "backups", clock=harness.clock))
            add_api_keys(api, registry)
            server = HttpServer(api)
            tasks.create_task(server.serve(sockets=[listener]))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            try:
                yield Command(tmp_path, {"HOLDFAST_URL": url, "HOLDFAST_API_KEY": KEY})
            finally:
                server.stop()
