"""Signal keys of one device at two moments: are they the same, and how do older ones become safe to use?

Pure. Whoever encrypts with a ratchet that has been used further since reuses a message key: WhatsApp's apps show
"waiting for this message". Receiving has no such danger, for a ratchet finds its way forward.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

SESSION, SENDER_KEY, SENDER_KEY_MEMORY = "session", "sender-key", "sender-key-memory"
"""Types of keys as Baileys names them: of a chat with one device, of a group, and who was given ours of a group."""

_OPEN = -1
_MODULUS = 1 << 256


class Fingerprint:
    """Of credentials and keys, whatever the order in which they come."""

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
    """The keys that must change so that nothing is ever encrypted with an old ratchet: before, and after or None.

    A session with a device is closed, as libsignal does it when a new one takes its place: what comes in it is still
    read, and for the next message a new one is negotiated. Our own keys of groups go, and so does the memory of who
    has them: the next message to a group brings new ones.
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
    """This account's own names, by number and by LID, without device."""
    me = json.loads(credentials).get("me") or {}
    return {str(me[name]).partition("@")[0].partition(":")[0] for name in ("id", "lid") if me.get(name)}


def _sender(id_: str) -> str:
    """Of `group::user_domain::device`."""
    parts = id_.split("::")
    return parts[1].partition("_")[0] if len(parts) == 3 else ""
