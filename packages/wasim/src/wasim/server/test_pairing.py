"""Linking a device."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from wasim.server.events import DevicePaired, PairingFailed, ProtocolViolated
from wasim.server.pairing import BadQr, PairingError, display_name, parse_qr
from wasim.server.state import Address
from wasim.wire.messages import DeviceProps, PairingData
from wasim.wire.nodes import Node
from wasim.wire.protobuf import encode

if TYPE_CHECKING:
    from wasim.server.conftest import ServerHarness

KEY = base64.b64encode(bytes(range(32))).decode()


def test_a_new_device_gets_six_references(harness: ServerHarness) -> None:
    """The first node to an unlinked device is `pair-device`, with a reference for each QR code."""
    client = harness.register(harness.new_device())
    (pair_device,) = client.one("iq").children
    refs = [ref.data for ref in pair_device.all("ref")]
    assert pair_device.tag == "pair-device"
    assert len(refs) == len(set(refs)) == 6


def test_a_scanned_device_is_linked(harness: ServerHarness) -> None:
    """Scan, signature, 515: the device belongs to the account, can log in, and its connection ends within a second."""
    linked = harness.new_device()
    client = harness.register(linked)
    ref = client.one("iq").children[0].children[2].data.decode()
    harness.scan(linked, "962302", ref)
    harness.send(client, harness.sign(linked, client.all("iq")[-1]))
    assert client.one("stream:error").attrs == {"code": "515"}
    assert harness.events == [DevicePaired(address=Address("962302", 1), link=client.id)]
    assert not client.closed
    harness.advance(1.0)
    assert client.closed


def test_a_linked_device_logs_in_with_its_own_name(harness: ServerHarness) -> None:
    """Each device of an account gets the next number, and an address by phone number and one by hidden id."""
    first, second, other = harness.link("962302"), harness.link("962302"), harness.link("962303")
    lid = harness.server.directory.accounts["962302"].lid
    assert (first.jid, first.lid) == ("962302:1@s.whatsapp.net", f"{lid}:1@lid")
    assert (second.jid, second.lid) == ("962302:2@s.whatsapp.net", f"{lid}:2@lid")
    assert other.jid == "962303:1@s.whatsapp.net"
    assert harness.log_in(second).one("success").attrs["lid"] == second.lid


def test_other_devices_and_contacts_are_notified(harness: ServerHarness) -> None:
    """The account's other devices are notified of a new device, so that they send to it too."""
    _, other = harness.online("962302")
    linked = harness.link("962302")
    notice = other.one("notification")
    assert notice.attrs["type"] == "devices"
    assert notice.children[0].tag == "add"
    assert notice.children[0].children[0].attrs == {"jid": linked.lid, "key-index": "2"}


@pytest.mark.parametrize(
    ("props", "name"),
    [
        (DeviceProps(os="Ubuntu", platform_type=1), "Google Chrome (Ubuntu)"),
        (DeviceProps(os="Shop", platform_type=99), "Shop"),
        (DeviceProps(platform_type=2), "Mozilla Firefox"),
        (DeviceProps(), ""),
    ],
)
def test_a_device_is_named_by_its_own_description(props: DeviceProps, name: str) -> None:
    """The name contains the browser and the system that the device states."""
    assert display_name(PairingData(device_props=encode(props))) == name


def test_an_unknown_code_is_refused(harness: ServerHarness) -> None:
    """A reference that no device shows, a used one, and one whose connection is gone are all refused."""
    linked = harness.new_device()
    with pytest.raises(PairingError, match="no device shows"):
        harness.scan(linked, "962302", "2@nothing")
    client = harness.register(linked)
    refs = [ref.data.decode() for ref in client.one("iq").children[0].children]
    harness.scan(linked, "962302", refs[0])
    with pytest.raises(PairingError, match="no device shows"):
        harness.scan(linked, "962302", refs[1])
    late = harness.new_device()
    client = harness.register(late)
    ref = client.one("iq").children[0].children[0].data.decode()
    harness.disconnect(client)
    with pytest.raises(PairingError, match="no device shows"):
        harness.scan(late, "962302", ref)


