"""Status posts: each reaches the devices that its sender encrypted it for, and receipts return to the sender."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wasim.server.message_builder import MessageRequest
from wasim.server.phone_actions import UnknownNumber
from wasim.server.test_groups import own_key, texts
from wasim.wire import senderkeys
from wasim.wire.attachments import GroupSenderKey
from wasim.wire.content import Content, encode_padded
from wasim.wire.jids import STATUS
from wasim.wire.nodes import Node

if TYPE_CHECKING:
    from wasim.server.conftest import Client, ClientDevice, ServerHarness

ALICE, BOB, CAROL = "962302", "962303", "962304"
Party = tuple["ClientDevice", "Client"]


@pytest.fixture
def alice(harness: ServerHarness) -> Party:
    """Alice's linked device; Bob and Carol only have phones."""
    for number in (BOB, CAROL):
        harness.phone(number)
    return harness.online(ALICE)


def post(harness: ServerHarness, number: str, text: str, audience: list[str] | None = None) -> str:
    request = MessageRequest(text=text)
    id_ = harness.server.phone_actions.send(number, str(STATUS), request, None, audience=audience, now=harness.now)
    harness.exchange()
    return id_


def test_a_phones_status_reaches_its_audience_and_nobody_else(harness: ServerHarness, alice: Party) -> None:
    post(harness, BOB, "new roses", [ALICE])
    message = alice[1].all("message")[-1]
    assert (message.attrs["from"], message.attrs["participant_pn"]) == ("status@broadcast", f"{BOB}@s.whatsapp.net")
    assert message.attrs["participant"].endswith("@lid")
    assert [enc.attrs["type"] for enc in message.all("enc")] == ["pkmsg", "skmsg"]
    assert texts(harness, CAROL) == []


def test_without_an_audience_a_status_goes_to_all_contacts(harness: ServerHarness, alice: Party) -> None:
    harness.server.phone_actions.send(BOB, ALICE, MessageRequest(text="hello"), None, now=harness.now)
    post(harness, BOB, "new roses")
    assert alice[1].all("message")[-1].attrs["from"] == "status@broadcast"
    with pytest.raises(UnknownNumber, match="there is no phone 999"):
        post(harness, BOB, "new roses", ["999"])


def test_phones_read_a_clients_status_and_their_receipts_name_them(harness: ServerHarness, alice: Party) -> None:
    linked, client = alice
    key = own_key(harness)
    distribution = Content(sender_key=GroupSenderKey(group=str(STATUS), message=senderkeys.distribution(key)))
    jid = f"{BOB}@s.whatsapp.net"
    holders = [Node("to", {"jid": jid}, [harness.encrypt(linked, client, jid, distribution)])]
    data = senderkeys.encrypt(key, encode_padded(Content(conversation="open today"), pad=4), nonce=harness.entropy(64))
    children = [Node("participants", {}, holders), Node("enc", {"v": "2", "type": "skmsg"}, data)]
    harness.send(client, Node("message", {"to": str(STATUS), "id": "3EB0A", "type": "text"}, children))
    assert texts(harness, BOB) == [(ALICE, "open today")]
    assert texts(harness, CAROL) == []
    assert client.all("ack")[-1].attrs["id"] == "3EB0A"
    assert "error" not in client.all("ack")[-1].attrs
    receipt = client.all("receipt")[0]
    assert (receipt.attrs["from"], receipt.attrs["id"]) == ("status@broadcast", "3EB0A")
    bob = harness.server.directory.accounts[BOB]
    assert receipt.attrs["participant"] == f"{bob.lid}@lid"
