"""The server's side of app state: collections of encrypted records, their versions, patches and snapshots.

The server can't read the records. It accepts a patch that is based on the current version, and refuses any other with a
conflict, so that the device fetches what it missed and tries again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec

from wasim.server.directory import Directory
from wasim.server.entropy import Entropy
from wasim.wire.blobs import APP_STATE, Blob, encrypt_blob
from wasim.wire.errors import WireError
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode
from wasim.wire.syncd import (
    COLLECTIONS,
    REMOVE,
    BlobReference,
    KeyId,
    Patch,
    Snapshot,
    SyncedRecord,
    Version,
)

PATCHES_KEPT = 100
"""Patches of a collection; a device that is further behind gets a snapshot."""
PATCHES_AT_ONCE = 20
"""Patches in one answer; the device requests more in another query."""
_RECORD = "app-state"
_CONFLICT, _BAD_PATCH = ("409", "conflict"), ("400", "bad-request")


class Collection(msgspec.Struct, kw_only=True):
    version: int = 0
    records: dict[bytes, bytes] = {}
    """Encoded records by the MAC of their index."""
    patches: dict[int, bytes] = {}
    """The newest encoded patches by version."""
    snapshot_mac: bytes = b""
    """The MAC of the current version, computed by the device that made the last patch."""
    key_id: bytes = b""


@dataclass(slots=True, kw_only=True)
class SyncAnswer:
    nodes: list[Node] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    """New versions by collection."""


class AppState:
    def __init__(self, directory: Directory, entropy: Entropy) -> None:
        self._directory = directory
        self._entropy = entropy
        self._collections: dict[tuple[str, str], Collection] = {}
        self._snapshots: dict[tuple[str, str], tuple[int, Blob]] = {}
        self.blobs: list[Blob] = []
        """Files for the media host, to be written before the next bytes are sent; the writer clears the list."""

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        if kind == _RECORD:
            number, _, name = key.partition(":")
            self._collections[number, name] = msgspec.msgpack.decode(value, type=Collection)

    def collection(self, number: str, name: str) -> Collection:
        """An account's collection; must not be changed."""
        return self._collections.get((number, name)) or Collection()

    def sync(self, number: str, query: Node) -> SyncAnswer:
        """The answer to a `sync` query of one of the account's devices: its patches accepted or refused, and what it
        is missing."""
        answer = SyncAnswer()
        for requested in query.all("collection"):
            name, patch = requested.attrs.get("name", ""), requested.child("patch")
            version = int(requested.attrs.get("version", "0") or 0)
            if name not in COLLECTIONS:
                answer.nodes.append(_error(name, _BAD_PATCH))
            elif patch is None:
                with_snapshot = requested.attrs.get("return_snapshot") == "true"
                answer.nodes.append(self._missing(number, name, version, with_snapshot=with_snapshot))
            elif version != self.collection(number, name).version:
                answer.nodes.append(_error(name, _CONFLICT))
            else:
                answer.nodes.append(self._accept(number, name, patch.data, answer))
        return answer

    def _accept(self, number: str, name: str, encoded: bytes, answer: SyncAnswer) -> Node:
        try:
            version = self.apply(number, name, decode(Patch, encoded))
        except WireError:
            return _error(name, _BAD_PATCH)
        answer.changed[name] = version
        return Node("collection", {"name": name, "type": "result", "version": str(version)})

    def apply(self, number: str, name: str, patch: Patch) -> int:
        """Apply a patch to the current version; returns the new one. Raises WireError for an incomplete patch."""
        if not patch.mutations or not patch.snapshot_mac or not patch.patch_mac or patch.key is None:
            raise WireError("a patch without mutations, MACs or key")
        collection = self._collections.setdefault((number, name), Collection())
        collection.version += 1
        for mutation in patch.mutations:
            record = mutation.record or SyncedRecord()
            if mutation.operation == REMOVE:
                collection.records.pop(record.index_mac, None)
            else:
                collection.records[record.index_mac] = encode(record)
        numbered = replace(patch, version=Version(version=collection.version))
        collection.patches[collection.version] = encode(numbered)
        for old in [each for each in collection.patches if each <= collection.version - PATCHES_KEPT]:
            del collection.patches[old]
        collection.snapshot_mac, collection.key_id = patch.snapshot_mac, patch.key.id or b""
        self._directory.put_record(_RECORD, f"{number}:{name}", msgspec.msgpack.encode(collection))
        return collection.version

    def _missing(self, number: str, name: str, version: int, *, with_snapshot: bool) -> Node:
        """What a device that has `version` is missing: patches, or a snapshot when it has none or too old a version."""
        collection = self.collection(number, name)
        attrs = {"name": name, "type": "result", "version": str(version)}
        if version >= collection.version:
            return Node("collection", attrs | {"has_more_patches": "false"})
        if (with_snapshot and version == 0) or version + 1 not in collection.patches:
            reference = encode(self._snapshot(number, name, collection))
            attrs |= {"version": str(collection.version), "has_more_patches": "false"}
            return Node("collection", attrs, [Node("snapshot", {}, reference)])
        last = min(collection.version, version + PATCHES_AT_ONCE)
        patches = [Node("patch", {}, collection.patches[each]) for each in range(version + 1, last + 1)]
        more = "true" if last < collection.version else "false"
        return Node("collection", attrs | {"has_more_patches": more}, [Node("patches", {}, patches)])

    def _snapshot(self, number: str, name: str, collection: Collection) -> BlobReference:
        version, blob = self._snapshots.get((number, name), (0, None))
        if blob is None or version != collection.version:
            snapshot = Snapshot(
                version=Version(version=collection.version),
                records=tuple(decode(SyncedRecord, record) for record in collection.records.values()),
                mac=collection.snapshot_mac,
                key=KeyId(id=collection.key_id),
            )
            blob = encrypt_blob(encode(snapshot), content=APP_STATE, key=self._entropy(32))
            self._snapshots[number, name] = (collection.version, blob)
            self.blobs.append(blob)
        return BlobReference(
            media_key=blob.key,
            direct_path=blob.direct_path,
            size=blob.length,
            sha256=blob.sha256,
            encrypted_sha256=blob.encrypted_sha256,
        )


def _error(name: str, error: tuple[str, str]) -> Node:
    code, text = error
    return Node("collection", {"name": name, "type": "error"}, [Node("error", {"code": code, "text": text})])
