"""Installs Baileys from the lock file at the first start, and puts the bridge beside it.

Holdfast's wheel contains no node_modules: libsignal is GPL-3.0 and is downloaded from the registry by the user. The
folder is named after the lock file, so each version of Holdfast has its own. It is built under another name and then
renamed, so it is never seen incomplete, and only one process at a time installs. Must never run a package's scripts.

    <root>/baileys-<hash of the lock file>/node_modules/…
    <root>/baileys-<hash of the lock file>/bridge-<hash of the sources>/bridge.mjs
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast.engine.errors import EngineUnavailable
from holdfast.engine.node import BRIDGE_DIR, Node

Progress = Callable[[str], None]

INSTALL_DEADLINE_S = 600
_REGISTRY_NOTE = "holdfast-registry"
"""In a filled cache: the URL of the registry it was filled from, because npm looks up cached packages by URL."""
_NPM_CI = ("ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
           "--fetch-retries=3", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=3000")  # fmt: skip
"""npm's defaults would retry for more than a minute before it reports that there is no registry."""


def install(root: Path, *, node: Node, progress: Progress, npm_cache: Path | None = None) -> Path:
    """The path of the installed bridge.mjs; takes a few milliseconds if installed already. Blocking: run it in a
    thread.

    root: folder for this and later versions. progress: called with messages for people. npm_cache: a folder
    made by `fill_cache`; then the network is not used. Raises `EngineUnavailable`.
    """
    home = root / f"baileys-{_digest([_LOCK_FILE])}"
    bridge = home / f"bridge-{_digest(_sources())}" / "bridge.mjs"
    try:
        if bridge.exists() and _installed_version(home) == locked_version():
            return bridge
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root):
            if _installed_version(home) != locked_version():
                _install_modules(home, node=node, progress=progress, npm_cache=npm_cache)
            _install_bridge(bridge.parent)
    except OSError as error:
        raise EngineUnavailable(
            f"Baileys can't be installed in {root}: {error.strerror or error}. Set HOLDFAST_CACHE_DIR to a folder that "
            "can be written."
        ) from error
    return bridge


def fill_cache(cache: Path, *, node: Node, progress: Progress) -> None:
    """Fill a folder with everything that `install` needs on a machine without a registry. Raises
    `EngineUnavailable`."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        progress(f"Filling {cache} with Baileys {locked_version()}: {_package_count()} packages …")
        registry = _run_npm(node, ["config", "get", "registry"], cwd=cache).strip()
        with tempfile.TemporaryDirectory() as scratch:
            _copy([BRIDGE_DIR / "package.json", _LOCK_FILE], Path(scratch))
            _run_npm(node, [*_NPM_CI, "--cache", str(cache)], cwd=Path(scratch))
        (cache / _REGISTRY_NOTE).write_text(registry + "\n")
    except OSError as error:
        raise EngineUnavailable(f"{cache} can't be filled: {error.strerror or error}.") from error
    progress(f"Filled {cache}: copy it to the other machine, and set HOLDFAST_NPM_CACHE there.")


def locked_version() -> str:
    """The version of Baileys that the lock file pins."""
    version = json.loads(_LOCK_FILE.read_text())["packages"]["node_modules/baileys"]["version"]
    return str(version)


def installed_version(root: Path) -> str | None:
    """The version of Baileys that `install` has put into `root` for this Holdfast; None if it is not installed yet."""
    return _installed_version(root / f"baileys-{_digest([_LOCK_FILE])}")


_LOCK_FILE = BRIDGE_DIR / "package-lock.json"


def _package_count() -> int:
    return sum(1 for name in json.loads(_LOCK_FILE.read_text())["packages"] if name)


def _sources() -> list[Path]:
    return sorted(path for path in BRIDGE_DIR.glob("*.mjs") if not path.name.endswith(".test.mjs"))


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _installed_version(home: Path) -> str | None:
    try:
        return str(json.loads((home / "node_modules" / "baileys" / "package.json").read_text())["version"])
    except (FileNotFoundError, ValueError):
        return None


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    with (root / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install_modules(home: Path, *, node: Node, progress: Progress, npm_cache: Path | None) -> None:
    progress(f"Installing Baileys {locked_version()}: {_package_count()} packages …")
    with _folder_beside(home) as fresh:
        _copy([BRIDGE_DIR / "package.json", _LOCK_FILE], fresh)
        _run_npm(node, [*_NPM_CI, *_cache_arguments(npm_cache)], cwd=fresh)
        if _installed_version(fresh) != locked_version():
            raise EngineUnavailable(
                f"npm installed Baileys {_installed_version(fresh)} where the lock file says {locked_version()}."
            )
        if home.exists():
            shutil.rmtree(home)  # an incomplete installation by an older version
        fresh.rename(home)
    progress(f"Installed Baileys {locked_version()} in {home}.")


def _install_bridge(folder: Path) -> None:
    if folder.exists():
        return
    with _folder_beside(folder) as fresh:
        _copy(_sources(), fresh)
        _copy([BRIDGE_DIR / "package.json"], fresh)  # declares the type of the modules, and their licence
        fresh.rename(folder)


@contextmanager
def _folder_beside(final: Path) -> Iterator[Path]:
    """A new folder that the caller renames to `final`; removed otherwise."""
    fresh = Path(tempfile.mkdtemp(dir=final.parent, prefix=".new-"))
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _copy(files: Sequence[Path], folder: Path) -> None:
    for file in files:
        shutil.copyfile(file, folder / file.name)


def _cache_arguments(npm_cache: Path | None) -> list[str]:
    if npm_cache is None:
        return []
    note = npm_cache / _REGISTRY_NOTE
    if not note.exists():
        raise EngineUnavailable(
            f"{npm_cache} is not a cache for Baileys: it was not made by `holdfast fill-npm-cache DIR`."
        )
    return ["--offline", "--cache", str(npm_cache), "--registry", note.read_text().strip()]


def _run_npm(node: Node, arguments: Sequence[str], *, cwd: Path) -> str:
    try:
        done = subprocess.run(  # noqa: S603 – the Node that was found, and our own words
            [node.executable, node.npm_cli, *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=INSTALL_DEADLINE_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineUnavailable(_failure(f"npm did not finish within {INSTALL_DEADLINE_S} s")) from error
    if done.returncode != 0:
        raise EngineUnavailable(_failure(_npm_complaint(done.stderr)))
    return done.stdout


def _npm_complaint(stderr: str) -> str:
    """The lines of npm that say what is wrong, without its log's path and decoration."""
    lines = [
        re.sub(r"^npm (error|ERR!) ?", "", line) for line in stderr.splitlines() if re.match(r"npm (err|ERR)", line)
    ]
    messages = [line.strip() for line in lines if line.strip() and "complete log of this run" not in line]
    return "npm said: " + "; ".join(messages[:4])[:400] if messages else "npm failed without a message"


def _failure(what: str) -> str:
    return (
        f"Baileys {locked_version()} could not be installed: {what}. Without a package registry: run "
        "`holdfast fill-npm-cache DIR` on a machine that reaches one, copy DIR here, and set HOLDFAST_NPM_CACHE=DIR."
    )
