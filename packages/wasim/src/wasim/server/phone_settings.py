"""A phone's side of app state: it writes settings, and reads those that its linked devices write.

A phone verifies every MAC as a real one does. Patches that it can't verify are counted and change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from wasim.server.app_state import AppState
from wasim.server.directory import Directory
from wasim.server.entropy import Entropy
from wasim.server.phones import Phones
from wasim.wire.errors import WireError
from wasim.wire.protobuf import decode
from wasim.wire.syncd import (
    EMPTY_HASH,
    REMOVE,
    SET,
    ActionData,
    ActionValue,
    BadMac,
    ContactAction,
    Flag,
    KeyId,
    LabelEdit,
    Mutation,
    MuteAction,
    Patch,
    PushName,
    SyncedRecord,
    SyncKeys,
    index_of,
    update_lthash,
)

_RECORD = "settings"
_FOREVER = 2**64 - 1
"""-1 as a varint: muted without an end."""


class ChatSettings(msgspec.Struct, kw_only=True, rename="camel"):
    archived: bool = False
    muted_until_ms: int | None = None
    """-1: forever."""
    pinned: bool = False
    unread: bool = False
    deleted: bool = False
    cleared: bool = False
    labels: list[str] = []


class Label(msgspec.Struct, kw_only=True):
    name: str
    color: int = 0


class SettingsView(msgspec.Struct, kw_only=True, rename="camel"):
    """An account's settings as its phone shows them."""

    push_name: str = ""
    contacts: dict[str, str] = {}
    """Saved names by address."""
    chats: dict[str, ChatSettings] = {}
    labels: dict[str, Label] = {}
    starred: list[str] = []
    """`chat id` of each starred message."""
    deleted_messages: list[str] = []
    invalid: int = 0
    """Patches of linked devices with a wrong MAC."""


class _State(msgspec.Struct, kw_only=True):
    view: SettingsView
    hashes: dict[str, bytes] = {}
    macs: dict[str, dict[bytes, bytes]] = {}
    """By collection and index MAC: the value MAC of the current record."""


