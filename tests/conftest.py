"""Real parts for tests: Node, the installed bridge, a running wasim. Slow ones are created once per test run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holdfast.engine.baileys.install import install
from holdfast.engine.node import Node, find_node
from tests.postgres_process import PostgresProcess, running_postgres
from tests.processes import Wasim, running_wasim

CACHE = Path(__file__).parent.parent / ".cache"


@pytest.fixture(scope="session")
def node() -> Node:
    """The Node that comes with Holdfast."""
    return find_node()


@pytest.fixture(scope="session")
def node_bin(node: Node) -> Path:
    return node.executable


@pytest.fixture(scope="session")
def bridge(node: Node) -> Path:
    """The installed bridge.mjs. It is installed once, into the cache of the checkout, and found there by later runs."""
    return install(CACHE / "engine", node=node, progress=print)


@pytest.fixture(scope="session")
def baileys_dir(bridge: Path) -> Path:
    """The folder that holds node_modules with Baileys."""
    return bridge.parent.parent


@pytest.fixture
async def wasim(tmp_path: Path) -> AsyncIterator[Wasim]:
    """A wasim for one test, on free ports."""
    async with running_wasim(tmp_path / "wasim") as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresProcess]:
    """A PostgreSQL for this test run."""
    with running_postgres() as process:
        yield process
