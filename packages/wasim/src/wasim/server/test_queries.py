"""Every query that a client sends after login has an answer of the right shape."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from wasim.server.events import UnknownQuery
from wasim.server.state import Address
from wasim.wire.curve import KeyPair, typed, verify
from wasim.wire.messages import KeyIndexList, SignedKeyIndexList
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode

if TYPE_CHECKING:
    from wasim.server.conftest import Client, ClientDevice, ServerHarness

SIMPLE = [
    ("w:p", "get", Node("ping")),
    ("urn:xmpp:ping", "get", Node("ping")),
    ("passive", "set", Node("passive")),
    ("urn:xmpp:whatsapp:dirty", "set", Node("clean", {"type": "account_sync"})),
    ("urn:xmpp:whatsapp:push", "set", Node("config")),
    ("w:stats", "set", Node("add", {"t": "1"}, b"wam")),
    ("disappearing_mode", "set", Node("disappearing_mode", {"duration": "0"})),
    ("status", "set", Node("status", {}, b"hi")),
    ("privacy", "set", Node("privacy", {}, [Node("category", {"name": "last", "value": "none"})])),
]


@pytest.mark.parametrize(("xmlns", "type_", "body"), SIMPLE)
def test_queries_answered_with_an_empty_result(harness: ServerHarness, xmlns: str, type_: str, body: Node) -> None:
    """An answer without content is an empty result from the address that was asked."""
    _, client = harness.online("962302")
    answer = harness.ask(client, xmlns, type_, body)
    assert (answer.attrs["type"], answer.attrs["from"], answer.children) == ("result", "@s.whatsapp.net", [])


def test_a_query_without_type_is_answered(harness: ServerHarness) -> None:
    """Baileys sends its statistics without a type."""
    _, client = harness.online("962302")
    harness.send(client, Node("iq", {"id": "7", "xmlns": "w:stats", "to": "s.whatsapp.net"}, [Node("add")]))
    assert client.one("iq").attrs["type"] == "result"


@pytest.mark.parametrize(
    ("xmlns", "body", "tag"),
    [
        ("abt", Node("props", {"protocol": "1"}), "props"),
        ("w", Node("props"), "props"),
        ("privacy", Node("privacy"), "privacy"),
        ("blocklist", Node(""), "list"),
        ("w:m", Node("media_conn"), "media_conn"),
        ("w:biz", Node("business_profile", {"v": "244"}), "business_profile"),
        ("w:g2", Node("participating"), "groups"),
        ("encrypt", Node("digest"), "digest"),
        ("privacy", Node("tokens", {}, [Node("token", {"jid": "962303@s.whatsapp.net"})]), "tokens"),
    ],
)
def test_queries_answered_with_content(harness: ServerHarness, xmlns: str, body: Node, tag: str) -> None:
    """The answer's first child is the one that the client reads."""
    _, client = harness.online("962302")
    answer = harness.ask(client, xmlns, "get", *([body] if body.tag else []))
    assert answer.attrs["type"] == "result"
    assert answer.children[0].tag == tag


@pytest.mark.parametrize(
    ("xmlns", "body", "code"),
    [
        ("w:profile:picture", Node("picture", {"type": "preview"}), "404"),
        ("w:g2", Node("query"), "404"),
        ("something:new", Node("thing"), "501"),
    ],
)
def test_queries_answered_with_an_error(harness: ServerHarness, xmlns: str, body: Node, code: str) -> None:
    """Requests for unknown things, and unknown queries, are answered too."""
    _, client = harness.online("962302")
    answer = harness.ask(client, xmlns, "get", body)
    assert answer.attrs["type"] == "error"
    assert answer.children[0].attrs["code"] == code


def test_a_picture_is_available_to_all_but_blocked_accounts(harness: ServerHarness) -> None:
    """It is available by number or hidden id; blocked accounts get 401, and 404 means that there is none."""
    _, client = harness.online("962302")
    friend = harness.phone("962303")
    request = Node("picture", {"type": "preview", "query": "url"})

    def ask(target: str) -> Node:
        return harness.ask(client, "w:profile:picture", "get", request, target=target).children[0]

    for target in ("962303@s.whatsapp.net", f"{friend.lid}@lid"):
        assert ask(target).attrs["code"] == "404"
        friend.picture = "https://example.test/picture"
        picture = ask(target)
        assert (picture.tag, picture.attrs["url"]) == ("picture", "https://example.test/picture")
        friend.blocked.add("962302")
        assert ask(target).attrs["code"] == "401"
        friend.blocked.clear()
        friend.picture = ""


