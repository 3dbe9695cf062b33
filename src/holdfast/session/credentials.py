"""Checks Baileys' credentials: they must neither stall an engine host nor outgrow its pipe.

Baileys does not validate its credentials. With `nextPreKeyId` far below `firstUnuploadedPreKeyId`, for example, it
creates a billion key pairs in a loop that nothing interrupts. So credentials are checked on import, and again each time
before they are passed to a host. Error messages must never contain a key, only numbers and names.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

MAX_BYTES = 1024 * 1024
"""Upper bound of the length of credentials as text. Real credentials have a few kilobytes."""
MAX_BUFFER_BYTES = 16 * 1024
_MAX_TEXT = 16 * 1024
_MAX_ITEMS = 10_000
_MAX_DEPTH = 20
_MAX_ID = 2**24 - 1
_MAX_REGISTRATION = 2**32 - 1
"""The largest registration id. Baileys draws 14 bits, whatsmeow 32; WhatsApp accepts four bytes."""
_MAX_NUMBER = 2**53 - 1
"""The largest integer that JavaScript represents exactly."""
_MAX_UNUPLOADED = 1000
_PAIRS = ("noiseKey", "pairingEphemeralKeyPair", "signedIdentityKey")
_IDS = ("registrationId", "nextPreKeyId", "firstUnuploadedPreKeyId")


def fault_of_text(credentials: str) -> str | None:
    """The first fault of stored credentials, phrased to follow the word "credentials"; None if there is none."""
    if len(credentials) > MAX_BYTES or len(credentials.encode()) > MAX_BYTES:
        return f"have {len(credentials.encode())} bytes: {MAX_BYTES} are allowed"
    try:
        found = parsed(credentials)
    except (ValueError, RecursionError):
        return "are not JSON"
    if not isinstance(found, dict):
        return "are not a JSON object"
    return fault_of(found)


def parsed(text: str) -> Any:
    """Parse JSON as JavaScript does, without NaN and Infinity. Raises `ValueError` and `RecursionError`."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def fault_of(credentials: Mapping[str, Any]) -> str | None:
    """The first fault of parsed credentials. Fields may be missing: a device that is being linked has few of them."""
    return next(_faults(credentials), None)


def _faults(credentials: Mapping[str, Any]) -> Iterator[str]:
    for name in _IDS:
        yield from _id_faults(credentials, name, limit=_MAX_REGISTRATION if name == "registrationId" else _MAX_ID)
    yield from _range_faults(credentials)
    for name in _PAIRS:
        yield from _pair_faults(credentials.get(name), name)
    signed = credentials.get("signedPreKey")
    if signed is not None and not isinstance(signed, dict):
        yield "have a signedPreKey that is not an object"
    elif signed is not None:
        yield from _id_faults(signed, "keyId", shown="signedPreKey.keyId")
        yield from _pair_faults(signed.get("keyPair"), "signedPreKey.keyPair")
        yield from _length_faults(signed.get("signature"), "signedPreKey.signature", {64})
    yield from _secret_faults(credentials.get("advSecretKey"))
    yield from _value_faults(dict(credentials), "", 0)


def _id_faults(
    holder: Mapping[str, Any], name: str, *, shown: str | None = None, limit: int = _MAX_ID
) -> Iterator[str]:
    value = holder.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        yield f"have {shown or name} {_shown(value)}: a whole number from 0 to {limit} is allowed"


def _range_faults(credentials: Mapping[str, Any]) -> Iterator[str]:
    first, following = credentials.get("firstUnuploadedPreKeyId"), credentials.get("nextPreKeyId")
    if first is None or following is None:
        return
    if first > following:
        yield f"have firstUnuploadedPreKeyId {first} after nextPreKeyId {following}: it can't be larger"
    elif following - first > _MAX_UNUPLOADED:
        yield (
            f"have {following - first} pre-keys from firstUnuploadedPreKeyId {first} to nextPreKeyId {following}: "
            f"{_MAX_UNUPLOADED} are allowed"
        )


def _pair_faults(pair: Any, name: str) -> Iterator[str]:
    if pair is None:
        return
    if not isinstance(pair, dict):
        yield f"have a {name} that is not a pair of keys"
        return
    yield from _length_faults(pair.get("private"), f"{name}.private", {32})
    yield from _length_faults(pair.get("public"), f"{name}.public", {32, 33})


def _length_faults(value: Any, name: str, allowed: set[int]) -> Iterator[str]:
    found = buffer_bytes(value)
    if found is None or len(found) not in allowed:
        count = "no" if found is None else str(len(found))
        yield f"have {count} bytes in {name}: {' or '.join(map(str, sorted(allowed)))} are needed"


def _secret_faults(secret: Any) -> Iterator[str]:
    if secret is None:
        return
    decoded = _base64(secret) if isinstance(secret, str) else None
    if decoded is None or len(decoded) != 32:
        yield "have an advSecretKey that is not 32 bytes in base64"


def _value_faults(value: Any, path: str, depth: int) -> Iterator[str]:
    """Check sizes and numbers at every depth."""
    name = path or "value"
    if depth > _MAX_DEPTH:
        yield f"are nested more than {_MAX_DEPTH} deep at {name[:80]}"
        return
    match value:
        case bool() | None:
            pass
        case int() | float():
            if not -_MAX_NUMBER <= value <= _MAX_NUMBER:
                yield f"have {name} {_shown(value)}: a number up to {_MAX_NUMBER} is allowed"
        case str():
            if len(value) > _MAX_TEXT:
                yield f"have {len(value)} characters in {name}: {_MAX_TEXT} are allowed"
        case {"type": "Buffer", "data": data}:
            yield from _buffer_faults(data, name)
        case dict() | list():
            yield from _item_faults(value, path, depth)


def _item_faults(value: dict[str, Any] | list[Any], path: str, depth: int) -> Iterator[str]:
    if len(value) > _MAX_ITEMS:
        yield f"have {len(value)} entries in {path or 'all'}: {_MAX_ITEMS} are allowed"
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in items:
        yield from _value_faults(each, f"{path}.{str(key)[:40]}".removeprefix("."), depth + 1)


def _buffer_faults(data: Any, name: str) -> Iterator[str]:
    size = len(data) if isinstance(data, list) else len(data) * 3 // 4 if isinstance(data, str) else 0
    if size > MAX_BUFFER_BYTES:
        yield f"have {size} bytes in {name}: {MAX_BUFFER_BYTES} are allowed"
    elif buffer_bytes({"type": "Buffer", "data": data}) is None:
        yield f"have bytes in {name} that are not base64"


def buffer_bytes(value: Any) -> bytes | None:
    """The bytes of a Buffer in the form that Baileys writes, or as a list of numbers; None for anything else."""
    data = value.get("data") if isinstance(value, dict) else None
    if isinstance(data, list):
        is_bytes = all(isinstance(each, int) and 0 <= each <= 255 for each in data)
        return bytes(data) if is_bytes else None
    return _base64(data) if isinstance(data, str) else None


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def _shown(value: Any) -> str:
    """A value for an error message. Only numbers are shown, because anything else might be a key."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value}"[:40] if isinstance(value, float) or abs(value) < 10**30 else "of more than 30 digits"
    return f"that is not a number ({type(value).__name__})"
