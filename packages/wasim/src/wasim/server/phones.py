"""Simulated phones as accounts: their private keys, and the public parts that are registered at the server.

Device 0 of every account is a phone, which is part of the server. `phone_client` and `phone_sender` are its behaviour.
"""

from __future__ import annotations

import msgspec

from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, digits, new_key, sign
from wasim.server.state import PHONE, Account, Address, Device, SignedPreKey
from wasim.wire.curve import KeyPair, typed
from wasim.wire.messages import KeyIndexList, SignedKeyIndexList
from wasim.wire.protobuf import encode

_PREKEYS = 20
_PREKEYS_LOW = 5
_RECORD = "phone"
_KEY_INDEX_PREFIX = b"\x06\x02"
_E2EE = 0


class PhoneKeys(msgspec.Struct, kw_only=True):
    """The private state of a phone."""

    number: str
    identity: bytes
    signed_prekey: bytes
    sync_key_id: bytes
    sync_key: bytes
    """Encrypts the account's settings between its own devices (app state)."""
    prekeys: dict[int, bytes] = {}
    next_prekey: int = 1


class Phones:
    """All simulated phones of one server."""

    def __init__(self, directory: Directory, entropy: Entropy) -> None:
        self._directory = directory
        self._entropy = entropy
        self._keys: dict[str, PhoneKeys] = {}

    def restore(self, kind: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        if kind == _RECORD:
            keys = msgspec.msgpack.decode(value, type=PhoneKeys)
            self._keys[keys.number] = keys

    def save_keys(self, keys: PhoneKeys) -> None:
        """Store the keys after a change."""
        self._directory.put_record(_RECORD, keys.number, msgspec.msgpack.encode(keys))

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
        self._keys[number] = PhoneKeys(
            number=number,
            identity=identity.private,
            signed_prekey=prekey.private,
            sync_key_id=self._entropy(6),
            sync_key=self._entropy(32),
        )
        signature = sign(identity, typed(prekey.public), self._entropy)
        return Device(
            number=number,
            device=PHONE,
            identity=identity.public,
            registration_id=int(digits(self._entropy, 4)),
            signed_prekey=SignedPreKey(id=1, public=prekey.public, signature=signature),
            push_name=name,
        )

    def keys(self, number: str) -> PhoneKeys:
        return self._keys[number]

    def identity(self, number: str) -> KeyPair:
        """The phone's identity key, which signs its linked devices."""
        return KeyPair.from_private(self._keys[number].identity)

    def sign_devices(self, number: str, *, now: float) -> None:
        """Sign and store the list of the phone's linked devices, after it has linked or removed one."""
        account = self._directory.accounts[number]
        linked = [device for device in self._directory.devices_of(number) if device.device != PHONE]
        details = encode(
            KeyIndexList(
                raw_id=account.raw_id,
                timestamp=int(now),
                current_index=account.next_device - 1,
                valid_indexes=(PHONE, *(device.key_index for device in linked)),
                account_type=_E2EE,
            )
        )
        phone = self.identity(number)
        signature = sign(phone, _KEY_INDEX_PREFIX + details, self._entropy)
        signed = SignedKeyIndexList(details=details, account_signature=signature, account_signature_key=phone.public)
        account.key_indexes, account.key_indexes_at = encode(signed), now
        self._directory.touch(account)

    def refill(self, number: str) -> None:
        """Upload new one-time prekeys when few are left on the server."""
        address = Address(number, PHONE)
        if len(self._directory.prekeys(address)) < _PREKEYS_LOW:
            fresh = dict(self.new_prekey(number) for _ in range(_PREKEYS))
            self._directory.add_prekeys(address, fresh)

    def new_prekey(self, number: str) -> tuple[int, bytes]:
        """Another one-time prekey: its number and public part."""
        keys, fresh = self._keys[number], new_key(self._entropy)
        prekey_id = keys.next_prekey
        keys.prekeys[prekey_id] = fresh.private
        keys.next_prekey += 1
        self.save_keys(keys)
        return prekey_id, fresh.public
