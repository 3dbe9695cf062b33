"""Reads and writes the folder of Baileys' `useMultiFileAuthState`; everything that is read is checked.

The text of a file is stored unchanged. File names are translated: they have `__` for `/` and `-` for `:`. Reading must
never change the folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from holdfast.backup.auth_values import (
    KEY_TYPES,
    MAX_KEY_BYTES,
    MAX_KEYS_BYTES,
    Damaged,
    credentials_text,
    key_text,
    split_name,
)
from holdfast.backup.company import Device
from holdfast.backup.ratchets import RatchetKey
from holdfast.base.errors import BadInput, Fault, HoldfastError
from holdfast.health.advice import format_duration

CREDENTIALS = "creds.json"
IN_USE_S = 60
"""A folder that changed within this time is considered in use."""

_NO_NAME = re.compile(r"^\.|\.(tmp|swp|bak)$|~$")
_TRIES = 3
_MAX_FILES = 200_000


class BadFolder(HoldfastError):
    """A folder that can't be imported; nothing was imported."""

    code = "bad-folder"
    fault = Fault.OPERATOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A device that was read from a folder, and what was left out."""

    device: Device
    skipped: tuple[str, ...]
    """Damaged files that were left out at the caller's request, each with its fault."""
    ignored: tuple[str, ...]
    """Files that Baileys did not write."""
    changed_s: float
    """How long ago the newest file was written."""

    @property
    def is_in_use(self) -> bool:
        return self.changed_s < IN_USE_S


def read_folder(folder: Path, *, now: datetime, skip_damaged: bool = False) -> Folder:
    """Read a device from a folder. Raises `BadFolder`, which names each damaged file and its fault.

    skip_damaged: leave out damaged files whose loss costs one contact a retry; credentials are never left out.
    """
    texts, newest = _texts(folder)
    credentials_file = texts.pop(CREDENTIALS, None)
    if credentials_file is None:
        raise BadFolder(
            f'"{folder}" has no {CREDENTIALS}: give the folder that the bot hands to useMultiFileAuthState', field="DIR"
        )
    try:
        credentials = credentials_text(credentials_file)
    except Damaged as error:
        raise BadFolder(f'"{folder / CREDENTIALS}" {error}; nothing was imported', field="DIR") from error
    keys, damaged, ignored = _keys(texts)
    if damaged and not skip_damaged:
        raise _too_damaged(folder, damaged)
    return Folder(
        device=Device(credentials=credentials, keys=tuple(keys)),
        skipped=tuple(damaged),
        ignored=tuple(ignored),
        changed_s=now.timestamp() - newest,
    )


def checked(credentials: str, keys: Sequence[RatchetKey]) -> Device:
    """Check a device that did not come as files. Raises `BadInput` for damaged values."""
    try:
        text = credentials_text(credentials.encode())
    except Damaged as error:
        raise BadInput(f"credentials {error}", field="credentials") from error
    total = sum(len(key.value) for key in keys)
    if total > MAX_KEYS_BYTES:
        raise BadInput(f"keys have {total} characters together: {MAX_KEYS_BYTES} are allowed", field="keys")
    try:
        device = Device(credentials=text, keys=tuple(RatchetKey(key.type, key.id, _known(key)) for key in keys))
    except Damaged as error:
        raise BadInput(f"a key {error}", field="keys") from error
    if twice := [name for name, count in Counter((key.type, key.id) for key in keys).items() if count > 1]:
        raise BadInput(f'keys have "{"-".join(twice[0])[:80]}" more than once: give each key once', field="keys")
    return device


def _known(key: RatchetKey) -> str:
    if key.type not in KEY_TYPES:
        raise Damaged(f'has the type "{key.type[:40]}", which Baileys does not know')
    return key_text(key.type, key.id, key.value.encode())


def _too_damaged(folder: Path, damaged: list[str]) -> BadFolder:
    shown = "; ".join(damaged[:5]) + (f"; and {len(damaged) - 5} more" if len(damaged) > 5 else "")
    return BadFolder(
        f'"{folder}" has {len(damaged)} damaged file{"s" if len(damaged) > 1 else ""}: {shown}. Nothing was imported; '
        "with --skip-damaged these are left out, and new keys are negotiated with the contacts they belong to",
        field="DIR",
    )


# Files.


