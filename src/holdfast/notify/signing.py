"""Signs webhooks according to the Standard Webhooks specification (symmetric, `v1`).

A receiver verifies with the signature that a webhook is authentic and recent. Secrets must never appear in errors or
logs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from holdfast.base.errors import BadInput

PREFIX = "whsec_"
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 24, 64
"""The minimum and maximum length of a secret in bytes (source: the specification)."""


def sign(secret: str, *, id_: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`."""
    signed = f"{id_}.{timestamp}.".encode() + body
    digest = hmac.new(_bytes(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def checked_secret(secret: str, *, field: str) -> str:
    """Returns the secret if it is valid. Raises `BadInput`, which does not show it."""
    try:
        count = len(_bytes(secret))
    except (binascii.Error, ValueError):
        count = 0
    if not _MIN_KEY_BYTES <= count <= _MAX_KEY_BYTES:
        raise BadInput(
            f"{field} is not a webhook secret: give whsec_ and {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes in base64, "
            "such as whsec_$(openssl rand -base64 32), or leave it out to have one generated",
            field=field,
        )
    return secret


def _bytes(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
