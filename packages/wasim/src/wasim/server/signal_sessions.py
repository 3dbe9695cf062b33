"""The Signal sessions of simulated phones, for all phones of one server.

All message keys that a sender used are recorded permanently, to distinguish a redelivery (the same bytes) from two
messages encrypted with one key, a defect that no client may have.
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
from wasim.wire.ratchet import Bundle, CannotDecrypt, KeyConsumed, KeyUse, Session

_SESSIONS_KEPT = 40
_SESSIONS, _USES = "session", "keyuse"
_DIGEST_BYTES = 8


class Redelivered(CannotDecrypt):
    """Exactly this ciphertext was decrypted before."""


class KeyReused(CannotDecrypt):
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

    def record(self, own: str, peer: Address, use: KeyUse, data: bytes) -> None:
        name = _use_name(own, peer, use)
        self._uses[name] = _digest(data)
        self._directory.put_record(_USES, name, self._uses[name])

    def classify(self, own: str, peer: Address, use: KeyUse, data: bytes) -> CannotDecrypt:
        """The error for a second message with a used key."""
        before = self._uses.get(_use_name(own, peer, use))
        if before is None:
            return CannotDecrypt("its key was deleted, and it was never decrypted")
        return Redelivered("decrypted before") if before == _digest(data) else KeyReused("two messages with one key")


class SignalSessions:
    def __init__(self, directory: Directory, uses: KeyUses, entropy: Entropy) -> None:
        self._directory = directory
        self._entropy = entropy
        self._sessions: dict[tuple[str, str], list[Session]] = {}
        self._uses = uses

    def _new_key(self) -> KeyPair:
        return new_key(self._entropy)

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        if kind == _SESSIONS:
            own, _, peer = key.partition(">")
            self._sessions[own, peer] = msgspec.msgpack.decode(value, type=list[Session])

    def _save(self, own: str, peer: Address) -> None:
        value = msgspec.msgpack.encode(self._sessions[own, peer.key])
        self._directory.put_record(_SESSIONS, f"{own}>{peer.key}", value)

    # Sending

    def has_session(self, own: str, peer: Address) -> bool:
        """Whether there is a session for sending."""
        return bool(self._sessions.get((own, peer.key)))

    def start(self, keys: PhoneKeys, peer: Address, bundle: Bundle) -> None:
        """Start a new session with a device, which is used for sending from now on."""
        own = KeyPair.from_private(keys.identity)
        session = ratchet.start(own, bundle, base=self._new_key(), ratchet=self._new_key())
        self._add(keys.number, peer, session)
        self._save(keys.number, peer)

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
        self._save(own, peer)
        return made

    # Receiving

    def decrypt(self, keys: PhoneKeys, peer: Address, kind: str, data: bytes) -> bytes:
        """The plaintext of an `enc` node.

        Raises Redelivered, KeyReused, or CannotDecrypt for any other reason; then no session has changed.
        """
        if kind not in ("msg", "pkmsg"):
            raise CannotDecrypt(f"enc type {kind!r} is not supported")
        return self._decrypt_first(keys, peer, data) if kind == "pkmsg" else self._decrypt_later(keys, peer, data)

    def _decrypt_first(self, keys: PhoneKeys, peer: Address, data: bytes) -> bytes:
        message = ratchet.parse_first(data)
        whisper = message.message or b""
        sessions = self._sessions.get((keys.number, peer.key), [])
        known = next((one for one in sessions if message.base_key and message.base_key[1:] == one.base_key), None)
        if known is not None:
            return self._open(keys.number, peer, known, whisper)
        session = self._accept(keys, message)
        plaintext, use = ratchet.decrypt(session, whisper, fresh=self._new_key)
        self._add(keys.number, peer, session)
        self._delete_prekey(keys, message.prekey_id)
        self._uses.record(keys.number, peer, use, whisper)
        self._save(keys.number, peer)
        return plaintext

    def _accept(self, keys: PhoneKeys, message: PreKeyMessage) -> Session:
        prekey = None
        if message.prekey_id:
            private = keys.prekeys.get(message.prekey_id)
            if private is None:
                raise CannotDecrypt(f"prekey {message.prekey_id} was used already, or never existed")
            prekey = KeyPair.from_private(private)
        own, signed = KeyPair.from_private(keys.identity), KeyPair.from_private(keys.signed_prekey)
        return ratchet.accept(own, message, signed_prekey=signed, prekey=prekey)

    def _delete_prekey(self, keys: PhoneKeys, prekey_id: int | None) -> None:
        if prekey_id:
            del keys.prekeys[prekey_id]

    def _decrypt_later(self, keys: PhoneKeys, peer: Address, data: bytes) -> bytes:
        failure: CannotDecrypt | None = None
        for session in self._sessions.get((keys.number, peer.key), []):
            try:
                return self._open(keys.number, peer, session, data)
            except (Redelivered, KeyReused):
                raise
            except CannotDecrypt as error:
                failure = failure or error
        raise failure or CannotDecrypt("there is no session with that device")

    def _open(self, own: str, peer: Address, session: Session, data: bytes) -> bytes:
        try:
            plaintext, use = ratchet.decrypt(session, data, fresh=self._new_key)
        except KeyConsumed as error:
            raise self._uses.classify(own, peer, error.use, data) from error
        self._uses.record(own, peer, use, data)
        self._save(own, peer)
        return plaintext


def _use_name(own: str, peer: Address, use: KeyUse) -> str:
    return f"{own}>{peer.key}>{use.ratchet_key.hex()[:16]}>{use.counter}"


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_DIGEST_BYTES]
