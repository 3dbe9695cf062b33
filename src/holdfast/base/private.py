"""Small files that are their owner's alone: keys and secrets in the data folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from holdfast.base.errors import Misconfigured


def read_private(path: Path, *, what: str) -> str | None:
    """Its text without the space around it; None where there is no such file. Raises `Misconfigured`, naming `what`."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        sentence = f'{what} in "{path}" can\'t be read by this user: run this as the user of Holdfast'
        raise Misconfigured(sentence) from error
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise Misconfigured(f'{what} in "{path}" can\'t be read: {why}') from error


def write_private(path: Path, text: str, *, what: str) -> None:
    """Keep a line of text, mode 0600. The file appears whole or not at all, and survives a power cut.

    Raises `Misconfigured`, naming `what`.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        sync(path.parent)
    except OSError as error:
        raise Misconfigured(f'{what} can\'t be stored in "{path}": {error.strerror}') from error


def sync(path: Path) -> None:
    """Write a file to the disk for good; for a folder, the names in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_or_create_private(path: Path, make: Callable[[], str], *, what: str) -> str:
    """What the file has; made and kept where there is none."""
    kept = read_private(path, what=what)
    if kept is None:
        kept = make()
        write_private(path, kept, what=what)
    return kept
