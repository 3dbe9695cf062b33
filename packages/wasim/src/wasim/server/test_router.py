"""Messages, receipts and acks between devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wasim.server.state import Address
from wasim.wire.nodes import Node

if TYPE_CHECKING:
    from wasim.server.conftest import Client, ClientDevice, ServerHarness

PN = "@s.whatsapp.net"


def enc(text: str, kind: str = "msg", **attrs: str) -> Node:
    return Node("enc", {"v": "2", "type": kind, **attrs}, text.encode())


def message(to: str, targets: dict[str, Node], id_: str = "M1", **attrs: str) -> Node:
    """A message stanza in the form that clients send: one `to` for each device."""
    devices = [Node("to", {"jid": jid}, [node]) for jid, node in targets.items()]
    content = [Node("participants", {}, devices), Node("device-identity", {}, b"proof"), Node("meta", {"a": "b"})]
    return Node("message", {"to": to, "id": id_, "type": "text", **attrs}, content)


def two(harness: ServerHarness) -> tuple[ClientDevice, Client, ClientDevice, Client]:
    return (*harness.online("962302"), *harness.online("962303"))


def test_a_message_arrives(harness: ServerHarness) -> None:
    """The server acks it with its time and the address that the sender used; each device gets its own ciphertext."""
    _, alice, bob, bob_client = two(harness)
    harness.send(alice, message(f"962303{PN}", {bob.jid: enc("for bob")}))
    assert alice.one("ack").attrs == {"class": "message", "id": "M1", "from": f"962303{PN}", "t": str(int(harness.now))}
    arrived = bob_client.one("message")
    assert [node.tag for node in arrived.children] == ["enc", "meta"]
    assert arrived.children[0].data == b"for bob"


def test_the_sender_is_named_by_hidden_id_and_number(harness: ServerHarness) -> None:
    """As in today's WhatsApp: `from` is the hidden id with the device, `sender_pn` the number, `notify` the name."""
    alice, alice_client, bob, bob_client = two(harness)
    harness.send(alice_client, Node("presence", {"name": "Alice"}))
    harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc("x")}))
    assert bob_client.one("message").attrs == {
        "type": "text",
        "id": "M1",
        "t": str(int(harness.now)),
        "from": alice.lid,
        "addressing_mode": "lid",
        "sender_pn": f"962302{PN}",
        "notify": "Alice",
    }


def test_an_account_can_be_addressed_by_number_first(harness: ServerHarness) -> None:
    """An account that is addressed by phone number gets the number first and the hidden id beside it."""
    alice, alice_client, bob, bob_client = two(harness)
    harness.server.directory.accounts["962303"].addressing = "pn"
    harness.send(alice_client, message(f"962303{PN}", {bob.lid: enc("x")}))
    attrs = bob_client.one("message").attrs
    assert (attrs["from"], attrs["sender_lid"]) == (alice.jid, alice.lid.replace(":1", ""))


def test_the_device_identity_is_sent_with_first_messages_only(harness: ServerHarness) -> None:
    """Only a `pkmsg` has `device-identity`; attributes meant for the server are not passed on."""
    _, alice, bob, bob_client = two(harness)
    stanza = message(f"962303{PN}", {bob.jid: enc("x", "pkmsg")})
    stanza.children.append(Node("tctoken", {}, b"t"))
    harness.send(alice, stanza)
    assert [node.tag for node in bob_client.one("message").children] == ["enc", "meta", "device-identity"]


def test_own_devices_get_the_chat_of_a_copy(harness: ServerHarness) -> None:
    """A copy for the account's own devices names the recipient, in both forms."""
    alice, alice_client, bob, _ = two(harness)
    other, other_client = harness.online("962302")
    harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc("x"), other.jid: enc("copy")}))
    attrs = other_client.one("message").attrs
    assert attrs["from"] == alice.lid
    assert attrs["recipient"] == bob.lid.replace(":1", "")
    assert attrs["peer_recipient_pn"] == attrs["recipient_pn"] == f"962303{PN}"
    assert "sender_pn" not in attrs


def test_the_sender_itself_gets_no_copy(harness: ServerHarness) -> None:
    """A `to` that names the sending device, an unknown device or nothing valid is ignored."""
    alice, alice_client, bob, bob_client = two(harness)
    targets = {alice.jid: enc("a"), f"962303:9{PN}": enc("b"), "nonsense": enc("c"), bob.jid: enc("d")}
    harness.send(alice_client, message(f"962303{PN}", targets))
    assert alice_client.all("message") == []
    assert bob_client.one("message").children[0].data == b"d"


