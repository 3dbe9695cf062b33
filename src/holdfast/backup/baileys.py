"""The folder of Baileys' `useMultiFileAuthState`: read with everything checked, and written as Baileys writes it.

A file's text is what Holdfast keeps too, so nothing is translated; only names of files are, which hold `__` for `/` and
`-` for `:`, and bytes as a list of numbers, which older versions wrote. It must never change a folder it reads.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from holdfast.backup.company import Device
from holdfast.backup.ratchets import RatchetKey
from holdfast.base.errors import BadInput, Fault, HoldfastError
from holdfast.health.advice import lasting
from holdfast.session.credentials import MOST_BYTES, fault_of, parsed

CREDENTIALS = "creds.json"
IN_USE_S = 60
"""A folder that changed within this is one that a bot works on."""

_TYPES = (
    "app-state-sync-version",
    "app-state-sync-key",
    "sender-key-memory",
    "sender-key",
    "identity-key",
    "device-list",
    "lid-mapping",
    "pre-key",
    "session",
    "tctoken",
)
"""Longer names before those that they begin with."""
_WANTED = ("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey", "me", "account")
_PAIRS = ("noiseKey", "signedIdentityKey")
_NO_NAME = re.compile(r"^\.|\.(tmp|swp|bak)$|~$")
_TRIES = 3
_MOST_KEY_BYTES = 8 * 1024 * 1024
"""The largest real one, the state of an account with tens of thousands of chats, has a few megabytes."""
_MOST_KEYS_BYTES = 512 * 1024 * 1024


class BadFolder(HoldfastError):
    """A folder that can't be imported; nothing was."""

    code = "bad-folder"
    fault = Fault.OPERATOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What was read."""

    device: Device
    skipped: tuple[str, ...]
    """Damaged files that were left out because the caller said so, each with what is wrong."""
    ignored: tuple[str, ...]
    """Files that are none of Baileys'."""
    changed_s: float
    """How long ago the newest file was written."""

    @property
    def is_in_use(self) -> bool:
        return self.changed_s < IN_USE_S


class _Damaged(Exception):
    """What is wrong with one file."""


def read_folder(folder: Path, *, now: datetime, skip_damaged: bool = False) -> Folder:
    """Raises `BadFolder`, which names each file that is wrong and what is wrong with it.

    skip_damaged: leave out damaged files whose loss costs one contact a retry; credentials are never left out.
    """
    texts, newest = _texts(folder)
    if CREDENTIALS not in texts:
        raise BadFolder(
            f'"{folder}" has no {CREDENTIALS}: give the folder that the bot hands to useMultiFileAuthState', field="DIR"
        )
    try:
        credentials = _credentials(texts.pop(CREDENTIALS))
    except _Damaged as error:
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
    """A device that came otherwise than as files. Raises `BadInput` for what is damaged."""
    try:
        text = _credentials(credentials.encode())
    except _Damaged as error:
        raise BadInput(f"credentials {error}", field="credentials") from error
    total = sum(len(key.value) for key in keys)
    if total > _MOST_KEYS_BYTES:
        raise BadInput(f"keys have {total} characters together: {_MOST_KEYS_BYTES} are allowed", field="keys")
    try:
        return Device(credentials=text, keys=tuple(RatchetKey(key.type, key.id, _known(key)) for key in keys))
    except _Damaged as error:
        raise BadInput(f"a key {error}", field="keys") from error


def _known(key: RatchetKey) -> str:
    if key.type not in _TYPES:
        raise _Damaged(f'has the type "{key.type[:40]}", which Baileys does not know')
    return _key(key.type, key.value.encode())


def _too_damaged(folder: Path, damaged: list[str]) -> BadFolder:
    shown = "; ".join(damaged[:5]) + (f"; and {len(damaged) - 5} more" if len(damaged) > 5 else "")
    return BadFolder(
        f'"{folder}" has {len(damaged)} damaged file{"s" if len(damaged) > 1 else ""}: {shown}. Nothing was imported; '
        "with --skip-damaged these are left out, and WhatsApp makes such keys anew with the contacts they belong to",
        field="DIR",
    )


# Files.


def _texts(folder: Path) -> tuple[dict[str, bytes], float]:
    """Content of each file, and when the newest was written; read again when one changed meanwhile."""
    try:
        for _ in range(_TRIES):
            before = _times(folder)
            texts = {name: (folder / name).read_bytes() for name in before}
            if _times(folder) == before:
                break
    except FileNotFoundError as error:
        raise BadFolder(f'"{error.filename}" is missing: give a folder that nothing works on', field="DIR") from error
    except NotADirectoryError as error:
        raise BadFolder(f'"{folder}" is no folder: give the one that holds {CREDENTIALS}', field="DIR") from error
    except OSError as error:
        raise BadFolder(f'"{error.filename}" can\'t be read: {error.strerror}', field="DIR") from error
    else:
        return texts, max((time for time, _ in before.values()), default=0)
    raise AssertionError


def _times(folder: Path) -> dict[str, tuple[float, int]]:
    files = (path for path in folder.iterdir() if not _NO_NAME.search(path.name) and path.is_file())
    return {path.name: (path.stat().st_mtime, path.stat().st_size) for path in files}


