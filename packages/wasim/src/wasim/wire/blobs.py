"""Files that devices of one account exchange through the media host: histories and snapshots of settings.

They are encrypted like media, with a key that only the devices have.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from wasim.wire.curve import hkdf

HISTORY, APP_STATE = "History", "App State"
"""What a file contains: its keys depend on it."""
FOLDER = "/v/md-app-state"
"""Both kinds are stored under this path."""
PICTURE_FOLDER = "/v/picture"
"""Profile pictures, which are not encrypted."""
PATH_QUERY = "?ccb=11-4"
"""The end of every direct path. WhatsApp's have a query, so that clients such as whatsmeow can append `&hash=…`."""
_MAC_BYTES = 10


def name_of(digest: bytes) -> str:
    """The name of a file on the media host: its SHA-256 as base64url without padding."""
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """An encrypted file, and the fields with which a device finds and decrypts it."""

    encrypted: bytes
    key: bytes
    sha256: bytes
    encrypted_sha256: bytes
    length: int

    @property
    def name(self) -> str:
        """Its name on the media host."""
        return name_of(self.encrypted_sha256)

    @property
    def direct_path(self) -> str:
        return f"{FOLDER}/{self.name}{PATH_QUERY}"


def encrypt_blob(plain: bytes, *, content: str, key: bytes) -> Blob:
    """Encrypt a file; `content` is `HISTORY` or `APP_STATE`, `key` 32 random bytes."""
    iv, cipher_key, mac_key = _keys(content, key)
    padder = PKCS7(128).padder()
    encryptor = Cipher(AES256(cipher_key), CBC(iv)).encryptor()
    ciphertext = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    encrypted = ciphertext + hmac.digest(mac_key, iv + ciphertext, "sha256")[:_MAC_BYTES]
    return Blob(
        encrypted=encrypted,
        key=key,
        sha256=hashlib.sha256(plain).digest(),
        encrypted_sha256=hashlib.sha256(encrypted).digest(),
        length=len(plain),
    )


def _keys(content: str, key: bytes) -> tuple[bytes, bytes, bytes]:
    derived = hkdf(key, salt=bytes(32), info=f"WhatsApp {content} Keys".encode(), length=112)
    return derived[:16], derived[16:48], derived[48:80]