def test_a_resend_reaches_one_device(harness: ServerHarness) -> None:
    """A re-encryption for a retry receipt goes only to that device, and is not counted as another arrival."""
    _, alice, bob, bob_client = two(harness)
    harness.send(alice, message(f"962303{PN}", {bob.jid: enc("bad")}))
    attrs = {"to": bob.jid, "id": "M1", "type": "text", "device_fanout": "false"}
    harness.send(alice, Node("message", attrs, [enc("good", "pkmsg", count="1")]))
    assert [node.children[0].data for node in bob_client.all("message")] == [b"bad", b"good"]
    record = harness.server.directory.messages["962302", "M1"]
    assert (record.count, record.resends) == (1, 1)


def test_a_resend_to_an_own_device_keeps_its_chat(harness: ServerHarness) -> None:
    """`recipient` names the chat when `to` is one of the account's own devices."""
    _, alice, bob, _ = two(harness)
    other, other_client = harness.online("962302")
    attrs = {"to": other.jid, "recipient": f"962303{PN}", "id": "M1", "type": "text"}
    harness.send(alice, Node("message", attrs, [enc("again", "pkmsg", count="1")]))
    assert other_client.one("message").attrs["recipient"] == bob.lid.replace(":1", "")


def test_duplicates_are_relayed_and_counted(harness: ServerHarness) -> None:
    """The server removes no duplicates: the same id arrives as often as it was sent, and is counted."""
    _, alice, bob, bob_client = two(harness)
    for text in ("one", "two", "three"):
        harness.send(alice, message(f"962303{PN}", {bob.jid: enc(text)}))
    assert len(bob_client.all("message")) == 3
    assert len(alice.all("ack")) == 3
    assert harness.server.directory.messages["962302", "M1"].count == 3


def test_a_message_without_a_recipient_gets_an_error(harness: ServerHarness) -> None:
    """A message to a number without account, to an unknown group, or to an invalid address is acked with an error."""
    _, alice, _, _ = two(harness)
    for to in (f"99999{PN}", "1203630@g.us", "nonsense"):
        harness.send(alice, message(to, {}, id_=to))
    assert [ack.attrs["error"] for ack in alice.all("ack")] == ["404"] * 3
    assert harness.server.directory.messages["962302", f"99999{PN}"].to == "99999"


def test_a_missing_device_is_reported(harness: ServerHarness) -> None:
    """If the sender left out a device, the ack contains the server's participant hash, otherwise not."""
    _, alice, bob, _ = two(harness)
    harness.link("962303")
    phones = {f"962302{PN}": enc("p"), f"962303{PN}": enc("q")}
    harness.send(alice, message(f"962303{PN}", {**phones, bob.jid: enc("x")}, id_="M1"))
    harness.send(alice, message(f"962303{PN}", {**phones, bob.jid: enc("x"), f"962303:2{PN}": enc("y")}, id_="M2"))
    first, second = alice.all("ack")
    assert first.attrs["phash"].startswith("2:")
    assert "phash" not in second.attrs


def test_messages_of_a_blocked_sender_are_dropped(harness: ServerHarness) -> None:
    """The sender gets its ack, but the message is not delivered."""
    _, alice, bob, bob_client = two(harness)
    harness.server.directory.accounts["962303"].blocked.add("962302")
    harness.send(alice, message(f"962303{PN}", {bob.jid: enc("x")}))
    assert "error" not in alice.one("ack").attrs
    assert bob_client.all("message") == []


# Receipts


def receipt(to: str, id_: str = "M1", *children: Node, **attrs: str) -> Node:
    return Node("receipt", {"to": to, "id": id_, **attrs}, list(children) or None)


def test_a_delivery_receipt_reaches_the_sender(harness: ServerHarness) -> None:
    """A receipt reaches the sender from the address that it used, without `inactive`; its sender gets an ack."""
    alice, alice_client, bob, bob_client = two(harness)
    harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc("x")}))
    harness.send(bob_client, receipt(alice.lid, type="inactive"))
    relayed = alice_client.one("receipt")
    assert (relayed.attrs["from"], relayed.attrs["id"], relayed.attrs.get("type")) == (bob.jid, "M1", None)
    assert bob_client.one("ack").attrs == {"class": "receipt", "id": "M1", "from": alice.lid, "type": "inactive"}
    assert harness.server.directory.messages["962302", "M1"].delivered == 1


