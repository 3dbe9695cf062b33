"""Linking a device: what the phone signs when it scans a QR code, and the device's own signature that completes it.

The chain of trust: the phone proves with the QR code's secret (HMAC) that it saw the code, and signs the device's
identity with its own key; the device signs the result. WhatsApp calls this ADV.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from types import MappingProxyType

from wasim.server.entropy import Entropy, sign, token_urlsafe
from wasim.server.link import Pairing, PairingOffer
from wasim.server.state import Account, Address, Device, SignedPreKey
from wasim.wire.curve import KEY_BYTES, KeyPair, typed, verify
from wasim.wire.errors import WireError
from wasim.wire.jids import LID, PN, SERVER, Jid
from wasim.wire.messages import (
    DeviceIdentity,
    DeviceProps,
    PairingData,
    SignedDeviceIdentity,
    SignedDeviceIdentityHmac,
)
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode

_ACCOUNT_PREFIX = b"\x06\x00"
_DEVICE_PREFIX = b"\x06\x01"
_REFS = 6
_E2EE = 0
_PLATFORMS = MappingProxyType(
    {1: "Google Chrome", 2: "Mozilla Firefox", 4: "Opera", 5: "Safari", 6: "Microsoft Edge", 7: "Desktop"}
)
"""Some values of DeviceProps.PlatformType."""


class PairingError(Exception):
    """A device can't be linked; the sentence says why."""


class BadQr(Exception):
    """A text that is not a QR code of WhatsApp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedQr:
    ref: str
    noise_key: bytes
    identity: bytes
    adv_secret: bytes


def parse_qr(text: str) -> ScannedQr:
    """Parse a QR code: `ref,noise key,identity key,adv secret[,platform]`, with or without the URL before it.

    Raises BadQr for any other text.
    """
    parts = text.rpartition("#")[2].split(",")
    if len(parts) < 4:
        raise BadQr("this is not a WhatsApp QR code: it has fewer than four comma-separated parts")
    try:
        keys = [base64.b64decode(part, validate=True) for part in parts[1:4]]
    except binascii.Error as error:
        raise BadQr("this is not a WhatsApp QR code: its keys are not base64") from error
    if any(len(key) != KEY_BYTES for key in keys):
        raise BadQr("this is not a WhatsApp QR code: its keys are not 32 bytes long")
    return ScannedQr(ref=parts[0], noise_key=keys[0], identity=keys[1], adv_secret=keys[2])


def make_refs(entropy: Entropy) -> list[str]:
    return [f"2@{token_urlsafe(entropy, 96)}" for _ in range(_REFS)]


def pair_device(iq_id: str, refs: list[str]) -> Node:
    """The server's first node to an unlinked device: references for its QR codes."""
    children = [Node("ref", {}, ref.encode()) for ref in refs]
    attrs = {"from": SERVER, "type": "set", "id": iq_id, "xmlns": "md"}
    return Node("iq", attrs, [Node("pair-device", {}, children)])


def check_keys(data: PairingData) -> None:
    """Raises WireError unless the device's prekey is signed by its identity key, and its description is
    valid."""
    required = (data.identity, data.signed_prekey, data.signed_prekey_id, data.registration_id)
    if any(value is None for value in required) or data.signed_prekey_signature is None:
        raise WireError("registration without all of its keys")
    assert data.identity is not None
    assert data.signed_prekey is not None
    if not verify(data.identity, typed(data.signed_prekey), data.signed_prekey_signature):
        raise WireError("registration with a signed prekey whose signature is wrong")
    decode(DeviceProps, data.device_props or b"")


def display_name(data: PairingData) -> str:
    """The name that a phone shows for a linked device: `Google Chrome (Ubuntu)`."""
    props = decode(DeviceProps, data.device_props or b"")
    platform, os = _PLATFORMS.get(props.platform_type or 0, ""), props.os or ""
    return f"{platform} ({os})" if platform and os else platform or os


def offer(
    *,
    account: Account,
    phone: KeyPair,
    qr: ScannedQr,
    iq_id: str,
    entropy: Entropy,
    now: float,
) -> tuple[PairingOffer, Node]:
    """The phone's signature for the device that showed `qr`, and the `pair-success` that carries it."""
    address = Address(account.number, account.next_device)
    details = encode(
        DeviceIdentity(
            raw_id=account.raw_id,
            timestamp=int(now),
            key_index=address.device,
            account_type=_E2EE,
            device_type=_E2EE,
        )
    )
    signature = sign(phone, _ACCOUNT_PREFIX + details + qr.identity, entropy)
    identity = encode(
        SignedDeviceIdentity(details=details, account_signature_key=phone.public, account_signature=signature)
    )
    authenticated = SignedDeviceIdentityHmac(
        details=identity, hmac=hmac.digest(qr.adv_secret, identity, hashlib.sha256), account_type=_E2EE
    )
    offered = PairingOffer(
        address=address, iq_id=iq_id, details=details, account_key=phone.public, account_signature=signature
    )
    return offered, _pair_success(account, offered, encode(authenticated), now)


def _pair_success(account: Account, offered: PairingOffer, identity: bytes, now: float) -> Node:
    device = offered.address.device
    jid, lid = Jid(account.number, PN, device), Jid(account.lid, LID, device)
    children = [
        Node("device-identity", {}, identity),
        Node("biz", {"name": account.name}),
        Node("platform", {"name": "android"}),
        Node("device", {"jid": str(jid), "lid": str(lid)}),
    ]
    attrs = {"from": SERVER, "type": "set", "id": offered.iq_id, "xmlns": "md", "t": str(int(now))}
    return Node("iq", attrs, [Node("pair-success", {}, children)])


def complete(pairing: Pairing, reply: Node, *, now: float) -> Device:
    """The linked device, once it has signed.

    Raises PairingError when it refused, or its signature is wrong.
    """
    offered, data = pairing.offer, pairing.data
    assert offered is not None
    assert data.identity is not None
    sign_node = reply.child("pair-device-sign")
    if reply.attrs.get("type") != "result" or sign_node is None:
        error = reply.child("error")
        raise PairingError(f"the device refused the pairing: {error.attrs if error else reply.attrs}")
    signed = decode(SignedDeviceIdentity, sign_node.data_of("device-identity"))
    message = _DEVICE_PREFIX + offered.details + data.identity + offered.account_key
    if not verify(data.identity, message, signed.device_signature or b""):
        raise PairingError("the device's signature on its identity is wrong")
    return _linked(offered, pairing, signed.device_signature or b"", now)


def _linked(offered: PairingOffer, pairing: Pairing, device_signature: bytes, now: float) -> Device:
    data = pairing.data
    proof = SignedDeviceIdentity(
        details=offered.details,
        account_signature_key=offered.account_key,
        account_signature=offered.account_signature,
        device_signature=device_signature,
    )
    return Device(
        number=offered.address.number,
        device=offered.address.device,
        identity=data.identity or b"",
        registration_id=int.from_bytes(data.registration_id or b"", "big"),
        signed_prekey=SignedPreKey(
            id=int.from_bytes(data.signed_prekey_id or b"", "big"),
            public=data.signed_prekey or b"",
            signature=data.signed_prekey_signature or b"",
        ),
        key_index=offered.address.device,
        noise_key=pairing.noise_key,
        proof=encode(proof),
        name=display_name(data),
        wants_full_history=bool(decode(DeviceProps, data.device_props or b"").require_full_sync),
        linked_at=now,
    )
