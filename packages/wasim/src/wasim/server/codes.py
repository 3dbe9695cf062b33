"""Linking by an eight-character code instead of a QR code: WhatsApp's `link_code_companion_reg`.

The device shows a code and sends an ephemeral key encrypted with it (`companion_hello`). Its owner types the code on
the phone, which answers with its own key, encrypted the same way (`primary_hello`). The device sends both identities
and a secret under the shared key (`companion_finish`); from then on everything is as if the phone had scanned a QR
code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from wasim.server.entropy import Entropy, new_key, token_urlsafe
from wasim.wire.curve import KEY_BYTES, KeyPair, hkdf
from wasim.wire.jids import SERVER, parse_jid
from wasim.wire.nodes import Node

TAG = "link_code_companion_reg"
_ITERATIONS = 2 << 16
_SALT_BYTES, _IV_BYTES, _GCM_IV_BYTES = 32, 16, 12
_WRAPPED_BYTES = _SALT_BYTES + _IV_BYTES + KEY_BYTES


class CodeError(Exception):
    """A code is not accepted; the sentence says why."""


@dataclass(slots=True, kw_only=True)
class CodeRequest:
    """A device that shows a code for this number."""

    number: str
    ref: bytes
    wrapped: bytes
    """Its ephemeral key, encrypted with the code."""
    primary: KeyPair | None = None
    """The phone's ephemeral key, after the code was typed."""
    companion: bytes = b""
    """The device's ephemeral key, if the code was right."""
    secret: bytes = b""
    """The secret that both agreed on."""


def hello(reg: Node, entropy: Entropy) -> CodeRequest:
    """The request in a `companion_hello`. Raises CodeError when it is incomplete."""
    jid = parse_jid(reg.attrs.get("jid", ""))
    wrapped = reg.data_of("link_code_pairing_wrapped_companion_ephemeral_pub")
    if jid is None or len(wrapped) != _WRAPPED_BYTES:
        raise CodeError("a request for a code without number or key")
    return CodeRequest(number=jid.user, ref=token_urlsafe(entropy, 24).encode(), wrapped=wrapped)


def hello_answer(request: CodeRequest) -> list[Node]:
    return [Node(TAG, {}, [Node("link_code_pairing_ref", {}, request.ref)])]


def enter(request: CodeRequest, code: str, phone: KeyPair, *, notice_id: str, entropy: Entropy, now: float) -> Node:
    """The code is typed on the phone; returns the notification with the phone's keys for the device."""
    request.primary = new_key(entropy)
    request.companion = _crypt(code, request.wrapped)
    salt, iv = entropy(_SALT_BYTES), entropy(_IV_BYTES)
    wrapped = salt + iv + _crypt(code, salt + iv + request.primary.public)
    children = [
        Node("link_code_pairing_ref", {}, request.ref),
        Node("primary_identity_pub", {}, phone.public),
        Node("link_code_pairing_wrapped_primary_ephemeral_pub", {}, wrapped),
    ]
    attrs = {"from": SERVER, "type": TAG, "id": notice_id, "t": str(int(now))}
    return Node("notification", attrs, [Node(TAG, {"stage": "primary_hello"}, children)])


def _crypt(code: str, wrapped: bytes) -> bytes:
    """Encrypt or decrypt the last 32 bytes with the code, and the salt and IV before them."""
    salt, iv = wrapped[:_SALT_BYTES], wrapped[_SALT_BYTES : _SALT_BYTES + _IV_BYTES]
    key = hashlib.pbkdf2_hmac("sha256", code.encode(), salt, _ITERATIONS)
    cipher = Cipher(AES256(key), CTR(iv)).encryptor()
    return cipher.update(wrapped[_SALT_BYTES + _IV_BYTES :]) + cipher.finalize()


def finish(request: CodeRequest, reg: Node, phone: KeyPair, identity: bytes) -> bytes:
    """The secret agreed on in a `companion_finish`, which a QR code would have contained.

    Raises CodeError when the typed code was not the device's.
    """
    if request.primary is None:
        raise CodeError("the code has not been typed yet")
    bundle = reg.data_of("link_code_pairing_wrapped_key_bundle")
    salt, iv = bundle[:_SALT_BYTES], bundle[_SALT_BYTES : _SALT_BYTES + _GCM_IV_BYTES]
    shared = request.primary.agree(request.companion)
    key = hkdf(shared, salt=salt, info=b"link_code_pairing_key_bundle_encryption_key", length=KEY_BYTES)
    try:
        plaintext = AESGCM(key).decrypt(iv, bundle[_SALT_BYTES + _GCM_IV_BYTES :], b"")
    except (InvalidTag, ValueError) as error:
        raise CodeError("the code is wrong") from error
    companion, primary, random = plaintext[:KEY_BYTES], plaintext[KEY_BYTES : 2 * KEY_BYTES], plaintext[2 * KEY_BYTES :]
    if companion != identity or primary != phone.public:
        raise CodeError("the device's answer has other identities than those exchanged before")
    return hkdf(shared + phone.agree(identity) + random, salt=bytes(KEY_BYTES), info=b"adv_secret", length=KEY_BYTES)
