"""Groups: notifications and queries of members, and messages by sender keys in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wasim.server.groups import GroupError
from wasim.server.message_builder import BadMessageRequest, MessageRequest
from wasim.server.state import Addressing, Group
from wasim.wire import senderkeys
from wasim.wire.attachments import GroupSenderKey
from wasim.wire.content import Content, decode_padded, encode_padded
from wasim.wire.nodes import Node
from wasim.wire.senderkeys import SenderKey

if TYPE_CHECKING:
    from wasim.server.conftest import Client, ClientDevice, ServerHarness

ALICE, BOB, CAROL, DAN = "962302", "962303", "962304", "962305"
PN = "@s.whatsapp.net"
Party = tuple["ClientDevice", "Client"]


@pytest.fixture
def alice(harness: ServerHarness) -> Party:
    """Alice's linked device; Bob, Carol and Dan only have phones."""
    for number in (BOB, CAROL, DAN):
        harness.phone(number)
    return harness.online(ALICE)


@pytest.fixture
def group(harness: ServerHarness, alice: Party) -> Group:
    return make(harness, ALICE, BOB, CAROL)


def make(harness: ServerHarness, *members: str, addressing: Addressing = "lid") -> Group:
    made = harness.server.groups.create("Team", members, addressing=addressing, now=harness.now)
    harness.exchange()
    return made


def query(harness: ServerHarness, client: Client, to: str) -> Node:
    attrs = {"id": "g1", "xmlns": "w:g2", "type": "get", "to": to}
    harness.send(client, Node("iq", attrs, [Node("query", {"request": "interactive"})]))
    return client.all("iq")[-1]


def own_key(harness: ServerHarness) -> SenderKey:
    return senderkeys.new_key(id_=5, chain_key=harness.entropy(32), signing=harness.key())


def write(
    harness: ServerHarness, party: Party, group: Group, key: SenderKey, text: str, id_: str, *, to: tuple[str, ...]
) -> None:
    """A message to the group, with the key for those phones."""
    linked, client = party
    distribution = Content(sender_key=GroupSenderKey(group=str(group.jid), message=senderkeys.distribution(key)))
    distributions = [Node("to", {"jid": jid}, [harness.encrypt(linked, client, jid, distribution)]) for jid in to]
    data = senderkeys.encrypt(key, encode_padded(Content(conversation=text), pad=4), nonce=harness.entropy(64))
    children = [Node("participants", {}, distributions), Node("enc", {"v": "2", "type": "skmsg"}, data)]
    harness.send(client, Node("message", {"to": str(group.jid), "id": id_, "type": "text"}, children))


def texts(harness: ServerHarness, number: str) -> list[tuple[str, str | None]]:
    return [(phone_message.sender, phone_message.text) for phone_message in harness.server.phone_clients.inbox(number)]


def phone_jid(number: str) -> str:
    return f"{number}{PN}"


# Creating and changing


def test_members_are_notified_of_a_new_group(harness: ServerHarness, alice: Party, group: Group) -> None:
    """The notification has everything about it, so that a client need not query."""
    notice = alice[1].one("notification")
    assert (notice.attrs["type"], notice.attrs["from"]) == ("w:gp2", str(group.jid))
    described = notice.children[0].child("group")
    assert described is not None
    assert (described.attrs["subject"], described.attrs["addressing_mode"]) == ("Team", "lid")
    members = list(described.all("participant"))
    assert [member.attrs["phone_number"] for member in members] == [phone_jid(n) for n in (ALICE, BOB, CAROL)]
    assert [member.attrs.get("type") for member in members] == ["superadmin", None, None]


@pytest.mark.parametrize("addressing", ["lid", "pn"])
def test_members_are_identified_as_the_group_requires(
    harness: ServerHarness, alice: Party, addressing: Addressing
) -> None:
    """The other identifier is an additional attribute."""
    made = make(harness, ALICE, BOB, addressing=addressing)
    answer = query(harness, alice[1], str(made.jid))
    (bob,) = list(answer.children[0].all("participant"))[1:]
    lid = f"{harness.server.directory.accounts[BOB].lid}@lid"
    names = (lid, phone_jid(BOB)) if addressing == "lid" else (phone_jid(BOB), lid)
    assert (bob.attrs["jid"], bob.attrs["phone_number" if addressing == "lid" else "lid"]) == names


def test_removed_members_are_notified_too(harness: ServerHarness, alice: Party, group: Group) -> None:
    """Changed name, new members, removed members; members that were added or removed already are ignored."""
    groups, (_, client) = harness.server.groups, alice
    client.clear()
    groups.set_subject(group, "Crew", now=harness.now)
    assert groups.add(group, [BOB, DAN], now=harness.now) == [DAN]
    assert groups.remove(group, [ALICE, "962399"], now=harness.now) == [ALICE]
    assert groups.add(group, [DAN], now=harness.now) == []
    assert groups.remove(group, [ALICE], now=harness.now) == []
    harness.exchange()
    assert [notice.children[0].tag for notice in client.all("notification")] == ["subject", "add", "remove"]
    assert (group.subject, list(group.members)) == ("Crew", [BOB, CAROL, DAN])