def test_a_picture_without_a_file_is_made(harness: ServerHarness) -> None:
    """It is a JPEG of the account's own, the same each time and after a restart. Without a media host its address does
    not resolve."""
    linked, client = harness.online("962302")
    friend = harness.phone("962303")
    friend.picture_id = "1"
    harness.server.directory.touch(friend)

    def ask(client: Client) -> dict[str, str]:
        request = Node("picture", {"type": "preview", "query": "url"})
        return (
            harness.ask(client, "w:profile:picture", "get", request, target="962303@s.whatsapp.net").children[0].attrs
        )

    first = ask(client)
    ((name, made),) = harness.server.take_files().items()
    assert (made[:3], made[-2:]) == (b"\xff\xd8\xff", b"\xff\xd9")
    assert first["url"] == f"https://pps.wasim.invalid/v/picture/{name}?ccb=11-4"
    harness.restart()
    assert ask(harness.log_in(linked)) == first
    assert harness.server.take_files() == {}


def privacy(*settings: tuple[str, str]) -> Node:
    return Node("privacy", {}, [Node("category", {"name": name, "value": value}) for name, value in settings])


def test_privacy_settings_are_stored_and_applied(harness: ServerHarness) -> None:
    """Every category is `all` until it is set. A picture for contacts only is hidden from others."""
    _, client = harness.online("962302")
    friend, friends = harness.online("962303")
    harness.phone("962303").picture = "https://example.test/picture"
    assert harness.ask(friends, "privacy", "set", privacy(("profile", "contacts"), ("last", "none"))).children == []
    (listed,) = harness.ask(friends, "privacy", "get", Node("privacy")).children
    found = {node.attrs["name"]: node.attrs["value"] for node in listed.children}
    assert (found["profile"], found["last"], found["online"], len(found)) == ("contacts", "none", "all", 8)
    request = Node("picture", {"type": "preview", "query": "url"})
    (hidden,) = harness.ask(client, "w:profile:picture", "get", request, target=friend.lid).children
    harness.phone("962303").contacts.add("962302")
    (visible,) = harness.ask(client, "w:profile:picture", "get", request, target=friend.lid).children
    assert (hidden.attrs["code"], visible.tag) == ("401", "picture")


@pytest.mark.parametrize("setting", [("last", "known"), ("online", "none"), ("colour", "all"), ("readreceipts", "")])
def test_privacy_settings_that_do_not_exist_are_refused(harness: ServerHarness, setting: tuple[str, str]) -> None:
    """Error 400, and what else the request has is not set either."""
    _, client = harness.online("962302")
    refused = harness.ask(client, "privacy", "set", privacy(("profile", "none"), setting))
    assert refused.children[0].attrs["code"] == "400"
    assert harness.phone("962302").privacy == {}


def test_an_unknown_query_is_reported(harness: ServerHarness) -> None:
    """An event names the query, so that it can be added to the server."""
    _, client = harness.online("962302")
    harness.ask(client, "something:new", "get", Node("thing"))
    assert harness.events[-1] == UnknownQuery(link=client.id, xmlns="something:new", tag="thing")


def test_the_default_media_host_does_not_resolve(harness: ServerHarness) -> None:
    """No answer of this server refers a client to the real media servers."""
    _, client = harness.online("962302")
    (media,) = harness.ask(client, "w:m", "set", Node("media_conn")).children
    assert [host.attrs["hostname"] for host in media.all("host")] == ["media.wasim.invalid"]


def test_media_is_sent_to_the_configured_host(harness: ServerHarness) -> None:
    """It comes with the account's own authorisation, which stays valid after a restart and can't be guessed."""
    _, client = harness.online("962302")
    harness.server.media_host = "127.0.0.1:4711"
    (media,) = harness.ask(client, "w:m", "set", Node("media_conn")).children
    assert [host.attrs["hostname"] for host in media.all("host")] == ["127.0.0.1:4711"]
    auth = media.attrs["auth"]
    harness.restart()
    assert harness.server.media_account(auth) == "962302"
    lid = auth.partition(".")[0]
    assert [harness.server.media_account(false) for false in (f"{lid}.{'0' * 64}", lid, "", "1.2")] == [None] * 4


def test_graphql_queries_are_answered(harness: ServerHarness) -> None:
    """The account has no reach-out lock."""
    _, client = harness.online("962302")
    (result,) = harness.ask(client, "w:mex", "get", Node("query", {"query_id": "1"}, b"{}")).children
    assert json.loads(result.data)["data"]["xwa2_fetch_account_reachout_timelock"]["is_active"] is False


