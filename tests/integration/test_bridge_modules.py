"""Runs the bridge's own unit tests (`*.test.mjs`, by Node's test runner), each file as one test."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from holdfast.engine.node import BRIDGE_DIR

pytestmark = pytest.mark.slow

TEST_FILES = sorted(path.name for path in BRIDGE_DIR.glob("*.test.mjs"))


def test_there_are_module_tests() -> None:
    """A moved folder must not pass as "nothing failed"."""
    assert {"gate.test.mjs", "inbound.test.mjs", "keys.test.mjs", "lane.test.mjs", "pipe.test.mjs"} <= set(TEST_FILES)


@pytest.mark.parametrize("name", TEST_FILES)
def test_module(name: str, node_bin: Path, baileys_dir: Path) -> None:
    """All tests in the file pass. They run from beside node_modules, where `baileys` is found by its name."""
    with tempfile.TemporaryDirectory(dir=baileys_dir) as folder:
        for source in BRIDGE_DIR.glob("*.mjs"):
            (Path(folder) / source.name).write_bytes(source.read_bytes())
        done = subprocess.run(
            [node_bin, "--test", "--test-reporter=tap", name],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "\n# pass 0\n" not in done.stdout
