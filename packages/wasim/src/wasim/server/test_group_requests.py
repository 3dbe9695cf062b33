"""Changes of groups by devices: permissions, the result for each participant, and notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wasim.server.state import Group
from wasim.wire.nodes import Node

if TYPE_CHECKING:
    from wasim.server.conftest import Client, ServerHarness

ALICE, BOB, CAROL, DAN = "962302", "962303", "962304", "962305"
PN = "@s.whatsapp.net"
JPEG = b"\xff\xd8\xff\xe0picture"


def ask(harness: ServerHarness, client: Client, to: str, type_: str, body: Node | None, *, xmlns: str = "w:g2") -> Node:
    attrs = {"id": "g1", "xmlns": xmlns, "type": type_, "to": to}
    harness.send(client, Node("iq", attrs, [body] if body is not None else None))
    return client.all("iq")[-1]


def people(tag: str, *numbers: str, **attrs: str) -> Node:
    return Node(tag, attrs, [Node("participant", {"jid": f"{number}{PN}"}) for number in numbers])


def results(answer: Node) -> list[tuple[str, str | None]]:
    """By phone number, the error of each participant."""
    listed = list(answer.children[0].all("participant"))
    numbers = [node.attrs.get("phone_number", node.attrs["jid"]).partition("@")[0] for node in listed]
    return [(number, node.attrs.get("error")) for number, node in zip(numbers, listed, strict=True)]


def error(answer: Node) -> str | None:
    return answer.children[0].attrs["code"] if answer.attrs["type"] == "error" else None


@pytest.fixture
def alice(harness: ServerHarness) -> Client:
    """Alice's linked device; the others only have phones."""
    for number in (BOB, CAROL, DAN):
        harness.phone(number)
    return harness.online(ALICE)[1]


@pytest.fixture
def group(harness: ServerHarness, alice: Client) -> Group:
    """Alice's group with Bob; she is its admin."""
    answer = ask(harness, alice, "@g.us", "set", people("create", BOB, subject="Team", key="3EB0KEY"))
    made = harness.server.directory.groups[answer.children[0].attrs["id"]]
    alice.received.clear()
    return made


def theirs(harness: ServerHarness, *members: str) -> Group:
    made = harness.server.groups.create("Theirs", members, addressing="lid", now=harness.now)
    harness.exchange()
    return made


def test_the_creation_of_a_group_has_a_result_for_each_member(harness: ServerHarness, alice: Client) -> None:
    """Carol's privacy allows only an invitation, and one number is on no phone. The notification has the key."""
    harness.server.directory.accounts[CAROL].privacy["groupadd"] = "none"
    answer = ask(harness, alice, "@g.us", "set", people("create", BOB, CAROL, "962399", subject="Team", key="3EB0KEY"))
    assert (answer.children[0].attrs["subject"], answer.children[0].attrs["creator_pn"]) == ("Team", f"{ALICE}{PN}")
    assert results(answer) == [(ALICE, None), (BOB, None), (CAROL, "403"), ("962399", "404")]
    invitation = answer.children[0].children[-2].child("add_request")
    assert invitation is not None
    assert invitation.attrs["code"]
    notice = alice.one("notification")
    assert notice.children[0].attrs == {"type": "new", "key": "3EB0KEY"}


@pytest.mark.parametrize("subject", ["", "x" * 101])
def test_a_group_needs_a_name(harness: ServerHarness, alice: Client, subject: str) -> None:
    """Empty and too long names are not acceptable, and no group is created."""
    answer = ask(harness, alice, "@g.us", "set", people("create", BOB, subject=subject))
    assert (error(answer), harness.server.directory.groups) == ("406", {})


def test_members_are_added_and_removed_one_by_one(harness: ServerHarness, alice: Client, group: Group) -> None:
    """Each has a result: added, a member already, unknown, protected, or left recently."""
    harness.server.directory.accounts[DAN].privacy["groupadd"] = "contacts"
    added = ask(harness, alice, str(group.jid), "set", people("add", CAROL, BOB, "962399", DAN))
    assert results(added) == [(CAROL, None), (BOB, "409"), ("962399", "404"), (DAN, "403")]
    removed = ask(harness, alice, str(group.jid), "set", people("remove", CAROL, DAN))
    assert results(removed) == [(CAROL, None), (DAN, "404")]
    assert list(group.members) == [ALICE, BOB]
    group.left_at[CAROL] = harness.now
    assert results(ask(harness, alice, str(group.jid), "set", people("add", CAROL))) == [(CAROL, "408")]
    assert [notice.children[0].tag for notice in alice.all("notification")] == ["add", "remove"]


