"""The HTTP application over a gateway in the small world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.door import Door, make_door
from tests.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
async def door(world: World) -> AsyncIterator[Door]:
    """A running gateway without sessions."""
    async with world.running() as gateway:
        yield make_door(world, gateway)
