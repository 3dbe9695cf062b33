"""The sender keys of simulated phones: each phone's own key for a group, who has received it, and the other members'
keys."""

from __future__ import annotations

import msgspec

from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, new_key
from wasim.server.signal_sessions import KeyUses
from wasim.server.state import Address, Device
from wasim.wire import senderkeys
from wasim.wire.curve import NONCE_BYTES
from wasim.wire.ratchet import CannotDecrypt, KeyConsumed
from wasim.wire.senderkeys import SenderKey

_OWN, _PEER = "groupkey", "peerkey"
_MAX_PEER_KEYS = 5
"""How many of the newest keys of each member are kept."""


class OwnKey(msgspec.Struct, kw_only=True):
    key: SenderKey
    distributed_to: set[str] = msgspec.field(default_factory=set, name="given")
    """Devices that have received it. Stored as `given`."""


class GroupKeys:
    def __init__(self, directory: Directory, uses: KeyUses, entropy: Entropy) -> None:
        self._directory = directory
        self._uses = uses
        self._entropy = entropy
        self._own: dict[str, OwnKey] = {}
        self._peer_keys: dict[str, list[SenderKey]] = {}

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        if kind == _OWN:
            self._own[key] = msgspec.msgpack.decode(value, type=OwnKey)
        elif kind == _PEER:
            self._peer_keys[key] = msgspec.msgpack.decode(value, type=list[SenderKey])

    # The phone's own key

    def distribution(self, number: str, group: str) -> bytes:
        """The distribution message for this phone's messages in that group from now on."""
        return senderkeys.distribution(self._of(number, group).key)

    def without_key(self, number: str, group: str, devices: list[Device]) -> list[Device]:
        """Those of these devices that have not received the key.

        If another device has received it, such as that of a former member, a new key replaces it for all of them.
        """
        own = self._of(number, group)
        if own.distributed_to - {device.address.key for device in devices}:
            del self._own[_name(number, group)]
            own = self._of(number, group)
        return [device for device in devices if device.address.key not in own.distributed_to]

    def mark_distributed(self, number: str, group: str, to: Address) -> None:
        self._of(number, group).distributed_to.add(to.key)
        self._save(number, group)

    def encrypt(self, number: str, group: str, plaintext: bytes) -> bytes:
        encrypted = senderkeys.encrypt(self._of(number, group).key, plaintext, nonce=self._entropy(NONCE_BYTES))
        self._save(number, group)
        return encrypted

    def _of(self, number: str, group: str) -> OwnKey:
        name = _name(number, group)
        if name not in self._own:
            id_ = int.from_bytes(self._entropy(4), "big") >> 1
            key = senderkeys.new_key(id_=id_, chain_key=self._entropy(32), signing=new_key(self._entropy))
            self._own[name] = OwnKey(key=key)
        return self._own[name]

    def _save(self, number: str, group: str) -> None:
        name = _name(number, group)
        self._directory.put_record(_OWN, name, msgspec.msgpack.encode(self._own[name]))

    # Keys of other members

    def accept(self, number: str, group: str, peer: Address, data: bytes) -> None:
        """A member sent its key. Raises CannotDecrypt when it is not valid."""
        key, name = senderkeys.accept(data), _name(number, group, peer)
        known = self._peer_keys.setdefault(name, [])
        if not any(one.id == key.id and one.signing_public == key.signing_public for one in known):
            known.insert(0, key)
            del known[_MAX_PEER_KEYS:]
            self._directory.put_record(_PEER, name, msgspec.msgpack.encode(known))

    def decrypt(self, number: str, group: str, peer: Address, data: bytes) -> bytes:
        """The plaintext of a `skmsg`. Raises Redelivered, KeyReused, or CannotDecrypt; then nothing changed."""
        name, id_ = _name(number, group, peer), senderkeys.id_of(data)
        key = next((one for one in self._peer_keys.get(name, []) if one.id == id_), None)
        if key is None:
            raise CannotDecrypt("its sender key was never received")
        try:
            plaintext, use = senderkeys.decrypt(key, data)
        except KeyConsumed as error:
            raise self._uses.classify(number, peer, error.use, data) from error
        self._uses.record(number, peer, use, data)
        self._directory.put_record(_PEER, name, msgspec.msgpack.encode(self._peer_keys[name]))
        return plaintext


def _name(number: str, group: str, peer: Address | None = None) -> str:
    return f"{number}>{group}" + (f">{peer.key}" if peer is not None else "")