def _texts(folder: Path) -> tuple[dict[str, bytes | None], float]:
    """Return the content of each of Baileys' files (None for others), and when the newest was written.

    Reads again when a file changes while it reads.
    """
    try:
        for _ in range(_TRIES):
            before = _times(folder)
            texts = {name: _content(folder / name) if _is_key_file(name) else None for name in before}
            if _times(folder) == before:
                break
    except FileNotFoundError as error:
        raise BadFolder(
            f'"{error.filename}" is missing: give a folder that no program is using', field="DIR"
        ) from error
    except NotADirectoryError as error:
        raise BadFolder(f'"{folder}" is not a folder: give the one that holds {CREDENTIALS}', field="DIR") from error
    except OSError as error:
        raise BadFolder(f'"{error.filename}" can\'t be read: {error.strerror}', field="DIR") from error
    else:
        return texts, max((time for time, _ in before.values()), default=0)
    raise AssertionError


def read_keys(folder: Path) -> dict[str, bytes]:
    """Return the unchecked keys of a folder without credentials, by names such as `pre-key-12`.

    Raises `BadFolder`.
    """
    texts, _ = _texts(folder)
    places = ((_key_of_file(name), content) for name, content in sorted(texts.items()))
    return {"-".join(place): content for place, content in places if place is not None and content is not None}


def changed_at(folder: Path) -> float:
    """Return when the newest file was written, in seconds since 1970. Raises `OSError`."""
    return max((time for time, _ in _times(folder).values()), default=0)


def _times(folder: Path) -> dict[str, tuple[float, int]]:
    files = (path for path in folder.iterdir() if not _NO_NAME.search(path.name) and path.is_file())
    times = {path.name: (path.stat().st_mtime, path.stat().st_size) for path in files}
    wanted = [size for name, (_, size) in times.items() if _is_key_file(name)]
    if len(wanted) > _MAX_FILES or sum(wanted) > MAX_KEYS_BYTES:
        raise BadFolder(
            f'"{folder}" has {len(wanted)} files of keys with {sum(wanted)} bytes: '
            f"{_MAX_FILES} files with {MAX_KEYS_BYTES} bytes are allowed",
            field="DIR",
        )
    return times


def _is_key_file(name: str) -> bool:
    return name == CREDENTIALS or _key_of_file(name) is not None


def _content(path: Path) -> bytes:
    """Read at most one byte more than a key may have."""
    with path.open("rb") as file:
        return file.read(MAX_KEY_BYTES + 1)


def _keys(texts: Mapping[str, bytes | None]) -> tuple[list[RatchetKey], list[str], list[str]]:
    keys, damaged, ignored = dict[tuple[str, str], RatchetKey](), list[str](), list[str]()
    for name, content in sorted(texts.items()):
        place = _key_of_file(name)
        if place is None or content is None:
            ignored.append(name)
            continue
        try:
            # A name with ":" may stand for the same key; the one with "-", which is Baileys' own, comes first.
            keys.setdefault(place, RatchetKey(*place, key_text(*place, content)))
        except Damaged as error:
            damaged.append(f"{name} {error}")
    return list(keys.values()), damaged, ignored


def _key_of_file(name: str) -> tuple[str, str] | None:
    """Return the type and id of the key in this file; None when it holds no key."""
    place = split_name(name.removesuffix(".json")) if name.endswith(".json") else None
    return None if place is None else unescaped(*place)


def unescaped(type_: str, id_: str) -> tuple[str, str]:
    """Return type and id with the characters that Baileys replaced in the file name put back."""
    match type_:
        case "app-state-sync-key":
            return type_, id_.replace("__", "/")
        case "sender-key":
            return type_, "::".join(id_.rsplit("--", 2))
        case _:
            return type_, id_


def _name(key: RatchetKey) -> str:
    return f"{key.type}-{key.id}.json".replace("/", "__").replace(":", "-")


# Export.


def write_folder(folder: Path, device: Device) -> int:
    """Write a device as Baileys would, into a new or empty folder; returns the number of files."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BadFolder(f'"{folder}" is not empty: give a new folder, nothing was written', field="DIR")
        folder.chmod(0o700)
        count = 0
        for name, text in _files(device):
            path = folder / name
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(text)
            count += 1
    except OSError as error:
        raise BadFolder(f'"{error.filename or folder}" can\'t be written: {error.strerror}', field="DIR") from error
    return count


def _files(device: Device) -> Iterator[tuple[str, str]]:
    for key in device.keys:
        yield _name(key), key.value
    yield CREDENTIALS, device.credentials


def format_age(folder: Folder) -> str:
    return format_duration(max(folder.changed_s, 0))