def _keys(texts: Mapping[str, bytes]) -> tuple[list[RatchetKey], list[str], list[str]]:
    keys, damaged, ignored = list[RatchetKey](), list[str](), list[str]()
    for name, content in sorted(texts.items()):
        place = _place(name)
        if place is None:
            ignored.append(name)
            continue
        try:
            keys.append(RatchetKey(*place, _key(place[0], content)))
        except _Damaged as error:
            damaged.append(f"{name} {error}")
    return keys, damaged, ignored


def _place(name: str) -> tuple[str, str] | None:
    """Type and id that a file's name stands for: what Baileys replaced in it is put back."""
    stem = name.removesuffix(".json")
    type_ = next((each for each in _TYPES if stem.startswith(f"{each}-")), None)
    if type_ is None or stem == name:
        return None
    id_ = stem.removeprefix(f"{type_}-")
    match type_:
        case "app-state-sync-key":
            return type_, id_.replace("__", "/")
        case "sender-key":
            return type_, "::".join(id_.rsplit("--", 2))
        case _:
            return type_, id_


def _name(key: RatchetKey) -> str:
    return f"{key.type}-{key.id}.json".replace("/", "__").replace(":", "-")


# What stands in them.


def _parsed(content: bytes) -> tuple[str, Any]:
    if not content.strip(b" \t\r\n\0"):
        raise _Damaged(f"is empty ({len(content)} bytes): it was being written when the bot or the machine stopped")
    try:
        text = content.decode("utf-8-sig")
        return text, parsed(text)
    except UnicodeDecodeError as error:
        raise _Damaged(f"is no text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise _Damaged(f"ends too early, half-written (after {len(text)} characters)") from error
        raise _Damaged(f"is no JSON (character {error.pos} of {len(text)})") from error
    except RecursionError as error:
        raise _Damaged("is nested too deeply") from error
    except ValueError as error:
        raise _Damaged(f"holds a number that JavaScript can't read ({len(text)} characters)") from error


def _credentials(content: bytes) -> str:
    if len(content) > MOST_BYTES:
        raise _Damaged(f"has {len(content)} bytes: credentials have {MOST_BYTES} at most")
    text, found = _parsed(content)
    if not isinstance(found, dict):
        raise _Damaged("holds no credentials: it is no JSON object")
    missing = [name for name in _WANTED if not found.get(name) and found.get(name) != 0]
    if missing in (["account"], ["me"], ["me", "account"]):
        raise _Damaged("is of a device that was never linked: link it with `holdfast pair` instead")
    if missing:
        raise _Damaged(f"lacks {', '.join(missing)}: it is not whole, or not of Baileys")
    for name in _PAIRS:
        if len(_bytes(found[name], "private")) != 32:
            raise _Damaged(f"has a {name} whose private key is not 32 bytes")
    if not isinstance(found["me"], dict) or "@" not in str(found["me"].get("id")):
        raise _Damaged("has no account name in me.id")
    if fault := fault_of(found):
        raise _Damaged(f"can't be used: they {fault}")
    return _modern(text, found)


def _bytes(pair: Any, name: str) -> bytes:
    value = pair.get(name) if isinstance(pair, dict) else None
    data = value.get("data") if isinstance(value, dict) else None
    try:
        return bytes(data) if isinstance(data, list) else base64.b64decode(str(data or ""))
    except ValueError:
        return b""


def _key(type_: str, content: bytes) -> str:
    if len(content) > _MOST_KEY_BYTES:
        raise _Damaged(f"has {len(content)} bytes: a key has {_MOST_KEY_BYTES} at most")
    text, found = _parsed(content)
    if type_ == "session" and not (isinstance(found, dict) and isinstance(found.get("_sessions"), dict)):
        raise _Damaged("holds no session")
    if type_ == "session" and any("indexInfo" not in each for each in found["_sessions"].values()):
        raise _Damaged("holds a session that is not whole")
    if type_ == "pre-key" and not (_bytes(found, "private") and _bytes(found, "public")):
        raise _Damaged("holds no pair of keys")
    if found is None:
        raise _Damaged("holds nothing")
    return _modern(text, found)


def _modern(text: str, found: Any) -> str:
    """As it stands, unless bytes are lists of numbers, which the Baileys of today doesn't read."""
    changed = _with_base64(found)
    return text.strip() if changed == found else json.dumps(changed, separators=(",", ":"), ensure_ascii=False)


def _with_base64(value: Any) -> Any:
    match value:
        case {"type": "Buffer", "data": list(data)}:
            return {"type": "Buffer", "data": base64.b64encode(bytes(data)).decode()}
        case dict():
            return {name: _with_base64(each) for name, each in value.items()}
        case list():
            return [_with_base64(each) for each in value]
        case _:
            return value


# Out.


def write_folder(folder: Path, device: Device) -> int:
    """Write a device as Baileys would, into a folder that is new or empty; returns how many files."""
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


def age_in_words(folder: Folder) -> str:
    return lasting(max(folder.changed_s, 0))