def test_a_new_member_is_notified_of_the_whole_group(harness: ServerHarness, alice: Party, group: Group) -> None:
    """For the others it is a change of the members; the new member gets the group with all of them."""
    _, dan = harness.online(DAN)
    alice[1].clear()
    harness.server.groups.add(group, [DAN], now=harness.now)
    harness.exchange()
    assert alice[1].one("notification").children[0].tag == "add"
    created = dan.one("notification").children[0]
    assert created.tag == "create"
    assert created.children[0].attrs["subject"] == group.subject
    assert len(list(created.children[0].all("participant"))) == len(group.members)


@pytest.mark.parametrize("members", [[], [ALICE, "999"]])
def test_a_group_needs_existing_accounts(harness: ServerHarness, alice: Party, members: list[str]) -> None:
    with pytest.raises(GroupError):
        make(harness, *members)


def test_only_members_may_query_a_group(harness: ServerHarness, alice: Party, group: Group) -> None:
    """Others get 403, an unknown group is 404, and the list has the account's own groups."""
    _, client = alice
    others = make(harness, BOB, CAROL)
    errors = [query(harness, client, jid).children[0].attrs["code"] for jid in (str(others.jid), "120363000@g.us")]
    assert errors == ["403", "404"]
    listed = harness.ask(client, "w:g2", "get", Node("participating")).children[0]
    assert [one.attrs["id"] for one in listed.children] == [group.id]


# Messages


def test_phones_decrypt_a_clients_group_messages(harness: ServerHarness, alice: Party, group: Group) -> None:
    """Phones use the sender key that they got once; receipts name the member and return to the author."""
    key, phones = own_key(harness), (phone_jid(ALICE), phone_jid(BOB), phone_jid(CAROL))
    write(harness, alice, group, key, "one", "G1", to=phones)
    write(harness, alice, group, key, "two", "G2", to=())
    for number in (BOB, CAROL):
        assert texts(harness, number) == [(ALICE, "one"), (ALICE, "two")]
    receipts = [receipt for receipt in alice[1].all("receipt") if receipt.attrs.get("type") != "sender"]
    assert {receipt.attrs["from"] for receipt in receipts} == {str(group.jid)}
    lids = {f"{harness.server.directory.accounts[number].lid}@lid" for number in (BOB, CAROL)}
    assert {receipt.attrs["participant"] for receipt in receipts} == lids
    record = harness.server.directory.messages[ALICE, "G2"]
    assert (record.to, record.delivered, record.acked) == (str(group.jid), 2, True)


def test_a_member_without_the_key_sends_a_retry_receipt(harness: ServerHarness, alice: Party, group: Group) -> None:
    """Bob's phone did not get the key: it sends a retry receipt, and decrypts what is encrypted only for it."""
    linked, client = alice
    key = own_key(harness)
    write(harness, alice, group, key, "secret", "G1", to=(phone_jid(ALICE), phone_jid(CAROL)))
    retry = next(receipt for receipt in client.all("receipt") if receipt.attrs.get("type") == "retry")
    assert retry.attrs["from"] == str(group.jid)
    bob = retry.attrs["participant"]
    distribution = GroupSenderKey(group=str(group.jid), message=senderkeys.distribution(key))
    enc = harness.encrypt(linked, client, bob, Content(sender_key=distribution, conversation="secret"))
    again = Node("enc", enc.attrs | {"count": "1"}, enc.data)
    attrs = {"to": str(group.jid), "id": "G1", "type": "text", "participant": bob}
    harness.send(client, Node("message", attrs, [again]))
    write(harness, alice, group, key, "next", "G2", to=())
    assert texts(harness, BOB) == [(ALICE, "secret"), (ALICE, "next")]
    assert [phone_message.count for phone_message in harness.server.phone_clients.inbox(CAROL)] == [1, 1]


def test_the_same_group_message_again_is_a_redelivery(harness: ServerHarness, alice: Party, group: Group) -> None:
    """Another message with the same key is counted as a reused key."""
    key = own_key(harness)
    before = senderkeys.new_key(id_=5, chain_key=key.chain_key, signing=harness.key())
    before.signing_public, before.signing_private = key.signing_public, key.signing_private
    write(harness, alice, group, key, "one", "G1", to=(phone_jid(BOB),))
    write(harness, alice, group, before, "another", "G2", to=())
    counts = harness.server.phone_clients.decryption_counts(BOB)
    assert (counts.decrypted, counts.reused_keys, counts.undecryptable) == (1, 1, 1)


def test_a_non_member_cannot_write(harness: ServerHarness, alice: Party) -> None:
    """The ack has error 403, and nobody gets the message."""
    others = make(harness, BOB, CAROL)
    write(harness, alice, others, own_key(harness), "hello", "G1", to=())
    assert alice[1].one("ack").attrs["error"] == "403"
    assert texts(harness, BOB) == []


def test_the_phone_of_a_non_member_cannot_write(harness: ServerHarness, alice: Party, group: Group) -> None:
    """The request is refused before anything is sent."""
    with pytest.raises(BadMessageRequest, match=f"{DAN} is not a member"):
        send_text(harness, DAN, group, "hello")


