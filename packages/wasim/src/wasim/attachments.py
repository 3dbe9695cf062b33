"""Media as phones send and receive it: encrypted into the media folder, and decrypted from it.

Files are streamed, never held in memory as a whole. The scheme is WhatsApp's: AES-CBC under keys derived from one key
in the message, followed by a truncated HMAC.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from wasim.media import CHUNK_BYTES, MediaFolder
from wasim.wire.curve import hkdf

KINDS = ("image", "video", "audio", "document", "sticker")
_INFO = {"image": "Image", "video": "Video", "audio": "Audio", "document": "Document", "sticker": "Image"}
_MAC_BYTES = 10
_KEY_BYTES = 32


class Unopenable(Exception):
    """Media that is missing, or does not match its message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """The fields about encrypted media that a message needs."""

    name: str
    """Name of the file in the media folder."""
    key: bytes
    sha256: bytes
    encrypted_sha256: bytes
    length: int


@dataclass(frozen=True, slots=True)
class _Keys:
    iv: bytes
    cipher: bytes
    mac: bytes


def _derive(kind: str, key: bytes) -> _Keys:
    made = hkdf(key, salt=bytes(32), info=f"WhatsApp {_INFO[kind]} Keys".encode(), length=112)
    return _Keys(made[:16], made[16:48], made[48:80])


def seal(folder: MediaFolder, kind: str, chunks: Iterable[bytes]) -> Sealed:
    """Encrypt media into the folder."""
    key, scratch = secrets.token_bytes(_KEY_BYTES), folder.scratch()
    plain, encrypted, length = hashlib.sha256(), hashlib.sha256(), 0
    keys = _derive(kind, key)
    mac = hmac.new(keys.mac, keys.iv, hashlib.sha256)
    encryptor, padder = Cipher(AES256(keys.cipher), CBC(keys.iv)).encryptor(), PKCS7(128).padder()
    try:
        with scratch.open("wb") as file:
            for chunk in chunks:
                plain.update(chunk)
                length += len(chunk)
                _put(encryptor.update(padder.update(chunk)), file.write, encrypted.update, mac.update)
            _put(encryptor.update(padder.finalize()) + encryptor.finalize(), file.write, encrypted.update, mac.update)
            _put(mac.digest()[:_MAC_BYTES], file.write, encrypted.update)
        name = folder.adopt(scratch, encrypted.digest())
    finally:
        scratch.unlink(missing_ok=True)
    return Sealed(name=name, key=key, sha256=plain.digest(), encrypted_sha256=encrypted.digest(), length=length)


def _put(data: bytes, *takers: Callable[[bytes], object]) -> None:
    for take in takers:
        take(data)


def unseal(path: Path, kind: str, key: bytes) -> Iterator[bytes]:
    """The content, in chunks. Raises Unopenable when it is missing, or – after the last chunk – not authentic."""
    if not path.is_file():
        raise Unopenable("the media is not on this media host")
    keys, left = _derive(kind, key), path.stat().st_size - _MAC_BYTES
    mac = hmac.new(keys.mac, keys.iv, hashlib.sha256)
    decryptor, unpadder = Cipher(AES256(keys.cipher), CBC(keys.iv)).decryptor(), PKCS7(128).unpadder()
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            mac.update(chunk)
            yield unpadder.update(decryptor.update(chunk))
        if not hmac.compare_digest(file.read(), mac.digest()[:_MAC_BYTES]):
            raise Unopenable("the media was encrypted with another key, or changed in transit")
    try:
        yield unpadder.update(decryptor.finalize()) + unpadder.finalize()
    except ValueError as error:
        raise Unopenable(f"the media is damaged: {error}") from error


def measure(path: Path, kind: str, key: bytes) -> tuple[int, str]:
    """Size and SHA-256 of the content, read once. Raises Unopenable."""
    digest, size = hashlib.sha256(), 0
    for chunk in unseal(path, kind, key):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def filling(size: int) -> Iterator[bytes]:
    """That many filler bytes, always the same."""
    block = hashlib.shake_256(b"wasim").digest(CHUNK_BYTES)
    while size > 0:
        yield block[:size]
        size -= len(block)


def file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
