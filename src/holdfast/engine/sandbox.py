"""What an engine host may access: it runs packages by many authors, and needs little.

Node's permission model denies child processes, worker threads, native addons, and every file except its own code (read)
and the media spool (read and write). The environment contains only variables that configure Node itself: no PATH, and
nothing that belongs to other programs. It limits mistakes and malicious packages; it is not a virtual machine.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from holdfast.engine.host import HostProgram
from holdfast.engine.node import Node

PASSED_ON = frozenset(
    {
        "NODE_EXTRA_CA_CERTS",
        "NODE_OPTIONS",
        "NODE_TLS_REJECT_UNAUTHORIZED",
        "NODE_USE_ENV_PROXY",
        "NODE_USE_SYSTEM_CA",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "UV_THREADPOOL_SIZE",
        "LD_LIBRARY_PATH",
        "LANG",
        "LC_ALL",
        "TZ",
    }
)
"""Names of the environment variables that an engine host inherits."""
_NAMED_PERMISSION = (22, 13)
"""Before this version of Node, the flag was named experimental."""


def sandboxed(node: Node, bridge: Path, *, spool: Path, environment: Mapping[str, str]) -> HostProgram:
    """The program of an engine host.

    bridge: the installed bridge.mjs. spool: the folder for media in both directions. environment: that of this process.
    """
    code = bridge.parent.parent  # node_modules, and the bridge's own folder beside it
    flags = [_permission(node), *_paths("--allow-fs-read", code, spool), *_paths("--allow-fs-write", spool)]
    passed_on = {name: value for name, value in environment.items() if name in PASSED_ON}
    return HostProgram(
        argv=(str(node.executable), *flags, str(bridge)),
        cwd=bridge.parent,
        env={**passed_on, "TMPDIR": str(spool)},
    )


_TRIED = """
const { readFileSync } = require('node:fs'), { spawnSync } = require('node:child_process')
for (const attempt of [() => readFileSync(process.execPath), () => { throw spawnSync(process.execPath).error }])
  try { attempt(); console.log('allowed') } catch (error) { console.log(error?.code) }
"""
_DENIED = ["ERR_ACCESS_DENIED"] * 2
_ANSWERS_WITHIN_S = 20


def is_effective(node: Node) -> bool:
    """Whether this Node really prevents a sandboxed program from reading files and starting programs."""
    argv = [str(node.executable), _permission(node), "-e", _TRIED]
    try:
        done = subprocess.run(  # noqa: S603 – the Node that would run the hosts
            argv, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.split() == _DENIED


def _permission(node: Node) -> str:
    major, minor, *_ = (int(part) for part in node.version.removeprefix("v").split("-")[0].split("."))
    return "--permission" if (major, minor) >= _NAMED_PERMISSION else "--experimental-permission"


def _paths(flag: str, *folders: Path) -> Iterator[str]:
    """Node compares some paths as given, and some with symbolic links resolved."""
    for folder in folders:
        for path in dict.fromkeys((folder.absolute(), folder.resolve())):
            yield f"{flag}={path}/*"
