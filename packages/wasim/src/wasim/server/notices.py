"""Stanzas that the server sends on its own: the first ones after a login, and notifications."""

from __future__ import annotations

import json

from wasim.server.directory import Directory
from wasim.server.quota import NewChatQuota, quota_state
from wasim.server.state import Account, Address, Device
from wasim.wire.jids import LID, PN, SERVER, Jid
from wasim.wire.nodes import Node

_ROUTING_INFO = b"\x08\x05\x08\x0c"
"""Clients send this before their next connection; this server ignores it."""


def greeting(directory: Directory, device: Device, *, now: float) -> list[Node]:
    """The stanzas for a device that has logged in, up to the announcement of waiting messages."""
    lid = Jid(directory.accounts[device.number].lid, LID, device.device)
    stanzas = [
        Node("success", {"t": str(int(now)), "lid": str(lid), "location": "wasim", "props": "27"}),
        _ib(Node("edge_routing", {}, [Node("routing_info", {}, _ROUTING_INFO)])),
    ]
    if device.logins == 1:
        stanzas.append(_ib(Node("dirty", {"type": "account_sync", "timestamp": str(int(now))})))
    return [*stanzas, _ib(_preview(directory, device.address))]


def _preview(directory: Directory, address: Address) -> Node:
    counts = {"message": 0, "receipt": 0, "notification": 0, "call": 0}
    queue = directory.queue(address)
    for _, entry in queue:
        counts[entry.kind] += 1
    attrs = {kind: str(count) for kind, count in counts.items()}
    return Node("offline_preview", {"count": str(len(queue)), "appdata": "0"} | attrs)


def offline_done(count: int) -> Node:
    """The end marker after all queued stanzas."""
    return _ib(Node("offline", {"count": str(count)}))


def low_on_prekeys(notice_id: str, left: int, now: float) -> Node:
    """Notifies a device that its one-time prekeys are running out."""
    attrs = {"from": SERVER, "type": "encrypt", "id": notice_id, "t": str(int(now))}
    return Node("notification", attrs, [Node("count", {"value": str(left)})])


def settings_changed(notice_id: str, number: str, versions: dict[str, int], now: float) -> Node:
    """Notifies a device that collections of its account's settings have new versions."""
    attrs = {"from": str(Jid(number, PN)), "type": "server_sync", "id": notice_id, "t": str(int(now))}
    collections = [Node("collection", {"name": name, "version": str(version)}) for name, version in versions.items()]
    return Node("notification", attrs, collections)


def lock_state(until: float | None) -> dict[str, object]:
    """Whether the account may not write to new contacts, in the form of WhatsApp's GraphQL."""
    if until is None:
        return {"is_active": False, "time_enforcement_ends": "0"}
    return {"is_active": True, "time_enforcement_ends": str(int(until)), "enforcement_type": "DEFAULT"}


def reach_out_lock(notice_id: str, until: float | None, now: float) -> Node:
    """Notifies a device that its account was locked, or is unlocked again."""
    data = {"xwa2_notify_account_reachout_timelock": lock_state(until)}
    return _mex(notice_id, "NotificationUserReachoutTimelockUpdate", data, now)


def new_chat_quota(notice_id: str, quota: NewChatQuota | None, now: float) -> Node:
    """Notifies a device how much of its account's quota of new chats is used."""
    data = {"xwa2_notify_new_chat_messages_capping_info_update": quota_state(quota, now=now)}
    return _mex(notice_id, "MessageCappingInfoNotification", data, now)


def _mex(notice_id: str, operation: str, data: dict[str, dict[str, object]], now: float) -> Node:
    """A notification in the form of WhatsApp's GraphQL."""
    attrs = {"from": SERVER, "type": "mex", "id": notice_id, "t": str(int(now))}
    update = Node("update", {"op_name": operation}, json.dumps({"data": data}).encode())
    return Node("notification", attrs, [update])


def devices_changed(directory: Directory, device: Device, change: str, *, to: str, notice_id: str, now: float) -> Node:
    """Notifies a device of account `to` that `device` was linked (`add`) or removed (`remove`)."""
    jid = directory.jid(device.address, directory.accounts[to].addressing)
    attrs = {"type": "devices", "t": str(int(now)), "from": str(jid.bare), "id": notice_id}
    entry = Node("device", {"jid": str(jid), "key-index": str(device.key_index)})
    indexes = key_index_list(directory.accounts[device.number], is_signed=change == "add")
    return Node("notification", attrs, [Node(change, {}, [entry, indexes])])


def key_index_list(account: Account, *, is_signed: bool = True) -> Node:
    """The phone's list of its linked devices; without its content, only the time of its last change."""
    attrs = {"ts": str(int(account.key_indexes_at))}
    return Node("key-index-list", attrs, account.key_indexes if is_signed else None)


def _ib(child: Node) -> Node:
    return Node("ib", {"from": SERVER}, [child])
