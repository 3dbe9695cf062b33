"""Pictures of people and groups (`iq xmlns="w:profile:picture"`), and profiles of businesses (`w:biz`)."""

from __future__ import annotations

from zlib import crc32

from wasim.server import privacy
from wasim.server.group_requests import FORBIDDEN, NOT_ACCEPTABLE, NOT_AUTHORIZED, NOT_FOUND, Answer
from wasim.server.groups import Groups
from wasim.server.state import Account, Directory, Group
from wasim.wire.jids import parse_jid
from wasim.wire.nodes import Node

_JPEG = b"\xff\xd8\xff"
_MOST_BYTES = 5 * 1024 * 1024


def picture(node: Node, number: str, directory: Directory, groups: Groups, *, now: float) -> Answer:
    """A query for a picture, or the request to set or remove one."""
    target = node.attrs.get("target", "")
    jid = parse_jid(target)
    account = directory.find(jid) if target else directory.accounts[number]
    group = directory.group(jid)
    body = node.children[0] if node.children else Node("")
    if node.attrs.get("type") == "get":
        return _shown(account, group, number, body.attrs.get("type", "image"))
    if group is not None:
        return _set_of_group(group, number, body, directory, groups, now=now)
    if account is None or account.number != number:
        return NOT_AUTHORIZED
    return _set_own(account, body, directory, groups)


def _shown(account: Account | None, group: Group | None, number: str, type_: str) -> Answer:
    if group is not None:
        if number not in group.members:
            return NOT_AUTHORIZED
        return _node(group.picture_id, f"https://pps.wasim.invalid/{group.picture_id}", type_)
    if account is None or not (account.picture or account.picture_id):
        return NOT_FOUND
    if number in account.blocked or not (
        number == account.number or privacy.allows(account, privacy.PICTURE, by=number)
    ):
        return NOT_AUTHORIZED
    id_ = account.picture_id or str(crc32(account.picture.encode()))
    return _node(id_, account.picture or f"https://pps.wasim.invalid/{id_}", type_)


def _node(id_: str, url: str, type_: str) -> Answer:
    return [Node("picture", {"id": id_, "type": type_, "url": url})] if id_ else NOT_FOUND


def _set_of_group(group: Group, number: str, body: Node, directory: Directory, groups: Groups, *, now: float) -> Answer:
    if number not in group.members or (group.locked and not group.members[number]):
        return FORBIDDEN
    if not _is_usable(body):
        return NOT_ACCEPTABLE
    group.picture_id = groups.new_id() if body.tag else ""
    change = Node("set", {"jid": str(group.jid), "id": group.picture_id}) if body.tag else Node("delete")
    groups.notify(group, change, now, by=number, kind="picture")
    return [Node("picture", {"id": group.picture_id})] if body.tag else []


def _set_own(account: Account, body: Node, directory: Directory, groups: Groups) -> Answer:
    if not _is_usable(body):
        return NOT_ACCEPTABLE
    account.picture_id, account.picture = (groups.new_id() if body.tag else ""), ""
    directory.touch(account)
    return [Node("picture", {"id": account.picture_id})] if body.tag else []


def _is_usable(body: Node) -> bool:
    """No picture removes it; a picture is a JPEG (source: whatsmeow, `SetGroupPhoto`)."""
    return not body.tag or (body.tag == "picture" and body.data.startswith(_JPEG) and len(body.data) <= _MOST_BYTES)


BUSINESS = ("description", "category", "address", "email", "website")
"""The fields of a business profile that an account can have."""


def business(body: Node, directory: Directory) -> Node:
    """The profiles of the requested accounts. One that is no business has none (source: Baileys,
    `getBusinessProfile`)."""
    wanted = (
        (node.attrs.get("jid", ""), directory.find(parse_jid(node.attrs.get("jid", ""))))
        for node in body.all("profile")
    )
    profiles = [_business(jid, account) for jid, account in wanted if account is not None and account.business]
    return Node("business_profile", {"v": "244"}, profiles)


def _business(jid: str, account: Account) -> Node:
    fields = [Node(name, {}, account.business[name].encode()) for name in BUSINESS if name in account.business]
    told = [Node("categories", {}, [node]) if node.tag == "category" else node for node in fields]
    return Node("profile", {"jid": jid}, told)
