"""One Chromium, one wasim and one gateway for all browser tests: each page of each width is a context of its own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.parts import Wasim, running_wasim
from tests.served import Served, served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium; `scripts/test` installs it."""
    found = shutil.which("chromium")
    assert found, "there is no chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        await running.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whatsapp(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wasim]:
    async with running_wasim(tmp_path_factory.mktemp("wasim")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, whatsapp: Wasim, bridge: Path) -> AsyncIterator[Served]:
    async with served(tmp_path_factory.mktemp("gateway"), wasim=whatsapp) as running:
        yield running
