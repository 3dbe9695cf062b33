"""App state: devices share settings through a server that can't read them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from wasim.server.conftest import Client, ServerHarness
from wasim.server.phone_settings import BadChange, Change
from wasim.wire.blobs import FOLDER, PATH_QUERY
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode
from wasim.wire.syncd import (
    EMPTY_HASH,
    SET,
    ActionData,
    ActionValue,
    BlobReference,
    Flag,
    KeyId,
    Mutation,
    Patch,
    SyncedRecord,
    SyncKeys,
    index_of,
    update_lthash,
)

OWNER = "962302001"
FRIEND = "962302002@s.whatsapp.net"


def keys_of(harness: ServerHarness) -> SyncKeys:
    keys = harness.server.phones.keys(OWNER)
    return SyncKeys.derive(keys.sync_key_id, keys.sync_key)


def sync(
    harness: ServerHarness, client: Client, name: str, version: int, patch: Patch | None = None, *, whole: bool = False
) -> Node:
    """A device requests the patches of a collection that it misses, or sends one."""
    attrs = {"name": name, "version": str(version), "return_snapshot": "true" if whole else "false"}
    children = [] if patch is None else [Node("patch", {}, encode(patch))]
    answer = harness.ask(client, "w:sync:app:state", "set", Node("sync", {}, [Node("collection", attrs, children)]))
    return answer.children[0].children[0]


def archiving(
    keys: SyncKeys, chat: str, *, version: int, before: Sequence[bytes] = (), name: str = "regular_low"
) -> Patch:
    """A device's patch that archives a chat, as version `version`."""
    index = json.dumps(["archive", chat]).encode()
    data = ActionData(index=index, value=ActionValue(timestamp_ms=1, archive=Flag(on=1)), padding=b"", version=3)
    mutation = keys.encrypt(SET, data, iv=bytes(16))
    macs = [*before, (mutation.record or SyncedRecord()).value_mac]
    snapshot_mac = keys.mac_of_version(update_lthash(EMPTY_HASH, removed=(), added=macs), version, name)
    return Patch(
        mutations=(mutation,),
        snapshot_mac=snapshot_mac,
        patch_mac=keys.mac_of_patch(snapshot_mac, [mutation], version, name),
        key=KeyId(id=keys.id),
    )


def error_of(collection: Node) -> str | None:
    error = collection.child("error")
    return None if error is None else error.attrs["code"]


def test_a_device_gets_the_push_name_of_the_account(harness: ServerHarness) -> None:
    """The settings of a new account contain its push name, in a patch that the account's key decrypts."""
    harness.phone(OWNER)
    _, client = harness.online(OWNER)
    patches = sync(harness, client, "critical_block", 0).child("patches")
    assert patches is not None
    (mutation,) = decode(Patch, patches.children[0].data).mutations
    data = keys_of(harness).decrypt(mutation)
    assert index_of(data) == ["setting_pushName"]
    assert data.value is not None
    assert data.value.push_name is not None
    assert data.value.push_name.name == f"name of {OWNER}"


def test_a_devices_change_is_shown_by_the_phone_and_announced_to_others(harness: ServerHarness) -> None:
    """A patch with correct MACs changes the phone's view; only other devices are notified."""
    harness.phone(OWNER)
    _, author = harness.online(OWNER)
    _, other = harness.online(OWNER)
    author.clear()
    answer = sync(harness, author, "regular_low", 0, archiving(keys_of(harness), FRIEND, version=1))
    assert (answer.attrs["type"], answer.attrs["version"]) == ("result", "1")
    assert harness.server.phone_settings.view(OWNER).chats[FRIEND].archived
    notice = next(node for node in other.all("notification") if node.attrs["type"] == "server_sync")
    assert notice.children[0].attrs == {"name": "regular_low", "version": "1"}
    assert not [node for node in author.all("notification") if node.attrs["type"] == "server_sync"]


