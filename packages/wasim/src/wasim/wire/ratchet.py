"""Signal sessions, version 3: X3DH and the Double Ratchet, in libsignal's format.

Pure: a session changes only when a message was encrypted or decrypted successfully; private keys are passed in as
arguments. Counters begin at 0.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from wasim.wire.curve import KeyPair, hkdf, typed, untyped
from wasim.wire.errors import WireError
from wasim.wire.messages import PreKeyMessage, WhisperMessage
from wasim.wire.protobuf import decode as decode_message
from wasim.wire.protobuf import encode as encode_message

MAX_SKIPPED = 2000
"""How many messages of a chain may be skipped before one that arrives."""
CHAINS_KEPT = 5
_VERSION = b"\x33"
_MAC_BYTES = 8
_SALT = bytes(32)


class CannotDecrypt(WireError):
    """A ciphertext that this session can't decrypt."""


class KeyConsumed(CannotDecrypt):
    """The ciphertext refers to a used message key: a redelivery, or a sender that used a key twice."""

    def __init__(self, use: KeyUse) -> None:
        super().__init__(f"message key {use.counter} was used already")
        self.use = use


class KeyUse(NamedTuple):
    """Identifies a message key, with which no sender may encrypt two messages."""

    ratchet_key: bytes
    counter: int


class Chain(msgspec.Struct, kw_only=True):
    """A receiving chain."""

    ratchet_key: bytes
    key: bytes
    next: int = 0
    skipped: dict[int, bytes] = {}
    """Keys of messages that have not arrived yet."""


