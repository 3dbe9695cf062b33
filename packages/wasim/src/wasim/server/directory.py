"""Everything that the server stores: the records of `state.py`, prekeys, and the queues of devices.

`take_changes()` returns the changed records for storage on disk; `Directory.load` restores them.
Outside this module, stored records are a key and an encoded value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from wasim.server.state import (
    PHONE,
    Account,
    Address,
    Addressing,
    Device,
    Group,
    MessageRecord,
    QueuedStanza,
    StanzaKind,
    parse_address,
)
from wasim.wire.jids import GROUP, LID, PN, Jid, second_spelling


class Queue:
    """The stanzas that wait for one device, in order. An ack names kind and id, and removes the oldest such entry."""

    def __init__(self) -> None:
        self._entries: dict[int, QueuedStanza] = {}
        self._by_name: dict[tuple[str, str], list[int]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, seq: int) -> bool:
        return seq in self._entries

    def __iter__(self) -> Iterator[tuple[int, QueuedStanza]]:
        """Numbers and entries, oldest first."""
        return iter(self._entries.items())

    def append(self, entry: QueuedStanza, *, seq: int | None = None) -> int:
        seq = self._next if seq is None else seq
        self._next = max(self._next, seq + 1)
        self._entries[seq] = entry
        self._by_name.setdefault((entry.kind, entry.id), []).append(seq)
        return seq

    def acknowledge(self, kind: str, id_: str) -> int | None:
        """Remove the oldest entry with that kind and id; returns its number, or None when there is none."""
        seqs = self._by_name.get((kind, id_))
        if not seqs:
            return None
        seq = seqs.pop(0)
        if not seqs:
            del self._by_name[(kind, id_)]
        del self._entries[seq]
        return seq

    def sort(self) -> None:
        """Sort by number: the order of arrival."""
        self._entries = dict(sorted(self._entries.items()))
        for seqs in self._by_name.values():
            seqs.sort()


class Directory:
    """The server's state in memory. Code that changes a record must call `touch`."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.devices: dict[str, dict[int, Device]] = {}
        self.groups: dict[str, Group] = {}
        self.messages: dict[tuple[str, str], MessageRecord] = {}
        self._prekeys: dict[Address, dict[int, bytes]] = {}
        self._queues: dict[Address, Queue] = {}
        self._by_lid: dict[str, str] = {}
        self._changed: dict[tuple[str, str], bytes | None] = {}
        self._touched: dict[tuple[str, str], msgspec.Struct] = {}

    # Looking up

    def find(self, jid: Jid | None) -> Account | None:
        """The account with this phone number or hidden id."""
        if jid is None or jid.server not in (PN, LID):
            return None
        number = self._by_lid.get(jid.user) if jid.server == LID else jid.user
        return self.accounts.get(number) if number else None

    def find_any_spelling(self, jid: Jid | None) -> Account | None:
        """Like `find`, also by the second spelling of a number: some countries have two for each mobile phone."""
        found = self.find(jid)
        if found is not None or jid is None or jid.server != PN:
            return found
        other = second_spelling(jid.user)
        return None if other is None else self.accounts.get(other)

    def by_username(self, username: str) -> Account | None:
        return next((each for each in self.accounts.values() if username and each.username == username.lower()), None)

    def group(self, jid: Jid | None) -> Group | None:
        return self.groups.get(jid.user) if jid is not None and jid.server == GROUP else None

    def members(self, group: Group) -> list[Device]:
        """All devices of all members."""
        return [device for number in group.members for device in self.devices_of(number)]

    def device(self, address: Address) -> Device | None:
        return self.devices.get(address.number, {}).get(address.device)

    def devices_of(self, number: str) -> list[Device]:
        """All of an account's devices, the phone first."""
        return list(self.devices.get(number, {}).values())

    def linked_devices(self, number: str | None) -> list[Device]:
        """The devices of one account, or of all (None), without the phones."""
        accounts = [number] if number is not None else list(self.accounts)
        return [each for account in accounts for each in self.devices_of(account) if each.device != PHONE]

    def jid(self, address: Address, addressing: Addressing) -> Jid:
        """The address of a device, by phone number or hidden id."""
        if addressing == "pn":
            return Jid(address.number, PN, address.device)
        return Jid(self.accounts[address.number].lid, LID, address.device)

    # Changing

    def add_account(self, account: Account) -> None:
        self.accounts[account.number] = account
        self._by_lid[account.lid] = account.number
        self.touch(account)

    def add_device(self, device: Device) -> None:
        self.devices.setdefault(device.number, {})[device.device] = device
        self.touch(device)

    def remove_device(self, address: Address) -> None:
        """Delete a device with its prekeys and waiting stanzas."""
        del self.devices[address.number][address.device]
        self._delete_record("device", address.key)
        for prekey_id in self._prekeys.pop(address, {}):
            self._delete_record("prekey", f"{address.key}:{prekey_id}")
        for seq, _ in self._queues.pop(address, Queue()):
            self._delete_record("pending", f"{address.key}:{seq}")

    def touch(self, record: Account | Device | Group | MessageRecord) -> None:
        """Mark a record as changed; its state at the next `take_changes` is stored."""
        match record:
            case Account():
                self._touched["account", record.number] = record
            case Device():
                self._touched["device", record.address.key] = record
            case Group():
                self._touched["group", record.id] = record
            case MessageRecord():
                self._touched["message", f"{record.sender}:{record.id}"] = record

    def put_record(self, kind: str, key: str, value: bytes | None) -> None:
        """Store a value that another part of the server owns; None deletes it."""
        self._changed[kind, key] = value

    def _delete_record(self, kind: str, key: str) -> None:
        self._touched.pop((kind, key), None)
        self._changed[kind, key] = None

    # Prekeys

    def prekeys(self, address: Address) -> dict[int, bytes]:
        """The remaining one-time prekeys, by id; must not be changed directly."""
        return self._prekeys.get(address, {})

    def add_prekeys(self, address: Address, keys: dict[int, bytes]) -> None:
        self._prekeys.setdefault(address, {}).update(keys)
        for prekey_id, public in keys.items():
            self._changed["prekey", f"{address.key}:{prekey_id}"] = public

    def take_prekey(self, address: Address) -> tuple[int, bytes] | None:
        """Consume the oldest one-time prekey; None when there is none left."""
        keys = self._prekeys.get(address)
        if not keys:
            return None
        prekey_id = next(iter(keys))
        self._changed["prekey", f"{address.key}:{prekey_id}"] = None
        return prekey_id, keys.pop(prekey_id)

    # Queues of devices

    def queue(self, address: Address) -> Queue:
        return self._queues.setdefault(address, Queue())

    def enqueue(self, address: Address, entry: QueuedStanza) -> int:
        """Queue a stanza for a device; returns its number."""
        seq = self.queue(address).append(entry)
        self._changed["pending", f"{address.key}:{seq}"] = msgspec.msgpack.encode(entry)
        return seq

    def acknowledge(self, address: Address, kind: StanzaKind, id_: str) -> bool:
        """The device acknowledged a stanza. Returns whether such a stanza was waiting."""
        seq = self.queue(address).acknowledge(kind, id_)
        if seq is None:
            return False
        self._changed["pending", f"{address.key}:{seq}"] = None
        return True

    # Disk

    def take_changes(self) -> dict[tuple[str, str], bytes | None]:
        """Records changed since the last call, by kind and key; None: deleted."""
        changes, self._changed = self._changed, {}
        for key, record in self._touched.items():
            changes[key] = msgspec.json.encode(record)
        self._touched = {}
        return changes

    @classmethod
    def load(cls, records: Iterable[tuple[str, str, bytes]]) -> tuple[Directory, list[tuple[str, str, bytes]]]:
        """The directory made of these records, and the records that belong to other parts of the server."""
        directory = cls()
        other_records = []
        for kind, key, value in records:
            if not directory._restore(kind, key, value):
                other_records.append((kind, key, value))
        directory._sort()
        return directory, other_records

    def _restore(self, kind: str, key: str, value: bytes) -> bool:
        match kind:
            case "account":
                account = msgspec.json.decode(value, type=Account)
                self.accounts[account.number] = account
                self._by_lid[account.lid] = account.number
            case "device":
                device = msgspec.json.decode(value, type=Device)
                self.devices.setdefault(device.number, {})[device.device] = device
            case "group":
                group = msgspec.json.decode(value, type=Group)
                self.groups[group.id] = group
            case "message":
                record = msgspec.json.decode(value, type=MessageRecord)
                self.messages[record.sender, record.id] = record
            case "prekey":
                owner, _, prekey_id = key.rpartition(":")
                self._prekeys.setdefault(parse_address(owner), {})[int(prekey_id)] = value
            case "pending":
                owner, _, seq = key.rpartition(":")
                entry = msgspec.msgpack.decode(value, type=QueuedStanza)
                self.queue(parse_address(owner)).append(entry, seq=int(seq))
            case _:
                return False
        return True

    def _sort(self) -> None:
        """Restore the order: records on disk have none."""
        for number, devices in self.devices.items():
            self.devices[number] = dict(sorted(devices.items()))
        for address, keys in self._prekeys.items():
            self._prekeys[address] = dict(sorted(keys.items()))
        for queue in self._queues.values():
            queue.sort()
        ordered = sorted(self.messages.items(), key=lambda item: item[1].first_at)
        self.messages = dict(ordered)