def test_roles_change_once(harness: ServerHarness, alice: Client, group: Group) -> None:
    """A repeated promotion is answered as done and not announced again; the creator keeps the role."""
    for _ in range(2):
        assert results(ask(harness, alice, str(group.jid), "set", people("promote", BOB))) == [(BOB, None)]
    assert group.members[BOB]
    assert results(ask(harness, alice, str(group.jid), "set", people("demote", BOB, ALICE))) == [
        (BOB, None),
        (ALICE, "405"),
    ]
    assert [notice.children[0].tag for notice in alice.all("notification")] == ["promote", "demote"]


def test_settings_are_shown_afterwards(harness: ServerHarness, alice: Client, group: Group) -> None:
    """Each change is announced, and described in the next query."""
    changes = [
        Node("subject", {}, b"Crew"),
        Node("description", {"id": "D1"}, [Node("body", {}, b"About us")]),
        Node("announcement"),
        Node("locked"),
        Node("ephemeral", {"expiration": "86400"}),
        Node("membership_approval_mode", {}, [Node("group_join", {"state": "on"})]),
        Node("member_add_mode", {}, b"all_member_add"),
    ]
    for change in changes:
        assert ask(harness, alice, str(group.jid), "set", change).attrs["type"] == "result"
    assert [notice.children[0].tag for notice in alice.all("notification")] == [change.tag for change in changes]
    answer = ask(harness, alice, str(group.jid), "get", Node("query")).children[0]
    assert answer.attrs["subject"] == "Crew"
    assert {node.tag for node in answer.children} >= {change.tag for change in changes[1:]}
    assert error(ask(harness, alice, str(group.jid), "set", Node("description", {"id": "D2"}))) == "409"
    back = [Node("description", {"delete": "true", "prev": "D1"}), Node("not_ephemeral"), Node("unlocked")]
    for change in back:
        assert error(ask(harness, alice, str(group.jid), "set", change)) is None
    assert (group.description, group.ephemeral_s, group.locked) == ("", 0, False)


@pytest.mark.parametrize(
    "body",
    [
        people("add", CAROL),
        people("remove", BOB),
        people("promote", ALICE),
        Node("announcement"),
        Node("member_add_mode", {}, b"all_member_add"),
        Node("membership_approval_mode", {}, [Node("group_join", {"state": "on"})]),
    ],
)
def test_only_admins_may_change_a_group(harness: ServerHarness, alice: Client, body: Node) -> None:
    """A plain member gets 403 for it, and nothing changes."""
    group = theirs(harness, BOB, ALICE)
    assert error(ask(harness, alice, str(group.jid), "set", body)) == "403"
    assert error(ask(harness, alice, str(theirs(harness, BOB).jid), "set", body)) == "403"
    assert error(ask(harness, alice, "120363000@g.us", "set", body)) == "404"


def test_an_invite_link_works_until_it_is_revoked(harness: ServerHarness, alice: Client) -> None:
    """Its code shows the group and joins it; joining again, a revoked and an invented code have their own errors."""
    group = theirs(harness, BOB)
    group.invite_code = "CODE"
    answer = ask(harness, alice, "@g.us", "get", Node("invite", {"code": "CODE"}))
    assert answer.children[0].attrs["id"] == group.id
    joined = ask(harness, alice, "@g.us", "set", Node("invite", {"code": "CODE"}))
    assert joined.children[0].attrs == {"jid": str(group.jid)}
    assert error(ask(harness, alice, "@g.us", "set", Node("invite", {"code": "CODE"}))) == "409"
    assert error(ask(harness, alice, str(group.jid), "get", Node("invite"))) == "401"
    group.members[ALICE] = True
    code = ask(harness, alice, str(group.jid), "set", Node("invite")).children[0].attrs["code"]
    assert ask(harness, alice, str(group.jid), "get", Node("invite")).children[0].attrs["code"] == code
    assert error(ask(harness, alice, "@g.us", "set", Node("invite", {"code": "CODE"}))) == "410"
    assert error(ask(harness, alice, "@g.us", "get", Node("invite", {"code": "none"}))) == "406"