def test_read_receipts_are_counted_for_every_id(harness: ServerHarness) -> None:
    """A read receipt with a list counts for each message in it, and is passed on with the list."""
    alice, alice_client, bob, bob_client = two(harness)
    for id_ in ("M1", "M2", "M3"):
        harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc("x")}, id_=id_))
    items = Node("list", {}, [Node("item", {"id": "M2"}), Node("item", {"id": "M3"})])
    harness.send(bob_client, receipt(alice.lid, "M1", items, type="read", t="5"))
    relayed = alice_client.one("receipt")
    assert (relayed.attrs["type"], relayed.children) == ("read", [items])
    assert [harness.server.directory.messages["962302", id_].read for id_ in ("M1", "M2", "M3")] == [1, 1, 1]


def test_all_devices_of_the_sender_get_the_receipt(harness: ServerHarness) -> None:
    """Every linked device of the sender's account gets the receipt."""
    alice, alice_client, bob, bob_client = two(harness)
    _, other = harness.online("962302")
    harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc("x")}))
    harness.send(bob_client, receipt(alice.lid))
    assert len(alice_client.all("receipt")) == len(other.all("receipt")) == 1


def test_a_retry_goes_to_the_sending_device(harness: ServerHarness) -> None:
    """It goes with its keys to that device only, and the message stays queued until it is acked."""
    alice, alice_client, bob, bob_client = two(harness)
    _, other = harness.online("962302")
    harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc("x")}))
    keys = [Node("retry", {"count": "1", "id": "M1"}), Node("registration", {}, bytes(4))]
    harness.send(bob_client, receipt(alice.lid, "M1", *keys, type="retry"))
    assert alice_client.one("receipt").children == keys
    assert other.all("receipt") == []
    assert len(harness.server.directory.queue(bob.address)) == 1
    harness.send(bob_client, Node("ack", {"class": "message", "id": "M1", "to": alice.lid, "error": "500"}))
    assert len(harness.server.directory.queue(bob.address)) == 0


def test_own_receipts_stay_in_the_account(harness: ServerHarness) -> None:
    """The receipt for a copy goes to the device that sent the message; one for reading to the account's others."""
    alice, alice_client, _bob, bob_client = two(harness)
    other, other_client = harness.online("962302")
    harness.send(alice_client, message(f"962303{PN}", {other.jid: enc("copy")}))
    alice_client.clear()
    harness.send(other_client, receipt(alice.jid, type="sender", recipient=f"962303{PN}"))
    relayed = alice_client.one("receipt")
    assert (relayed.attrs["from"], relayed.attrs["type"], relayed.attrs["recipient"]) == (
        other.jid,
        "sender",
        f"962303{PN}",
    )
    alice_client.clear()
    harness.send(other_client, receipt(f"962303{PN}", type="read-self"))
    relayed = alice_client.one("receipt")
    assert (relayed.attrs["from"], relayed.attrs["type"], relayed.attrs["recipient"]) == (
        other.jid, "read-self", f"962303{PN}",
    )  # fmt: skip
    harness.send(other_client, receipt(f"962302{PN}", type="hist_sync"))
    assert bob_client.all("receipt") == []
    assert len(harness.server.directory.queue(other.address)) == 0


def test_receipts_without_an_address_are_acked(harness: ServerHarness) -> None:
    """A receipt without an address still acknowledges the message and is acked."""
    _, alice, _, _ = two(harness)
    harness.send(alice, Node("receipt", {"id": "M9", "type": "sender"}))
    assert alice.one("ack").attrs["class"] == "receipt"


# Queues


def test_queued_stanzas_are_delivered_at_the_next_login(harness: ServerHarness) -> None:
    """In order, marked `offline`, announced before and followed by an end marker, and only after the device is
    active."""
    alice, alice_client, bob, bob_client = two(harness)
    harness.disconnect(bob_client)
    for id_ in ("M1", "M2", "M3"):
        harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc(id_)}, id_=id_))
    client = harness.log_in(bob, active=False)
    preview = client.all("ib")[-1].children[0]
    assert (preview.tag, preview.attrs["count"], preview.attrs["message"]) == ("offline_preview", "3", "3")
    assert client.all("message") == []
    harness.ask(client, "passive", "set", Node("active"))
    assert [(node.attrs["id"], node.attrs["offline"]) for node in client.all("message")] == [
        ("M1", "0"),
        ("M2", "1"),
        ("M3", "2"),
    ]
    done = client.all("ib")[-1].children[0]
    assert (done.tag, done.attrs["count"]) == ("offline", "3")
    assert alice.number == "962302"