class Change(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A setting that the phone's owner changes; exactly one of the fields besides `on`, `chat`, `name` and `color`."""

    push_name: str | None = None
    contact: str | None = None
    """Address of a person, saved under `name`; without a name it is removed from the address book."""
    archive: str | None = None
    pin: str | None = None
    unread: str | None = None
    mute: str | None = None
    label: str | None = None
    """Id of a label that gets `name` and `color`; without a name it is deleted."""
    labelled: str | None = None
    """Id of a label that `chat` gets or loses."""
    star: str | None = None
    """Id of a message in `chat`."""
    chat: str | None = None
    name: str | None = None
    color: int = 0
    on: bool = True
    until_ms: int | None = None


class BadChange(Exception):
    """The requested change can't become a setting."""


class PhoneSettings:
    def __init__(self, directory: Directory, phones: Phones, app_state: AppState, entropy: Entropy) -> None:
        self._directory = directory
        self._phones = phones
        self._app_state = app_state
        self._entropy = entropy
        self._states: dict[str, _State] = {}

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        if kind == _RECORD:
            self._states[key] = msgspec.msgpack.decode(value, type=_State)

    def view(self, number: str) -> SettingsView:
        return self._state(number).view

    def write_initial(self, number: str, *, now: float) -> None:
        """Write the settings that every account has, unless they exist."""
        state, account = self._state(number), self._directory.accounts[number]
        if state.view.push_name != account.name and account.name:
            self.change(number, [Change(push_name=account.name)], now=now)

    def change(self, number: str, changes: Sequence[Change], *, now: float) -> dict[str, int]:
        """The phone's owner changes settings; returns the new versions by collection. Raises BadChange."""
        by_collection: dict[str, list[tuple[int, ActionData]]] = {}
        for change in changes:
            collection, operation, data = _action(change, at_ms=int(now * 1000))
            by_collection.setdefault(collection, []).append((operation, data))
        return {name: self._write(number, name, actions) for name, actions in by_collection.items()}

    def _write(self, number: str, name: str, actions: list[tuple[int, ActionData]]) -> int:
        state, keys = self._state(number), self._keys(number)
        mutations = tuple(keys.encrypt(operation, data, iv=self._entropy(16)) for operation, data in actions)
        version = self._app_state.collection(number, name).version + 1
        digest = self._update_hash(state, name, mutations)
        snapshot_mac = keys.mac_of_version(digest, version, name)
        patch = Patch(
            mutations=mutations,
            snapshot_mac=snapshot_mac,
            patch_mac=keys.mac_of_patch(snapshot_mac, mutations, version, name),
            key=KeyId(id=keys.id),
        )
        for operation, data in actions:
            self._apply_to_view(number, state.view, operation, data)
        self._save(number)
        return self._app_state.apply(number, name, patch)

    def read(self, number: str, name: str, version: int) -> None:
        """Verify and apply this version, which a linked device made."""
        state, keys = self._state(number), self._keys(number)
        patch = decode(Patch, self._app_state.collection(number, name).patches[version])
        try:
            decrypted = [(mutation.operation or SET, keys.decrypt(mutation)) for mutation in patch.mutations]
            digest = self._update_hash(state, name, patch.mutations)
            if keys.mac_of_version(digest, version, name) != patch.snapshot_mac:
                raise BadMac("the MAC of the version is wrong")
            if keys.mac_of_patch(patch.snapshot_mac or b"", patch.mutations, version, name) != patch.patch_mac:
                raise BadMac("the MAC of the patch is wrong")
            for operation, data in decrypted:
                self._apply_to_view(number, state.view, operation, data)
        except (WireError, ValueError):
            state.view.invalid += 1
        self._save(number)

    def _update_hash(self, state: _State, name: str, mutations: Sequence[Mutation]) -> bytes:
        macs = state.macs.setdefault(name, {})
        removed, added = [], []
        for mutation in mutations:
            record = mutation.record or SyncedRecord()
            before = macs.pop(record.index_mac, None)
            if before is not None:
                removed.append(before)
            if mutation.operation != REMOVE:
                macs[record.index_mac] = record.value_mac
                added.append(record.value_mac)
        digest = update_lthash(state.hashes.get(name, EMPTY_HASH), removed=removed, added=added)
        state.hashes[name] = digest
        return digest

    def _keys(self, number: str) -> SyncKeys:
        keys = self._phones.keys(number)
        return SyncKeys.derive(keys.sync_key_id, keys.sync_key)

    def _state(self, number: str) -> _State:
        return self._states.setdefault(number, _State(view=SettingsView()))

    def _save(self, number: str) -> None:
        self._directory.put_record(_RECORD, number, msgspec.msgpack.encode(self._states[number]))

    def _apply_to_view(self, number: str, view: SettingsView, operation: int, data: ActionData) -> None:
        index, value = index_of(data), data.value or ActionValue()
        subject = index[1] if len(index) > 1 else ""
        match index[0]:
            case "setting_pushName" if value.push_name is not None:
                self._rename(number, view, value.push_name.name or "")
            case "contact" if operation == REMOVE or value.contact is None:
                view.contacts.pop(subject, None)
            case "contact" if value.contact is not None:
                view.contacts[subject] = value.contact.full_name or value.contact.first_name or ""
            case "label_edit" if value.label is not None:
                if value.label.deleted:
                    view.labels.pop(subject, None)
                else:
                    view.labels[subject] = Label(name=value.label.name or "", color=value.label.color or 0)
            case "label_jid" if len(index) > 2 and value.labelled is not None:
                _toggle(_chat(view, index[2]).labels, subject, on=bool(value.labelled.on))
            case "star" if len(index) > 2 and value.star is not None:
                _toggle(view.starred, f"{subject} {index[2]}", on=bool(value.star.on))
            case "deleteMessageForMe" if len(index) > 2:
                _toggle(view.deleted_messages, f"{subject} {index[2]}", on=True)
            case _:
                _apply_to_chat(_chat(view, subject), index[0], value)

    def _rename(self, number: str, view: SettingsView, name: str) -> None:
        account = self._directory.accounts[number]
        view.push_name = account.name = name
        self._directory.touch(account)


def _chat(view: SettingsView, jid: str) -> ChatSettings:
    return view.chats.setdefault(jid, ChatSettings())


def _toggle(listed: list[str], name: str, *, on: bool) -> None:
    if on and name not in listed:
        listed.append(name)
    elif not on and name in listed:
        listed.remove(name)


def _apply_to_chat(chat: ChatSettings, action: str, value: ActionValue) -> None:
    match action:
        case "archive" if value.archive is not None:
            chat.archived = bool(value.archive.on)
        case "pin_v1" if value.pin is not None:
            chat.pinned = bool(value.pin.on)
        case "markChatAsRead" if value.read is not None:
            chat.unread = not value.read.on
        case "mute" if value.mute is not None:
            until = value.mute.until_ms
            chat.muted_until_ms = None if not value.mute.muted else -1 if until in (None, _FOREVER) else until
        case "deleteChat":
            chat.deleted = True
        case "clearChat":
            chat.cleared = True


def _action(change: Change, *, at_ms: int) -> tuple[str, int, ActionData]:
    """The collection, the operation and the record of a change."""

    def record(index: list[str], version: int, value: ActionValue, *, operation: int = SET) -> tuple[int, ActionData]:
        encoded = json.dumps(index, separators=(",", ":")).encode()
        return operation, ActionData(index=encoded, value=value, padding=b"", version=version)

    flag, at = Flag(on=int(change.on)), at_ms
    match change:
        case Change(push_name=str(name)):
            value = ActionValue(timestamp_ms=at, push_name=PushName(name=name))
            return "critical_block", *record(["setting_pushName"], 1, value)
        case Change(contact=str(jid)):
            action = ContactAction(full_name=change.name, save_on_phone=1)
            value = ActionValue(timestamp_ms=at, contact=action)
            return "critical_unblock_low", *record(["contact", jid], 2, value, operation=SET if change.name else REMOVE)
        case Change(archive=str(jid)):
            return "regular_low", *record(["archive", jid], 3, ActionValue(timestamp_ms=at, archive=flag))
        case Change(pin=str(jid)):
            return "regular_low", *record(["pin_v1", jid], 5, ActionValue(timestamp_ms=at, pin=flag))
        case Change(unread=str(jid)):
            read = Flag(on=int(not change.on))
            return "regular_low", *record(["markChatAsRead", jid], 3, ActionValue(timestamp_ms=at, read=read))
        case Change(mute=str(jid)):
            until = _FOREVER if change.until_ms is None else change.until_ms
            mute = MuteAction(muted=int(change.on), until_ms=until if change.on else None)
            return "regular_high", *record(["mute", jid], 2, ActionValue(timestamp_ms=at, mute=mute))
        case Change(label=str(label)):
            edit = LabelEdit(name=change.name or "", color=change.color, deleted=int(not change.name))
            return "regular", *record(["label_edit", label], 3, ActionValue(timestamp_ms=at, label=edit))
        case Change(labelled=str(label), chat=str(jid)):
            return "regular", *record(["label_jid", label, jid], 3, ActionValue(timestamp_ms=at, labelled=flag))
        case Change(star=str(id_), chat=str(jid)):
            return "regular_low", *record(["star", jid, id_, "0", "0"], 2, ActionValue(timestamp_ms=at, star=flag))
    raise BadChange("a change has one of pushName, contact, archive, pin, unread, mute, label, labelled and star")
