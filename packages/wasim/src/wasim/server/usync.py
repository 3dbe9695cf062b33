"""usync: queries about other accounts: whether they exist, their devices, their hidden id."""

from __future__ import annotations

from wasim.server import privacy
from wasim.server.directory import Directory
from wasim.server.notices import key_index_list
from wasim.server.state import PHONE, Account, Device
from wasim.wire.jids import LID, PN, Jid, parse_jid
from wasim.wire.nodes import Node


def answer(directory: Directory, request: Node, *, by: str) -> Node:
    """The result of a `usync` query of the account `by`: one `user` for each requested one, with one child for each
    requested protocol."""
    protocols = [protocol.tag for query in request.all("query") for protocol in query.children]
    users = [_user(directory, user, protocols, by) for listing in request.all("list") for user in listing.all("user")]
    attrs = {key: request.attrs[key] for key in ("sid", "mode", "context") if key in request.attrs}
    result = Node("result", {}, [Node(protocol) for protocol in protocols])
    return Node("usync", attrs | {"index": "0", "last": "true"}, [result, Node("list", {}, users)])


def _user(directory: Directory, user: Node, protocols: list[str], by: str) -> Node:
    contact = user.child("contact")
    if contact is not None and "username" in contact.attrs:
        return _user_by_name(directory, user, contact.attrs["username"], protocols, by)
    number = user.data_of("contact").decode(errors="replace")
    jid = parse_jid(user.attrs.get("jid", "")) or parse_jid(number) or Jid(number, PN)
    jid = jid._replace(user=jid.user.lstrip("+"))
    account = directory.find_any_spelling(jid)
    if account is not None and jid.server == PN:
        jid = jid._replace(user=account.number)  # the answer names the account by its own spelling
    results = [_protocol_result(directory, protocol, jid, account, user, by) for protocol in protocols]
    return Node("user", {"jid": str(jid.bare)}, [node for node in results if node is not None])


def _user_by_name(directory: Directory, user: Node, username: str, protocols: list[str], by: str) -> Node:
    """The account with this username. The answer has its hidden id, and its number unless the account hides it."""
    account = directory.by_username(username)
    if account is None:
        return Node("user", {}, [Node("contact", {"type": "out", "username": username})])
    jid = Jid(account.lid, LID)
    attrs = {"jid": str(jid)} | ({} if account.hides_number else {"pn_jid": f"{account.number}@{PN}"})
    others = [_protocol_result(directory, each, jid, account, user, by) for each in protocols if each != "contact"]
    contact = Node("contact", {"type": "in", "username": account.username})
    return Node("user", attrs, [contact, *(node for node in others if node is not None)])


def _protocol_result(
    directory: Directory, protocol: str, jid: Jid, account: Account | None, user: Node, by: str
) -> Node | None:
    match protocol:
        case "contact":
            content = user.data_of("contact") or None
            return Node("contact", {"type": "in" if account else "out"}, content)
        case "devices":
            return _devices(directory, account)
        case "lid" if account is not None and jid.server == PN:
            return Node("lid", {"val": f"{account.lid}@{LID}"})
        case "lid":
            return None
        case "disappearing_mode":
            return Node("disappearing_mode", {"duration": "0", "t": "0"})
        case "status" if account is not None:
            return _about(account, by)
        case "username" if account is not None and account.username:
            return Node("username", {}, account.username.encode())
        case "business" | "picture" | "bot" | "username" | "status":
            return None
    return Node(protocol, {}, [Node("error", {"code": "501", "text": "feature-not-implemented"})])


def _about(account: Account, by: str) -> Node:
    """A hidden text is answered with a code and no content (source: Baileys, `USyncStatusProtocol`)."""
    if by != account.number and not privacy.allows(account, privacy.ABOUT, by=by):
        return Node("status", {"code": "401", "type": "fail"})
    return Node("status", {"t": str(int(account.created_at))}, account.about.encode())


def _devices(directory: Directory, account: Account | None) -> Node:
    devices = directory.devices_of(account.number) if account else []
    content = [Node("device-list", {}, [_device(device) for device in devices])]
    if account is not None and account.key_indexes:
        content.append(key_index_list(account))
    return Node("devices", {}, content)


def _device(device: Device) -> Node:
    attrs = {"id": str(device.device)}
    if device.device != PHONE:
        attrs["key-index"] = str(device.key_index)
    return Node("device", attrs)
