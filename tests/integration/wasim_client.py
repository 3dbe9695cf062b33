"""A client of wasim over a real socket, for tests of the network's behaviour."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket

from tests.processes import Wasim
from wasim.wire.conftest import ClientLink, DeviceKeys, login
from wasim.wire.curve import KeyPair
from wasim.wire.messages import ClientPayload, SignedDeviceIdentity, SignedDeviceIdentityHmac
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode

DEADLINE_S = 5.0


class WasimClient:
    """One device; `connect` opens a connection."""

    def __init__(self, wasim: Wasim, number: str) -> None:
        self.wasim, self.number, self.device = wasim, number, 0
        self.keys = DeviceKeys(
            noise=_key(),
            identity=_key(),
            signed_prekey=_key(),
            registration_id=4711,
            adv_secret=secrets.token_bytes(32),
        )
        self.received: list[Node] = []
        self._socket: ClientConnection | None = None
        self._link: ClientLink | None = None
        self._queries = 0
        self._initial_messages = 2

    @property
    def socket(self) -> ClientConnection:
        assert self._socket is not None
        return self._socket

    async def connect(self, payload: ClientPayload) -> None:
        self.received.clear()
        self._socket = await connect_websocket(self.wasim.url, ping_interval=None, close_timeout=1)
        self._link = ClientLink(noise=self.keys.noise, ephemeral=_key(), payload=payload)
        await self.socket.send(self._link.hello())

    async def receive(self, tag: str, **attrs: str) -> Node:
        """Return the next node with that tag and those attributes; others are kept in `received`."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for node in self.received:
                    if node.tag == tag and attrs.items() <= node.attrs.items():
                        self.received.remove(node)
                        return node
                await self.listen()

    async def listen(self) -> None:
        """Receive one message from the socket. Raises ConnectionClosed at its end."""
        assert self._link is not None
        data = await self.socket.recv()
        assert isinstance(data, bytes)
        nodes, answer = self._link.receive(data)
        self.received += nodes
        if answer:
            await self.socket.send(answer)

    async def send(self, node: Node) -> None:
        assert self._link is not None
        await self.socket.send(self._link.send(node))

    async def ask(self, xmlns: str, type_: str, *children: Node) -> Node:
        self._queries += 1
        attrs = {"id": f"q{self._queries}", "xmlns": xmlns, "type": type_, "to": "s.whatsapp.net"}
        await self.send(Node("iq", attrs, list(children)))
        return await self.receive("iq", id=attrs["id"])

    async def ping(self) -> None:
        await self.ask("w:p", "get", Node("ping"))

    async def pair(self) -> None:
        """Register, have the code scanned, sign, and disconnect."""
        await self.connect(self.keys.registration(nonce=secrets.token_bytes(64)))
        offer = await self.receive("iq")
        ref = offer.children[0].children[0].data.decode()
        keys = (self.keys.noise.public, self.keys.identity.public, self.keys.adv_secret)
        qr = ",".join([ref, *(base64.b64encode(key).decode() for key in keys), "1"])
        async with asyncio.TaskGroup() as tasks:
            scanned = tasks.create_task(self.wasim.post(f"/phones/{self.number}/scan", {"qr": qr}))
            await self.send(self._sign(await self.receive("iq")))
        self.device = scanned.result()["device"]
        await self.receive("stream:error", code="515")
        await self.socket.close()

    def _sign(self, offered: Node) -> Node:
        authenticated = decode(SignedDeviceIdentityHmac, offered.children[0].data_of("device-identity"))
        assert authenticated.details is not None
        assert authenticated.hmac == hmac.digest(self.keys.adv_secret, authenticated.details, hashlib.sha256)
        identity = decode(SignedDeviceIdentity, authenticated.details)
        assert identity.details is not None
        assert identity.account_signature_key is not None
        message = b"\x06\x01" + identity.details + self.keys.identity.public + identity.account_signature_key
        signature = self.keys.identity.sign(message, nonce=secrets.token_bytes(64))
        reply = SignedDeviceIdentity(
            details=identity.details, account_signature=identity.account_signature, device_signature=signature
        )
        child = Node("pair-device-sign", {}, [Node("device-identity", {"key-index": "1"}, encode(reply))])
        return Node("iq", {"id": offered.attrs["id"], "type": "result", "to": "s.whatsapp.net"}, [child])

    async def log_in(self) -> None:
        await self.connect(login(self.number, self.device))
        await self.receive("success")
        await self.ask("passive", "set", Node("active"))
        while (await self.receive("ib")).children[0].tag != "offline":
            pass  # the last of the first stanzas after a login
        while self._initial_messages:
            message = await self.receive("message", category="peer")
            receipt = {"id": message.attrs["id"], "to": message.attrs["from"], "type": "peer_msg"}
            await self.send(Node("receipt", receipt))
            await self.receive("ack", id=message.attrs["id"])
            self._initial_messages -= 1

    async def text(self, to: str, id_: str, ciphertext: bytes = b"x") -> None:
        """A message for device 1 of that number."""
        recipient = Node("to", {"jid": f"{to}:1@s.whatsapp.net"}, [Node("enc", {"v": "2", "type": "msg"}, ciphertext)])
        attrs = {"to": f"{to}@s.whatsapp.net", "id": id_, "type": "text"}
        await self.send(Node("message", attrs, [Node("participants", {}, [recipient])]))


def _key() -> KeyPair:
    return KeyPair.from_private(secrets.token_bytes(32))
