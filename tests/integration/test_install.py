"""Installs Baileys with the real npm: with a registry, from a filled cache without one, and where it is not
possible.
"""

from __future__ import annotations

import concurrent.futures
from pathlib import Path

import pytest

from holdfast.engine.baileys.install import fill_cache, install, locked_version
from holdfast.engine.errors import EngineUnavailable
from holdfast.engine.node import Node, find_node

pytestmark = pytest.mark.slow

NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a registry and with an empty npm cache, as npm sees it."""
    for name in ("registry", "proxy", "https_proxy"):
        monkeypatch.setenv(f"npm_config_{name}", NOWHERE)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "empty"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")


def test_a_second_start_uses_the_complete_installation(tmp_path: Path, node: Node) -> None:
    """The first start installs and logs it; later ones write nothing and log nothing."""
    said: list[str] = []
    bridge = install(tmp_path, node=node, progress=said.append)
    assert bridge.exists()
    assert (bridge.parent.parent / "node_modules" / "baileys" / "package.json").exists()
    assert not list(bridge.parent.glob("*.test.mjs"))
    assert said[0] == f"Installing Baileys {locked_version()}: 68 packages …"
    said.clear()
    installed = (bridge.stat().st_ino, bridge.stat().st_mtime_ns)
    assert install(tmp_path, node=node, progress=said.append) == bridge
    assert (bridge.stat().st_ino, bridge.stat().st_mtime_ns) == installed
    assert said == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".new-")] == []


def test_two_processes_that_start_together_install_once(tmp_path: Path, node: Node) -> None:
    """The second waits for the first, and both use the same complete installation."""
    said: list[str] = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [pool.submit(install, tmp_path, node=node, progress=said.append) for _ in range(2)]
        bridges = {run.result() for run in runs}
    assert len(bridges) == 1
    assert sum(sentence.startswith("Installing") for sentence in said) == 1


def test_an_incomplete_installation_is_replaced(tmp_path: Path, node: Node) -> None:
    """A folder without Baileys in it is installed again."""
    bridge = install(tmp_path, node=node, progress=lambda _: None)
    manifest = bridge.parent.parent / "node_modules" / "baileys" / "package.json"
    manifest.unlink()
    assert install(tmp_path, node=node, progress=lambda _: None) == bridge
    assert manifest.exists()
    assert bridge.exists()


def test_a_filled_cache_replaces_the_registry(tmp_path: Path, node: Node, request: pytest.FixtureRequest) -> None:
    """A cache that `fill_cache` filled elsewhere is sufficient."""
    fill_cache(tmp_path / "cache", node=node, progress=lambda _: None)
    request.getfixturevalue("no_registry")
    bridge = install(tmp_path / "root", node=node, progress=lambda _: None, npm_cache=tmp_path / "cache")
    assert bridge.exists()


@pytest.mark.usefixtures("no_registry")
def test_without_registry_and_cache_the_error_names_both_solutions(tmp_path: Path, node: Node) -> None:
    """It says what failed and how to install from a cache; no incomplete installation is left."""
    with pytest.raises(EngineUnavailable) as caught:
        install(tmp_path / "root", node=node, progress=lambda _: None)
    assert "ECONNREFUSED" in caught.value.sentence
    assert "HOLDFAST_NPM_CACHE=DIR" in caught.value.sentence
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".lock"]


def test_a_folder_that_is_not_a_cache_is_refused(tmp_path: Path, node: Node) -> None:
    """The error is clearer than npm's "only-if-cached"."""
    with pytest.raises(EngineUnavailable, match="is not a cache for Baileys"):
        install(tmp_path / "root", node=node, progress=lambda _: None, npm_cache=tmp_path)


def test_an_unwritable_folder_is_named(tmp_path: Path, node: Node) -> None:
    """With the system's reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineUnavailable, match=r"can't be installed in .*file/root: Not a directory"):
        install(tmp_path / "file" / "root", node=node, progress=lambda _: None)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (None, "there is no"),
        ("#!/bin/sh\necho v18.20.0\n", "Node v18.20.0 at .* is too old: the Baileys bridge needs Node 22 or newer"),
        ("#!/bin/sh\necho hello\n", "is not Node: its answer to a request for its version was 'hello'"),
        ("#!/bin/sh\nexit 1\n", "does not run"),
    ],
)
def test_an_unusable_node_is_refused(tmp_path: Path, script: str | None, says: str) -> None:
    """Missing, too old, another program, broken: the error says which and what to do."""
    node = tmp_path / "node"
    if script is not None:
        node.write_text(script)
        node.chmod(0o755)
    with pytest.raises(EngineUnavailable, match=says):
        find_node(node)
