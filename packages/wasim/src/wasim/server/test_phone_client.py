"""Simulated phones as Signal clients: receiving, retry receipts, and sending."""

from __future__ import annotations

import copy
import zlib
from typing import TYPE_CHECKING

import pytest

from wasim.server.message_builder import MessageRequest
from wasim.server.phone_actions import UnknownNumber
from wasim.server.phone_client import READ_AFTER_S
from wasim.server.phone_sender import RETRIES
from wasim.wire.content import Content, DeviceSent, HistorySync
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode

if TYPE_CHECKING:
    from wasim.server.conftest import Client, ClientDevice, ServerHarness

PN = "@s.whatsapp.net"
BOB = f"962303{PN}"


@pytest.fixture
def pair(harness: ServerHarness) -> tuple[ClientDevice, Client]:
    """Alice's linked device, and Bob, who only has a phone."""
    harness.phone("962303")
    return harness.online("962302")


def stanza(enc: Node, id_: str = "M1", *, to: str = BOB, at: str = BOB) -> Node:
    holder = Node("to", {"jid": at}, [enc])
    return Node("message", {"to": to, "id": id_, "type": "text"}, [Node("participants", {}, [holder])])


def send(harness: ServerHarness, pair: tuple[ClientDevice, Client], text: str, id_: str = "M1") -> Node:
    """Alice writes to Bob's phone. Returns the encrypted node."""
    enc = harness.encrypt(*pair, BOB, Content(conversation=text))
    harness.send(pair[1], stanza(enc, id_))
    return enc


def types(client: Client) -> list[str | None]:
    return [node.attrs.get("type") for node in client.all("receipt")]


