"""The HTTP application over an in-process gateway (`tests.gateway_harness`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.api_client import ApiClient, make_client
from tests.gateway_harness import GatewayHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    made = GatewayHarness(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
async def client(harness: GatewayHarness) -> AsyncIterator[ApiClient]:
    """A client of a running gateway without sessions."""
    async with harness.running() as gateway:
        yield make_client(harness, gateway)
