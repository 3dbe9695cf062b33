"""Accounts that hide their numbers, usernames, and second spellings of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasim.server.test_router import PN, enc, message, two
from wasim.wire.nodes import Node

if TYPE_CHECKING:
    from wasim.server.conftest import ServerHarness


def hide(harness: ServerHarness, number: str) -> None:
    account = harness.server.directory.accounts[number]
    account.hides_number, account.username = True, "rami.h"


def find(harness: ServerHarness, user: Node, *protocols: str) -> Node:
    """The answer about one user."""
    _, client = harness.online("962309")
    body = Node(
        "usync", {"sid": "1"}, [Node("query", {}, [Node(each) for each in protocols]), Node("list", {}, [user])]
    )
    return harness.ask(client, "usync", "get", body).children[0].children[1].children[0]


def test_stanzas_of_an_account_that_hides_its_number_have_none(harness: ServerHarness) -> None:
    """Also for an account that is addressed by phone number; copies for its own devices have no numbers either."""
    alice, alice_client, bob, bob_client = two(harness)
    hide(harness, "962302")
    for mode in ("lid", "pn"):
        harness.server.directory.accounts["962303"].addressing = mode
        harness.send(alice_client, message(f"962303{PN}", {bob.lid: enc("x")}, id_=mode))
        attrs = bob_client.all("message")[-1].attrs
        assert attrs["from"] == alice.lid
        assert not any("962302" in value for value in attrs.values())
    other, other_client = harness.online("962303")
    harness.send(bob_client, message(alice.lid.replace(":1", ""), {other.jid: enc("copy")}, id_="C"))
    attrs = other_client.one("message").attrs
    assert (attrs["recipient"], attrs["peer_recipient_username"]) == (alice.lid.replace(":1", ""), "rami.h")
    assert not any("962302" in value for value in attrs.values())


def test_an_account_is_found_by_its_username(harness: ServerHarness) -> None:
    """In upper or lower case; without the number if the account hides it. An unknown name is `out`, without a JID."""
    harness.online("962302")
    lid = f"{harness.server.directory.accounts['962302'].lid}@lid"
    hide(harness, "962302")
    found = find(harness, Node("user", {}, [Node("contact", {"username": "Rami.H"})]), "contact")
    assert (found.attrs, found.children[0].attrs["type"]) == ({"jid": lid}, "in")
    harness.server.directory.accounts["962302"].hides_number = False
    found = find(harness, Node("user", {}, [Node("contact", {"username": "rami.h"})]), "contact")
    assert found.attrs == {"jid": lid, "pn_jid": f"962302{PN}"}
    unknown = find(harness, Node("user", {}, [Node("contact", {"username": "nobody"})]), "contact")
    assert (unknown.attrs, unknown.children[0].attrs["type"]) == ({}, "out")
    named = find(harness, Node("user", {"jid": lid}), "devices", "username")
    assert named.children[1].data == b"rami.h"


def test_a_number_is_found_by_its_second_spelling(harness: ServerHarness) -> None:
    """The answer has the account's own spelling."""
    for own, second in (
        ("551187654321", "5511987654321"),
        ("5215512345678", "525512345678"),
        ("5491123456789", "541123456789"),
    ):
        harness.online(own)
        found = find(harness, Node("user", {}, [Node("contact", {}, f"+{second}".encode())]), "contact", "lid")
        assert found.attrs["jid"] == f"{own}{PN}"
        assert (found.children[0].attrs["type"], found.children[0].data) == ("in", f"+{second}".encode())
