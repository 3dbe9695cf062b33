"""Compares the Signal keys of one device at two times, and makes older keys safe to use.

Pure. Encrypting with an old state of a ratchet reuses a message key, and WhatsApp's apps show "waiting for this
message". Decrypting is safe: a ratchet can always move forward.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

SESSION, SENDER_KEY, SENDER_KEY_MEMORY = "session", "sender-key", "sender-key-memory"
"""Baileys' names of key types: a session with one device, a sender key of a group, and who received our sender key."""

_OPEN = -1
_MODULUS = 1 << 256


class Fingerprint:
    """Fingerprint of credentials and keys, independent of their order."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, *words: str) -> None:
        digest = hashlib.sha256(json.dumps(words).encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest)) % _MODULUS

    def __str__(self) -> str:
        return f"{self._sum:064x}"


@dataclass(frozen=True, slots=True)
class RatchetKey:
    type: str
    id: str
    value: str


def without_sending(
    keys: Iterable[RatchetKey], *, credentials: str, closed_at_ms: int
) -> Iterable[tuple[RatchetKey, RatchetKey | None]]:
    """Yield each key that must change so that no message is encrypted with an old ratchet, and its new value.

    None as the new value removes the key. A session with a device is closed, as libsignal closes one that is replaced:
    it still decrypts, and the next message negotiates a new one. Our own sender keys, and the records of who received
    them, are removed: the next message to a group distributes a new one.
    """
    me = _names(credentials)
    for key in keys:
        if key.type == SENDER_KEY_MEMORY or (key.type == SENDER_KEY and _sender(key.id) in me):
            yield key, None
        elif key.type == SESSION:
            closed = _closed(key.value, closed_at_ms)
            if closed != key.value:
                yield key, RatchetKey(key.type, key.id, closed)


def _closed(value: str, at_ms: int) -> str:
    record = json.loads(value)
    for session in record.get("_sessions", {}).values():
        if session["indexInfo"].get("closed") == _OPEN:
            session["indexInfo"]["closed"] = at_ms
    return json.dumps(record, separators=(",", ":"))


def _names(credentials: str) -> set[str]:
    """Return the account's own phone number and LID, without the device."""
    me = json.loads(credentials).get("me") or {}
    return {str(me[name]).partition("@")[0].partition(":")[0] for name in ("id", "lid") if me.get(name)}


def _sender(id_: str) -> str:
    """Return the user in an id of the form `group::user_domain::device`."""
    parts = id_.split("::")
    return parts[1].partition("_")[0] if len(parts) == 3 else ""
