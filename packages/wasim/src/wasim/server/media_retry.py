"""Media retry: a linked device asks its phone to upload a file again that the media host lost (source: Baileys
`messages-media`, whatsmeow `mediaretry.go`)."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wasim.server.phone_inbox import MediaAttachment
from wasim.wire.curve import KEY_BYTES, hkdf
from wasim.wire.errors import WireError
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode, optional

IV_BYTES = 12
_SUCCESS, _NOT_FOUND, _DECRYPTION_ERROR = 1, 2, 3
_INFO = b"WhatsApp Media Retry Notification"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerErrorReceipt:
    stanza_id: str | None = optional(1, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRetryNotification:
    stanza_id: str | None = optional(1, "string")
    direct_path: str | None = optional(2, "string")
    result: int | None = optional(3, "uint")


def notification(receipt: Node, media: MediaAttachment | None, *, iv: bytes) -> Node:
    """The phone's answer to a receipt of type `server-error`. media: the file of that message; None: the phone has
    none."""
    id_, rmr = receipt.attrs.get("id", ""), receipt.all("rmr")
    attrs = {"to": receipt.attrs.get("from", ""), "id": id_, "type": "mediaretry"}
    if media is None:
        return Node("notification", attrs, [Node("error", {"code": str(_NOT_FOUND)}), *rmr])
    key = retry_key(media.key)
    if not _is_genuine(receipt, key, id_):
        return Node("notification", attrs, [Node("error", {"code": str(_DECRYPTION_ERROR)}), *rmr])
    result = MediaRetryNotification(stanza_id=id_, direct_path=f"{media.direct_path}&again=1", result=_SUCCESS)
    ciphertext = AESGCM(key).encrypt(iv, encode(result), id_.encode())
    encrypted = Node("encrypt", {}, [Node("enc_p", {}, ciphertext), Node("enc_iv", {}, iv)])
    return Node("notification", attrs, [encrypted, *rmr])


def retry_key(media_key: bytes) -> bytes:
    return hkdf(media_key, salt=bytes(KEY_BYTES), info=_INFO, length=KEY_BYTES)


def _is_genuine(receipt: Node, key: bytes, id_: str) -> bool:
    """Whether the device encrypted the id of the message with the key of the file."""
    encrypted = receipt.child("encrypt")
    if encrypted is None:
        return False
    try:
        plaintext = AESGCM(key).decrypt(encrypted.data_of("enc_iv"), encrypted.data_of("enc_p"), id_.encode())
        return decode(ServerErrorReceipt, plaintext).stanza_id == id_
    except (InvalidTag, ValueError, WireError):
        return False