def test_admins_approve_requests_to_join(harness: ServerHarness, alice: Client, group: Group) -> None:
    """With approval, a link only makes a request, which is listed, approved or rejected."""
    group.join_approval, group.requests = True, {CAROL: harness.now, DAN: harness.now}
    listed = ask(harness, alice, str(group.jid), "get", Node("membership_approval_requests")).children[0]
    assert [node.attrs["phone_number"] for node in listed.children] == [f"{CAROL}{PN}", f"{DAN}{PN}"]
    for action, number in (("approve", CAROL), ("reject", DAN)):
        body = Node("membership_requests_action", {}, [people(action, number, "962399")])
        answer = ask(harness, alice, str(group.jid), "set", body).children[0]
        assert [node.attrs.get("error") for node in answer.children[0].children] == [None, "404"]
    assert (list(group.members), group.requests) == ([ALICE, BOB, CAROL], {})
    theirs_ = theirs(harness, BOB)
    theirs_.invite_code, theirs_.join_approval = "CODE", True
    answer = ask(harness, alice, "@g.us", "set", Node("invite", {"code": "CODE"}))
    assert answer.children[0].tag == "membership_approval_request"
    assert list(theirs_.requests) == [ALICE]


def test_a_personal_invitation_works_once(harness: ServerHarness, alice: Client) -> None:
    """It works only for the invited account."""
    group = theirs(harness, BOB)
    group.invited[ALICE] = "PERSONAL"
    accept = Node("accept", {"code": "PERSONAL", "admin": f"{BOB}{PN}"})
    assert error(ask(harness, alice, str(group.jid), "set", Node("accept", {"code": "OTHER"}))) == "410"
    assert error(ask(harness, alice, str(group.jid), "set", accept)) is None
    assert error(ask(harness, alice, str(group.jid), "set", accept)) == "409"
    assert ALICE in group.members


def test_a_member_can_leave_a_group(harness: ServerHarness, alice: Client, group: Group) -> None:
    """Another member becomes admin; leaving again is an error of that group."""
    leave = Node("leave", {}, [Node("group", {"id": group.id})])
    assert "error" not in ask(harness, alice, "@g.us", "set", leave).children[0].children[0].attrs
    assert group.members == {BOB: True}
    assert ask(harness, alice, "@g.us", "set", leave).children[0].children[0].attrs["error"] == "404"


def test_pictures_are_jpegs(harness: ServerHarness, alice: Client, group: Group) -> None:
    """Of a group and of the account; each has an id while it is set, and the media host has the file."""
    harness.server.media_host = "media.test:1"
    for target in ({"target": str(group.jid)}, {}):
        attrs = {"id": "p", "xmlns": "w:profile:picture", "to": PN, **target}

        def send(type_: str, *children: Node, attrs: dict[str, str] = attrs) -> Node:
            harness.send(alice, Node("iq", {**attrs, "type": type_}, list(children) or None))
            return alice.all("iq")[-1]

        assert error(send("set", Node("picture", {"type": "image"}, b"GIF89a"))) == "406"
        made = send("set", Node("picture", {"type": "image"}, JPEG)).children[0].attrs["id"]
        own = {} if target else {"target": f"{ALICE}{PN}"}
        attrs |= own
        files = harness.server.take_files()
        picture = send("get", Node("picture", {"type": "preview"})).children[0].attrs
        assert (picture["id"], picture["type"], list(files.values())) == (made, "preview", [JPEG])
        assert picture["url"] == f"https://media.test:1{picture['direct_path']}"
        assert picture["direct_path"].partition("?")[0] == f"/v/picture/{next(iter(files))}"
        for name in own:
            del attrs[name]
        assert error(send("set")) is None
        attrs |= own
        assert error(send("get", Node("picture", {"type": "preview"}))) == "404"
    assert [notice.attrs["type"] for notice in alice.all("notification")] == ["picture", "picture"]
