"""Queries about groups and changes of them by devices (`iq xmlns="w:g2"`), with the errors that clients expect.

A refusal of the whole request is an error of the `iq`: 403 for those who are not members or not admins, 404 for a group
that does not exist, 401 for an invite link that only admins may share, 406 and 410 for invite codes (source: whatsmeow,
`group.go`). Changes of members are answered for each participant (source: Baileys and whatsmeow).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wasim.server import privacy
from wasim.server.directory import Directory
from wasim.server.groups import Groups, describe, groups_of, participant
from wasim.server.state import PHONE, Account, Address, Group
from wasim.wire.jids import GROUP, parse_jid
from wasim.wire.nodes import Node

Answer = list[Node] | tuple[int, str]
"""The content of the result, or code and text of an error."""

NOT_IMPLEMENTED = (501, "feature-not-implemented")
BAD_REQUEST = (400, "bad-request")
NOT_AUTHORIZED = (401, "not-authorized")
FORBIDDEN = (403, "forbidden")
NOT_FOUND = (404, "item-not-found")
NOT_ACCEPTABLE = (406, "not-acceptable")
CONFLICT = (409, "conflict")
GONE = (410, "gone")
_RECENTLY_LEFT_S = 24 * 3600
_MAX_SUBJECT_CHARS = 100
_INVITATION_VALID_S = 3 * 24 * 3600
_SWITCHES = {
    "announcement": ("announce", True),
    "not_announcement": ("announce", False),
    "locked": ("locked", True),
    "unlocked": ("locked", False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRequest:
    """A request of an account, and the state that it may read and change."""

    node: Node
    number: str
    """The account that sent it."""
    directory: Directory
    groups: Groups
    now: float

    @property
    def body(self) -> Node:
        return self.node.children[0] if self.node.children else Node("")


def answer(request: AccountRequest) -> Answer:
    """The answer to any request about groups."""
    kind, to = request.node.attrs.get("type", ""), parse_jid(request.node.attrs.get("to", ""))
    if to is None or not to.user or to.server != GROUP:
        return _WITHOUT_GROUP.get((kind, request.body.tag), _unknown)(request)
    group = request.directory.group(to)
    if group is None:
        return NOT_FOUND
    if (kind, request.body.tag) == ("set", "accept"):
        return _accept(request, group)
    if request.number not in group.members:
        return FORBIDDEN
    return _IN_GROUP.get((kind, request.body.tag), _unknown_in)(request, group)


def _unknown(request: AccountRequest) -> Answer:
    return NOT_IMPLEMENTED


def _unknown_in(request: AccountRequest, group: Group) -> Answer:
    return NOT_IMPLEMENTED


# Without a group.


def _participating(request: AccountRequest) -> Answer:
    """All groups of the account, with members and descriptions only if the query requests them."""
    requested = {child.tag for child in request.body.children}
    left_out = {"participant", "description"} - {tag.removesuffix("s") for tag in requested}
    listed = [describe(request.directory, group) for group in groups_of(request.directory, request.number)]
    groups = [Node("group", each.attrs, [n for n in each.children if n.tag not in left_out]) for each in listed]
    return [Node("groups", {}, groups)]


def _create(request: AccountRequest) -> Answer:
    subject = request.body.attrs.get("subject", "")
    if not subject or len(subject) > _MAX_SUBJECT_CHARS:
        return NOT_ACCEPTABLE
    requested = [(node.attrs.get("jid", ""), _account(request, node)) for node in request.body.all("participant")]
    found = [account for _, account in requested if account is not None and account.number != request.number]
    addable = [account.number for account in found if privacy.allows(account, privacy.GROUP_ADD, by=request.number)]
    group = request.groups.create(
        subject, [request.number, *addable], addressing="lid", now=request.now, key=request.body.attrs.get("key", "")
    )
    refused = [
        _not_added(request, group, jid, account)
        for jid, account in requested
        if account is None or account.number not in group.members
    ]
    made = describe(request.directory, group)
    return [Node("group", made.attrs, [*made.children, *refused])]


def _leave(request: AccountRequest) -> Answer:
    results = []
    for item in request.body.all("group"):
        attrs = {"id": item.attrs.get("id", "")}
        group = request.directory.groups.get(attrs["id"].partition("@")[0])
        if group is None or request.number not in group.members:
            attrs["error"] = "404"
        else:
            request.groups.remove(group, [request.number], now=request.now, by=request.number)
            group.left_at[request.number] = request.now
        results.append(Node("group", attrs))
    return [Node("leave", {}, results)]


def _invite_info(request: AccountRequest) -> Answer:
    group = _invited_by(request)
    return group if isinstance(group, tuple) else [describe(request.directory, group)]


def _join(request: AccountRequest) -> Answer:
    group = _invited_by(request)
    if isinstance(group, tuple):
        return group
    if request.number in group.members:
        return CONFLICT
    if group.join_approval:
        request.groups.request_to_join(group, [request.number], now=request.now)
        return [Node("membership_approval_request", {"jid": str(group.jid)})]
    request.groups.add(group, [request.number], now=request.now, by=request.number)
    return [Node("group", {"jid": str(group.jid)})]


def _invited_by(request: AccountRequest) -> Group | tuple[int, str]:
    code = request.body.attrs.get("code", "")
    for group in request.directory.groups.values():
        if code and code == group.invite_code:
            return group
        if code in group.revoked_codes:
            return GONE
    return NOT_ACCEPTABLE


# In a group.


def _describe(request: AccountRequest, group: Group) -> Answer:
    return [describe(request.directory, group)]


def _subject(request: AccountRequest, group: Group) -> Answer:
    subject = request.body.data.decode(errors="replace")
    if group.locked and not group.members[request.number]:
        return FORBIDDEN
    if not subject or len(subject) > _MAX_SUBJECT_CHARS:
        return NOT_ACCEPTABLE
    request.groups.set_subject(group, subject, by=request.number, now=request.now)
    return []


def _description(request: AccountRequest, group: Group) -> Answer:
    if group.locked and not group.members[request.number]:
        return FORBIDDEN
    if request.body.attrs.get("prev", "") != group.description_id:
        return CONFLICT  # somebody else changed it
    is_deleted = request.body.attrs.get("delete") == "true"
    group.description = "" if is_deleted else request.body.data_of("body").decode(errors="replace")
    group.description_id = "" if is_deleted else request.body.attrs.get("id", "")
    request.groups.notify(group, request.body, request.now, by=request.number)
    return []


def _switch(request: AccountRequest, group: Group) -> Answer:
    if not group.members[request.number]:
        return FORBIDDEN
    name, value = _SWITCHES[request.body.tag]
    setattr(group, name, value)
    request.groups.notify(group, Node(request.body.tag), request.now, by=request.number)
    return []


def _ephemeral(request: AccountRequest, group: Group) -> Answer:
    if group.locked and not group.members[request.number]:
        return FORBIDDEN
    seconds = request.body.attrs.get("expiration", "0")
    if not seconds.isdigit():
        return BAD_REQUEST
    group.ephemeral_s = int(seconds)
    request.groups.notify(group, request.body, request.now, by=request.number)
    return []


def _add_mode(request: AccountRequest, group: Group) -> Answer:
    if not group.members[request.number]:
        return FORBIDDEN
    mode = request.body.data
    if mode not in (b"all_member_add", b"admin_add"):
        return BAD_REQUEST
    group.members_add = mode == b"all_member_add"
    request.groups.notify(group, request.body, request.now, by=request.number)
    return []


def _approval_mode(request: AccountRequest, group: Group) -> Answer:
    if not group.members[request.number]:
        return FORBIDDEN
    join = request.body.child("group_join")
    if join is None or join.attrs.get("state") not in ("on", "off"):
        return BAD_REQUEST
    group.join_approval = join.attrs["state"] == "on"
    request.groups.notify(group, request.body, request.now, by=request.number)
    return []


def _add(request: AccountRequest, group: Group) -> Answer:
    if not (group.members[request.number] or group.members_add):
        return FORBIDDEN
    results = []
    for node in request.body.all("participant"):
        account = _account(request, node)
        if account is None:
            results.append(Node("participant", {"jid": node.attrs.get("jid", ""), "error": "404"}))
        elif account.number in group.members:
            results.append(_participant_result(request, group, account, "409"))
        elif request.now - group.left_at.get(account.number, -_RECENTLY_LEFT_S) < _RECENTLY_LEFT_S:
            results.append(_not_added(request, group, "", account, code="408"))
        elif not privacy.allows(account, privacy.GROUP_ADD, by=request.number):
            results.append(_not_added(request, group, "", account))
        else:
            request.groups.add(group, [account.number], now=request.now, by=request.number)
            results.append(_participant_result(request, group, account))
    return [Node("add", {}, results)]


def _remove(request: AccountRequest, group: Group) -> Answer:
    def remove(account: Account) -> str | None:
        if account.number not in group.members:
            return "404"
        if account.number == group.creator:
            return "405"
        request.groups.remove(group, [account.number], now=request.now, by=request.number)
        return None

    return _for_each_participant(request, group, remove)


def _promote(request: AccountRequest, group: Group) -> Answer:
    return _for_each_participant(request, group, lambda account: _set_role(request, group, account, is_admin=True))


def _demote(request: AccountRequest, group: Group) -> Answer:
    return _for_each_participant(request, group, lambda account: _set_role(request, group, account, is_admin=False))


def _set_role(request: AccountRequest, group: Group, account: Account, *, is_admin: bool) -> str | None:
    if account.number not in group.members:
        return "404"
    if account.number == group.creator and not is_admin:
        return "405"
    if group.members[account.number] is not is_admin:
        group.members[account.number] = is_admin
        changed = Node(request.body.tag, {}, [participant(request.directory, group, account.number)])
        request.groups.notify(group, changed, request.now, by=request.number)
    return None


def _for_each_participant(request: AccountRequest, group: Group, change: Callable[[Account], str | None]) -> Answer:
    """Apply a change to each participant; it returns an error code, or None when it was made."""
    if not group.members[request.number]:
        return FORBIDDEN
    results = []
    for node in request.body.all("participant"):
        account = _account(request, node)
        if account is None:
            results.append(Node("participant", {"jid": node.attrs.get("jid", ""), "error": "404"}))
        else:
            results.append(_participant_result(request, group, account, change(account)))
    return [Node(request.body.tag, {}, results)]


def _invite(request: AccountRequest, group: Group) -> Answer:
    """The invite code; a `set` revokes it and makes another."""
    if not group.members[request.number] and not group.members_add:
        return NOT_AUTHORIZED
    is_new = request.node.attrs.get("type") == "set" or not group.invite_code
    if is_new:
        if request.node.attrs.get("type") == "set" and not group.members[request.number]:
            return NOT_AUTHORIZED
        if group.invite_code:
            group.revoked_codes.add(group.invite_code)
        group.invite_code = request.groups.new_id()
        request.directory.touch(group)
    if request.node.attrs.get("type") == "set":
        request.groups.notify(group, Node("invite", {"code": group.invite_code}), request.now, by=request.number)
    return [Node("invite", {"code": group.invite_code})]


def _requests(request: AccountRequest, group: Group) -> Answer:
    if not group.members[request.number]:
        return FORBIDDEN
    results = [
        Node(
            "membership_approval_request",
            {
                "jid": str(request.directory.jid(Address(number, PHONE), group.addressing)),
                "phone_number": str(request.directory.jid(Address(number, PHONE), "pn")),
                "request_method": "invite_link",
                "request_time": str(int(at)),
            },
        )
        for number, at in group.requests.items()
    ]
    return [Node("membership_approval_requests", {}, results)]


def _answer_requests(request: AccountRequest, group: Group) -> Answer:
    if not group.members[request.number]:
        return FORBIDDEN
    done = []
    for action in request.body.children:
        results = []
        for node in action.all("participant"):
            account = _account(request, node)
            if account is None or group.requests.pop(account.number, None) is None:
                results.append(Node("participant", {"jid": node.attrs.get("jid", ""), "error": "404"}))
                continue
            if action.tag == "approve":
                request.groups.add(group, [account.number], now=request.now, by=request.number)
            else:
                revoked = Node(
                    "revoked_membership_requests", {}, [participant(request.directory, group, account.number)]
                )
                request.groups.notify(group, revoked, request.now, by=request.number)
            results.append(_participant_result(request, group, account))
        done.append(Node(action.tag, {}, results))
    return [Node("membership_requests_action", {}, done)]


def _accept(request: AccountRequest, group: Group) -> Answer:
    """Join by a personal invitation."""
    code = request.body.attrs.get("code", "")
    if request.number in group.members:
        return CONFLICT
    if not code or group.invited.get(request.number) != code:
        return GONE
    del group.invited[request.number]
    request.groups.add(group, [request.number], now=request.now, by=request.number)
    return []


# People.


def _account(request: AccountRequest, node: Node) -> Account | None:
    return request.directory.find(parse_jid(node.attrs.get("jid", "")))


def _participant_result(request: AccountRequest, group: Group, account: Account, error: str | None = None) -> Node:
    result = participant(request.directory, group, account.number)
    return Node("participant", result.attrs | ({"error": error} if error else {}), result.content)


def _not_added(request: AccountRequest, group: Group, jid: str, account: Account | None, *, code: str = "403") -> Node:
    """The result for somebody who was not added: an error, or a code for a personal invitation."""
    if account is None:
        return Node("participant", {"jid": jid, "error": "404"})
    invitation = group.invited.setdefault(account.number, request.groups.new_id())
    request.directory.touch(group)
    add_request = Node("add_request", {"code": invitation, "expiration": str(int(request.now) + _INVITATION_VALID_S)})
    result = _participant_result(request, group, account, code)
    return Node("participant", result.attrs, [add_request])


_WITHOUT_GROUP: dict[tuple[str, str], Callable[[AccountRequest], Answer]] = {
    ("get", "query"): lambda request: NOT_FOUND,
    ("get", "participating"): _participating,
    ("get", "invite"): _invite_info,
    ("set", "create"): _create,
    ("set", "leave"): _leave,
    ("set", "invite"): _join,
}
_IN_GROUP: dict[tuple[str, str], Callable[[AccountRequest, Group], Answer]] = {
    ("get", "query"): _describe,
    ("get", "invite"): _invite,
    ("get", "membership_approval_requests"): _requests,
    ("set", "invite"): _invite,
    ("set", "subject"): _subject,
    ("set", "description"): _description,
    **{("set", tag): _switch for tag in _SWITCHES},
    ("set", "ephemeral"): _ephemeral,
    ("set", "not_ephemeral"): _ephemeral,
    ("set", "member_add_mode"): _add_mode,
    ("set", "membership_approval_mode"): _approval_mode,
    ("set", "add"): _add,
    ("set", "remove"): _remove,
    ("set", "promote"): _promote,
    ("set", "demote"): _demote,
    ("set", "membership_requests_action"): _answer_requests,
}
