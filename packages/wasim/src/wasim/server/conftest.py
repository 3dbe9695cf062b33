"""A simulated WhatsApp without sockets: the server, clients that exchange bytes with it, and a fake clock."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from wasim.server import events
from wasim.server.core import Server
from wasim.server.fault_hooks import FaultHooks, NoFaults
from wasim.server.pairing import parse_qr
from wasim.server.state import Account, Address
from wasim.wire import ratchet
from wasim.wire.conftest import ClientLink, DeviceKeys, login
from wasim.wire.content import Content, decode_padded, encode_padded
from wasim.wire.curve import KeyPair, typed, verify
from wasim.wire.messages import ClientPayload, SignedDeviceIdentity, SignedDeviceIdentityHmac
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode

NOW = 1_700_000_000.0


@dataclass(slots=True, kw_only=True)
class ClientDevice:
    """A device with its keys, linked or not."""

    keys: DeviceKeys
    number: str = ""
    device: int = 0
    jid: str = ""
    lid: str = ""
    sessions: dict[str, ratchet.Session] = field(default_factory=dict)
    """Signal sessions by the address of the other device."""

    @property
    def address(self) -> Address:
        return Address(self.number, self.device)

    def start_session(self, jid: str, bundle: Node, *, fresh: Callable[[], KeyPair]) -> None:
        """Start a session with that device, using the keys in this node."""
        self.sessions[jid] = ratchet.start(self.keys.identity, read_bundle(bundle), base=fresh(), ratchet=fresh())

    def decrypt(self, message: Node, *, fresh: Callable[[], KeyPair]) -> Content:
        """The content of a message for this device."""
        enc, sender = message.child("enc"), message.attrs["from"]
        assert enc is not None
        data = enc.data
        if enc.attrs["type"] == "pkmsg":
            first = ratchet.parse_first(data)
            known = self.sessions.get(sender)
            if known is None or typed(known.base_key) != first.base_key:
                self.sessions[sender] = ratchet.accept(
                    self.keys.identity, first, signed_prekey=self.keys.signed_prekey, prekey=None
                )
            data = first.message or b""
        plaintext, _ = ratchet.decrypt(self.sessions[sender], data, fresh=fresh)
        return decode_padded(plaintext)


def read_bundle(user: Node) -> ratchet.Bundle:
    """A key bundle in the form that the server returns."""
    signed, one_time = user.child("skey"), user.child("key")
    assert signed is not None
    return ratchet.Bundle(
        identity=user.data_of("identity"),
        signed_prekey_id=int.from_bytes(signed.data_of("id"), "big"),
        signed_prekey=signed.data_of("value"),
        prekey_id=int.from_bytes(one_time.data_of("id"), "big") if one_time is not None else None,
        prekey=one_time.data_of("value") if one_time is not None else None,
    )


@dataclass(slots=True, kw_only=True)
class Client:
    """One connection of a device: what it received, and whether the server closed it."""

    id: int
    link: ClientLink
    received: list[Node] = field(default_factory=list)
    closed: bool = False

    def all(self, tag: str) -> list[Node]:
        return [node for node in self.received if node.tag == tag]

    def one(self, tag: str) -> Node:
        (node,) = self.all(tag)
        return node

    def clear(self) -> None:
        self.received.clear()


class ServerHarness:
    def __init__(self, fault_hooks: FaultHooks | None = None) -> None:
        self.now = NOW
        self.fault_hooks = fault_hooks or NoFaults()
        self.records: dict[tuple[str, str], bytes] = {}
        self.events: list[events.Event] = []
        self.clients: dict[int, Client] = {}
        self._draws = 0
        self._links = 0
        self._queries = 0
        self.server = self._boot()

    def _boot(self) -> Server:
        records = [(kind, key, value) for (kind, key), value in self.records.items()]
        return Server(entropy=self.entropy, fault_hooks=self.fault_hooks, records=records, now=self.now)

    def entropy(self, size: int) -> bytes:
        """Bytes that look random and are the same in every run."""
        self._draws += 1
        return hashlib.shake_256(self._draws.to_bytes(8, "big")).digest(size)

    def restart(self) -> None:
        """Restart the server with the stored records, as after the death of its process."""
        self.exchange()
        self.clients.clear()
        self.server = self._boot()

    # Time and bytes

    def exchange(self) -> None:
        """Exchange bytes between server and clients until neither side has more, and store the changed records."""
        while output := self.server.take_output():
            for outgoing in output:
                client = self.clients.get(outgoing.link)
                if client is None:
                    continue
                received, answer = client.link.receive(b"".join(outgoing.frames))
                client.received += received
                client.closed = client.closed or outgoing.close
                if answer:
                    self.server.receive(client.id, answer, now=self.now)
        for name, value in self.server.directory.take_changes().items():
            if value is None:
                self.records.pop(name, None)
            else:
                self.records[name] = value
        self.events += self.server.take_events()

    def advance(self, seconds: float) -> None:
        """Advance the clock, and run the server's timers that become due."""
        end = self.now + seconds
        while (deadline := self.server.next_deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.server.tick(now=self.now)
            self.exchange()
        self.now = end

    # Clients

    def new_device(self) -> ClientDevice:
        keys = DeviceKeys(
            noise=self.key(),
            identity=self.key(),
            signed_prekey=self.key(),
            registration_id=4711,
            adv_secret=self.entropy(32),
        )
        return ClientDevice(keys=keys)

    def connect(self, noise: KeyPair, payload: ClientPayload, *, server: bytes | None = None) -> Client:
        """`server`: the server's static key, if the client remembers it."""
        self._links += 1
        link = ClientLink(noise=noise, ephemeral=self.key(), payload=payload, server=server)
        client = Client(id=self._links, link=link)
        self.clients[client.id] = client
        self.server.open_link(client.id, now=self.now)
        self.server.receive(client.id, client.link.hello(), now=self.now)
        self.exchange()
        return client

    def register(self, linked: ClientDevice) -> Client:
        """An unlinked device connects."""
        return self.connect(linked.keys.noise, linked.keys.registration(nonce=self.entropy(64)))

    def log_in(self, linked: ClientDevice, *, active: bool = True) -> Client:
        client = self.connect(linked.keys.noise, login(linked.number, linked.device))
        if active:
            self.ask(client, "passive", "set", Node("active"))
        return client

    def disconnect(self, client: Client) -> None:
        """The client's connection ends."""
        del self.clients[client.id]
        self.server.links.remove(client.id)
        self.exchange()

    def send(self, client: Client, node: Node) -> None:
        self.server.receive(client.id, client.link.send(node), now=self.now)
        self.exchange()

    def ask(self, client: Client, xmlns: str, type_: str, *children: Node, **attributes: str) -> Node:
        """Send a query and return its answer."""
        self._queries += 1
        query_id = f"q-{self._queries}"
        attrs = {"id": query_id, "xmlns": xmlns, "type": type_, "to": "s.whatsapp.net", **attributes}
        self.send(client, Node("iq", attrs, list(children)))
        (answer,) = (node for node in client.all("iq") if node.attrs["id"] == query_id)
        return answer

    # Phones and pairing

    def phone(self, number: str) -> Account:
        account = self.server.phone(number, name=f"name of {number}", now=self.now)
        self.exchange()
        return account

    def qr(self, linked: ClientDevice, ref: str) -> str:
        keys = (linked.keys.noise.public, linked.keys.identity.public, linked.keys.adv_secret)
        parts = [ref, *(base64.b64encode(key).decode() for key in keys), "1"]
        return "https://wa.me/settings/linked_devices#" + ",".join(parts)

    def scan(self, linked: ClientDevice, number: str, ref: str) -> None:
        self.server.pairing_flow.scan(self.phone(number), parse_qr(self.qr(linked, ref)), now=self.now)
        self.exchange()

    def sign(self, linked: ClientDevice, offered: Node) -> Node:
        """A device's answer to `pair-success`, after the checks that a real client makes."""
        success = offered.child("pair-success")
        assert success is not None
        authenticated = decode(SignedDeviceIdentityHmac, success.data_of("device-identity"))
        assert authenticated.details is not None
        assert authenticated.hmac == hmac.digest(linked.keys.adv_secret, authenticated.details, hashlib.sha256)
        identity = decode(SignedDeviceIdentity, authenticated.details)
        assert identity.details is not None
        assert identity.account_signature_key is not None
        signed = b"\x06\x00" + identity.details + linked.keys.identity.public
        assert verify(identity.account_signature_key, signed, identity.account_signature or b"")
        message = b"\x06\x01" + identity.details + linked.keys.identity.public + identity.account_signature_key
        own = linked.keys.identity.sign(message, nonce=self.entropy(64))
        reply = SignedDeviceIdentity(
            details=identity.details, account_signature=identity.account_signature, device_signature=own
        )
        child = Node("pair-device-sign", {}, [Node("device-identity", {"key-index": "1"}, encode(reply))])
        return Node("iq", {"id": offered.attrs["id"], "type": "result", "to": "s.whatsapp.net"}, [child])

    def link(self, number: str) -> ClientDevice:
        """A new device, linked to that number but not connected."""
        linked = self.new_device()
        client = self.register(linked)
        refs = [ref.data.decode() for ref in client.one("iq").children[0].children]
        self.scan(linked, number, refs[0])
        offered = client.all("iq")[-1]
        device = offered.children[0].child("device")
        assert device is not None
        linked.jid, linked.lid = device.attrs["jid"], device.attrs["lid"]
        linked.number, linked.device = number, int(linked.jid.partition(":")[2].partition("@")[0])
        self.send(client, self.sign(linked, offered))
        self.disconnect(client)
        return linked

    def online(self, number: str) -> tuple[ClientDevice, Client]:
        """A new device of that number, linked, logged in, and finished with the first stanzas after a login."""
        linked = self.link(number)
        client = self.log_in(linked)
        for welcome in client.all("message"):
            linked.decrypt(welcome, fresh=self.key)
            receipt = {"id": welcome.attrs["id"], "to": welcome.attrs["from"], "type": "peer_msg"}
            self.send(client, Node("receipt", receipt))
        client.clear()
        return linked, client

    # Signal

    def key(self) -> KeyPair:
        return KeyPair.from_private(self.entropy(32))

    def encrypt(self, linked: ClientDevice, client: Client, jid: str, content: Content) -> Node:
        """The `enc` node of a message for that device; the first time with a key bundle from the server."""
        if jid not in linked.sessions:
            (listed,) = self.ask(client, "encrypt", "get", Node("key", {}, [Node("user", {"jid": jid})])).children
            linked.start_session(jid, listed.children[0], fresh=self.key)
        kind, data = ratchet.encrypt(linked.sessions[jid], encode_padded(content, pad=3), registration_id=4711)
        return Node("enc", {"v": "2", "type": kind}, data)


@pytest.fixture
def harness() -> ServerHarness:
    return ServerHarness()


@pytest.fixture
def harness_with() -> Callable[[FaultHooks], ServerHarness]:
    """Makes a harness with these faults."""
    return ServerHarness
