from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.engine.node import Node, find_node
from holdfast.engine.sandbox import is_effective, sandboxed

BRIDGE = Path("/cache/baileys-1/bridge-2/bridge.mjs")
SPOOL = Path("/data/spool")


def node(version: str = "v24.19.0") -> Node:
    return Node(executable=Path("/bin/node"), npm_cli=Path("/npm"), version=version)


def test_a_host_may_read_its_code_and_use_the_spool() -> None:
    """It may access no other file and start no child process."""
    program = sandboxed(node(), BRIDGE, spool=SPOOL, environment={})
    assert program.argv == (
        "/bin/node",
        "--permission",
        "--allow-fs-read=/cache/baileys-1/*",
        "--allow-fs-read=/data/spool/*",
        "--allow-fs-write=/data/spool/*",
        "/cache/baileys-1/bridge-2/bridge.mjs",
    )


def test_a_host_gets_only_environment_variables_for_node() -> None:
    """Keys for other programs on the machine are not passed on; temporary files go to the spool."""
    environment = {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PGPASSWORD": "x",
        "HOLDFAST_API_KEY": "x",
        "NODE_EXTRA_CA_CERTS": "/ca.pem",
        "NODE_OPTIONS": "--max-old-space-size=512",
    }
    assert sandboxed(node(), BRIDGE, spool=SPOOL, environment=environment).env == {
        "NODE_EXTRA_CA_CERTS": "/ca.pem",
        "NODE_OPTIONS": "--max-old-space-size=512",
        "TMPDIR": "/data/spool",
    }


@pytest.mark.parametrize(
    ("version", "flag"),
    [("v22.12.0", "--experimental-permission"), ("v22.13.0", "--permission"), ("v25.0.0-nightly", "--permission")],
)
def test_the_flag_is_the_one_that_this_node_knows(version: str, flag: str) -> None:
    """Node renamed the flag."""
    assert flag in sandboxed(node(version), BRIDGE, spool=SPOOL, environment={}).argv


def test_the_sandbox_is_tested_by_running_node(tmp_path: Path) -> None:
    """The check runs Node: a normal one denies files and programs, and a Node that allows them has no sandbox."""
    assert is_effective(find_node())
    careless = tmp_path / "node"
    careless.write_text("#!/bin/sh\necho allowed\necho allowed\n")
    careless.chmod(0o755)
    assert not is_effective(Node(executable=careless, npm_cli=tmp_path, version="v24.19.0"))
    assert not is_effective(Node(executable=tmp_path / "gone", npm_cli=tmp_path, version="v24.19.0"))
