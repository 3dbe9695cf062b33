"""The error of a host that does not start shows the line that matters, with a fitting cure."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from holdfast.engine.errors import EngineUnavailable
from holdfast.engine.node import find_node
from holdfast.engine.start_failures import failure, host_failure, os_failure

OPTIONS = {"NODE_OPTIONS": "--require /missing.js"}
TRACE = ["at Module._resolveFilename (node:internal/modules/cjs/loader:1517:15)", "code: 'MODULE_NOT_FOUND',", "}"]


@pytest.mark.parametrize(
    ("lines", "environment", "reason", "cures"),
    [
        (["/opt/bin/node: --bogus is not allowed in NODE_OPTIONS"], OPTIONS,
         "--bogus is not allowed in NODE_OPTIONS", ("NODE_OPTIONS is set",)),
        (["node:internal/modules/cjs/loader:1520", "throw err;", "^", "Error: Cannot find module '/missing.js'", *TRACE,
          "Node.js v24.19.0"], OPTIONS, "Error: Cannot find module '/missing.js'", ("NODE_OPTIONS is set",)),
        (["Error: illegal value for flag --max-old-space-size=x of type size_t", "Try --help for options",
          "/opt/bin/node: bad option: --js-source-phase-imports"], OPTIONS,
         "Error: illegal value for flag --max-old-space-size=x of type size_t", ("NODE_OPTIONS is set",)),
        (["<--- Last few GCs --->", "#", "# Fatal JavaScript out of memory: GC during deserialization", "#",
          "----- Native stack trace -----", "28: 0x7c054e _start [/opt/bin/node]"], OPTIONS,
         "Fatal JavaScript out of memory: GC during deserialization", ("NODE_OPTIONS is set", "raise the limit")),
        (["# Fatal process out of memory: Failed to reserve virtual memory for CodeRange", "1: 0x9a6e91"], {},
         "Fatal process out of memory: Failed to reserve virtual memory for CodeRange", ("`ulimit -v`",)),
        (["/opt/bin/node: error while loading shared libraries: libatomic.so.1: cannot open shared object file"], {},
         "error while loading shared libraries: libatomic.so.1: cannot open shared object file", ()),
        (["Error: Cannot find module '/app/node_modules/baileys/lib/index.js'"], OPTIONS,
         "Error: Cannot find module '/app/node_modules/baileys/lib/index.js'", ()),
        (["it is what it is"], OPTIONS, "it is what it is", ()),
    ],
)  # fmt: skip
def test_the_reason_is_reported_without_the_lines_after_it(
    lines: list[str], environment: dict[str, str], reason: str, cures: tuple[str, ...]
) -> None:
    """The reason is neither Node's version nor a stack frame, and a cure is given only if it fits."""
    sentence = failure("exited with code 1", lines, environment)
    assert sentence.startswith(f"{reason} (exited with code 1).")
    assert all(cure in sentence for cure in cures)
    assert ("NODE_OPTIONS is set" in sentence) == ("NODE_OPTIONS is set" in cures)
    assert ("raise the limit" in sentence) == bool(set(cures) - {"NODE_OPTIONS is set"})


def test_a_program_without_output_is_reported_by_its_exit() -> None:
    """The sentence has no empty reason."""
    assert failure("killed by SIGKILL", [], {}) == "killed by SIGKILL."


def test_errors_of_the_system_are_explained(tmp_path: Path) -> None:
    """Another architecture, another C library, no permission, and no file have sentences of their own."""
    (tmp_path / "node").touch()
    words = {errno.ENOENT: "another system", errno.ENOEXEC: "another architecture", errno.EACCES: "chmod a+rx"}
    for number, expected in words.items():
        assert expected in os_failure(str(tmp_path / "node"), OSError(number, "x"))
    assert os_failure("/none", OSError(errno.ENOENT, "No such file")) == "/none: No such file"


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(60), 0o755, "built for another architecture"),
        (b"#!/no/such/loader\n", 0o755, "built for another system"),
        (b"#!/bin/sh\necho 'node: --bogus is not allowed in NODE_OPTIONS' >&2; exit 9\n", 0o755,
         "--bogus is not allowed in NODE_OPTIONS (exited with code 9)"),
    ],
)  # fmt: skip
def test_a_node_that_does_not_run_is_explained(tmp_path: Path, content: bytes, mode: int, words: str) -> None:
    """The sentence is the one that `holdfast check` and a start show."""
    node = tmp_path / "node"
    node.write_bytes(content)
    node.chmod(mode | stat.S_IRUSR)
    with pytest.raises(EngineUnavailable) as refused:
        find_node(node)
    assert words in refused.value.sentence


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, -1])
def test_exhausted_file_descriptors_are_reported_plainly(number: int) -> None:
    """The error is not `Unknown error -1`, and it contains the cure."""
    assert "too many open files" in host_failure("/bin/node", OSError(number, "Unknown error -1"))