def test_the_blocklist_is_stored(harness: ServerHarness) -> None:
    """Blocking and unblocking by address works; an unknown address is an error."""
    _, client = harness.online("962302")
    lid = f"{harness.phone('962303').lid}@lid"
    block = Node("item", {"action": "block", "jid": lid})
    (listed,) = harness.ask(client, "blocklist", "set", block).children
    assert [item.attrs["jid"] for item in listed.children] == [lid]
    harness.restart()
    assert harness.server.directory.accounts["962302"].blocked == {"962303"}


def test_unblocking(harness: ServerHarness) -> None:
    """An unblocked contact is removed from the list."""
    _, client = harness.online("962302")
    lid = f"{harness.phone('962303').lid}@lid"
    harness.ask(client, "blocklist", "set", Node("item", {"action": "block", "jid": lid}))
    (listed,) = harness.ask(client, "blocklist", "set", Node("item", {"action": "unblock", "jid": lid})).children
    assert listed.children == []
    unknown = Node("item", {"action": "block", "jid": "1@lid"})
    assert harness.ask(client, "blocklist", "set", unknown).attrs["type"] == "error"


# Keys


def skey(linked: ClientDevice, key: KeyPair, key_id: int, *, by: KeyPair | None = None) -> Node:
    signature = (by or linked.keys.identity).sign(typed(key.public), nonce=bytes(64))
    children = [
        Node("id", {}, key_id.to_bytes(3, "big")),
        Node("value", {}, key.public),
        Node("signature", {}, signature),
    ]
    return Node("skey", {}, children)


def upload(
    harness: ServerHarness, linked: ClientDevice, ids: range, *, identity: bytes | None = None, size: int = 32
) -> list[Node]:
    keys = [Node("key", {}, [Node("id", {}, n.to_bytes(3, "big")), Node("value", {}, bytes([n]) * size)]) for n in ids]
    return [
        Node("registration", {}, (4711).to_bytes(4, "big")),
        Node("type", {}, b"\x05"),
        Node("identity", {}, identity or linked.keys.identity.public),
        Node("list", {}, keys),
        skey(linked, linked.keys.signed_prekey, 1),
    ]


def count(harness: ServerHarness, client: object) -> int:
    (node,) = harness.ask(client, "encrypt", "get", Node("count")).children  # type: ignore[arg-type]
    return int(node.attrs["value"])


def test_prekeys_are_counted_and_used_up_in_order(harness: ServerHarness) -> None:
    """Uploaded keys are counted, each fetch consumes the oldest, and a bundle may have none."""
    linked, client = harness.online("962302")
    assert count(harness, client) == 0
    harness.ask(client, "encrypt", "set", *upload(harness, linked, range(1, 3)))
    assert count(harness, client) == 2
    fetched = []
    for _ in range(3):
        request = Node("key", {}, [Node("user", {"jid": linked.lid, "reason": "identity"})])
        (listed,) = harness.ask(client, "encrypt", "get", request).children
        key = listed.children[0].child("key")
        fetched.append(None if key is None else key.data_of("value"))
    assert fetched == [b"\x01" * 32, b"\x02" * 32, None]
    assert count(harness, client) == 0


def test_a_bundle_is_signed_and_complete(harness: ServerHarness) -> None:
    """Bundles of a phone and of a linked device have everything that X3DH needs; the device's also has its proof."""
    linked, client = harness.online("962302")
    phone = f"{harness.phone('962303').lid}@lid"
    request = Node("key", {}, [Node("user", {"jid": jid}) for jid in (phone, linked.jid)])
    (listed,) = harness.ask(client, "encrypt", "get", request).children
    for bundle in listed.children:
        signed = bundle.child("skey")
        assert signed is not None
        identity = bundle.data_of("identity")
        assert verify(identity, typed(signed.data_of("value")), signed.data_of("signature"))
        assert len(bundle.data_of("registration")) == 4
    assert [bundle.attrs["jid"] for bundle in listed.children] == [phone, linked.jid]
    assert [bundle.child("device-identity") is not None for bundle in listed.children] == [False, True]


def test_phones_upload_new_prekeys(harness: ServerHarness) -> None:
    """A phone's prekeys never run out, and each is used only once."""
    _, client = harness.online("962302")
    phone = f"{harness.phone('962303').lid}@lid"
    seen = set()
    for _ in range(50):
        (listed,) = harness.ask(client, "encrypt", "get", Node("key", {}, [Node("user", {"jid": phone})])).children
        key = listed.children[0].child("key")
        assert key is not None
        seen.add(key.data_of("value"))
    assert len(seen) == 50


