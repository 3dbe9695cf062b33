"""Calls ring on the linked devices of the other account. Presence is reported to available devices that subscribed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wasim.server.calls import CallError
from wasim.wire.nodes import Node

if TYPE_CHECKING:
    from wasim.server.conftest import Client, ClientDevice, ServerHarness

ALICE, BOB = "962302", "962303"
Party = tuple["ClientDevice", "Client"]


@pytest.fixture
def alice(harness: ServerHarness) -> Party:
    """Alice's linked device; Bob only has a phone."""
    harness.phone(BOB)
    return harness.online(ALICE)


def ring(harness: ServerHarness, *, video: bool = False) -> str:
    call = harness.server.calls.start(BOB, ALICE, video=video, now=harness.now)
    harness.exchange()
    return call.id


def state(harness: ServerHarness, call_id: str) -> str:
    return next(call.state for call in harness.server.calls.of(BOB) if call.id == call_id)


def test_an_offer_names_the_caller_and_waits_until_it_is_acknowledged(harness: ServerHarness, alice: Party) -> None:
    call_id = ring(harness, video=True)
    stanza = alice[1].all("call")[-1]
    (offer,) = stanza.children
    assert (offer.tag, offer.attrs["call-id"]) == ("offer", call_id)
    assert offer.attrs["call-creator"] == stanza.attrs["from"]
    assert offer.attrs["caller_pn"] == f"{BOB}@s.whatsapp.net"
    assert offer.child("video") is not None
    assert len(harness.server.directory.queue(alice[0].address)) == 1
    harness.send(alice[1], Node("ack", {"class": "call", "id": stanza.attrs["id"], "to": stanza.attrs["from"]}))
    assert len(harness.server.directory.queue(alice[0].address)) == 0


def test_a_client_rejects_a_call_once(harness: ServerHarness, alice: Party) -> None:
    call_id = ring(harness)
    creator = alice[1].all("call")[-1].children[0].attrs["call-creator"]
    reject = Node("reject", {"call-id": call_id, "call-creator": creator, "count": "0"})
    harness.send(alice[1], Node("call", {"id": "q1", "to": creator}, [reject]))
    ack = alice[1].all("ack")[-1]
    assert (ack.attrs["class"], ack.attrs["id"], ack.attrs["type"]) == ("call", "q1", "reject")
    assert state(harness, call_id) == "rejected"
    assert len(alice[1].all("call")) == 1
    with pytest.raises(CallError, match="it was rejected"):
        harness.server.calls.end(call_id, BOB, "ended", now=harness.now)


@pytest.mark.parametrize(
    ("number", "how", "reason"),
    [(ALICE, "accepted", "accepted_elsewhere"), (ALICE, "rejected", "rejected_elsewhere"), (BOB, "timeout", "timeout")],
)
def test_devices_are_notified_how_a_call_ended(
    harness: ServerHarness, alice: Party, number: str, how: str, reason: str
) -> None:
    call_id = ring(harness)
    harness.server.calls.end(call_id, number, how, now=harness.now)  # type: ignore[arg-type]
    harness.exchange()
    (end,) = alice[1].all("call")[-1].children
    assert (end.tag, end.attrs["reason"]) == ("terminate", reason)


def test_each_side_can_end_a_call_only_in_its_own_way(harness: ServerHarness, alice: Party) -> None:
    call_id = ring(harness)
    for number, how in ((BOB, "rejected"), (ALICE, "timeout")):
        with pytest.raises(CallError, match="can make a call"):
            harness.server.calls.end(call_id, number, how, now=harness.now)  # type: ignore[arg-type]
    with pytest.raises(CallError, match="has no call"):
        harness.server.calls.end("NONE", BOB, "ended", now=harness.now)


def bob_goes_online(harness: ServerHarness, *, available: bool) -> None:
    harness.server.presences.set(BOB, available=available, now=harness.now)
    harness.exchange()


def test_presence_is_sent_to_available_subscribers(harness: ServerHarness, alice: Party) -> None:
    """A client that is not available is notified when it becomes available."""
    client = alice[1]
    bob_goes_online(harness, available=True)
    harness.send(client, Node("presence", {"type": "subscribe", "id": "p1", "to": f"{BOB}@s.whatsapp.net"}))
    assert client.all("presence") == []
    harness.send(client, Node("presence", {"type": "available", "name": "Alice"}))
    assert "type" not in client.all("presence")[-1].attrs
    bob_goes_online(harness, available=False)
    away = client.all("presence")[-1].attrs
    assert (away["type"], away["last"]) == ("unavailable", str(int(harness.now)))


def test_presence_is_not_sent_without_a_subscription(harness: ServerHarness, alice: Party) -> None:
    harness.send(alice[1], Node("presence", {"type": "available", "name": "Alice"}))
    bob_goes_online(harness, available=True)
    assert alice[1].all("presence") == []
