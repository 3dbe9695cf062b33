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


class UnreadableMedia(Exception):
    """Media that is missing, or does not match its message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedMedia:
    """Encrypted media, with the fields that its message needs."""

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
    derived = hkdf(key, salt=bytes(32), info=f"WhatsApp {_INFO[kind]} Keys".encode(), length=112)
    return _Keys(derived[:16], derived[16:48], derived[48:80])


def encrypt(folder: MediaFolder, kind: str, chunks: Iterable[bytes]) -> EncryptedMedia:
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
                _write_to(encryptor.update(padder.update(chunk)), file.write, encrypted.update, mac.update)
            _write_to(
                encryptor.update(padder.finalize()) + encryptor.finalize(), file.write, encrypted.update, mac.update
            )
            _write_to(mac.digest()[:_MAC_BYTES], file.write, encrypted.update)
        name = folder.finish(scratch, encrypted.digest())
    finally:
        scratch.unlink(missing_ok=True)
    return EncryptedMedia(name=name, key=key, sha256=plain.digest(), encrypted_sha256=encrypted.digest(), length=length)


def _write_to(data: bytes, *sinks: Callable[[bytes], object]) -> None:
    for sink in sinks:
        sink(data)


def decrypt(path: Path, kind: str, key: bytes) -> Iterator[bytes]:
    """The content, in chunks. Raises UnreadableMedia when it is missing, or – after the last chunk – not authentic."""
    if not path.is_file():
        raise UnreadableMedia("the media is not on this media host")
    keys, remaining = _derive(kind, key), path.stat().st_size - _MAC_BYTES
    mac = hmac.new(keys.mac, keys.iv, hashlib.sha256)
    decryptor, unpadder = Cipher(AES256(keys.cipher), CBC(keys.iv)).decryptor(), PKCS7(128).unpadder()
    with path.open("rb") as file:
        while remaining > 0 and (chunk := file.read(min(CHUNK_BYTES, remaining))):
            remaining -= len(chunk)
            mac.update(chunk)
            yield unpadder.update(decryptor.update(chunk))
        if not hmac.compare_digest(file.read(), mac.digest()[:_MAC_BYTES]):
            raise UnreadableMedia("the media was encrypted with another key, or changed in transit")
    try:
        yield unpadder.update(decryptor.finalize()) + unpadder.finalize()
    except ValueError as error:
        raise UnreadableMedia(f"the media is damaged: {error}") from error


def measure(path: Path, kind: str, key: bytes) -> tuple[int, str]:
    """Size and SHA-256 of the content. Raises UnreadableMedia."""
    digest, size = hashlib.sha256(), 0
    for chunk in decrypt(path, kind, key):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def filler(size: int) -> Iterator[bytes]:
    """`size` filler bytes, the same in each call."""
    block = hashlib.shake_256(b"wasim").digest(CHUNK_BYTES)
    while size > 0:
        yield block[:size]
        size -= len(block)


def file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
