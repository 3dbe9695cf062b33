"""WebAuthn checks of a relying party: whether a passkey signed a challenge on WhatsApp's own site.

Pure: bytes in, an error or nothing out. Sources: W3C Web Authentication Level 3, sections 7.1 and 7.2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

ORIGIN = "https://web.whatsapp.com"
RP_ID = "whatsapp.com"
ES256 = -7
_RP_ID_HASH = hashlib.sha256(RP_ID.encode()).digest()
_USER_PRESENT, _USER_VERIFIED, _ATTESTED = 0x01, 0x04, 0x40
_HEAD_BYTES = 37
"""rpIdHash, flags and counter: the start of authenticator data."""
_AAGUID_BYTES = 16
_MAX_ID_BYTES = 1023


class BadCredential(Exception):
    """A credential that is not valid; the sentence says why."""


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """A passkey as the relying party stores it: never a private key."""

    id: bytes
    public_key: bytes
    """SubjectPublicKeyInfo, DER; an ES256 key."""
    counter: int = 0


def passkey(id_: bytes, public_key: bytes) -> Passkey:
    """A passkey of this public key. Raises BadCredential unless that is an ES256 key."""
    if not 1 <= len(id_) <= _MAX_ID_BYTES:
        raise BadCredential(f"a credential id has 1 to {_MAX_ID_BYTES} bytes, this has {len(id_)}")
    _es256(public_key)
    return Passkey(id=id_, public_key=public_key)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: object, *, field: str) -> bytes:
    """Raises BadCredential for what is not base64url without padding."""
    if not isinstance(text, str) or "=" in text or "+" in text or "/" in text:
        raise BadCredential(f"{field} is not base64url without padding")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadCredential(f"{field} is not base64url without padding") from error


def creation_options(challenge: bytes, *, user: bytes, name: str) -> dict[str, object]:
    """Options for `PublicKeyCredential.parseCreationOptionsFromJSON`, to create a passkey on WhatsApp's site."""
    return {
        "challenge": base64url(challenge),
        "rp": {"id": RP_ID, "name": "WhatsApp"},
        "user": {"id": base64url(user), "name": name, "displayName": name},
        "pubKeyCredParams": [{"type": "public-key", "alg": ES256}],
        "authenticatorSelection": {"residentKey": "required", "userVerification": "required"},
        "attestation": "none",
        "timeout": 600_000,
    }


def request_options(challenge: bytes, passkeys: list[Passkey], *, timeout_s: float) -> dict[str, object]:
    """Options for `PublicKeyCredential.parseRequestOptionsFromJSON`, to sign with one of these passkeys."""
    return {
        "challenge": base64url(challenge),
        "timeout": round(timeout_s * 1000),
        "rpId": RP_ID,
        "allowCredentials": [{"type": "public-key", "id": base64url(known.id)} for known in passkeys],
        "userVerification": "required",
        "extensions": {},
    }


def registered(credential: object, *, challenge: bytes) -> Passkey:
    """The passkey that a registration (`credential.toJSON()`) created. Raises BadCredential.

    Without attestation only the page that read the public key vouches for it, as on the real site.
    """
    answer = _response_of(credential)
    _check_client_data(answer, "webauthn.create", challenge)
    data = from_base64url(answer.get("authenticatorData"), field="authenticatorData")
    _check_flags(data)
    if not data[32] & _ATTESTED or len(data) < _HEAD_BYTES + _AAGUID_BYTES + 2:
        raise BadCredential("authenticatorData has no new credential")
    start = _HEAD_BYTES + _AAGUID_BYTES + 2
    size = int.from_bytes(data[start - 2 : start], "big")
    id_ = data[start : start + size]
    if len(id_) != size or id_ != _raw_id(credential):
        raise BadCredential("authenticatorData has another credential than rawId")
    if answer.get("publicKeyAlgorithm") != ES256:
        raise BadCredential(f"publicKeyAlgorithm is {answer.get('publicKeyAlgorithm')!r}, not ES256 ({ES256})")
    return passkey(id_, from_base64url(answer.get("publicKey"), field="publicKey"))


def verify(credential: object, *, challenge: bytes, passkeys: list[Passkey]) -> Passkey:
    """The passkey that signed, with its new counter. Raises BadCredential for an invalid assertion."""
    id_ = _raw_id(credential)
    known = next((one for one in passkeys if hmac.compare_digest(one.id, id_)), None)
    if known is None:
        raise BadCredential("the credential is not one of this account's passkeys")
    answer = _response_of(credential)
    client_data = _check_client_data(answer, "webauthn.get", challenge)
    data = from_base64url(answer.get("authenticatorData"), field="authenticatorData")
    _check_flags(data)
    signature = from_base64url(answer.get("signature"), field="signature")
    try:
        _es256(known.public_key).verify(signature, data + hashlib.sha256(client_data).digest(), ECDSA(SHA256()))
    except InvalidSignature as error:
        raise BadCredential("the signature is wrong") from error
    counter = int.from_bytes(data[33:_HEAD_BYTES], "big")
    if counter <= known.counter and (counter or known.counter):
        raise BadCredential("the signature counter did not grow: the passkey may have been cloned")
    return msgspec.structs.replace(known, counter=counter)


def _es256(public_key: bytes) -> EllipticCurvePublicKey:
    try:
        key = load_der_public_key(public_key)
    except ValueError as error:
        raise BadCredential("the public key is not a SubjectPublicKeyInfo in DER") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise BadCredential("the public key is not one for ES256 (ECDSA on P-256)")
    return key


def _raw_id(credential: object) -> bytes:
    if not isinstance(credential, dict) or credential.get("type") != "public-key":
        raise BadCredential("it is not a public-key credential")
    if credential.get("id") != credential.get("rawId"):
        raise BadCredential("id and rawId differ")
    return from_base64url(credential.get("rawId"), field="rawId")


def _response_of(credential: object) -> dict[str, Any]:
    answer = credential.get("response") if isinstance(credential, dict) else None
    if not isinstance(answer, dict):
        raise BadCredential("the credential has no response")
    return answer


def _check_client_data(answer: dict[str, Any], kind: str, challenge: bytes) -> bytes:
    raw = from_base64url(answer.get("clientDataJSON"), field="clientDataJSON")
    try:
        client_data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadCredential("clientDataJSON is not JSON") from error
    if not isinstance(client_data, dict) or client_data.get("type") != kind:
        raise BadCredential(f"clientDataJSON is not of type {kind}")
    if client_data.get("origin") != ORIGIN or client_data.get("crossOrigin", False) is not False:
        raise BadCredential(f"it was made on {client_data.get('origin')!r}, not on {ORIGIN}")
    if not hmac.compare_digest(from_base64url(client_data.get("challenge"), field="challenge"), challenge):
        raise BadCredential("it answers another challenge")
    return raw


def _check_flags(data: bytes) -> None:
    if len(data) < _HEAD_BYTES:
        raise BadCredential("authenticatorData is too short")
    if data[:32] != _RP_ID_HASH:
        raise BadCredential(f"it is not for the relying party {RP_ID}")
    if not data[32] & _USER_PRESENT or not data[32] & _USER_VERIFIED:
        raise BadCredential("the person was not verified (flags UP and UV)")
