"""Logging in, being replaced, being unlinked, and violating the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wasim.server.events import DeviceUnlinked, LoggedIn, LoginRefused, ProtocolViolated
from wasim.server.phone_actions import UnknownNumber
from wasim.server.state import Address
from wasim.wire.conftest import login
from wasim.wire.nodes import Node

if TYPE_CHECKING:
    from wasim.server.conftest import ServerHarness


def test_the_first_stanzas_after_a_login(harness: ServerHarness) -> None:
    """After `success` come routing information, the account's dirty bit (the first time only), and the preview."""
    linked = harness.link("962302")
    first, second = (harness.log_in(linked, active=False) for _ in range(2))
    tags = [node.tag if node.tag != "ib" else node.children[0].tag for node in first.received[:4]]
    assert tags == ["success", "edge_routing", "dirty", "offline_preview"]
    assert [node.children[0].tag for node in second.all("ib")] == ["edge_routing", "offline_preview"]
    assert LoggedIn(address=linked.address, link=first.id) in harness.events


def test_a_device_that_is_not_passive_is_active_at_once(harness: ServerHarness) -> None:
    """It gets the stanzas in its queue without sending `active`."""
    linked = harness.link("962302")
    payload = login(linked.number, linked.device)
    object.__setattr__(payload, "passive", 0)
    client = harness.connect(linked.keys.noise, payload)
    assert client.all("ib")[-1].children[0].tag == "offline"


def test_a_device_that_remembers_the_servers_key_logs_in_at_once(harness: ServerHarness) -> None:
    """Its first message is its whole login, also after a restart of the server."""
    linked = harness.link("962302")
    payload = login(linked.number, linked.device)
    known = harness.connect(linked.keys.noise, payload).link.server
    harness.restart()
    client = harness.connect(linked.keys.noise, payload, server=known)
    link = harness.server.links.get(client.id)
    assert link is not None
    assert (link.responder.pattern, link.frames_in) == ("IK", 1)
    assert client.received[0].tag == "success"


@pytest.mark.parametrize(("number", "device"), [("962399", 1), ("962302", 7), ("962302", 0)])
def test_unknown_devices_get_401(harness: ServerHarness, number: str, device: int) -> None:
    """An unknown account, an unknown device and the phone's own number get `failure` 401, and the link ends."""
    linked = harness.link("962302")
    client = harness.connect(linked.keys.noise, login(number, device))
    assert client.one("failure").attrs["reason"] == "401"
    assert isinstance(harness.events[-1], LoginRefused)
    harness.advance(1.0)
    assert client.closed


def test_another_noise_key_gets_401(harness: ServerHarness) -> None:
    """A device is identified by its noise key, not by its name."""
    linked = harness.link("962302")
    client = harness.connect(harness.new_device().keys.noise, login(linked.number, linked.device))
    assert client.one("failure").attrs["reason"] == "401"


def test_the_newer_connection_replaces_the_older(harness: ServerHarness) -> None:
    """The older one gets `conflict replaced`, ends, and gets nothing more."""
    linked, older = harness.online("962302")
    newer = harness.log_in(linked)
    assert older.one("stream:error").children == [Node("conflict", {"type": "replaced"})]
    harness.advance(1.0)
    assert older.closed
    assert not newer.closed
    harness.disconnect(older)
    assert harness.server.links.of(linked.address) is not None


def test_an_unlinked_device_is_notified_and_cannot_log_in(harness: ServerHarness) -> None:
    """It gets 401 `device_removed` at once and `failure` 401 at the next login, and other devices are notified."""
    linked, client = harness.online("962302")
    _, other = harness.online("962302")
    client.clear()
    harness.server.unlink(linked.address, now=harness.now)
    harness.exchange()
    assert client.one("stream:error").attrs == {"code": "401"}
    assert client.one("stream:error").children == [Node("conflict", {"type": "device_removed"})]
    assert other.one("notification").children[0].tag == "remove"
    assert harness.log_in(linked, active=False).one("failure").attrs["reason"] == "401"
    assert DeviceUnlinked(address=linked.address) in harness.events


def test_all_data_of_an_unlinked_device_is_deleted(harness: ServerHarness) -> None:
    """Its prekeys and its queue are deleted from disk with it."""
    linked, client = harness.online("962302")
    harness.server.directory.add_prekeys(linked.address, {1: bytes(32), 2: bytes(32)})
    harness.disconnect(client)
    harness.link("962302")  # announced to the absent device, so it waits
    assert any(key.startswith("962302:1:") for kind, key in harness.records if kind in ("prekey", "pending"))
    harness.server.unlink(linked.address, now=harness.now)
    harness.exchange()
    assert not any(key.startswith("962302:1") for kind, key in harness.records)


@pytest.mark.parametrize("address", [Address("962302", 0), Address("962302", 9), Address("962399", 1)])
def test_only_linked_devices_can_be_unlinked(harness: ServerHarness, address: Address) -> None:
    """A phone, an unknown device, an unknown account: refused with a sentence."""
    harness.phone("962302")
    with pytest.raises(UnknownNumber, match="no linked device"):
        harness.server.unlink(address, now=harness.now)