def test_a_message_is_queued_while_the_device_is_passive(harness: ServerHarness) -> None:
    """Between login and `active` nothing is delivered, and nothing is lost or duplicated."""
    _, alice, bob, bob_client = two(harness)
    harness.disconnect(bob_client)
    client = harness.log_in(bob, active=False)
    harness.send(alice, message(f"962303{PN}", {bob.jid: enc("x")}))
    assert client.all("message") == []
    harness.ask(client, "passive", "set", Node("active"))
    assert len(client.all("message")) == 1


@pytest.mark.parametrize("how", ["receipt", "nack"])
def test_only_unacknowledged_messages_are_delivered_again(harness: ServerHarness, how: str) -> None:
    """A receipt or an error acknowledges a message; the others are delivered again at the next login."""
    alice, alice_client, bob, bob_client = two(harness)
    for id_ in ("M1", "M2"):
        harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc(id_)}, id_=id_))
    answer = receipt(alice.lid, "M1")
    if how == "nack":
        answer = Node("ack", {"class": "message", "id": "M1", "to": alice.lid, "error": "487"})
    harness.send(bob_client, answer)
    harness.disconnect(bob_client)
    client = harness.log_in(bob)
    assert [node.attrs["id"] for node in client.all("message")] == ["M2"]


def test_receipts_are_queued(harness: ServerHarness) -> None:
    """A receipt for an absent device is delivered at its next login, until it is acked."""
    alice, alice_client, bob, bob_client = two(harness)
    harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc("x")}))
    harness.disconnect(alice_client)
    harness.send(bob_client, receipt(alice.lid))
    client = harness.log_in(alice)
    assert client.one("receipt").attrs["offline"] == "0"
    harness.send(client, Node("ack", {"class": "receipt", "id": "M1", "to": bob.jid}))
    harness.disconnect(client)
    assert harness.log_in(alice).all("receipt") == []


def test_each_copy_of_a_message_is_queued(harness: ServerHarness) -> None:
    """A message sent twice under the same id is queued twice; each receipt acknowledges one."""
    alice, alice_client, bob, bob_client = two(harness)
    harness.disconnect(bob_client)
    for text in ("one", "two"):
        harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc(text)}))
    client = harness.log_in(bob)
    harness.send(client, receipt(alice.lid))
    harness.disconnect(client)
    (left,) = harness.log_in(bob).all("message")
    assert left.children[0].data == b"two"


def test_all_records_survive_a_restart(harness: ServerHarness) -> None:
    """Accounts, devices, prekeys, queues and message records are unchanged; new entries are queued after the old
    ones."""
    alice, alice_client, bob, bob_client = two(harness)
    harness.server.directory.add_prekeys(bob.address, {7: b"\x07" * 32, 5: b"\x05" * 32})
    harness.disconnect(bob_client)
    for id_ in ("M1", "M2"):
        harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc(id_)}, id_=id_))
    harness.restart()
    alice_client = harness.log_in(alice)
    harness.send(alice_client, message(f"962303{PN}", {bob.jid: enc("M3")}, id_="M3"))
    client = harness.log_in(bob)
    assert [node.attrs["id"] for node in client.all("message")] == ["M1", "M2", "M3"]
    assert [record.id for record in harness.server.directory.messages.values()] == ["M1", "M2", "M3"]
    assert list(harness.server.directory.prekeys(bob.address)) == [5, 7]


# Typing and devices


def test_typing_reaches_available_devices(harness: ServerHarness) -> None:
    """A chat state reaches devices that are connected and available, and is never queued."""
    alice, alice_client, bob, bob_client = two(harness)
    absent = harness.link("962303")
    state = Node("chatstate", {"from": alice.jid, "to": f"962303{PN}"}, [Node("composing")])
    harness.send(alice_client, state)
    assert bob_client.all("chatstate") == []
    harness.send(bob_client, Node("presence", {"type": "available", "name": "Bob"}))
    harness.send(alice_client, state)
    chat_state = bob_client.one("chatstate")
    assert (chat_state.attrs["from"], chat_state.children) == (alice.lid, [Node("composing")])
    assert len(harness.server.directory.queue(absent.address)) == 0
    harness.send(alice_client, Node("chatstate", {"to": f"99999{PN}"}, [Node("paused")]))
    assert bob.address == Address("962303", 1)


def test_a_new_device_of_a_contact_is_announced(harness: ServerHarness) -> None:
    """An account is notified when a contact links another device."""
    _, alice, bob, _ = two(harness)
    harness.send(alice, message(f"962303{PN}", {bob.jid: enc("x")}))
    alice.clear()
    harness.link("962303")
    notice = alice.one("notification")
    assert notice.attrs["from"] == bob.lid.replace(":1", "")
    assert notice.children[0].children[0].attrs["jid"] == bob.lid.replace(":1", ":2")
