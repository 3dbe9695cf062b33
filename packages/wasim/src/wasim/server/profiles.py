"""Pictures of people and groups (`iq xmlns="w:profile:picture"`), and profiles of businesses (`w:biz`)."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from wasim.server import privacy
from wasim.server.directory import Directory
from wasim.server.group_requests import FORBIDDEN, NOT_ACCEPTABLE, NOT_AUTHORIZED, NOT_FOUND, AccountRequest, Answer
from wasim.server.picture_files import PictureFiles, path_of
from wasim.server.state import Account, Group
from wasim.wire.jids import parse_jid
from wasim.wire.jpegs import picture_of
from wasim.wire.nodes import Node

_JPEG = b"\xff\xd8\xff"
_MAX_PICTURE_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRequest(AccountRequest):
    """A query for a picture, or the request to set or remove one."""

    files: PictureFiles
    host: str
    """The media host, which has the pictures."""


def picture(request: PictureRequest) -> Answer:
    """Answer a request."""
    node, directory = request.node, request.directory
    target = node.attrs.get("target", "")
    jid = parse_jid(target)
    account = directory.find(jid) if target else directory.accounts[request.number]
    group = directory.group(jid)
    if node.attrs.get("type") == "get":
        return _of_account(account, request) if group is None else _of_group(group, request)
    if group is not None:
        return _set_of_group(group, request)
    if account is None or account.number != request.number:
        return NOT_AUTHORIZED
    return _set_own(account, request)


def _of_group(group: Group, request: PictureRequest) -> Answer:
    if request.number not in group.members:
        return NOT_AUTHORIZED
    return _on_media_host(group, request) if group.picture_id else NOT_FOUND


def _of_account(account: Account | None, request: PictureRequest) -> Answer:
    number = request.number
    if account is None or not (account.picture or account.picture_id):
        return NOT_FOUND
    if number in account.blocked or not (
        number == account.number or privacy.allows(account, privacy.PICTURE, by=number)
    ):
        return NOT_AUTHORIZED
    if account.picture_id:
        return _on_media_host(account, request)
    return _picture_node(request, id=str(crc32(account.picture.encode())), url=account.picture)


def _on_media_host(owner: Account | Group, request: PictureRequest) -> Answer:
    if not owner.picture_file:
        owner.picture_file = request.files.add(picture_of(owner.picture_id))
        request.directory.touch(owner)
    path = path_of(owner.picture_file)
    return _picture_node(request, id=owner.picture_id, url=f"https://{request.host}{path}", direct_path=path)


def _picture_node(request: PictureRequest, **attrs: str) -> Answer:
    return [Node("picture", {"type": request.body.attrs.get("type", "image"), **attrs})]


def _set_of_group(group: Group, request: PictureRequest) -> Answer:
    number = request.number
    if number not in group.members or (group.locked and not group.members[number]):
        return FORBIDDEN
    if not _is_acceptable(request.body):
        return NOT_ACCEPTABLE
    answer = _set(group, request)
    change = Node("set", {"jid": str(group.jid), "id": group.picture_id}) if answer else Node("delete")
    request.groups.notify(group, change, request.now, by=number, kind="picture")
    return answer


def _set_own(account: Account, request: PictureRequest) -> Answer:
    if not _is_acceptable(request.body):
        return NOT_ACCEPTABLE
    account.picture = ""
    return _set(account, request)


def _set(owner: Account | Group, request: PictureRequest) -> list[Node]:
    owner.picture_id = owner.picture_file = ""
    if request.body.tag:
        owner.picture_id = request.groups.new_id()
        owner.picture_file = request.files.add(request.body.data)
    request.directory.touch(owner)
    return [Node("picture", {"id": owner.picture_id})] if owner.picture_id else []


def _is_acceptable(body: Node) -> bool:
    """An empty body removes the picture; a picture must be a JPEG (source: whatsmeow, `SetGroupPhoto`)."""
    return not body.tag or (
        body.tag == "picture" and body.data.startswith(_JPEG) and len(body.data) <= _MAX_PICTURE_BYTES
    )


BUSINESS = ("description", "category", "address", "email", "website")
"""The fields of a business profile that an account can have."""


def business(body: Node, directory: Directory) -> Node:
    """The profiles of the requested accounts. One that is no business has none (source: Baileys,
    `getBusinessProfile`)."""
    requested = (
        (node.attrs.get("jid", ""), directory.find(parse_jid(node.attrs.get("jid", ""))))
        for node in body.all("profile")
    )
    profiles = [_business(jid, account) for jid, account in requested if account is not None and account.business]
    return Node("business_profile", {"v": "244"}, profiles)


def _business(jid: str, account: Account) -> Node:
    fields = [Node(name, {}, account.business[name].encode()) for name in BUSINESS if name in account.business]
    children = [Node("categories", {}, [node]) if node.tag == "category" else node for node in fields]
    return Node("profile", {"jid": jid}, children)
