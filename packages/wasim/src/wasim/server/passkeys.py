"""Linking a device whose account requires a passkey: the ceremony between the device, its owner's browser and the
phone.

After the QR code was scanned, or the code typed, the server requests an assertion of one of the account's passkeys.
With the assertion it sends a commitment to an ephemeral key and, within five minutes, a proof that this is the device
whose code the phone saw. Both sides then exchange nonces, and the device sends its keys and a new ADV secret,
encrypted. Pure code: each function checks one step, and raises `PasskeyError` for a wrong one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wasim.server import webauthn
from wasim.server.entropy import Entropy, new_key, token_urlsafe
from wasim.server.webauthn import BadCredential, Passkey
from wasim.wire.curve import KEY_BYTES, KeyPair, hkdf
from wasim.wire.errors import WireError
from wasim.wire.jids import SERVER
from wasim.wire.messages import (
    CompanionEphemeralIdentity,
    EncryptedPairingRequest,
    PairingRequest,
    PrimaryEphemeralIdentity,
    ProloguePayload,
)
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode

OPTIONS, REF, PROLOGUE, NONCE, REQUEST = (
    "passkey_request_options",
    "ref",
    "passkey_prologue",
    "companion_nonce",
    "encrypted_pairing_request",
)
TAGS = frozenset({OPTIONS, REF, PROLOGUE, NONCE, REQUEST})
CHALLENGE_S = 600.0
HANDOFF_S = 300.0
_NONCE_BYTES = 32
_GCM_IV_BYTES = 12
_CODE_BYTES = 5
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"


class PasskeyError(Exception):
    """A step of the ceremony is wrong; the sentence says why."""


@dataclass(slots=True, kw_only=True)
class Ceremony:
    """One device that is being linked with a passkey."""

    number: str
    adv_secret: bytes
    """The ADV secret of the QR code, or the one agreed on by code."""
    challenge: bytes
    asked_at: float
    passkeys: list[Passkey] = field(default_factory=list)
    ref: str = ""
    device_type: int = 0
    public_key: bytes = b""
    """The device's ephemeral key, after the commitment was verified."""
    identity: bytes = b""
    commitment: bytes = b""
    is_proven: bool = False
    """The handoff proof was valid: nobody needs to compare codes."""
    primary: KeyPair | None = None
    nonce: bytes = b""
    code: str = ""
    """The code that both sides show, after the device's nonce arrived."""
    key: bytes = b""
    new_secret: bytes = b""
    """The ADV secret that the device sent with its keys."""
    is_confirmed: bool = False
    """The owner compared the codes on the phone."""
    is_over: bool = False

    @property
    def is_done(self) -> bool:
        """Whether the phone may sign."""
        return bool(self.new_secret) and (self.is_proven or self.is_confirmed)


def begin(number: str, passkeys: list[Passkey], adv_secret: bytes, *, entropy: Entropy, now: float) -> Ceremony:
    return Ceremony(number=number, passkeys=passkeys, adv_secret=adv_secret, challenge=entropy(32), asked_at=now)


def notice(ceremony: Ceremony, notice_id: str, *, now: float) -> Node:
    """The notification that requests an assertion from the device."""
    attrs = {"from": SERVER, "type": "passkey_prologue_request", "id": notice_id, "t": str(int(now))}
    return Node("notification", attrs, [options(ceremony)])


def options(ceremony: Ceremony) -> Node:
    request_options = webauthn.request_options(ceremony.challenge, ceremony.passkeys, timeout_s=CHALLENGE_S)
    return Node(OPTIONS, {}, json.dumps(request_options).encode())


def new_ref(ceremony: Ceremony, entropy: Entropy) -> Node:
    """A new reference, which the device must include in its commitment."""
    ceremony.ref = token_urlsafe(entropy, 48)
    return Node(REF, {}, ceremony.ref.encode())


def prologue(ceremony: Ceremony, node: Node, *, now: float) -> Passkey:
    """Check assertion, commitment and proof; returns the passkey that signed, with its counter. Raises PasskeyError."""
    if ceremony.commitment:
        raise PasskeyError("this challenge was answered already")
    if now > ceremony.asked_at + CHALLENGE_S:
        raise PasskeyError("the challenge is too old")
    payload = node.data_of("prologue_payload")
    try:
        assertion = json.loads(node.data_of("webauthn_assertion"))
        signer = webauthn.verify(assertion, challenge=ceremony.challenge, passkeys=ceremony.passkeys)
    except (ValueError, RecursionError) as error:
        raise PasskeyError("the assertion is not JSON") from error
    except BadCredential as error:
        raise PasskeyError(str(error)) from error
    if node.data_of("credential_id") != signer.id:
        raise PasskeyError("credential_id is not that of the assertion")
    _commit(ceremony, payload)
    _prove(ceremony, payload, node, now)
    return signer


