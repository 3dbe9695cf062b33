"""App state: the settings that an account's devices share through the server, encrypted with a key of their own.

A collection is a set of records, each a setting by its index. A patch changes some of them and raises the version by
one. Each record has a MAC; each version has one over a homomorphic hash of all records (LTHash), so that devices
detect every change and omission by the server. Field numbers as in WAProto.
"""

# ruff: noqa: RUF009 – a field specification is immutable

from __future__ import annotations

import hmac
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from wasim.wire.curve import hkdf
from wasim.wire.errors import WireError
from wasim.wire.protobuf import decode, encode, optional, repeated, unknown_fields

COLLECTIONS = ("critical_block", "critical_unblock_low", "regular_high", "regular_low", "regular")
SET, REMOVE = 0, 1
MAC_BYTES = 32
_HASH_BYTES = 128
_IV_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    version: int | None = optional(1, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedBlob:
    blob: bytes | None = optional(1, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyId:
    id: bytes | None = optional(1, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedRecord:
    index: SyncedBlob | None = optional(1, lambda: SyncedBlob)
    """The MAC of the index."""
    value: SyncedBlob | None = optional(2, lambda: SyncedBlob)
    """IV, ciphertext and MAC."""
    key: KeyId | None = optional(3, lambda: KeyId)

    @property
    def index_mac(self) -> bytes:
        return (self.index and self.index.blob) or b""

    @property
    def encrypted_value(self) -> bytes:
        return (self.value and self.value.blob) or b""

    @property
    def value_mac(self) -> bytes:
        return self.encrypted_value[-MAC_BYTES:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    operation: int | None = optional(1, "uint")
    record: SyncedRecord | None = optional(2, lambda: SyncedRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    version: Version | None = optional(1, lambda: Version)
    mutations: tuple[Mutation, ...] = repeated(2, lambda: Mutation)
    snapshot_mac: bytes | None = optional(4, "bytes")
    patch_mac: bytes | None = optional(5, "bytes")
    key: KeyId | None = optional(6, lambda: KeyId)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    version: Version | None = optional(1, lambda: Version)
    records: tuple[SyncedRecord, ...] = repeated(2, lambda: SyncedRecord)
    mac: bytes | None = optional(3, "bytes")
    key: KeyId | None = optional(4, lambda: KeyId)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobReference:
    """ExternalBlobReference: where an encrypted file is."""

    media_key: bytes | None = optional(1, "bytes")
    direct_path: str | None = optional(2, "string")
    handle: str | None = optional(3, "string")
    size: int | None = optional(4, "uint")
    sha256: bytes | None = optional(5, "bytes")
    encrypted_sha256: bytes | None = optional(6, "bytes")


# The content of a record


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Actions whose only interesting field is a boolean: star, pin, archive, mark as read, label."""

    on: int | None = optional(1, "uint")
    unknown_fields: bytes = unknown_fields()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactAction:
    full_name: str | None = optional(1, "string")
    first_name: str | None = optional(2, "string")
    lid: str | None = optional(3, "string")
    save_on_phone: int | None = optional(4, "uint")
    pn: str | None = optional(5, "string")
    username: str | None = optional(6, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class MuteAction:
    muted: int | None = optional(1, "uint")
    until_ms: int | None = optional(2, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushName:
    name: str | None = optional(1, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEdit:
    name: str | None = optional(1, "string")
    color: int | None = optional(2, "uint")
    predefined: int | None = optional(3, "uint")
    deleted: int | None = optional(4, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRangeAction:
    """An action on a range of messages in a chat."""

    unknown_fields: bytes = unknown_fields()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionValue:
    timestamp_ms: int | None = optional(1, "uint")
    star: Flag | None = optional(2, lambda: Flag)
    contact: ContactAction | None = optional(3, lambda: ContactAction)
    mute: MuteAction | None = optional(4, lambda: MuteAction)
    pin: Flag | None = optional(5, lambda: Flag)
    push_name: PushName | None = optional(7, lambda: PushName)
    label: LabelEdit | None = optional(14, lambda: LabelEdit)
    labelled: Flag | None = optional(15, lambda: Flag)
    archive: Flag | None = optional(17, lambda: Flag)
    delete_message: MessageRangeAction | None = optional(18, lambda: MessageRangeAction)
    read: Flag | None = optional(20, lambda: Flag)
    clear: MessageRangeAction | None = optional(21, lambda: MessageRangeAction)
    delete_chat: MessageRangeAction | None = optional(22, lambda: MessageRangeAction)
    unarchive: Flag | None = optional(23, lambda: Flag)
    unknown_fields: bytes = unknown_fields()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionData:
    index: bytes | None = optional(1, "bytes")
    """A list of strings as JSON."""
    value: ActionValue | None = optional(2, lambda: ActionValue)
    padding: bytes | None = optional(3, "bytes")
    version: int | None = optional(4, "uint")


class BadMac(WireError):
    """A record or a patch was not made with the account's key, or is incomplete."""


@dataclass(frozen=True, slots=True)
class SyncKeys:
    """The keys derived from one app state sync key."""

    id: bytes
    index: bytes
    encryption: bytes
    value_mac: bytes
    snapshot_mac: bytes
    patch_mac: bytes

    @classmethod
    def derive(cls, key_id: bytes, key: bytes) -> SyncKeys:
        derived = hkdf(key, salt=bytes(32), info=b"WhatsApp Mutation Keys", length=160)
        return cls(key_id, derived[:32], derived[32:64], derived[64:96], derived[96:128], derived[128:160])

    def encrypt(self, operation: int, data: ActionData, *, iv: bytes) -> Mutation:
        """The mutation that sets or removes this record."""
        padder = PKCS7(128).padder()
        encryptor = Cipher(AES256(self.encryption), CBC(iv)).encryptor()
        ciphertext = iv + encryptor.update(padder.update(encode(data)) + padder.finalize()) + encryptor.finalize()
        record = SyncedRecord(
            index=SyncedBlob(blob=hmac.digest(self.index, data.index or b"", "sha256")),
            value=SyncedBlob(blob=ciphertext + self._value_mac(operation, ciphertext)),
            key=KeyId(id=self.id),
        )
        return Mutation(operation=operation, record=record)

    def decrypt(self, mutation: Mutation) -> ActionData:
        """The record in a mutation. Raises BadMac."""
        record, operation = mutation.record or SyncedRecord(), mutation.operation or SET
        ciphertext = record.encrypted_value[:-MAC_BYTES]
        if not hmac.compare_digest(self._value_mac(operation, ciphertext), record.value_mac):
            raise BadMac("the MAC of a record's value is wrong")
        decryptor = Cipher(AES256(self.encryption), CBC(ciphertext[:_IV_BYTES])).decryptor()
        padded = decryptor.update(ciphertext[_IV_BYTES:]) + decryptor.finalize()
        unpadder = PKCS7(128).unpadder()
        data = decode(ActionData, unpadder.update(padded) + unpadder.finalize())
        if not hmac.compare_digest(hmac.digest(self.index, data.index or b"", "sha256"), record.index_mac):
            raise BadMac("the MAC of a record's index is wrong")
        return data

    def _value_mac(self, operation: int, ciphertext: bytes) -> bytes:
        head = bytes([operation + 1]) + self.id
        total = head + ciphertext + len(head).to_bytes(8, "big")
        return hmac.digest(self.value_mac, total, "sha512")[:MAC_BYTES]

    def mac_of_version(self, digest: bytes, version: int, name: str) -> bytes:
        return hmac.digest(self.snapshot_mac, digest + version.to_bytes(8, "big") + name.encode(), "sha256")

    def mac_of_patch(self, snapshot_mac: bytes, mutations: Sequence[Mutation], version: int, name: str) -> bytes:
        macs = b"".join((mutation.record or SyncedRecord()).value_mac for mutation in mutations)
        total = snapshot_mac + macs + version.to_bytes(8, "big") + name.encode()
        return hmac.digest(self.patch_mac, total, "sha256")


EMPTY_HASH = bytes(_HASH_BYTES)


def update_lthash(digest: bytes, *, removed: Iterable[bytes], added: Iterable[bytes]) -> bytes:
    """The LTHash after these values (their MACs) were removed and added."""
    words = list(struct.unpack("<64H", digest))
    for sign, values in ((-1, removed), (1, added)):
        for value in values:
            expanded = hkdf(value, salt=bytes(32), info=b"WhatsApp Patch Integrity", length=_HASH_BYTES)
            words = [
                (word + sign * other) & 0xFFFF
                for word, other in zip(words, struct.unpack("<64H", expanded), strict=True)
            ]
    return struct.pack("<64H", *words)


def index_of(data: ActionData) -> list[str]:
    """The parts of a record's index. Raises WireError unless it is a JSON list of strings."""
    try:
        parts = json.loads(data.index or b"")
    except ValueError as error:
        raise WireError("the index of a record is not JSON") from error
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise WireError("the index of a record is not a list of strings")
    return parts
