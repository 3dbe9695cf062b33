"""Signal's sender keys, version 3: one chain for all of a sender's messages to a group, signed by its own key.

Pure, like the ratchet: a key changes only when a message was encrypted or decrypted successfully. The JavaScript of
libsignal skips every second number of its own chain, which decryption must accept.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from wasim.wire.curve import SIGNATURE_BYTES, KeyPair, hkdf, typed, untyped, verify
from wasim.wire.errors import WireError
from wasim.wire.messages import SenderKeyDistribution, SenderKeyMessage
from wasim.wire.protobuf import decode as decode_message
from wasim.wire.protobuf import encode as encode_message
from wasim.wire.ratchet import MAX_SKIPPED, CannotDecrypt, KeyConsumed, KeyUse, aes_decrypt, aes_encrypt

_VERSION = b"\x33"
_SALT = bytes(32)


class SenderKey(msgspec.Struct, kw_only=True):
    """The chain of one device in one group, as its owner or a member knows it."""

    id: int
    next: int
    chain_key: bytes
    signing_public: bytes
    signing_private: bytes = b""
    """Only the owner has it."""
    skipped: dict[int, bytes] = {}
    """Keys of messages that have not arrived yet."""


def new_key(*, id_: int, chain_key: bytes, signing: KeyPair) -> SenderKey:
    """A new key for the caller's own messages."""
    return SenderKey(
        id=id_, next=0, chain_key=chain_key, signing_public=signing.public, signing_private=signing.private
    )


def distribution(key: SenderKey) -> bytes:
    """The distribution message, with which a member can decrypt all messages from now on."""
    distribution_message = SenderKeyDistribution(
        id=key.id, iteration=key.next, chain_key=key.chain_key, signing_key=typed(key.signing_public)
    )
    return _VERSION + encode_message(distribution_message)


def accept(data: bytes) -> SenderKey:
    """The key in a distribution message. Raises CannotDecrypt when it is not valid."""
    distribution_message = decode_message(SenderKeyDistribution, data[1:])
    if data[:1] != _VERSION or distribution_message.chain_key is None or distribution_message.signing_key is None:
        raise CannotDecrypt("the sender key is incomplete, or has another version")
    public = untyped(distribution_message.signing_key)
    return SenderKey(
        id=distribution_message.id or 0,
        next=distribution_message.iteration or 0,
        chain_key=distribution_message.chain_key,
        signing_public=public,
    )


def encrypt(key: SenderKey, plaintext: bytes, *, nonce: bytes) -> bytes:
    """The message, signed. Advances the chain."""
    iv, cipher_key = _message_keys(_seed(key.chain_key))
    message = SenderKeyMessage(id=key.id, iteration=key.next, ciphertext=aes_encrypt(cipher_key, iv, plaintext))
    key.chain_key, key.next = _next_chain_key(key.chain_key), key.next + 1
    body = _VERSION + encode_message(message)
    return body + KeyPair.from_private(key.signing_private).sign(body, nonce=nonce)


def id_of(data: bytes) -> int:
    """The id of the sender key that encrypted a message."""
    return _parse(data).id or 0


def decrypt(key: SenderKey, data: bytes) -> tuple[bytes, KeyUse]:
    """The plaintext, and the message key it used.

    Raises KeyConsumed when that was used before, CannotDecrypt when it is not of this chain; then nothing has changed.
    """
    message = _parse(data)
    body, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    if not verify(key.signing_public, body, signature):
        raise CannotDecrypt("the signature is wrong: not of this sender, or changed in transit")
    number = message.iteration or 0
    seed, advanced = _take_key(key, number)
    iv, cipher_key = _message_keys(seed)
    plaintext = aes_decrypt(cipher_key, iv, message.ciphertext or b"")
    key.next, key.chain_key, key.skipped = advanced.next, advanced.chain_key, advanced.skipped
    return plaintext, _use(key, number)


def _parse(data: bytes) -> SenderKeyMessage:
    if data[:1] != _VERSION or len(data) <= SIGNATURE_BYTES:
        raise CannotDecrypt("the group message has another version, or is truncated")
    try:
        return decode_message(SenderKeyMessage, data[1:-SIGNATURE_BYTES])
    except WireError as error:
        raise CannotDecrypt(f"the group message is damaged: {error}") from error


def _take_key(key: SenderKey, number: int) -> tuple[bytes, SenderKey]:
    """The seed of message `number`, and the key without it."""
    if number in key.skipped:
        left = {other: seed for other, seed in key.skipped.items() if other != number}
        return key.skipped[number], msgspec.structs.replace(key, skipped=left)
    if number < key.next:
        raise KeyConsumed(_use(key, number))
    if number - key.next > MAX_SKIPPED:
        raise CannotDecrypt(f"message {number} is more than {MAX_SKIPPED} ahead")
    chain, skipped = key.chain_key, dict(key.skipped)
    for other in range(key.next, number):
        skipped[other] = _seed(chain)
        chain = _next_chain_key(chain)
    for oldest in list(skipped)[:-MAX_SKIPPED]:
        del skipped[oldest]
    advanced = msgspec.structs.replace(key, next=number + 1, chain_key=_next_chain_key(chain), skipped=skipped)
    return _seed(chain), advanced


def _use(key: SenderKey, number: int) -> KeyUse:
    return KeyUse(key.signing_public, number)


def _seed(chain_key: bytes) -> bytes:
    return hmac.digest(chain_key, b"\x01", hashlib.sha256)


def _next_chain_key(chain_key: bytes) -> bytes:
    return hmac.digest(chain_key, b"\x02", hashlib.sha256)


def _message_keys(seed: bytes) -> tuple[bytes, bytes]:
    """The IV and the key of the cipher."""
    keys = hkdf(seed, salt=_SALT, info=b"WhisperGroup", length=48)
    return keys[:16], keys[16:]
