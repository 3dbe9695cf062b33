"""Credentials and Signal keys as Baileys writes them, checked before anything is imported.

A value is kept as the text that was read. Only encodings of bytes that the current Baileys does not read are rewritten:
older versions, and stores with a serialisation of their own, write lists of numbers. Error messages say what is wrong
without showing a key.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from holdfast.session.credentials import MAX_BYTES, buffer_bytes, fault_of, parsed

KEY_TYPES = (
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
"""The types of Signal keys that Baileys 7 stores, longer names before those that they begin with."""
MAX_KEYS_BYTES = 512 * 1024 * 1024
"""Total size of the keys of one device."""
MAX_KEY_BYTES = 8 * 1024 * 1024
"""The largest real one, the state of an account with tens of thousands of chats, has a few megabytes."""
_MAX_DEPTH = 64
_LONGEST_ID = 500
"""Characters. Real ids have fewer than 100; PostgreSQL can't index one of thousands."""
_WANTED = ("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey", "me", "account")
_PAIRS = ("noiseKey", "signedIdentityKey")


class Damaged(Exception):
    """What is wrong with one value, as a phrase that follows the value's name."""


def split_name(name: str) -> tuple[str, str] | None:
    """Split a name such as `pre-key-12` into type and id; None for a name that is not a Signal key's."""
    type_ = next((each for each in KEY_TYPES if name.startswith(f"{each}-")), None)
    return None if type_ is None else (type_, name.removeprefix(f"{type_}-"))


def credentials_text(content: bytes) -> str:
    """Check the credentials of a linked device and return them as text. Raises `Damaged`."""
    if len(content) > MAX_BYTES:
        raise Damaged(f"has {len(content)} bytes: credentials have {MAX_BYTES} at most")
    text, found = _parsed(content)
    if not isinstance(found, dict):
        raise Damaged("holds no credentials: it is not a JSON object")
    changed = _with_base64(found)
    _check_linked(changed)
    if fault := fault_of(changed):
        raise Damaged(f"can't be used: they {fault}")
    return _as_written(text, found, changed)


def _check_linked(credentials: dict[str, Any]) -> None:
    missing = [name for name in _WANTED if not credentials.get(name) and credentials.get(name) != 0]
    if missing in (["account"], ["me"], ["me", "account"]):
        raise Damaged("belongs to a device that was never linked: link it with `holdfast pair` instead")
    if missing:
        raise Damaged(f"lacks {', '.join(missing)}: it is incomplete, or was not written by Baileys")
    for name in _PAIRS:
        if len(_part(credentials[name], "private")) != 32:
            raise Damaged(f"has a {name} whose private key is not 32 bytes")
    if not isinstance(credentials["me"], dict) or "@" not in str(credentials["me"].get("id")):
        raise Damaged("has no account name in me.id")


def key_text(type_: str, id_: str, content: bytes) -> str:
    """Check a Signal key of this type and id, and return it as text. Raises `Damaged`."""
    if not 0 < len(id_) <= _LONGEST_ID or not id_.isprintable():
        raise Damaged(f"has an id that can't be stored: 1 to {_LONGEST_ID} visible characters are allowed")
    if len(content) > MAX_KEY_BYTES:
        raise Damaged(f"has {len(content)} bytes: a key has {MAX_KEY_BYTES} at most")
    text, found = _parsed(content)
    changed = _with_base64(found)
    if changed is None:
        raise Damaged("holds nothing")
    if type_ == "session":
        _check_session(changed)
    if type_ == "pre-key" and not (_part(changed, "private") and _part(changed, "public")):
        raise Damaged("holds no key pair")
    return _as_written(text, found, changed)


def _check_session(session: Any) -> None:
    sessions = session.get("_sessions") if isinstance(session, dict) else None
    if not isinstance(sessions, dict):
        raise Damaged("holds no session")
    if not all(isinstance(each, dict) and isinstance(each.get("indexInfo"), dict) for each in sessions.values()):
        raise Damaged("holds an incomplete session")


def _part(pair: Any, name: str) -> bytes:
    return (buffer_bytes(pair.get(name)) if isinstance(pair, dict) else None) or b""


def _parsed(content: bytes) -> tuple[str, Any]:
    if not content.strip(b" \t\r\n\0"):
        raise Damaged(f"is empty ({len(content)} bytes): it was being written when the bot or the machine stopped")
    try:
        text = content.decode("utf-8-sig")
        return text, parsed(text)
    except UnicodeDecodeError as error:
        raise Damaged(f"is not text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise Damaged(f"ends too early, half-written (after {len(text)} characters)") from error
        raise Damaged(
            f"is not JSON (character {error.pos} of {len(text)}): it is damaged, or encrypted by another program"
        ) from error
    except RecursionError as error:
        raise Damaged("is nested too deeply") from error
    except ValueError as error:
        raise Damaged(f"holds a number that JavaScript can't read ({len(text)} characters)") from error


def _as_written(text: str, value: Any, changed: Any) -> str:
    return text.strip() if changed == value else json.dumps(changed, separators=(",", ":"))


# Bytes. Baileys has written them in four forms; the first is the current one.
#   {"type": "Buffer", "data": "AAEC"}    {"type": "Buffer", "data": [0, 1, 2]}
#   {"buffer": true, "data": "AAEC"}      {"0": 0, "1": 1, "2": 2}


def _with_base64(value: Any, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        raise Damaged("is nested too deeply")
    match value:
        case {"type": "Buffer", "data": str()}:
            return value
        case {"type": "Buffer", "data": list(data)} | {"buffer": True, "data": list(data) | str(data)}:
            return _buffer(data)
        case dict() if _is_numbered(value):
            return _buffer(list(value.values()))
        case dict():
            return {name: _with_base64(each, depth + 1) for name, each in value.items()}
        case list():
            return [_with_base64(each, depth + 1) for each in value]
        case _:
            return value


def _is_numbered(value: dict[str, Any]) -> bool:
    """Whether this is an Uint8Array as `JSON.stringify` writes it."""
    return bool(value) and all(
        name == str(index) and isinstance(each, int) and not isinstance(each, bool)
        for index, (name, each) in enumerate(value.items())
    )


def _buffer(data: list[Any] | str) -> dict[str, Any]:
    content = buffer_bytes({"data": data})
    if content is None:
        raise Damaged("holds bytes that are neither numbers from 0 to 255 nor base64")
    return {"type": "Buffer", "data": base64.b64encode(content).decode()}