class PendingPreKey(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that are sent with every message until the peer answers."""

    base_key: bytes
    signed_prekey_id: int
    prekey_id: int | None


class Session(msgspec.Struct, kw_only=True):
    """One side of a conversation between two devices."""

    base_key: bytes
    """The initiator's base key, which identifies the session."""
    own_identity: bytes
    remote_identity: bytes
    root_key: bytes
    ratchet_private: bytes
    sending_key: bytes = b""
    sent: int = 0
    previous: int = 0
    receiving: list[Chain] = []
    pending: PendingPreKey | None = None


class Bundle(NamedTuple):
    """A device's prekey bundle from the server, with which others start a session."""

    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes
    prekey_id: int | None
    prekey: bytes | None


# Starting


def start(own: KeyPair, bundle: Bundle, *, base: KeyPair, ratchet: KeyPair) -> Session:
    """Start a session with the device of this bundle, with two fresh keys."""
    secrets = [
        own.agree(bundle.signed_prekey),
        base.agree(bundle.identity),
        base.agree(bundle.signed_prekey),
        *([base.agree(bundle.prekey)] if bundle.prekey is not None else []),
    ]
    root, sending = _derive_chain(_root(secrets), ratchet.agree(bundle.signed_prekey))
    return Session(
        base_key=base.public,
        own_identity=own.public,
        remote_identity=bundle.identity,
        root_key=root,
        ratchet_private=ratchet.private,
        sending_key=sending,
        pending=PendingPreKey(
            base_key=base.public, signed_prekey_id=bundle.signed_prekey_id, prekey_id=bundle.prekey_id
        ),
    )


def accept(own: KeyPair, message: PreKeyMessage, *, signed_prekey: KeyPair, prekey: KeyPair | None) -> Session:
    """The session that a first message starts. Raises CannotDecrypt when it lacks a key."""
    if message.base_key is None or message.identity_key is None:
        raise CannotDecrypt("the first message lacks keys")
    base, identity = untyped(message.base_key), untyped(message.identity_key)
    secrets = [
        signed_prekey.agree(identity),
        own.agree(base),
        signed_prekey.agree(base),
        *([prekey.agree(base)] if prekey is not None else []),
    ]
    return Session(
        base_key=base,
        own_identity=own.public,
        remote_identity=identity,
        root_key=_root(secrets),
        ratchet_private=signed_prekey.private,
    )


def _root(secrets: list[bytes]) -> bytes:
    return hkdf(b"\xff" * 32 + b"".join(secrets), salt=_SALT, info=b"WhisperText", length=64)[:32]


def _derive_chain(root_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """The new root key, and the key of a new chain."""
    keys = hkdf(secret, salt=root_key, info=b"WhisperRatchet", length=64)
    return keys[:32], keys[32:]


# Sending


def encrypt(session: Session, plaintext: bytes, *, registration_id: int) -> tuple[str, bytes]:
    """The message and its type, `pkmsg` until the peer has answered and `msg` from then on."""
    if not session.sending_key:
        raise CannotDecrypt("the session can't send before it has received a message")
    seed = _message_seed(session.sending_key)
    session.sending_key = _next_chain_key(session.sending_key)
    counter, session.sent = session.sent, session.sent + 1
    cipher_key, mac_key, iv = _message_keys(seed)
    whisper = WhisperMessage(
        ratchet_key=typed(KeyPair.from_private(session.ratchet_private).public),
        counter=counter,
        previous_counter=session.previous,
        ciphertext=aes_encrypt(cipher_key, iv, plaintext),
    )
    body = _VERSION + encode_message(whisper)
    message = body + _mac(mac_key, session.own_identity, session.remote_identity, body)
    if session.pending is None:
        return "msg", message
    first = PreKeyMessage(
        prekey_id=session.pending.prekey_id,
        base_key=typed(session.pending.base_key),
        identity_key=typed(session.own_identity),
        message=message,
        registration_id=registration_id,
        signed_prekey_id=session.pending.signed_prekey_id,
    )
    return "pkmsg", _VERSION + encode_message(first)


# Receiving


def parse_first(data: bytes) -> PreKeyMessage:
    """Parse a `pkmsg`. Raises CannotDecrypt for anything else."""
    if data[:1] != _VERSION:
        raise CannotDecrypt("the first message has another version")
    return decode_message(PreKeyMessage, data[1:])


def damaged(kind: str, data: bytes) -> bytes:
    """An encrypted message with one bit of its MAC or signature inverted; the keys of a first message stay intact."""
    if kind == "pkmsg":
        first = parse_first(data)
        return _VERSION + encode_message(replace(first, message=damaged("msg", first.message or b"\x00")))
    return data[:-1] + bytes([data[-1] ^ 1])


class _Step(NamedTuple):
    """A ratchet step that has not been applied to the session yet."""

    root_key: bytes
    ratchet: KeyPair
    sending_key: bytes


def decrypt(session: Session, data: bytes, *, fresh: Callable[[], KeyPair]) -> tuple[bytes, KeyUse]:
    """The plaintext of a whisper message, and the key it used. `fresh` returns our next key when the ratchet steps.

    Raises KeyConsumed when its key was used before, CannotDecrypt when it is not of this session; then nothing has
    changed.
    """
    body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if body[:1] != _VERSION:
        raise CannotDecrypt("the message has another version")
    whisper = decode_message(WhisperMessage, body[1:])
    if whisper.ratchet_key is None or whisper.ciphertext is None:
        raise CannotDecrypt("the message lacks keys")
    remote, counter = untyped(whisper.ratchet_key), whisper.counter or 0
    known = next((chain for chain in session.receiving if chain.ratchet_key == remote), None)
    chain, step = (known, None) if known is not None else _ratchet_step(session, remote, fresh())
    seed, advanced = _take_key(chain, counter)
    cipher_key, mac_key, iv = _message_keys(seed)
    if not hmac.compare_digest(mac, _mac(mac_key, session.remote_identity, session.own_identity, body)):
        raise CannotDecrypt("the MAC is wrong: not of this session, or changed in transit")
    plaintext = aes_decrypt(cipher_key, iv, whisper.ciphertext)
    _commit(session, known, advanced, step, whisper.previous_counter or 0)
    return plaintext, KeyUse(remote, counter)


def _ratchet_step(session: Session, remote: bytes, fresh: KeyPair) -> tuple[Chain, _Step]:
    """The receiving chain of a new ratchet key, and the ratchet step to it."""
    root, receiving = _derive_chain(session.root_key, KeyPair.from_private(session.ratchet_private).agree(remote))
    root, sending = _derive_chain(root, fresh.agree(remote))
    return Chain(ratchet_key=remote, key=receiving), _Step(root, fresh, sending)


def _take_key(chain: Chain, counter: int) -> tuple[bytes, Chain]:
    """The key of message `counter`, and the chain without it."""
    if counter in chain.skipped:
        left = {number: seed for number, seed in chain.skipped.items() if number != counter}
        return chain.skipped[counter], msgspec.structs.replace(chain, skipped=left)
    if counter < chain.next or not chain.key:
        raise KeyConsumed(KeyUse(chain.ratchet_key, counter))
    advanced = _skip_to(chain, counter)
    seed = _message_seed(advanced.key)
    return seed, msgspec.structs.replace(advanced, key=_next_chain_key(advanced.key), next=counter + 1)


def _skip_to(chain: Chain, counter: int) -> Chain:
    """The chain just before message `counter`, with the keys of the messages before it stored."""
    if counter == chain.next:
        return chain
    if counter - chain.next > MAX_SKIPPED:
        raise CannotDecrypt(f"message {counter} is more than {MAX_SKIPPED} ahead")
    key, skipped = chain.key, dict(chain.skipped)
    for number in range(chain.next, counter):
        skipped[number] = _message_seed(key)
        key = _next_chain_key(key)
    return msgspec.structs.replace(chain, key=key, next=counter, skipped=skipped)


def _commit(session: Session, known: Chain | None, advanced: Chain, step: _Step | None, previous: int) -> None:
    session.pending = None
    if step is None:
        session.receiving = [advanced if chain is known else chain for chain in session.receiving]
        return
    if session.receiving:
        session.receiving[-1] = _closed(session.receiving[-1], previous)
    session.receiving = [*session.receiving, advanced][-CHAINS_KEPT:]
    session.root_key, session.ratchet_private = step.root_key, step.ratchet.private
    session.previous = max(session.sent - 1, 0)
    session.sending_key, session.sent = step.sending_key, 0


def _closed(chain: Chain, last: int) -> Chain:
    """A chain that the peer no longer uses: keys up to its last message are stored, and no further ones are derived."""
    if chain.next <= last <= chain.next + MAX_SKIPPED:
        chain = _skip_to(chain, last + 1)
    return msgspec.structs.replace(chain, key=b"")


# Keys and ciphers


def _message_seed(chain_key: bytes) -> bytes:
    return hmac.digest(chain_key, b"\x01", hashlib.sha256)


def _next_chain_key(chain_key: bytes) -> bytes:
    return hmac.digest(chain_key, b"\x02", hashlib.sha256)


def _message_keys(seed: bytes) -> tuple[bytes, bytes, bytes]:
    keys = hkdf(seed, salt=_SALT, info=b"WhisperMessageKeys", length=80)
    return keys[:32], keys[32:64], keys[64:]


def _mac(key: bytes, sender: bytes, receiver: bytes, body: bytes) -> bytes:
    return hmac.digest(key, typed(sender) + typed(receiver) + body, hashlib.sha256)[:_MAC_BYTES]


def aes_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    padder = PKCS7(128).padder()
    encryptor = Cipher(AES256(key), CBC(iv)).encryptor()
    return encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()


def aes_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    decryptor, unpadder = Cipher(AES256(key), CBC(iv)).decryptor(), PKCS7(128).unpadder()
    try:
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError as error:
        raise CannotDecrypt(f"the ciphertext is damaged: {error}") from error
