"""The dashboard over an in-process gateway (`tests.world`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dashboard.browser import Browser, make_browser
from tests.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
async def browser(world: World) -> AsyncIterator[Browser]:
    """A browser in which nobody is signed in; the gateway has no session."""
    async with world.running() as gateway:
        yield make_browser(world, gateway)