def test_a_patch_for_an_old_version_is_a_conflict(harness: ServerHarness) -> None:
    """A patch that is not based on the current version is refused with 409 and changes nothing."""
    harness.phone(OWNER)
    _, client = harness.online(OWNER)
    harness.server.change_settings(OWNER, [Change(pin=FRIEND)], now=harness.now)
    assert error_of(sync(harness, client, "regular_low", 0, archiving(keys_of(harness), FRIEND, version=1))) == "409"
    assert not harness.server.phone_settings.view(OWNER).chats[FRIEND].archived


def test_a_patch_with_a_wrong_mac_is_counted_and_changes_nothing(harness: ServerHarness) -> None:
    """The server can't verify a patch; the phone does."""
    harness.phone(OWNER)
    _, client = harness.online(OWNER)
    sync(harness, client, "regular_low", 0, archiving(keys_of(harness), FRIEND, version=2))
    view = harness.server.phone_settings.view(OWNER)
    assert (view.invalid, FRIEND in view.chats) == (1, False)


@pytest.mark.parametrize("patch", [Patch(), Patch(mutations=(Mutation(),), snapshot_mac=b"1", patch_mac=b"2")])
def test_an_incomplete_patch_is_refused(harness: ServerHarness, patch: Patch) -> None:
    """A patch without mutations, MACs or key is an error 400."""
    harness.phone(OWNER)
    _, client = harness.online(OWNER)
    assert error_of(sync(harness, client, "regular_low", 0, patch)) == "400"


def test_an_unknown_collection_is_refused(harness: ServerHarness) -> None:
    """WhatsApp has five collections."""
    harness.phone(OWNER)
    _, client = harness.online(OWNER)
    assert error_of(sync(harness, client, "other", 0)) == "400"


def test_a_device_without_a_version_gets_a_snapshot_on_request(harness: ServerHarness) -> None:
    """The answer refers to an encrypted file on the media host; later changes are sent as patches."""
    harness.phone(OWNER)
    _, client = harness.online(OWNER)
    harness.server.change_settings(OWNER, [Change(pin=FRIEND), Change(archive=FRIEND)], now=harness.now)
    snapshot = sync(harness, client, "regular_low", 0, whole=True).child("snapshot")
    assert snapshot is not None
    reference = decode(BlobReference, snapshot.data)
    path = reference.direct_path or ""
    assert (path.startswith(FOLDER), path.endswith(PATH_QUERY)) == (True, True)
    assert [blob.encrypted_sha256 for blob in harness.server.app_state.blobs] == [reference.encrypted_sha256]


def test_more_patches_than_fit_come_in_parts(harness: ServerHarness) -> None:
    """An answer has at most twenty patches and says that there are more."""
    harness.phone(OWNER)
    _, client = harness.online(OWNER)
    for n in range(25):
        harness.server.change_settings(OWNER, [Change(pin=f"96230{n}@s.whatsapp.net")], now=harness.now)
    first = sync(harness, client, "regular_low", 0)
    patches = first.child("patches")
    assert patches is not None
    assert (len(patches.children), first.attrs["has_more_patches"]) == (20, "true")
    assert sync(harness, client, "regular_low", 20).attrs["has_more_patches"] == "false"


def test_settings_survive_a_restart(harness: ServerHarness) -> None:
    """Versions, records and the phone's view are stored."""
    harness.phone(OWNER)
    harness.server.change_settings(
        OWNER,
        [Change(contact=FRIEND, name="Salma"), Change(label="3", name="VIP"), Change(labelled="3", chat=FRIEND)],
        now=harness.now,
    )
    before = harness.server.phone_settings.view(OWNER)
    harness.restart()
    assert harness.server.phone_settings.view(OWNER) == before
    assert harness.server.app_state.collection(OWNER, "regular").version == 1
    harness.server.change_settings(OWNER, [Change(contact=FRIEND), Change(label="3")], now=harness.now)
    after = harness.server.phone_settings.view(OWNER)
    assert (after.contacts, after.labels) == ({}, {})


def test_an_empty_change_is_refused(harness: ServerHarness) -> None:
    """The sentence says what a change may contain."""
    harness.phone(OWNER)
    with pytest.raises(BadChange, match="pushName"):
        harness.server.change_settings(OWNER, [Change(name="x")], now=harness.now)