def test_a_code_with_other_keys_is_refused(harness: ServerHarness) -> None:
    """The keys in the code must be those that the connection used."""
    linked, other = harness.new_device(), harness.new_device()
    ref = harness.register(linked).one("iq").children[0].children[0].data.decode()
    with pytest.raises(PairingError, match="not those"):
        harness.scan(other, "962302", ref)


def test_a_wrong_signature_links_nothing(harness: ServerHarness) -> None:
    """A device that signs with another key is not linked, and its connection ends."""
    linked, other = harness.new_device(), harness.new_device()
    client = harness.register(linked)
    harness.scan(linked, "962302", client.one("iq").children[0].children[0].data.decode())
    forged = harness.sign(linked, client.all("iq")[-1])
    identity = forged.children[0].children[0]
    assert isinstance(identity.content, bytes)
    identity.content = identity.content[:-64] + other.keys.identity.sign(b"x", nonce=bytes(64))
    harness.send(client, forged)
    assert client.closed
    assert [type(event) for event in harness.events] == [PairingFailed]
    assert list(harness.server.directory.devices["962302"]) == [0]


def test_a_refusal_by_the_device_links_nothing(harness: ServerHarness) -> None:
    """A device may answer a pairing with an error."""
    linked = harness.new_device()
    client = harness.register(linked)
    harness.scan(linked, "962302", client.one("iq").children[0].children[0].data.decode())
    offered = client.all("iq")[-1]
    error = Node("error", {"code": "401", "text": "hmac-mismatch"})
    harness.send(client, Node("iq", {"id": offered.attrs["id"], "type": "error"}, [error]))
    (event,) = harness.events
    assert isinstance(event, PairingFailed)
    assert "hmac-mismatch" in event.detail


def test_a_registration_with_a_forged_prekey_is_refused(harness: ServerHarness) -> None:
    """The signed prekey must be signed by the identity that comes with it."""
    linked, other = harness.new_device(), harness.new_device()
    payload = linked.keys.registration(nonce=bytes(64))
    assert payload.pairing is not None
    forged = other.keys.registration(nonce=bytes(64)).pairing
    assert forged is not None
    object.__setattr__(payload.pairing, "signed_prekey_signature", forged.signed_prekey_signature)
    client = harness.connect(linked.keys.noise, payload)
    assert client.closed
    assert [type(event) for event in harness.events] == [ProtocolViolated]


def test_registration_needs_all_keys(harness: ServerHarness) -> None:
    """A registration with a key missing ends the connection."""
    linked = harness.new_device()
    payload = linked.keys.registration(nonce=bytes(64))
    object.__setattr__(payload.pairing, "signed_prekey", None)
    assert harness.connect(linked.keys.noise, payload).closed


def test_an_unlinked_device_may_only_ping(harness: ServerHarness) -> None:
    """Pings are answered while a code is shown; other queries get an error."""
    client = harness.register(harness.new_device())
    assert harness.ask(client, "w:p", "get", Node("ping")).attrs["type"] == "result"
    assert harness.ask(client, "encrypt", "get", Node("count")).attrs["type"] == "error"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "fewer than four"),
        (f"2@ref,{KEY},{KEY},***", "not base64"),
        (f"2@ref,{KEY},{KEY},AAAA", "32 bytes"),
    ],
)
def test_texts_that_are_no_qr_code_are_refused(text: str, why: str) -> None:
    """The refusal says what is wrong."""
    with pytest.raises(BadQr, match=why):
        parse_qr(text)


def test_codes_without_url_are_read(harness: ServerHarness) -> None:
    """`ref,noise,identity,secret` alone is a valid code too."""
    assert parse_qr(f"2@ref,{KEY},{KEY},{KEY}").ref == "2@ref"
