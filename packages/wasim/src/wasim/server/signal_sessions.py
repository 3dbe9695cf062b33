"""The Signal sessions of simulated phones, for all phones of one server.

Every message key that a sender used is recorded for good, so that a phone can tell a redelivery (the same bytes again)
from a sender that encrypted two messages with one key – a defect that no client may ever have.
"""

from __future__ import annotations

import hashlib

import msgspec

from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, new_key
from wasim.server.phones import PhoneKeys
from wasim.server.state import PHONE, Address
from wasim.wire import ratchet
from wasim.wire.curve import KeyPair
from wasim.wire.messages import PreKeyMessage
from wasim.wire.ratchet import Bundle, CannotOpen, KeyConsumed, KeyUse, Session

_SESSIONS_KEPT = 40
_SESSIONS, _USES = "session", "keyuse"
_DIGEST_BYTES = 8


class Redelivered(CannotOpen):
    """Exactly this ciphertext was decrypted before."""


class KeyReused(CannotOpen):
    """A different ciphertext was encrypted with the same key before: the sender's state went backwards."""


class KeyUses:
    """Which message keys were used, and for which ciphertext."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._uses: dict[str, bytes] = {}

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        if kind == _USES:
            self._uses[key] = value

    def note(self, own: str, peer: Address, use: KeyUse, data: bytes) -> None:
        name = _use_name(own, peer, use)
        self._uses[name] = _digest(data)
        self._directory.note(_USES, name, self._uses[name])

    def judge(self, own: str, peer: Address, use: KeyUse, data: bytes) -> CannotOpen:
        """The meaning of a second message with a used key."""
        before = self._uses.get(_use_name(own, peer, use))
        if before is None:
            return CannotOpen("its key is gone, and it was never decrypted")
        return Redelivered("decrypted before") if before == _digest(data) else KeyReused("two messages with one key")


class SignalSessions:
    def __init__(self, directory: Directory, uses: KeyUses, entropy: Entropy) -> None:
        self._directory = directory
        self._entropy = entropy
        self._sessions: dict[tuple[str, str], list[Session]] = {}
        self._uses = uses

    def _fresh(self) -> KeyPair:
        return new_key(self._entropy)

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        if kind == _SESSIONS:
            own, _, peer = key.partition(">")
            self._sessions[own, peer] = msgspec.msgpack.decode(value, type=list[Session])

    def _keep(self, own: str, peer: Address) -> None:
        value = msgspec.msgpack.encode(self._sessions[own, peer.key])
        self._directory.note(_SESSIONS, f"{own}>{peer.key}", value)

    # Sending

    def knows(self, own: str, peer: Address) -> bool:
        """Whether there is a session for sending."""
        return bool(self._sessions.get((own, peer.key)))

    def begin(self, keys: PhoneKeys, peer: Address, bundle: Bundle) -> None:
        """Start a new session with a device, which is used for sending from now on."""
        own = KeyPair.from_private(keys.identity)
        session = ratchet.begin(own, bundle, base=self._fresh(), ratchet=self._fresh())
        self._add(keys.number, peer, session)
        self._keep(keys.number, peer)

    def _add(self, own: str, peer: Address, session: Session) -> None:
        sessions = self._sessions.setdefault((own, peer.key), [])
        sessions.insert(0, session)
        del sessions[_SESSIONS_KEPT:]

    def encrypt(self, own: str, peer: Address, plaintext: bytes) -> tuple[str, bytes]:
        """The message's type and bytes, encrypted in the newest session."""
        phone = self._directory.device(Address(own, PHONE))
        assert phone is not None
        session = self._sessions[own, peer.key][0]
        made = ratchet.encrypt(session, plaintext, registration_id=phone.registration_id)
        self._keep(own, peer)
        return made

    # Receiving

    def decrypt(self, keys: PhoneKeys, peer: Address, kind: str, data: bytes) -> bytes:
        """The plaintext of an `enc` node.

        Raises Redelivered, KeyReused, or CannotOpen for any other reason; then no session has changed.
        """
        if kind not in ("msg", "pkmsg"):
            raise CannotOpen(f"enc type {kind!r} is not for phones")
        return self._first(keys, peer, data) if kind == "pkmsg" else self._whisper(keys, peer, data)

    def _first(self, keys: PhoneKeys, peer: Address, data: bytes) -> bytes:
        message = ratchet.parse_first(data)
        inside = message.message or b""
        sessions = self._sessions.get((keys.number, peer.key), [])
        known = next((one for one in sessions if message.base_key and message.base_key[1:] == one.base_key), None)
        if known is not None:
            return self._open(keys.number, peer, known, inside)
        session = self._accept(keys, message)
        plaintext, use = ratchet.decrypt(session, inside, fresh=self._fresh)
        self._add(keys.number, peer, session)
        self._spend(keys, message.prekey_id)
        self._uses.note(keys.number, peer, use, inside)
        self._keep(keys.number, peer)
        return plaintext

    def _accept(self, keys: PhoneKeys, message: PreKeyMessage) -> Session:
        prekey = None
        if message.prekey_id:
            private = keys.prekeys.get(message.prekey_id)
            if private is None:
                raise CannotOpen(f"prekey {message.prekey_id} was used already, or never existed")
            prekey = KeyPair.from_private(private)
        own, signed = KeyPair.from_private(keys.identity), KeyPair.from_private(keys.signed_prekey)
        return ratchet.accept(own, message, signed_prekey=signed, prekey=prekey)

    def _spend(self, keys: PhoneKeys, prekey_id: int | None) -> None:
        if prekey_id:
            del keys.prekeys[prekey_id]

    def _whisper(self, keys: PhoneKeys, peer: Address, data: bytes) -> bytes:
        failure: CannotOpen | None = None
        for session in self._sessions.get((keys.number, peer.key), []):
            try:
                return self._open(keys.number, peer, session, data)
            except (Redelivered, KeyReused):
                raise
            except CannotOpen as error:
                failure = failure or error
        raise failure or CannotOpen("there is no session with that device")

    def _open(self, own: str, peer: Address, session: Session, data: bytes) -> bytes:
        try:
            plaintext, use = ratchet.decrypt(session, data, fresh=self._fresh)
        except KeyConsumed as error:
            raise self._uses.judge(own, peer, error.use, data) from error
        self._uses.note(own, peer, use, data)
        self._keep(own, peer)
        return plaintext


def _use_name(own: str, peer: Address, use: KeyUse) -> str:
    return f"{own}>{peer.key}>{use.ratchet_key.hex()[:16]}>{use.counter}"


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_DIGEST_BYTES]