def test_an_unknown_device_has_no_bundle(harness: ServerHarness) -> None:
    """The others in the same query get theirs."""
    linked, client = harness.online("962302")
    request = Node("key", {}, [Node("user", {"jid": jid}) for jid in ("962302:9@s.whatsapp.net", "5@lid", linked.jid)])
    (listed,) = harness.ask(client, "encrypt", "get", request).children
    errors = [user.child("error") for user in listed.children]
    assert [error.attrs["code"] if error else None for error in errors] == ["404", "404", None]


def test_a_device_with_few_prekeys_is_notified(harness: ServerHarness) -> None:
    """It is notified at four left and at none, not at each key."""
    linked, client = harness.online("962302")
    harness.ask(client, "encrypt", "set", *upload(harness, linked, range(1, 7)))
    for _ in range(6):
        harness.ask(client, "encrypt", "get", Node("key", {}, [Node("user", {"jid": linked.jid})]))
    assert {notice.attrs["from"] for notice in client.all("notification")} == {"@s.whatsapp.net"}
    counts = [notice.children[0].attrs["value"] for notice in client.all("notification")]
    assert counts == ["4", "0"]


@pytest.mark.parametrize("flaw", ["identity", "size", "signature", "missing"])
def test_bad_uploads_are_refused_completely(harness: ServerHarness, flaw: str) -> None:
    """A foreign identity, a short key, and a forged or missing signed prekey give error 400, and nothing is stored."""
    linked, client = harness.online("962302")
    nodes = upload(
        harness,
        linked,
        range(1, 3),
        identity=bytes(32) if flaw == "identity" else None,
        size=31 if flaw == "size" else 32,
    )
    if flaw == "signature":
        nodes[-1] = skey(linked, linked.keys.signed_prekey, 1, by=linked.keys.noise)
    if flaw == "missing":
        nodes.pop()
    answer = harness.ask(client, "encrypt", "set", *nodes)
    assert answer.children[0].attrs["code"] == "400"
    assert count(harness, client) == 0


def test_a_signed_prekey_can_be_rotated(harness: ServerHarness) -> None:
    """The new one is in the next bundle; a forged one is refused."""
    linked, client = harness.online("962302")
    fresh = KeyPair.from_private(b"\x09" * 32)
    forged = Node("rotate", {}, [skey(linked, fresh, 2, by=linked.keys.noise)])
    assert harness.ask(client, "encrypt", "set", forged).attrs["type"] == "error"
    assert harness.ask(client, "encrypt", "set", Node("rotate", {}, [skey(linked, fresh, 2)])).attrs["type"] == "result"
    (digest,) = harness.ask(client, "encrypt", "get", Node("digest")).children
    signed = digest.child("skey")
    assert signed is not None
    assert (signed.data_of("id"), signed.data_of("value")) == (b"\x00\x00\x02", fresh.public)


# Other people


def usync(harness: ServerHarness, client: object, protocols: list[str], users: list[Node]) -> list[Node]:
    query = Node("query", {}, [Node(protocol) for protocol in protocols])
    attrs = {"sid": "1", "mode": "query", "context": "message", "last": "true", "index": "0"}
    request = Node("usync", attrs, [query, Node("list", {}, users)])
    (answer,) = harness.ask(client, "usync", "get", request).children  # type: ignore[arg-type]
    listed = answer.child("list")
    assert listed is not None
    return listed.children


def test_devices_and_hidden_id_are_returned(harness: ServerHarness) -> None:
    """A query by phone number returns every device with its key index, the phone first, and the hidden id."""
    _, client = harness.online("962302")
    harness.link("962303")
    harness.link("962303")
    lid = harness.server.directory.accounts["962303"].lid
    (user,) = usync(harness, client, ["devices", "lid"], [Node("user", {"jid": "962303@s.whatsapp.net"})])
    devices, lid_node = user.child("devices"), user.child("lid")
    assert devices is not None
    assert lid_node is not None
    listing = devices.children[0].children
    assert [node.attrs for node in listing] == [
        {"id": "0"},
        {"id": "1", "key-index": "1"},
        {"id": "2", "key-index": "2"},
    ]
    assert lid_node.attrs["val"] == f"{lid}@lid"


def key_indexes(node: Node | None) -> KeyIndexList:
    """The phone's list in a `devices` or notification node, after a check of its signature."""
    listed = node.child("key-index-list") if node is not None else None
    assert listed is not None
    signed = decode(SignedKeyIndexList, listed.data)
    assert signed.details is not None
    key, signature = signed.account_signature_key or b"", signed.account_signature or b""
    assert verify(key, b"\x06\x02" + signed.details, signature)
    indexes = decode(KeyIndexList, signed.details)
    assert listed.attrs["ts"] == str(indexes.timestamp)
    return indexes


