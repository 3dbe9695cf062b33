"""Accounts that hide their numbers, usernames, and second spellings of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasim.server.test_router import PN, enc, message, two
from wasim.wire.nodes import Node

if TYPE_CHECKING:
    from wasim.server.conftest import World


def hide(world: World, number: str) -> None:
    account = world.server.directory.accounts[number]
    account.hides_number, account.username = True, "rami.h"


def find(world: World, user: Node, *protocols: str) -> Node:
    """The answer about one user."""
    _, client = world.online("962309")
    body = Node(
        "usync", {"sid": "1"}, [Node("query", {}, [Node(each) for each in protocols]), Node("list", {}, [user])]
    )
    return world.ask(client, "usync", "get", body).children[0].children[1].children[0]


def test_stanzas_of_an_account_that_hides_its_number_have_none(world: World) -> None:
    """Also for an account that is addressed by phone number; copies for its own devices have no numbers either."""
    alice, alice_client, bob, bob_client = two(world)
    hide(world, "962302")
    for mode in ("lid", "pn"):
        world.server.directory.accounts["962303"].addressing = mode
        world.send(alice_client, message(f"962303{PN}", {bob.lid: enc("x")}, id_=mode))
        attrs = bob_client.all("message")[-1].attrs
        assert attrs["from"] == alice.lid
        assert not any("962302" in value for value in attrs.values())
    other, other_client = world.online("962303")
    world.send(bob_client, message(alice.lid.replace(":1", ""), {other.jid: enc("copy")}, id_="C"))
    attrs = other_client.one("message").attrs
    assert (attrs["recipient"], attrs["peer_recipient_username"]) == (alice.lid.replace(":1", ""), "rami.h")
    assert not any("962302" in value for value in attrs.values())


def test_an_account_is_found_by_its_username(world: World) -> None:
    """In upper or lower case; without the number if the account hides it. An unknown name is `out`, without a JID."""
    world.online("962302")
    lid = f"{world.server.directory.accounts['962302'].lid}@lid"
    hide(world, "962302")
    found = find(world, Node("user", {}, [Node("contact", {"username": "Rami.H"})]), "contact")
    assert (found.attrs, found.children[0].attrs["type"]) == ({"jid": lid}, "in")
    world.server.directory.accounts["962302"].hides_number = False
    found = find(world, Node("user", {}, [Node("contact", {"username": "rami.h"})]), "contact")
    assert found.attrs == {"jid": lid, "pn_jid": f"962302{PN}"}
    unknown = find(world, Node("user", {}, [Node("contact", {"username": "nobody"})]), "contact")
    assert (unknown.attrs, unknown.children[0].attrs["type"]) == ({}, "out")
    named = find(world, Node("user", {"jid": lid}), "devices", "username")
    assert named.children[1].data == b"rami.h"


def test_a_number_is_found_by_its_second_spelling(world: World) -> None:
    """The answer has the account's own spelling."""
    for own, second in (
        ("551187654321", "5511987654321"),
        ("5215512345678", "525512345678"),
        ("5491123456789", "541123456789"),
    ):
        world.online(own)
        found = find(world, Node("user", {}, [Node("contact", {}, f"+{second}".encode())]), "contact", "lid")
        assert found.attrs["jid"] == f"{own}{PN}"
        assert (found.children[0].attrs["type"], found.children[0].data) == ("in", f"+{second}".encode())