def decrypted_text(harness: ServerHarness, party: Party, message: Node, keys: dict[str, SenderKey]) -> str | None:
    """The text of a phone's group message; sender keys in it are stored."""
    linked, _ = party
    text = None
    for enc in message.all("enc"):
        if enc.attrs["type"] == "skmsg":
            text = decode_padded(senderkeys.decrypt(keys[message.attrs["participant"]], enc.data)[0]).text
            continue
        content = linked.decrypt(
            Node("message", message.attrs | {"from": message.attrs["participant"]}, [enc]), fresh=harness.key
        )
        if content.sender_key is not None:
            keys[message.attrs["participant"]] = senderkeys.accept(content.sender_key.message or b"")
        text = content.text or text
    return text


def send_text(harness: ServerHarness, number: str, group: Group, text: str) -> str:
    id_ = harness.server.phone_actions.send(number, str(group.jid), MessageRequest(text=text), None, now=harness.now)
    harness.exchange()
    return id_


def test_a_phone_sends_its_sender_key_once(harness: ServerHarness, alice: Party, group: Group) -> None:
    """The first message contains it, later ones don't; other phones can read them."""
    _, client = alice
    keys: dict[str, SenderKey] = {}
    for n, text in enumerate(("one", "two")):
        client.clear()
        send_text(harness, BOB, group, text)
        message = client.one("message")
        assert [enc.attrs["type"] for enc in message.all("enc")] == (["pkmsg", "skmsg"] if n == 0 else ["skmsg"])
        assert decrypted_text(harness, alice, message, keys) == text
    assert texts(harness, CAROL) == [(BOB, "one"), (BOB, "two")]
    assert texts(harness, BOB) == []


def test_a_former_member_cannot_read_later_messages(harness: ServerHarness, alice: Party, group: Group) -> None:
    """The phone makes a new key and sends it to those who stayed, also after a restart."""
    send_text(harness, BOB, group, "with Carol")
    harness.server.groups.remove(group, [CAROL], now=harness.now)
    harness.restart()
    group = harness.server.directory.groups[group.id]
    client = harness.log_in(alice[0])
    client.clear()
    send_text(harness, BOB, group, "without Carol")
    message = client.one("message")
    assert [enc.attrs["type"] for enc in message.all("enc")] == ["pkmsg", "skmsg"]
    assert texts(harness, CAROL) == [(BOB, "with Carol")]


def test_a_phone_answers_a_retry_in_a_group(harness: ServerHarness, alice: Party, group: Group) -> None:
    """Key and message are sent together to the device that asked; the next message needs no key."""
    _, client = alice
    keys: dict[str, SenderKey] = {}
    id_ = send_text(harness, BOB, group, "once more")
    participant = client.one("message").attrs["participant"]
    client.clear()
    attrs = {"id": id_, "to": str(group.jid), "participant": participant, "type": "retry"}
    harness.send(client, Node("receipt", attrs, [Node("retry", {"count": "1", "id": id_})]))
    again = client.one("message")
    assert (again.attrs["id"], again.attrs["from"]) == (id_, str(group.jid))
    assert decrypted_text(harness, alice, again, keys) == "once more"
    client.clear()
    send_text(harness, BOB, group, "next")
    assert decrypted_text(harness, alice, client.one("message"), keys) == "next"


def test_typing_in_a_group_is_shown_to_its_members(harness: ServerHarness, alice: Party, group: Group) -> None:
    """Phones and available devices see it; the sender does not."""
    _, client = alice
    harness.send(client, Node("presence", {"type": "available", "name": "Alice"}))
    harness.send(client, Node("chatstate", {"to": str(group.jid)}, [Node("composing", {"media": "audio"})]))
    seen = harness.server.phone_clients.typing(BOB)
    assert seen is not None
    assert (seen.sender, seen.chat, seen.state) == (ALICE, str(group.jid), "recording")
    assert harness.server.phone_clients.typing(ALICE) is None
    harness.server.phone_actions.send_typing(CAROL, str(group.jid), "composing", now=harness.now)
    harness.exchange()
    state = client.one("chatstate")
    assert (state.attrs["from"], state.children[0].tag) == (str(group.jid), "composing")


def test_a_damaged_sender_key_is_not_accepted(harness: ServerHarness, alice: Party, group: Group) -> None:
    """The message that came with it is requested again."""
    linked, client = alice
    distribution = Content(sender_key=GroupSenderKey(group=str(group.jid), message=b"\x33nonsense"))
    enc = harness.encrypt(linked, client, phone_jid(BOB), distribution)
    children = [Node("participants", {}, [Node("to", {"jid": phone_jid(BOB)}, [enc])])]
    harness.send(client, Node("message", {"to": str(group.jid), "id": "G1", "type": "text"}, children))
    retries = [receipt for receipt in client.all("receipt") if receipt.attrs.get("type") == "retry"]
    assert len(retries) == 3, "from Bob, and from Carol and the own phone, which got no key"
