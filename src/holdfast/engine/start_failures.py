"""Why a program ended right after its start: the line that says so, and the cure.

Node writes its reason first, and a stack trace, its version or further errors after it, so the last line is often
misleading.
"""

from __future__ import annotations

import errno
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_TELLING = re.compile(
    r"NODE_OPTIONS|bad option|illegal value|requires an argument|fatal|out of memory|loading shared libraries"
    r"|cannot allocate|permission denied|operation not permitted|version `|^\S*error\b",
    re.IGNORECASE,
)
_MEMORY = re.compile(r"memory|cannot allocate|reserve", re.IGNORECASE)
_OPTION = re.compile(r"NODE_OPTIONS|bad option|illegal value|requires an argument")
_MODULE = re.compile(r"Cannot find module '(?:[^']*/)?([^']+)'")


def reason_line(lines: Sequence[str]) -> str:
    """The line of standard error that names the reason; the last one if none does."""
    found = next((line for line in lines if _TELLING.search(line)), lines[-1] if lines else "")
    return re.sub(r"^(#+|/\S+:)\s*", "", found.strip())


def failure(outcome: str, lines: Sequence[str], environment: Mapping[str, str]) -> str:
    """A sentence about a program that ended at its start, with the cure. `outcome`: `exited with code 9`."""
    reason = reason_line(lines)
    parts = [outcome if not reason else f"{reason.rstrip('.')} ({outcome})"]
    is_memory, options = bool(_MEMORY.search(reason)), environment.get("NODE_OPTIONS", "")
    module = _MODULE.search(reason)
    if options and (is_memory or _OPTION.search(reason) or (module is not None and module[1] in options)):
        parts.append("The environment variable NODE_OPTIONS is set, and Node obeys it: correct or unset it")
    if is_memory:
        limits = "`ulimit -v`, MemoryMax= of systemd, the container's limit"
        parts.append(f"Node did not get the memory that it needs: raise the limit ({limits})")
    return ". ".join(parts) + "."


def os_failure(executable: str, error: OSError) -> str:
    """What the operating system refused, and the cure."""
    match error.errno:
        case errno.ENOENT if Path(executable).exists():
            why = (
                f"it was built for another system than this one ({platform.machine()}): the loader it names is missing"
            )
        case errno.ENOEXEC:
            why = f"it was built for another architecture: this machine is {platform.machine()}"
        case errno.EACCES | errno.EPERM:
            why = (
                "permission denied: it must be executable by this user (`chmod a+rx`), on a file system that is not "
                "mounted noexec"
            )
        case _:
            why = error.strerror or str(error)
    return f"{executable}: {why}"


def host_failure(program: str, error: OSError) -> str:
    """Why an engine host could not be started, and the cure."""
    # uvloop reports used-up descriptors as "Unknown error -1".
    if error.errno in {errno.EMFILE, errno.ENFILE} or "Unknown error" in str(error.strerror):
        return (
            "The engine host can't be started: too many open files. Close connections to Holdfast, or raise the limit "
            "of open files (`ulimit -n`, LimitNOFILE= of systemd); the start will be retried."
        )
    return f"The engine host can't be started: {os_failure(program, error)}."