def _commit(ceremony: Ceremony, payload: bytes) -> None:
    prologue_payload = decode(ProloguePayload, payload)
    identity = decode(CompanionEphemeralIdentity, prologue_payload.companion_ephemeral_identity or b"")
    commitment = prologue_payload.commitment.hash if prologue_payload.commitment is not None else None
    if len(identity.public_key or b"") != KEY_BYTES or len(commitment or b"") != hashlib.sha256().digest_size:
        raise PasskeyError("the prologue lacks an ephemeral key or a commitment of 32 bytes")
    if not ceremony.ref or identity.ref != ceremony.ref:
        raise PasskeyError("the prologue does not have the reference that was issued")
    if not identity.device_type:
        raise PasskeyError("the prologue has no device type")
    ceremony.public_key, ceremony.device_type = identity.public_key or b"", identity.device_type
    ceremony.identity, ceremony.commitment = prologue_payload.companion_ephemeral_identity or b"", commitment or b""


def _prove(ceremony: Ceremony, payload: bytes, node: Node, now: float) -> None:
    if node.child("pairing_handoff_proof") is None:
        return
    if now > ceremony.asked_at + HANDOFF_S:
        raise PasskeyError("the handoff proof is too old")
    key = hkdf(ceremony.adv_secret, salt=bytes(KEY_BYTES), info=b"shortcake-passkey-handoff-v1", length=KEY_BYTES)
    if not hmac.compare_digest(hmac.digest(key, payload, hashlib.sha256), node.data_of("pairing_handoff_proof")):
        raise PasskeyError("the handoff proof is wrong")
    ceremony.is_proven = True


def continuation(ceremony: Ceremony, notice_id: str, *, entropy: Entropy, now: float) -> Node:
    """The phone's part of the exchange."""
    ceremony.primary, ceremony.nonce = new_key(entropy), entropy(_NONCE_BYTES)
    identity = PrimaryEphemeralIdentity(public_key=ceremony.primary.public, nonce=ceremony.nonce)
    attrs = {"from": SERVER, "type": "crsc_continuation", "id": notice_id, "t": str(int(now))}
    return Node("notification", attrs, [Node("primary_ephemeral_identity", {}, encode(identity))])


def verify_commitment(ceremony: Ceremony, nonce: bytes) -> None:
    """Check the nonce against the device's commitment. Raises PasskeyError."""
    if ceremony.primary is None:
        raise PasskeyError("the nonce came before it was requested")
    if len(nonce) != _NONCE_BYTES or hashlib.sha256(ceremony.identity + nonce).digest() != ceremony.commitment:
        raise PasskeyError("the nonce is not the one of the commitment")
    mixed = hashlib.sha256(nonce + ceremony.primary.public).digest()
    ceremony.code = base32_code(bytes(a ^ b for a, b in zip(ceremony.nonce, mixed, strict=True))[:_CODE_BYTES])
    try:
        shared = ceremony.primary.agree(ceremony.public_key)
    except WireError as error:
        raise PasskeyError("the ephemeral key is not valid") from error
    salt = f"Companion Pairing {ceremony.device_type} with ref {ceremony.ref}".encode()
    ceremony.key = hkdf(shared, salt=salt, info=b"Pairing Information Encryption Key", length=KEY_BYTES)


def base32_code(data: bytes) -> str:
    """Five bytes as eight characters in two groups."""
    bits = int.from_bytes(data, "big")
    characters = [_ALPHABET[bits >> shift & 31] for shift in range(35, -1, -5)]
    return "".join(characters[:4]) + "-" + "".join(characters[4:])


def accept_request(ceremony: Ceremony, encrypted: bytes, *, noise_key: bytes, identity: bytes) -> None:
    """Check the device's keys and store its new ADV secret, which replaces that of a QR code. Raises PasskeyError."""
    if not ceremony.key:
        raise PasskeyError("the pairing request came before the nonce")
    envelope = decode(EncryptedPairingRequest, encrypted)
    if len(envelope.iv or b"") != _GCM_IV_BYTES:
        raise PasskeyError("the pairing request has no IV of 12 bytes")
    try:
        plaintext = AESGCM(ceremony.key).decrypt(envelope.iv or b"", envelope.encrypted_payload or b"", None)
    except (InvalidTag, ValueError) as error:
        raise PasskeyError("the pairing request can't be decrypted") from error
    request = decode(PairingRequest, plaintext)
    if (request.companion_public_key, request.companion_identity_key) != (noise_key, identity):
        raise PasskeyError("the pairing request has other keys than the device that connected")
    secret = request.adv_secret or b""
    if len(secret) != KEY_BYTES or hmac.compare_digest(secret, ceremony.adv_secret):
        raise PasskeyError("the pairing request has no new ADV secret of 32 bytes")
    ceremony.new_secret = secret


def confirm(ceremony: Ceremony, code: str) -> None:
    """The owner compares the code that the device shows with the phone's. Raises PasskeyError."""
    if not ceremony.code:
        raise PasskeyError("the device has not shown a code yet")
    if code.replace("-", "").upper() != ceremony.code.replace("-", ""):
        raise PasskeyError("the codes differ")
    ceremony.is_confirmed = True
