"""The server under protocol faults: dropped messages, acks of all kinds, refused logins."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import pytest

from wasim.server import events
from wasim.server.fault_hooks import (
    DeliveryVerdict,
    FaultHooks,
    LinkEnd,
    LoginFailure,
    MessageVerdict,
    NoFaults,
)
from wasim.server.message_builder import MessageRequest
from wasim.server.quota import NewChatQuota
from wasim.server.state import Address
from wasim.wire.content import Content
from wasim.wire.nodes import Node
from wasim.wire.ratchet import CannotDecrypt

if TYPE_CHECKING:
    from wasim.server.conftest import ServerHarness

PN = "@s.whatsapp.net"


class Scripted(NoFaults):
    """Returns the verdicts that a test sets."""

    def __init__(self) -> None:
        self.verdict = MessageVerdict()
        self.withheld: list[tuple[int, Node]] = []
        self.dropping = False
        self.failure: LoginFailure | None = None
        self.known: list[bool] = []
        self.chats: list[str] = []
        self.query_error: tuple[int, str] | None = None
        self.quota: NewChatQuota | None = None
        self.delivery = DeliveryVerdict()
        self.resends: list[bool] = []
        self.delay_s = 0.0
        self.locked_until: float | None = None

    def on_message(self, sender: Address, *, chat: str, known: bool, now: float) -> MessageVerdict:
        self.known.append(known)
        self.chats.append(chat)
        return self.verdict

    def on_delivery(self, to: Address, *, is_resend: bool, now: float) -> DeliveryVerdict:
        if to.device:
            self.resends.append(is_resend)
        return self.delivery

    def on_query(self, address: Address, *, xmlns: str, tag: str, now: float) -> tuple[int, str] | None:
        return self.query_error if (xmlns, tag) == ("w:mex", "query") else None

    def new_chat_quota(self, number: str, *, now: float) -> NewChatQuota | None:
        return self.quota

    def receipt_delay(self, to: str, *, now: float) -> float:
        return self.delay_s

    def reach_out_lock(self, number: str, *, now: float) -> float | None:
        return self.locked_until

    def ack_withheld(self, sender: Address, link: int, ack: Node) -> None:
        self.withheld.append((link, ack))

    def drops_receipt(self, to: str, *, now: float) -> bool:
        return self.dropping

    def on_login(self, address: Address, *, now: float) -> LoginFailure | None:
        return self.failure


def text(to: str) -> Node:
    holder = Node("to", {"jid": to}, [Node("enc", {"v": "2", "type": "msg"}, b"x")])
    return Node("message", {"to": f"962303{PN}", "id": "M1", "type": "text"}, [Node("participants", {}, [holder])])


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def faulty(harness_with: Callable[[FaultHooks], ServerHarness], scripted: Scripted) -> ServerHarness:
    return harness_with(scripted)


def test_the_end_of_the_stream_ends_the_link(faulty: ServerHarness) -> None:
    """After `xmlstreamend` nothing more is read, and the server closes the connection unless the client does."""
    _, client = faulty.online("962302")
    faulty.server.links.end_stream_without_error(client.id, now=faulty.now)
    faulty.exchange()
    assert client.received == [Node("xmlstreamend")]
    faulty.send(client, text(f"962303{PN}"))
    assert client.received == [Node("xmlstreamend")]
    assert not client.closed
    faulty.advance(1.0)
    assert client.closed


def test_a_dropped_message_is_not_acked_relayed_or_recorded(faulty: ServerHarness, scripted: Scripted) -> None:
    """Queries are answered as usual."""
    _, alice = faulty.online("962302")
    bob, bob_client = faulty.online("962303")
    scripted.verdict = MessageVerdict(accepted=False)
    faulty.send(alice, text(bob.jid))
    assert alice.received == bob_client.received == []
    assert faulty.server.directory.messages == {}
    assert faulty.ask(alice, "w:p", "get", Node("ping")).attrs["type"] == "result"


def test_an_ack_can_be_withheld_and_sent_later(faulty: ServerHarness, scripted: Scripted) -> None:
    """The message is relayed; its record says that no ack was sent."""
    _, alice = faulty.online("962302")
    bob, bob_client = faulty.online("962303")
    scripted.verdict = MessageVerdict(acks=0)
    faulty.send(alice, text(bob.jid))
    assert alice.all("ack") == []
    assert len(bob_client.all("message")) == 1
    assert not faulty.server.directory.messages["962302", "M1"].acked
    ((link, ack),) = scripted.withheld
    faulty.server.links.send_if_open(link, ack)
    faulty.exchange()
    assert alice.one("ack").attrs["id"] == "M1"


def test_an_ack_can_be_delayed(faulty: ServerHarness, scripted: Scripted) -> None:
    """It is sent after its delay on its own link, and not at all when that link has ended."""
    _, alice = faulty.online("962302")
    bob, _ = faulty.online("962303")
    scripted.verdict = MessageVerdict(ack_delay_s=0.5)
    faulty.send(alice, text(bob.jid))
    faulty.advance(0.4)
    assert alice.all("ack") == []
    faulty.advance(0.2)
    assert len(alice.all("ack")) == 1
    faulty.send(alice, text(bob.jid))
    faulty.disconnect(alice)
    faulty.advance(1.0)


def test_an_ack_can_be_duplicated(faulty: ServerHarness, scripted: Scripted) -> None:
    """Both acks are equal."""
    _, alice = faulty.online("962302")
    bob, _ = faulty.online("962303")
    scripted.verdict = MessageVerdict(acks=2)
    faulty.send(alice, text(bob.jid))
    first, second = alice.all("ack")
    assert first == second


def test_a_refused_message_is_not_delivered(faulty: ServerHarness, scripted: Scripted) -> None:
    """Its ack and its record carry the error, and a later success clears it."""
    _, alice = faulty.online("962302")
    bob, bob_client = faulty.online("962303")
    scripted.verdict = MessageVerdict(relayed=False, error="463")
    faulty.send(alice, text(bob.jid))
    record = faulty.server.directory.messages["962302", "M1"]
    assert alice.one("ack").attrs["error"] == record.error == "463"
    assert (bob_client.all("message"), record.acked) == ([], False)
    scripted.verdict = MessageVerdict()
    faulty.send(alice, text(bob.jid))
    resent = faulty.server.directory.messages["962302", "M1"]
    assert (resent.error, resent.acked, resent.count) == (None, True, 2)


def test_receipts_can_be_dropped(faulty: ServerHarness, scripted: Scripted) -> None:
    """The recipient gets an ack for its receipt; the sender gets nothing, and nothing is counted."""
    alice, alice_client = faulty.online("962302")
    bob, bob_client = faulty.online("962303")
    faulty.send(alice_client, text(bob.jid))
    scripted.dropping = True
    faulty.send(bob_client, Node("receipt", {"id": "M1", "to": alice.lid}))
    assert bob_client.one("ack").attrs["class"] == "receipt"
    assert alice_client.all("receipt") == []
    assert faulty.server.directory.messages["962302", "M1"].delivered == 0


def test_a_login_can_fail(faulty: ServerHarness, scripted: Scripted) -> None:
    """The fault sets reason and attributes; the device stays linked."""
    linked = faulty.link("962302")
    scripted.failure = LoginFailure(reason="402", attrs={"code": "101", "expire": "60"})
    client = faulty.log_in(linked, active=False)
    assert client.one("failure").attrs == {"reason": "402", "code": "101", "expire": "60"}
    scripted.failure = None
    assert faulty.log_in(linked).all("success")


def test_a_stream_can_be_ended_in_any_way(faulty: ServerHarness) -> None:
    """It ends with code, attributes and reason, once, and never before the handshake."""
    _, client = faulty.online("962302")
    for _ in range(2):
        faulty.server.links.end_stream(
            client.id, code="503", attrs={"text": "x"}, reason=Node("xml-not-well-formed"), now=faulty.now
        )
    faulty.exchange()
    ended = client.one("stream:error")
    assert (ended.attrs, ended.children[0].tag) == ({"code": "503", "text": "x"}, "xml-not-well-formed")
    faulty.server.open_link(99, now=faulty.now)
    faulty.server.links.end_stream(99, code="503", attrs={}, reason=None, now=faulty.now)
    assert faulty.server.take_output() == []


def test_without_faults_no_ack_is_withheld() -> None:
    """Without faults, asking for a withheld ack is an error."""
    with pytest.raises(AssertionError):
        NoFaults().ack_withheld(Address("1", 1), 1, Node("ack"))


def test_acks_can_be_reordered(faulty: ServerHarness, scripted: Scripted) -> None:
    """Each ack is sent within the given time, in another order than the messages."""
    scripted.verdict = MessageVerdict(ack_jitter_s=1.0)
    _, alice = faulty.online("962302")
    bob, _ = faulty.online("962303")
    sent = [f"M{n}" for n in range(12)]
    for id_ in sent:
        message = text(bob.jid)
        message.attrs["id"] = id_
        faulty.send(alice, message)
    faulty.advance(1.0)
    acked = [ack.attrs["id"] for ack in alice.all("ack")]
    assert acked != sent
    assert sorted(acked) == sorted(sent)


def test_a_damaged_message_is_resent_after_a_retry_receipt(faulty: ServerHarness, scripted: Scripted) -> None:
    """The phone answers the retry receipt by encrypting again, and that message is not damaged."""
    faulty.phone("962303")
    linked, alice = faulty.online("962302")
    scripted.delivery = DeliveryVerdict(damaged=True)
    faulty.server.phone_actions.send("962303", "962302", MessageRequest(text="hello"), "ID1", now=faulty.now)
    faulty.exchange()
    damaged = alice.one("message")
    with pytest.raises(CannotDecrypt):
        linked.decrypt(damaged, fresh=faulty.key)
    scripted.delivery = DeliveryVerdict()
    alice.clear()
    attrs = {"id": "ID1", "to": damaged.attrs["from"], "type": "retry"}
    faulty.send(alice, Node("receipt", attrs, [Node("retry", {"count": "1", "id": "ID1"})]))
    assert linked.decrypt(alice.one("message"), fresh=faulty.key).text == "hello"
    assert scripted.resends == [False, True]


def test_a_phone_sends_a_retry_receipt_for_a_damaged_message(faulty: ServerHarness, scripted: Scripted) -> None:
    """It sends a retry receipt, and decrypts the resent message; the key of the damaged one was not used up."""
    faulty.phone("962303")
    bob = f"962303{PN}"
    linked, alice = faulty.online("962302")
    enc = faulty.encrypt(linked, alice, bob, Content(conversation="hello"))
    scripted.delivery = DeliveryVerdict(damaged=True)
    message = text(bob)
    holder = Node("participants", {}, [Node("to", {"jid": bob}, [enc])])
    faulty.send(alice, Node("message", message.attrs, [holder]))
    assert alice.one("receipt").attrs["type"] == "retry"
    scripted.delivery = DeliveryVerdict()
    resent = faulty.encrypt(linked, alice, bob, Content(conversation="hello"))
    fresh = Node("enc", resent.attrs | {"count": "1"}, resent.data)
    faulty.send(alice, Node("message", {"to": bob, "id": "M1", "type": "text"}, [fresh]))
    (phone_message,) = faulty.server.phone_clients.inbox("962303")
    assert (phone_message.text, phone_message.count, phone_message.undecryptable) == ("hello", 1, 1)


def test_a_duplicated_message_arrives_twice(faulty: ServerHarness, scripted: Scripted) -> None:
    """Each copy waits for its own receipt, also for a device that is offline."""
    scripted.delivery = DeliveryVerdict(repeated=True)
    _, alice = faulty.online("962302")
    bob, bob_client = faulty.online("962303")
    faulty.send(alice, text(bob.jid))
    assert [message.attrs["id"] for message in bob_client.all("message")] == ["M1", "M1"]
    for left in (1, 0):
        faulty.send(bob_client, Node("receipt", {"id": "M1", "to": bob_client.all("message")[0].attrs["from"]}))
        assert len(faulty.server.directory.queue(bob.address)) == left


def test_delayed_receipts_are_stored(faulty: ServerHarness, scripted: Scripted) -> None:
    """They are sent later; to a device that logs in again at once, and not a second time."""
    scripted.delay_s = 5.0
    linked, alice = faulty.online("962302")
    bob, bob_client = faulty.online("962303")
    faulty.send(alice, text(bob.jid))
    faulty.send(bob_client, Node("receipt", {"id": "M1", "to": bob_client.one("message").attrs["from"]}))
    assert bob_client.all("ack")
    assert alice.all("receipt") == []
    faulty.restart()
    second = faulty.log_in(linked)
    assert second.one("receipt").attrs["id"] == "M1"
    faulty.advance(6.0)
    assert len(second.all("receipt")) == 1


def test_delayed_receipts_are_sent_on_time(faulty: ServerHarness, scripted: Scripted) -> None:
    """They are sent neither too early nor twice."""
    scripted.delay_s = 5.0
    _, alice = faulty.online("962302")
    bob, bob_client = faulty.online("962303")
    faulty.send(alice, text(bob.jid))
    faulty.send(bob_client, Node("receipt", {"id": "M1", "to": bob_client.one("message").attrs["from"]}))
    faulty.advance(4.9)
    assert alice.all("receipt") == []
    faulty.advance(0.2)
    assert alice.one("receipt").attrs["id"] == "M1"


def test_faults_are_informed_whether_a_chat_is_new(faulty: ServerHarness, scripted: Scripted) -> None:
    """Only the first message to another account starts a new chat; the own account and groups are known."""
    _, alice = faulty.online("962302")
    bob, _ = faulty.online("962303")
    faulty.send(alice, text(bob.jid))
    faulty.send(alice, text(bob.jid))
    group = faulty.server.groups.create("Team", ["962302"], addressing="lid", now=faulty.now)
    for to in (f"962302{PN}", str(group.jid)):
        faulty.send(alice, Node("message", {"to": to, "id": "M2", "type": "text"}, []))
    assert scripted.known == [False, True, True, True]


def test_devices_are_notified_of_a_reach_out_lock(faulty: ServerHarness, scripted: Scripted) -> None:
    """They are notified at its start and its end, and a query returns it."""
    _, alice = faulty.online("962302")
    _, bob = faulty.online("962303")
    scripted.locked_until = faulty.now + 60
    faulty.server.announcements.reach_out_lock("962302", scripted.locked_until, now=faulty.now)
    faulty.server.announcements.reach_out_lock(None, None, now=faulty.now)
    faulty.exchange()
    notices = [json.loads(notice.children[0].data)["data"] for notice in alice.all("notification")]
    locks = [data["xwa2_notify_account_reachout_timelock"] for data in notices]
    assert [lock["is_active"] for lock in locks] == [True, False]
    assert locks[0]["time_enforcement_ends"] == str(int(faulty.now) + 60)
    assert len(bob.all("notification")) == 1
    answer = faulty.ask(alice, "w:mex", "get", Node("query", {"query_id": "1"}, b"{}"))
    answered = json.loads(answer.children[0].data)["data"]["xwa2_fetch_account_reachout_timelock"]
    assert answered == locks[0]


def test_a_query_can_be_answered_with_an_error(faulty: ServerHarness, scripted: Scripted) -> None:
    """The client gets an `iq` of type error with code and text; both kinds of answers are reported for counting."""
    _, alice = faulty.online("962302")
    scripted.query_error = (429, "rate-overlimit")
    refused = faulty.ask(alice, "w:mex", "get", Node("query", {"query_id": "1"}, b"{}"))
    assert refused.attrs["type"] == "error"
    assert refused.children[0].attrs == {"code": "429", "text": "rate-overlimit"}
    scripted.query_error = None
    faulty.ask(alice, "w:mex", "get", Node("query", {"query_id": "1"}, b"{}"))
    answered = [event for event in faulty.events if isinstance(event, events.QueryAnswered)]
    assert answered[-2:] == [
        events.QueryAnswered(xmlns="w:mex", is_error=True),
        events.QueryAnswered(xmlns="w:mex", is_error=False),
    ]


def test_devices_are_notified_of_their_quota_of_new_chats(faulty: ServerHarness, scripted: Scripted) -> None:
    """Notification and query show the quota with the end of the cycle; without a quota there is no limit."""
    _, alice = faulty.online("962302")
    scripted.quota = NewChatQuota(total=2, used=2, cycle_start=faulty.now, cycle_end=faulty.now + 60)
    faulty.server.announcements.new_chat_quota("962302", now=faulty.now)
    scripted.quota = None
    faulty.server.announcements.new_chat_quota(None, now=faulty.now)
    faulty.exchange()
    notices = [json.loads(notice.children[0].data)["data"] for notice in alice.all("notification")]
    used_up, free = (data["xwa2_notify_new_chat_messages_capping_info_update"] for data in notices)
    assert (used_up["capping_status"], used_up["total_quota"], used_up["used_quota"]) == ("CAPPED", 2, 2)
    assert used_up["cycle_end_timestamp"] == str(int(faulty.now) + 60)
    assert (free["capping_status"], free["total_quota"]) == ("NONE", -1)
    scripted.quota = NewChatQuota(total=2, used=1, cycle_start=faulty.now, cycle_end=faulty.now + 60)
    answer = faulty.ask(alice, "w:mex", "get", Node("query", {"query_id": "1"}, b"{}"))
    answered = json.loads(answer.children[0].data)["data"]["xwa2_message_capping_info"]
    assert (answered["capping_status"], answered["used_quota"]) == ("NONE", 1)


@pytest.mark.parametrize("how", [None, "rst"])
def test_a_message_can_end_the_link_of_its_sender(
    faulty: ServerHarness, scripted: Scripted, how: Literal["rst"] | None
) -> None:
    """The link ends by a stream error, or by closing the socket, which the shell does; the message is dropped."""
    _, alice = faulty.online("962302")
    faulty.online("962303")
    end = LinkEnd(reason="xml-not-well-formed") if how is None else LinkEnd(how=how)
    scripted.verdict = MessageVerdict(accepted=False, ends_link=end)
    faulty.send(alice, text(f"962303{PN}"))
    assert scripted.chats == ["962303"]
    assert alice.all("ack") == []
    cuts = [event for event in faulty.events if isinstance(event, events.CloseSocket)]
    if how is None:
        assert [child.tag for child in alice.one("stream:error").children] == ["xml-not-well-formed"]
    else:
        assert [cut.how for cut in cuts] == ["rst"]
