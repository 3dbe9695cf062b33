"""Signal keys on the server: uploads of one-time prekeys, and the bundles that others fetch to start a session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from wasim.server.directory import Directory
from wasim.server.state import PHONE, Address, Device, SignedPreKey
from wasim.wire.curve import DJB_TYPE, KEY_BYTES, typed, verify
from wasim.wire.jids import parse_jid
from wasim.wire.nodes import Node

LOW_PREKEY_COUNTS = (4, 0)
"""A device is notified when it has exactly so many one-time prekeys left."""


class BadKeys(Exception):
    """An upload of invalid keys."""


@dataclass(slots=True)
class KeyBundles:
    listing: Node
    refill: list[str] = field(default_factory=list)
    """Accounts whose phone must upload new prekeys."""
    low_on_prekeys: list[Address] = field(default_factory=list)
    """Linked devices with few prekeys left."""


def store_upload(directory: Directory, device: Device, upload: Node) -> None:
    """Store new one-time prekeys and the signed one. Raises BadKeys, and then nothing is stored."""
    fresh = {}
    for key in (node for listing in upload.all("list") for node in listing.all("key")):
        public = key.data_of("value")
        if len(public) != KEY_BYTES:
            raise BadKeys(f"a prekey has {len(public)} bytes instead of {KEY_BYTES}")
        fresh[int.from_bytes(key.data_of("id"), "big")] = public
    identity = upload.data_of("identity")
    if identity != device.identity:
        raise BadKeys("the identity key is not the one that was linked")
    device.signed_prekey = signed_prekey(device, upload)
    directory.touch(device)
    directory.add_prekeys(device.address, fresh)


def signed_prekey(device: Device, node: Node) -> SignedPreKey:
    """The `skey` in this node. Raises BadKeys when the device's identity did not sign it."""
    skey = node.child("skey")
    if skey is None:
        raise BadKeys("no signed prekey")
    public, signature = skey.data_of("value"), skey.data_of("signature")
    if not verify(device.identity, typed(public), signature):
        raise BadKeys("the signature of the signed prekey is wrong")
    return SignedPreKey(id=int.from_bytes(skey.data_of("id"), "big"), public=public, signature=signature)


def fetch(directory: Directory, request: Node) -> KeyBundles:
    """Key bundles for the devices in a `key` request; each consumes a one-time prekey."""
    bundles = KeyBundles(Node("list", {}, []))
    for user in request.all("user"):
        bundles.listing.children.append(_bundle_of(directory, user.attrs.get("jid", ""), bundles))
    return bundles


def _bundle_of(directory: Directory, text: str, bundles: KeyBundles) -> Node:
    jid = parse_jid(text)
    account = directory.find(jid)
    device = directory.device(Address(account.number, jid.device)) if account and jid else None
    if device is None:
        return Node("user", {"jid": text}, [Node("error", {"code": "404", "text": "item-not-found"})])
    consumed = consume_prekey(directory, device)
    if device.device == PHONE:
        bundles.refill.append(device.number)
    elif consumed.is_running_low:
        bundles.low_on_prekeys.append(device.address)
    return Node("user", {"jid": text}, _bundle(device, consumed.prekey))


class ConsumedPrekey(NamedTuple):
    """A one-time prekey that was consumed; none when the device has none left."""

    prekey: tuple[int, bytes] | None
    is_running_low: bool
    """The device should be notified."""


def consume_prekey(directory: Directory, device: Device) -> ConsumedPrekey:
    """Consume a one-time prekey of the device."""
    prekey = directory.take_prekey(device.address)
    return ConsumedPrekey(prekey, prekey is not None and len(directory.prekeys(device.address)) in LOW_PREKEY_COUNTS)


def _bundle(device: Device, prekey: tuple[int, bytes] | None) -> list[Node]:
    bundle = [
        Node("registration", {}, device.registration_id.to_bytes(4, "big")),
        Node("type", {}, DJB_TYPE),
        Node("identity", {}, device.identity),
        signed(device.signed_prekey),
    ]
    if prekey is not None:
        bundle.append(one_time(*prekey))
    if device.proof:
        bundle.append(Node("device-identity", {}, device.proof))
    return bundle


def one_time(prekey_id: int, public: bytes) -> Node:
    return Node("key", {}, [Node("id", {}, prekey_id.to_bytes(3, "big")), Node("value", {}, public)])


def signed(key: SignedPreKey) -> Node:
    children = [
        Node("id", {}, key.id.to_bytes(3, "big")),
        Node("value", {}, key.public),
        Node("signature", {}, key.signature),
    ]
    return Node("skey", {}, children)


def digest(device: Device) -> Node:
    """A digest of the device's keys on the server, for the device to compare."""
    children = [
        Node("registration", {}, device.registration_id.to_bytes(4, "big")),
        Node("type", {}, DJB_TYPE),
        Node("identity", {}, device.identity),
        signed(device.signed_prekey),
    ]
    return Node("digest", {}, children)