def test_a_phone_signs_the_list_of_its_devices(harness: ServerHarness) -> None:
    """Device queries and the notification about a new device contain the signed list: a client that checks it sends to
    no device outside the list. A removed device is no longer in it, and its key index is not used again."""
    _, client = harness.online("962302")
    harness.link("962302")
    assert key_indexes(client.one("notification").child("add")).valid_indexes == (0, 1, 2)
    client.clear()
    harness.server.unlink(Address("962302", 2), now=harness.now)
    harness.exchange()
    removed = client.one("notification").child("remove")
    assert removed is not None
    assert removed.child("key-index-list") == Node("key-index-list", {"ts": str(int(harness.now))})
    (user,) = usync(harness, client, ["devices"], [Node("user", {"jid": "962302@s.whatsapp.net"})])
    indexes = key_indexes(user.child("devices"))
    assert (indexes.valid_indexes, indexes.current_index) == ((0, 1), 2)


def test_devices_by_hidden_id(harness: ServerHarness) -> None:
    """A query by hidden id is answered by hidden id, and contains no number."""
    _, client = harness.online("962302")
    lid = f"{harness.phone('962303').lid}@lid"
    (user,) = usync(harness, client, ["devices", "lid"], [Node("user", {"jid": lid})])
    assert user.attrs["jid"] == lid
    assert user.child("lid") is None
    devices = user.child("devices")
    assert devices is not None
    assert len(devices.children[0].children) == 1


def test_accounts_are_found_by_number(harness: ServerHarness) -> None:
    """A number with an account is `in`, however it is written; another one is `out` and has no devices."""
    _, client = harness.online("962302")
    harness.phone("962303")
    users = [Node("user", {}, [Node("contact", {}, text)]) for text in (b"+962303", b"+99999")]
    users += [Node("user", {}, [Node("contact", {}, b"+962303@c.us")]), Node("user", {"jid": "+962303@c.us"})]
    known, unknown, *others = usync(harness, client, ["contact", "devices"], users)
    assert [node.attrs["jid"] for node in others] == ["962303@s.whatsapp.net"] * 2
    assert [(node.attrs["jid"], node.children[0].attrs["type"]) for node in (known, unknown)] == [
        ("962303@s.whatsapp.net", "in"),
        ("99999@s.whatsapp.net", "out"),
    ]
    devices = unknown.child("devices")
    assert devices is not None
    assert devices.children[0].children == []


def test_status_disappearing_mode_and_unknown_protocols(harness: ServerHarness) -> None:
    """Status and disappearing mode are answered; an unknown protocol gets an error inside the answer."""
    _, client = harness.online("962302")
    harness.phone("962303")
    protocols = ["status", "disappearing_mode", "bot", "new_thing"]
    (user,) = usync(harness, client, protocols, [Node("user", {"jid": "962303@s.whatsapp.net"})])
    assert [node.tag for node in user.children] == ["status", "disappearing_mode", "new_thing"]
    assert user.children[-1].children[0].attrs["code"] == "501"


def test_a_profile_text_is_returned_to_those_who_may_see_it(harness: ServerHarness) -> None:
    """For others the answer has a code and no text."""
    _, client = harness.online("962302")
    other = harness.phone("962303")
    other.about = "Open from 7 to 20"
    requested = [Node("user", {"jid": "962303@s.whatsapp.net"})]
    (user,) = usync(harness, client, ["status"], requested)
    assert user.children[0].data == b"Open from 7 to 20"
    other.privacy["status"] = "contacts"
    (user,) = usync(harness, client, ["status"], requested)
    assert (user.children[0].attrs["code"], user.children[0].data) == ("401", b"")


def test_a_business_has_a_profile(harness: ServerHarness) -> None:
    """Its fields in the nodes that Baileys reads; others have none."""
    _, client = harness.online("962302")
    harness.phone("962303").business = {"description": "Fresh bread", "category": "Bakery"}
    harness.phone("962304")
    requested = [Node("profile", {"jid": f"{number}@s.whatsapp.net"}) for number in ("962303", "962304", "962399")]
    answer = harness.ask(client, "w:biz", "get", Node("business_profile", {"v": "244"}, requested))
    (profile,) = answer.children[0].children
    assert profile.attrs["jid"] == "962303@s.whatsapp.net"
    assert profile.data_of("description") == b"Fresh bread"
    assert profile.child("categories").data_of("category") == b"Bakery"  # type: ignore[union-attr]
