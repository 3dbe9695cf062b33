"""The HTTP application over an in-process gateway (`tests.world`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.api_client import ApiClient, make_client
from tests.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
async def client(world: World) -> AsyncIterator[ApiClient]:
    """A client of a running gateway without sessions."""
    async with world.running() as gateway:
        yield make_client(world, gateway)
