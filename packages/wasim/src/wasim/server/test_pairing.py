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
    from wasim.server.conftest import World

KEY = base64.b64encode(bytes(range(32))).decode()


def test_a_new_device_gets_six_references(world: World) -> None:
    """The first node to an unlinked device is `pair-device`, with a reference for each QR code."""
    client = world.register(world.new_device())
    (pair_device,) = client.one("iq").children
    refs = [ref.data for ref in pair_device.all("ref")]
    assert pair_device.tag == "pair-device"
    assert len(refs) == len(set(refs)) == 6


def test_a_scanned_device_is_linked(world: World) -> None:
    """Scan, signature, 515: the device belongs to the account, can log in, and its connection ends within a second."""
    linked = world.new_device()
    client = world.register(linked)
    ref = client.one("iq").children[0].children[2].data.decode()
    world.scan(linked, "962302", ref)
    world.send(client, world.sign(linked, client.all("iq")[-1]))
    assert client.one("stream:error").attrs == {"code": "515"}
    assert world.events == [DevicePaired(address=Address("962302", 1), link=client.id)]
    assert not client.closed
    world.advance(1.0)
    assert client.closed


def test_a_linked_device_logs_in_with_its_own_name(world: World) -> None:
    """Each device of an account gets the next number, and an address by phone number and one by hidden id."""
    first, second, other = world.link("962302"), world.link("962302"), world.link("962303")
    lid = world.server.directory.accounts["962302"].lid
    assert (first.jid, first.lid) == ("962302:1@s.whatsapp.net", f"{lid}:1@lid")
    assert (second.jid, second.lid) == ("962302:2@s.whatsapp.net", f"{lid}:2@lid")
    assert other.jid == "962303:1@s.whatsapp.net"
    assert world.log_in(second).one("success").attrs["lid"] == second.lid


def test_other_devices_and_contacts_are_notified(world: World) -> None:
    """The account's other devices are notified of a new device, so that they send to it too."""
    _, other = world.online("962302")
    linked = world.link("962302")
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


def test_an_unknown_code_is_refused(world: World) -> None:
    """A reference that no device shows, a used one, and one whose connection is gone are all refused."""
    linked = world.new_device()
    with pytest.raises(PairingError, match="no device shows"):
        world.scan(linked, "962302", "2@nothing")
    client = world.register(linked)
    refs = [ref.data.decode() for ref in client.one("iq").children[0].children]
    world.scan(linked, "962302", refs[0])
    with pytest.raises(PairingError, match="no device shows"):
        world.scan(linked, "962302", refs[1])
    late = world.new_device()
    client = world.register(late)
    ref = client.one("iq").children[0].children[0].data.decode()
    world.disconnect(client)
    with pytest.raises(PairingError, match="no device shows"):
        world.scan(late, "962302", ref)


def test_a_code_with_other_keys_is_refused(world: World) -> None:
    """The keys in the code must be those that the connection used."""
    linked, other = world.new_device(), world.new_device()
    ref = world.register(linked).one("iq").children[0].children[0].data.decode()
    with pytest.raises(PairingError, match="not those"):
        world.scan(other, "962302", ref)


def test_a_wrong_signature_links_nothing(world: World) -> None:
    """A device that signs with another key is not linked, and its connection ends."""
    linked, other = world.new_device(), world.new_device()
    client = world.register(linked)
    world.scan(linked, "962302", client.one("iq").children[0].children[0].data.decode())
    forged = world.sign(linked, client.all("iq")[-1])
    identity = forged.children[0].children[0]
    assert isinstance(identity.content, bytes)
    identity.content = identity.content[:-64] + other.keys.identity.sign(b"x", nonce=bytes(64))
    world.send(client, forged)
    assert client.closed
    assert [type(event) for event in world.events] == [PairingFailed]
    assert list(world.server.directory.devices["962302"]) == [0]


def test_a_refusal_by_the_device_links_nothing(world: World) -> None:
    """A device may answer a pairing with an error."""
    linked = world.new_device()
    client = world.register(linked)
    world.scan(linked, "962302", client.one("iq").children[0].children[0].data.decode())
    offered = client.all("iq")[-1]
    error = Node("error", {"code": "401", "text": "hmac-mismatch"})
    world.send(client, Node("iq", {"id": offered.attrs["id"], "type": "error"}, [error]))
    (event,) = world.events
    assert isinstance(event, PairingFailed)
    assert "hmac-mismatch" in event.detail


def test_a_registration_with_a_forged_prekey_is_refused(world: World) -> None:
    """The signed prekey must be signed by the identity that comes with it."""
    linked, other = world.new_device(), world.new_device()
    payload = linked.keys.registration(nonce=bytes(64))
    assert payload.pairing is not None
    forged = other.keys.registration(nonce=bytes(64)).pairing
    assert forged is not None
    object.__setattr__(payload.pairing, "signed_prekey_signature", forged.signed_prekey_signature)
    client = world.connect(linked.keys.noise, payload)
    assert client.closed
    assert [type(event) for event in world.events] == [ProtocolViolated]


def test_registration_needs_all_keys(world: World) -> None:
    """A registration with a key missing ends the connection."""
    linked = world.new_device()
    payload = linked.keys.registration(nonce=bytes(64))
    object.__setattr__(payload.pairing, "signed_prekey", None)
    assert world.connect(linked.keys.noise, payload).closed


def test_an_unlinked_device_may_only_ping(world: World) -> None:
    """Pings are answered while a code is shown; other queries get an error."""
    client = world.register(world.new_device())
    assert world.ask(client, "w:p", "get", Node("ping")).attrs["type"] == "result"
    assert world.ask(client, "encrypt", "get", Node("count")).attrs["type"] == "error"


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


def test_codes_without_url_are_read(world: World) -> None:
    """`ref,noise,identity,secret` alone is a valid code too."""
    assert parse_qr(f"2@ref,{KEY},{KEY},{KEY}").ref == "2@ref"
