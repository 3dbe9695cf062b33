"""The dashboard over an in-process gateway (`tests.gateway_harness`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dashboard.browser import Browser, make_browser
from tests.gateway_harness import GatewayHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    made = GatewayHarness(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
async def browser(harness: GatewayHarness) -> AsyncIterator[Browser]:
    """A browser in which nobody is signed in; the gateway has no session."""
    async with harness.running() as gateway:
        yield make_browser(harness, gateway)
