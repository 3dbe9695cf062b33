"""A software passkey for tests: signs as a browser on WhatsApp's own site would."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Json = dict[str, object]
_PRESENT_AND_VERIFIED = 0x05


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(slots=True, kw_only=True)
class Authenticator:
    """One passkey of an account's owner."""

    key: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))
    id: bytes = b"a passkey in software"
    origin: str = "https://web.whatsapp.com"
    counter: int = 0

    @property
    def passkey(self) -> Json:
        """The public part, in the form that wasim expects."""
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return {"id": base64url(self.id), "publicKey": base64url(public)}

    def sign(self, options: Json) -> Json:
        """The assertion for these request options, as `PublicKeyCredential.toJSON()` gives it."""
        self.counter += 1
        said = {"type": "webauthn.get", "challenge": options["challenge"], "origin": self.origin, "crossOrigin": False}
        client_data = json.dumps(said).encode()
        head = hashlib.sha256(b"whatsapp.com").digest() + bytes((_PRESENT_AND_VERIFIED,))
        data = head + self.counter.to_bytes(4, "big")
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ECDSA(SHA256()))
        return {
            "id": base64url(self.id),
            "rawId": base64url(self.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": base64url(client_data),
                "authenticatorData": base64url(data),
                "signature": base64url(signature),
                "userHandle": base64url(b"owner"),
            },
        }