def test_a_device_can_log_itself_out(harness: ServerHarness) -> None:
    """`remove-companion-device` with its own address unlinks it; another account's address is not found."""
    linked, client = harness.online("962302")
    other, _ = harness.online("962303")
    wrong = Node("remove-companion-device", {"jid": other.jid, "reason": "user_initiated"})
    assert harness.ask(client, "md", "set", wrong).attrs["type"] == "error"
    phone = Node("remove-companion-device", {"jid": "962302@s.whatsapp.net", "reason": "user_initiated"})
    assert harness.ask(client, "md", "set", phone).attrs["type"] == "error"
    own = Node("remove-companion-device", {"jid": linked.jid, "reason": "user_initiated"})
    assert harness.ask(client, "md", "set", own).attrs["type"] == "result"
    assert harness.server.directory.device(linked.address) is None


def test_invalid_bytes_end_the_connection(harness: ServerHarness) -> None:
    """Bytes that do not decrypt are the client's fault: the link is closed, and the event has the reason."""
    _, client = harness.online("962302")
    harness.server.receive(client.id, b"\x00\x00\x10" + bytes(16), now=harness.now)
    harness.exchange()
    assert client.closed
    broken = harness.events[-1]
    assert isinstance(broken, ProtocolViolated)
    assert "does not decrypt" in broken.detail


def test_bytes_on_closing_links_are_dropped(harness: ServerHarness) -> None:
    """Also bytes on unknown links."""
    linked, client = harness.online("962302")
    harness.log_in(linked)
    client.clear()
    harness.send(client, Node("iq", {"id": "1", "xmlns": "w:p", "type": "get"}, [Node("ping")]))
    assert client.received == []
    harness.server.receive(99, b"x", now=harness.now)
    harness.exchange()


def test_push_names_are_stored(harness: ServerHarness) -> None:
    """The name in a presence becomes the push name that others see."""
    linked, client = harness.online("962302")
    harness.send(client, Node("presence", {"type": "available", "name": "Shop"}))
    device = harness.server.directory.device(linked.address)
    assert device is not None
    assert device.push_name == "Shop"
    link = harness.server.links.of(linked.address)
    assert link is not None
    assert link.available
    harness.send(client, Node("presence", {"type": "unavailable"}))
    assert not link.available


def test_the_servers_identity_survives_a_restart(harness: ServerHarness) -> None:
    """After a restart a client sees the same static key and certificate."""
    linked = harness.link("962302")
    before = harness.log_in(linked).link.certificate
    harness.restart()
    assert harness.log_in(linked).link.certificate == before


def test_stanzas_are_sent_once_on_a_link(harness: ServerHarness) -> None:
    """Stanzas delivered on a link are not sent on it again; those that arrived while it was passive are sent."""
    linked, client = harness.online("962302")
    harness.link("962302")
    harness.ask(client, "passive", "set", Node("passive"))
    harness.link("962302")
    assert len(client.all("notification")) == 1
    harness.ask(client, "passive", "set", Node("active"))
    assert [node.attrs.get("offline") for node in client.all("notification")] == [None, "0"]
    assert len(harness.server.directory.queue(linked.address)) == 2


def test_the_push_name_of_a_login_is_stored(harness: ServerHarness) -> None:
    """Clients with a push name send it at login."""
    linked = harness.link("962302")
    payload = login(linked.number, linked.device)
    object.__setattr__(payload, "push_name", "Shop")
    harness.connect(linked.keys.noise, payload)
    device = harness.server.directory.device(linked.address)
    assert device is not None
    assert device.push_name == "Shop"


def test_nodes_after_a_logout_are_ignored(harness: ServerHarness) -> None:
    """Nodes that a device sends after it logged itself out have no effect."""
    linked, client = harness.online("962302")
    out = Node("iq", {"id": "1", "xmlns": "md", "type": "set"}, [Node("remove-companion-device", {"jid": linked.jid})])
    ping = Node("iq", {"id": "2", "xmlns": "w:p", "type": "get"}, [Node("ping")])
    harness.server.receive(client.id, client.link.send(out) + client.link.send(ping), now=harness.now)
    harness.exchange()
    assert [node.attrs["id"] for node in client.all("iq")] == ["1"]


def test_unexpected_nodes_are_ignored(harness: ServerHarness) -> None:
    """Results without a query and unknown tags, from linked and from unlinked devices."""
    _, client = harness.online("962302")
    unlinked = harness.register(harness.new_device())
    unlinked.clear()
    for node in (Node("iq", {"id": "9", "type": "result"}), Node("ib", {}, [Node("unified_session", {"id": "1"})])):
        harness.send(client, node)
        harness.send(unlinked, node)
    harness.send(client, Node("ack", {"class": "call", "id": "1"}))
    harness.send(client, Node("presence", {"type": "subscribe", "to": "962303@s.whatsapp.net"}))
    assert client.received == unlinked.received == []


def test_the_control_interface_finds_links(harness: ServerHarness) -> None:
    """A device's link while it is connected."""
    linked, client = harness.online("962302")
    link = harness.server.links.of(linked.address)
    assert link is not None
    assert link.id == client.id
    harness.disconnect(client)
    assert harness.server.links.of(linked.address) is None
