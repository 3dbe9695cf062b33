"""Simulated phones: device 0 of every account. They live inside the server but speak to it in stanzas only.

A phone answers every message with a delivery receipt at once and, when its account reads by itself, with a read
receipt 200 ms later. Its private keys stay here.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from wasim.server.entropy import Entropy, digits, new_key, sign
from wasim.server.state import PHONE, Account, Device, Directory, SignedPreKey
from wasim.wire.curve import KeyPair, typed
from wasim.wire.nodes import Node

READ_AFTER_S = 0.2
_PREKEYS = 20
_PREKEYS_LOW = 5
_RECORD = "phone"


class PhoneSecrets(msgspec.Struct, kw_only=True):
    """What only the phone knows."""

    number: str
    identity: bytes
    signed_prekey: bytes
    prekeys: dict[int, bytes] = msgspec.field(default_factory=dict)
    next_prekey: int = 1


@dataclass(frozen=True, slots=True)
class Said:
    """A stanza that a phone sends, after a while."""

    node: Node
    after_s: float = 0.0


class Phones:
    """All simulated phones of one server."""

    def __init__(self, directory: Directory, entropy: Entropy) -> None:
        self._directory = directory
        self._entropy = entropy
        self._secrets: dict[str, PhoneSecrets] = {}

    def restore(self, records: list[tuple[str, str, bytes]]) -> None:
        """Brings back what `note`d records say."""
        for kind, _, value in records:
            if kind == _RECORD:
                secrets = msgspec.json.decode(value, type=PhoneSecrets)
                self._secrets[secrets.number] = secrets

    def create(self, number: str, *, name: str, now: float) -> Account:
        """A new account with its phone."""
        account = Account(
            number=number,
            lid=digits(self._entropy, 15),
            name=name,
            raw_id=int(digits(self._entropy, 9)),
            created_at=now,
        )
        self._directory.add_account(account)
        self._directory.add_device(self._register(number, name))
        self.refill(number)
        return account

    def _register(self, number: str, name: str) -> Device:
        identity, prekey = new_key(self._entropy), new_key(self._entropy)
        self._secrets[number] = PhoneSecrets(number=number, identity=identity.private, signed_prekey=prekey.private)
        signature = sign(identity, typed(prekey.public), self._entropy)
        return Device(
            number=number,
            device=PHONE,
            identity=identity.public,
            registration_id=int(digits(self._entropy, 4)),
            signed_prekey=SignedPreKey(id=1, public=prekey.public, signature=signature),
            push_name=name,
        )

    def identity(self, number: str) -> KeyPair:
        """The phone's identity key, which signs its linked devices."""
        return KeyPair.from_private(self._secrets[number].identity)

    def refill(self, number: str) -> None:
        """Uploads new one-time prekeys when few are left on the server."""
        address = self._directory.devices[number][PHONE].address
        if len(self._directory.prekeys(address)) >= _PREKEYS_LOW:
            return
        secrets = self._secrets[number]
        first, secrets.next_prekey = secrets.next_prekey, secrets.next_prekey + _PREKEYS
        fresh = {prekey_id: new_key(self._entropy) for prekey_id in range(first, secrets.next_prekey)}
        secrets.prekeys |= {prekey_id: key.private for prekey_id, key in fresh.items()}
        self._directory.add_prekeys(address, {prekey_id: key.public for prekey_id, key in fresh.items()})
        self._keep(secrets)

    def _keep(self, secrets: PhoneSecrets) -> None:
        self._directory.note(_RECORD, secrets.number, msgspec.json.encode(secrets))

    def receive(self, number: str, node: Node) -> list[Said]:
        """What the phone says to a stanza that the server brings it."""
        if node.tag != "message":
            return []
        account = self._directory.accounts[number]
        attrs = {"id": node.attrs["id"], "to": node.attrs["from"]}
        if node.attrs.get("category") == "peer":
            return [Said(Node("receipt", attrs | {"type": "peer_msg"}))]
        if "recipient" in node.attrs:
            return [Said(Node("receipt", attrs | {"type": "sender", "recipient": node.attrs["recipient"]}))]
        said = [Said(Node("receipt", attrs))]
        if account.auto_read:
            said.append(Said(Node("receipt", attrs | {"type": "read"}), READ_AFTER_S))
        return said
