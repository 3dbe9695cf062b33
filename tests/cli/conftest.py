"""Commands against an in-process gateway (`tests.world`) that listens on a real port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.api.api_keys import add_api_keys
from holdfast.api.backups import add_backups
from holdfast.api.routes import make_api
from holdfast.api.server import HttpServer
from tests.api.api_client import registry_of
from tests.backup_service import backup_service_of
from tests.cli.command import Command
from tests.world import World

KEY = "a-key-of-a-test-of-commands"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def alone(tmp_path: Path) -> Command:
    """Commands on a machine without a Holdfast."""
    return Command(tmp_path, {"HOLDFAST_URL": "http://127.0.0.1:9"})


@pytest.fixture
async def holdfast(world: World, tmp_path: Path) -> AsyncIterator[Command]:
    """Commands that find a running gateway, and have its key."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with world.running() as gateway, asyncio.TaskGroup() as tasks:
            registry = registry_of(world, keys=KEY)
            api = make_api(
                gateway,
                registry,
                world.diagnoser(),
                sending=world.sending,
                people=world.people,
                operations=world.operations,
                outbox=world.outbox,
                inbox=world.inbox,
                chat_rows=world.chats,
                contact_rows=world.contacts,
                labels=world.labels,
                call_rows=world.calls,
                limits=world.limits,
                events=world.events,
                webhooks=world.webhooks,
                media=world.media_service(),
                quotas=world.quotas(),
                settings={},
                is_writable=lambda: world.database.is_writable,
            )
            add_backups(api, backup_service_of(gateway, world.database, tmp_path / "backups", clock=world.clock))
            add_api_keys(api, registry)
            server = HttpServer(api)
            tasks.create_task(server.serve(sockets=[listener]))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            try:
                yield Command(tmp_path, {"HOLDFAST_URL": url, "HOLDFAST_API_KEY": KEY})
            finally:
                server.stop()
