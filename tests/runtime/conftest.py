"""An in-process gateway (`tests.gateway_harness`) for every test of the runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway_harness import GatewayHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    made = GatewayHarness(tmp_path)
    yield made
    made.database.close()