def test_a_text_is_read_in_the_inbox(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """Every text is decrypted, the first one and later ones, and listed with its sender and time."""
    for n, text in enumerate(("hello", "there", "Bob")):
        send(harness, pair, text, f"M{n}")
    phone_messages = harness.server.phone_clients.inbox("962303")
    assert [(one.id, one.sender, one.text, one.kind, one.count, one.undecryptable) for one in phone_messages] == [
        ("M0", "962302", "hello", "text", 1, 0),
        ("M1", "962302", "there", "text", 1, 0),
        ("M2", "962302", "Bob", "text", 1, 0),
    ]
    assert harness.server.phone_clients.decryption_counts("962303").decrypted == 3


def test_a_phone_delivers_at_once_and_reads_later(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """The phone sends both receipts, the read receipt 200 ms later."""
    _, client = pair
    send(harness, pair, "hello")
    assert types(client) == [None]
    harness.advance(READ_AFTER_S)
    assert types(client) == [None, "read"]
    assert client.all("receipt")[0].attrs["from"] == BOB


def test_automatic_reading_can_be_switched_off(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """With `auto_read` off a read receipt is sent only on request, and only for existing messages."""
    harness.server.directory.accounts["962303"].auto_read = False
    send(harness, pair, "hello")
    harness.advance(10)
    assert types(pair[1]) == [None]
    harness.server.phone_actions.read("962303", "M1", now=harness.now)
    harness.exchange()
    assert types(pair[1]) == [None, "read"]
    with pytest.raises(UnknownNumber, match="no message M9"):
        harness.server.phone_actions.read("962303", "M9", now=harness.now)


def test_the_same_id_twice_is_one_message(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """A resend under the same id, encrypted again, is counted and changes nothing else."""
    send(harness, pair, "hello")
    send(harness, pair, "hello again")
    (phone_message,) = harness.server.phone_clients.inbox("962303")
    assert (phone_message.text, phone_message.count) == ("hello", 2)


def test_the_same_bytes_twice_are_a_redelivery(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """They are acknowledged again; no key was used twice."""
    enc = send(harness, pair, "hello")
    harness.send(pair[1], stanza(enc))
    counts = harness.server.phone_clients.decryption_counts("962303")
    assert (counts.decrypted, counts.redelivered, counts.reused_keys, counts.undecryptable) == (1, 1, 0, 0)
    assert types(pair[1]) == [None, None]


def test_a_key_used_twice_is_detected(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """A sender with an old state encrypts two messages with one key: the phone counts it and sends a retry receipt."""
    linked, client = pair
    send(harness, pair, "first", "M0")
    before = copy.deepcopy(linked.sessions[BOB])
    send(harness, pair, "second", "M1")
    linked.sessions[BOB] = before
    send(harness, pair, "third", "M2")
    counts = harness.server.phone_clients.decryption_counts("962303")
    assert (counts.decrypted, counts.undecryptable, counts.reused_keys) == (2, 1, 1)
    retry = client.all("receipt")[-1]
    assert (retry.attrs["type"], retry.attrs["id"], retry.attrs["from"]) == ("retry", "M2", BOB)
    (phone_message,) = (one for one in harness.server.phone_clients.inbox("962303") if one.id == "M2")
    assert (phone_message.text, phone_message.count, phone_message.undecryptable) == (None, 0, 1)


def test_an_undecryptable_message_gets_retry_receipts(
    harness: ServerHarness, pair: tuple[ClientDevice, Client]
) -> None:
    """First without keys, then with keys for a new session, and after five times no more."""
    linked, client = pair
    for _ in range(RETRIES + 1):
        harness.send(client, stanza(Node("enc", {"v": "2", "type": "msg"}, b"\x33garbage-garbage")))
    receipts = client.all("receipt")
    assert len(receipts) == RETRIES
    counts = [receipt.children[0].attrs["count"] for receipt in receipts]
    assert counts == [str(n + 1) for n in range(RETRIES)]
    assert [receipt.child("keys") is not None for receipt in receipts] == [False, True, True, True, True]
    keys = receipts[1].child("keys")
    assert keys is not None
    linked.start_session(BOB, keys, fresh=harness.key)
    send(harness, pair, "now it works")
    (phone_message,) = harness.server.phone_clients.inbox("962303")
    assert (phone_message.text, phone_message.count, phone_message.undecryptable) == ("now it works", 1, RETRIES + 1)


@pytest.mark.parametrize(
    "enc",
    [
        Node("enc", {"v": "2", "type": "skmsg"}, b"x"),
        Node("enc", {"v": "2", "type": "pkmsg"}, b"x"),
        Node("enc", {"v": "2", "type": "msg"}, b""),
        Node("plaintext", {}, b"x"),
    ],
)
def test_other_undecryptable_stanzas(harness: ServerHarness, pair: tuple[ClientDevice, Client], enc: Node) -> None:
    """Group messages, invalid bytes, and messages without anything encrypted."""
    harness.send(pair[1], stanza(enc))
    assert types(pair[1]) == ["retry"] or enc.tag == "plaintext"
    assert harness.server.phone_clients.decryption_counts("962303").undecryptable == 1


def test_the_own_phone_decrypts_copies(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """A copy for the own phone is acknowledged to the sending device and is in no inbox."""
    linked, client = pair
    own = f"962302{PN}"
    copy = Content(device_sent=DeviceSent(destination=BOB, message=Content(conversation="copy")))
    harness.send(client, stanza(harness.encrypt(linked, client, own, copy), at=own))
    receipt = client.one("receipt")
    assert (receipt.attrs["type"], receipt.attrs["from"]) == ("sender", linked.lid.replace(":1", ""))
    assert harness.server.phone_clients.inbox("962302") == []
    assert harness.server.phone_clients.decryption_counts("962302").decrypted == 1


def test_a_peer_message_is_only_acknowledged(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """Messages between devices of one account have no record and are in no inbox."""
    linked, client = pair
    own = f"962302{PN}"
    enc = harness.encrypt(linked, client, own, Content(conversation="x"))
    harness.send(client, Node("message", {"to": own, "id": "P", "category": "peer"}, [enc]))
    assert client.all("receipt") == []
    assert harness.server.phone_clients.inbox("962302") == []
    assert ("962302", "P") not in harness.server.directory.messages


def test_inbox_and_sessions_survive_a_restart(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """The next message of the same session is decrypted, and used keys are still known."""
    linked, client = pair
    enc = send(harness, pair, "before")
    harness.restart()
    client = harness.log_in(linked)
    harness.send(client, stanza(enc))
    send(harness, (linked, client), "after", "M2")
    assert [phone_message.text for phone_message in harness.server.phone_clients.inbox("962303")] == ["before", "after"]
    counts = harness.server.phone_clients.decryption_counts("962303")
    assert (counts.decrypted, counts.redelivered) == (2, 1)


# Sending


def test_a_phone_writes_to_linked_devices(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """Each device of the recipient gets its own copy, and answers use the same session."""
    linked, client = pair
    other, other_client = harness.online("962302")
    sent = harness.server.phone_actions.send(
        "962303", "962302", MessageRequest(text="hello Alice"), None, now=harness.now
    )
    harness.exchange()
    for device, receiver in ((linked, client), (other, other_client)):
        arrived = receiver.one("message")
        assert (arrived.attrs["id"], arrived.attrs["sender_pn"]) == (sent, BOB)
        assert device.decrypt(arrived, fresh=harness.key).text == "hello Alice"
    assert harness.server.directory.messages["962303", sent].acked
    lid = client.one("message").attrs["from"]
    linked.sessions[BOB] = linked.sessions[lid]
    send(harness, pair, "hello Bob")
    assert [phone_message.text for phone_message in harness.server.phone_clients.inbox("962303")] == ["hello Bob"]
    assert [phone_message.text for phone_message in harness.server.phone_clients.inbox("962302")] == ["hello Alice"]


def test_own_devices_get_a_copy_of_the_phones_messages(
    harness: ServerHarness, pair: tuple[ClientDevice, Client]
) -> None:
    """The copy is marked as sent by the account, with its destination."""
    linked, client = pair
    harness.server.phone_actions.send("962302", "962303", MessageRequest(text="from my phone"), "ID1", now=harness.now)
    harness.exchange()
    copied = linked.decrypt(client.one("message"), fresh=harness.key)
    assert copied.device_sent is not None
    assert (copied.device_sent.destination, copied.text) == (BOB, "from my phone")
    assert client.one("message").attrs["recipient"].endswith("@lid")


def test_a_conversation_advances_the_ratchet(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """Many texts in both directions, in any order, are all decrypted."""
    linked, client = pair
    lid = f"{harness.server.directory.accounts['962303'].lid}@lid"
    for n in range(12):
        if n % 3 == 2:
            client.clear()
            harness.server.phone_actions.send(
                "962303", "962302", MessageRequest(text=f"answer {n}"), f"A{n}", now=harness.now
            )
            harness.exchange()
            linked.sessions[lid] = linked.sessions.get(BOB, linked.sessions.get(lid))  # type: ignore[assignment]
            assert linked.decrypt(client.one("message"), fresh=harness.key).text == f"answer {n}"
            linked.sessions[BOB] = linked.sessions[lid]
        else:
            send(harness, pair, f"text {n}", f"M{n}")
    assert len(harness.server.phone_clients.inbox("962303")) == 8
    assert harness.server.phone_clients.decryption_counts("962303").undecryptable == 0


def test_a_retry_receipt_is_answered(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """The phone encrypts the text again for that device, under the same id; it ignores ids of others."""
    linked, client = pair
    harness.server.phone_actions.send("962303", "962302", MessageRequest(text="hello"), "ID1", now=harness.now)
    harness.exchange()
    lid = client.one("message").attrs["from"]
    client.clear()
    for id_ in ("ID1", "ID9"):
        retry = [Node("retry", {"count": "1", "id": id_})]
        harness.send(client, Node("receipt", {"id": id_, "to": lid, "type": "retry"}, retry))
    again = client.one("message")
    enc = again.child("enc")
    assert enc is not None
    assert (enc.attrs["type"], enc.attrs["count"]) == ("pkmsg", "1")
    assert linked.decrypt(again, fresh=harness.key).text == "hello"
    assert harness.server.directory.messages["962303", "ID1"].resends == 1


def test_an_own_device_may_send_a_retry_receipt_too(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """A copy is encrypted again as a copy."""
    linked, client = pair
    harness.server.phone_actions.send("962302", "962303", MessageRequest(text="hello"), "ID1", now=harness.now)
    harness.exchange()
    copied = client.one("message")
    client.clear()
    attrs = {"id": "ID1", "to": copied.attrs["from"], "type": "retry", "recipient": copied.attrs["recipient"]}
    harness.send(client, Node("receipt", attrs, [Node("retry", {"count": "1", "id": "ID1"})]))
    again = client.one("message")
    assert again.attrs["recipient"] == copied.attrs["recipient"]
    opened = linked.decrypt(again, fresh=harness.key)
    assert opened.device_sent is not None
    assert opened.text == "hello"


@pytest.mark.parametrize(("number", "to"), [("962303", "99999"), ("99999", "962303")])
def test_messages_need_existing_accounts(
    harness: ServerHarness, pair: tuple[ClientDevice, Client], number: str, to: str
) -> None:
    """An unknown number is refused with a sentence."""
    with pytest.raises(UnknownNumber, match="no phone 99999"):
        harness.server.phone_actions.send(number, to, MessageRequest(text="x"), None, now=harness.now)


def test_phones_use_up_prekeys_too(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """A phone that starts a session uses up a prekey like any client."""
    linked, client = pair
    harness.server.directory.add_prekeys(linked.address, {1: harness.key().public})
    harness.server.phone_actions.send("962303", "962302", MessageRequest(text="hello"), "ID1", now=harness.now)
    harness.exchange()
    assert client.one("notification").children[0].attrs["value"] == "0"


# First messages to a new device


def test_a_new_device_gets_settings_and_history_once(harness: ServerHarness) -> None:
    """After its first `active` it gets the key of the account's settings, then an empty, complete history."""
    linked = harness.link("962302")
    client = harness.log_in(linked)
    keys, history = (linked.decrypt(node, fresh=harness.key).protocol for node in client.all("message"))
    assert [node.attrs["category"] for node in client.all("message")] == ["peer", "peer"]
    assert keys is not None
    assert keys.sync_keys is not None
    assert len(keys.sync_keys.keys) == 1
    assert history is not None
    assert history.history is not None
    sync = decode(HistorySync, zlib.decompress(history.history.inline or b""))
    assert (sync.sync_type, sync.progress) == (0, 100)
    order = [node.tag if node.tag != "ib" else node.children[0].tag for node in client.received]
    assert order.index("offline") < order.index("message")
    for node in client.all("message"):
        harness.send(client, Node("receipt", {"id": node.attrs["id"], "to": node.attrs["from"], "type": "peer_msg"}))
    assert harness.log_in(linked).all("message") == []


def test_a_later_message_twice_is_a_redelivery_too(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """This also holds for later messages (`msg`), where a key used twice is detected as well."""
    linked, client = pair
    send(harness, pair, "hello", "M0")
    harness.server.phone_actions.send("962303", "962302", MessageRequest(text="answer"), "A0", now=harness.now)
    harness.exchange()
    lid = client.one("message").attrs["from"]
    linked.sessions[lid] = linked.sessions[BOB]
    linked.decrypt(client.one("message"), fresh=harness.key)
    before = copy.deepcopy(linked.sessions[BOB])
    enc = send(harness, pair, "under way", "M1")
    assert enc.attrs["type"] == "msg"
    harness.send(client, stanza(enc, "M1"))
    linked.sessions[BOB] = before
    send(harness, pair, "again", "M2")
    counts = harness.server.phone_clients.decryption_counts("962303")
    assert (counts.decrypted, counts.redelivered, counts.reused_keys) == (2, 1, 1)


def test_a_prekey_starts_one_session(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """A second session with a used one-time prekey is refused; one without a one-time prekey is accepted."""
    linked, _ = pair
    send(harness, pair, "hello", "M0")
    pending = linked.sessions[BOB].pending
    assert pending is not None
    for n, prekey_id in enumerate((pending.prekey_id, None), start=1):
        linked.sessions.pop(BOB)
        linked.start_session(BOB, bundle_of_phone(harness, prekey_id), fresh=harness.key)
        send(harness, pair, f"session {n}", f"M{n}")
    phone_messages = {phone_message.id: phone_message for phone_message in harness.server.phone_clients.inbox("962303")}
    assert (phone_messages["M1"].text, phone_messages["M1"].undecryptable) == (None, 1)
    assert phone_messages["M2"].text == "session 2"


def bundle_of_phone(harness: ServerHarness, prekey_id: int | None) -> Node:
    """Bob's bundle with that one-time prekey, as a client might have stored it."""
    phone = harness.server.directory.devices["962303"][0]
    signed = phone.signed_prekey
    skey = [Node("id", {}, signed.id.to_bytes(3, "big")), Node("value", {}, signed.public)]
    children = [Node("identity", {}, phone.identity), Node("skey", {}, skey)]
    if prekey_id is not None:
        key = [Node("id", {}, prekey_id.to_bytes(3, "big")), Node("value", {}, harness.key().public)]
        children.append(Node("key", {}, key))
    return Node("user", {}, children)


def test_a_note_to_oneself(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """A phone that writes to its own number reaches each of its linked devices once."""
    linked, client = pair
    harness.server.phone_actions.send("962302", "962302", MessageRequest(text="buy milk"), "N1", now=harness.now)
    harness.exchange()
    assert linked.decrypt(client.one("message"), fresh=harness.key).text == "buy milk"


def test_a_retry_is_answered_after_a_restart(harness: ServerHarness, pair: tuple[ClientDevice, Client]) -> None:
    """Sent messages are stored for recipients who could not decrypt them."""
    linked, client = pair
    harness.server.phone_actions.send("962303", "962302", MessageRequest(text="hello"), "ID1", now=harness.now)
    harness.exchange()
    lid = client.one("message").attrs["from"]
    harness.restart()
    client = harness.log_in(linked)
    client.clear()
    retry = [Node("retry", {"count": "2", "id": "ID1"})]
    harness.send(client, Node("receipt", {"id": "ID1", "to": lid, "type": "retry"}, retry))
    assert linked.decrypt(client.one("message"), fresh=harness.key).text == "hello"


def test_phones_ignore_stanzas_without_a_sender_or_request(
    harness: ServerHarness, pair: tuple[ClientDevice, Client]
) -> None:
    """A stanza without a sender, and one without a request, get no answer."""
    phone_clients = harness.server.phone_clients
    for node in (Node("message", {"id": "1", "from": "5@lid"}), Node("receipt", {"id": "1", "from": pair[0].jid})):
        assert phone_clients.receive("962303", node, now=harness.now).stanzas == []
