"""Acknowledged messages survive when wasim's process is killed at any moment."""

from __future__ import annotations

import asyncio
import random
import secrets
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.wasim_client import WasimClient
from tests.processes import killable_wasim
from wasim.wire.nodes import Node

CONNECTED = [("alice", "bob"), ("alice",), ("bob",), ("alice",), ("bob",)]
"""The clients that are connected at each kill. With only one of them, its messages are on disk or lost."""
PHONE = "962309"
pytestmark = pytest.mark.slow


class RecordingClient(WasimClient):
    """A client that records everything it receives, over all its connections."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.acked: set[str] = set()
        self.receipts_acked: set[str] = set()
        self.messages: set[str] = set()
        self.receipts: set[str] = set()

    async def receive_all(self) -> None:
        """Receive and acknowledge everything until the connection ends."""
        try:
            while True:
                await self.listen()
                await self._acknowledge()
        except ConnectionClosed:
            return

    async def _acknowledge(self) -> None:
        received, self.received = self.received, []
        for node in received:
            id_ = node.attrs.get("id", "")
            match node.tag, node.attrs.get("class"):
                case "ack", "message":
                    self.acked.add(id_)
                case "ack", "receipt":
                    self.receipts_acked.add(id_)
                case "message", _:
                    self.messages.add(id_)
                    await self.send(Node("receipt", {"id": id_, "to": node.attrs["from"]}))
                case "receipt", _:
                    self.receipts.add(id_)
                    attrs = {"id": id_, "class": "receipt", "to": node.attrs["from"]}
                    await self.send(Node("ack", attrs))

    async def write(self, to: str, name: str) -> None:
        """Send message after message until the connection ends."""
        try:
            for n in range(10_000):
                await self.text(to, f"{name}-{n}")
                if n % 5 == 0:
                    await asyncio.sleep(0)
        except ConnectionClosed:
            return


async def catch_up(client: RecordingClient) -> None:
    """Log in, and receive the waiting stanzas until no more arrive."""
    await client.log_in()
    await client._acknowledge()
    try:
        while True:
            async with asyncio.timeout(0.5):
                await client.listen()
            await client._acknowledge()
    except TimeoutError:
        await client.socket.close()


async def test_acked_messages_survive_kill_9(tmp_path: Path) -> None:
    """It is killed at random moments under a stream of messages and receipts: every acked message reaches its
    recipient, every acked receipt reaches the sender, and a phone's text that the control interface accepted arrives
    too.
    """
    seed = secrets.randbits(32)
    moments = random.Random(seed)
    async with killable_wasim(tmp_path) as wasim:
        alice, bob = RecordingClient(wasim, "962302"), RecordingClient(wasim, "962303")
        await alice.pair()
        await bob.pair()
        await wasim.post("/phones", {"number": PHONE})
        accepted: set[str] = set()
        for kill, connected in enumerate(CONNECTED):
            clients = {"alice": alice, "bob": bob}
            async with asyncio.TaskGroup() as tasks:
                for name in connected:
                    await clients[name].log_in()
                    tasks.create_task(clients[name].receive_all())
                if "alice" in connected:
                    tasks.create_task(alice.write("962303", f"K{kill}"))
                accepted.add((await wasim.post(f"/phones/{PHONE}/send", {"to": "962303", "text": "hello"}))["id"])
                await asyncio.sleep(moments.uniform(0.05, 0.3))
                await wasim.kill()
            await wasim.start()
        await catch_up(bob)
        await catch_up(alice)
        assert len(alice.acked) > len(CONNECTED), f"seed {seed}: hardly anything was sent"
        assert (alice.acked | accepted) - bob.messages == set(), f"seed {seed}"
        assert {id_ for id_ in bob.receipts_acked if id_.startswith("K")} - alice.receipts == set(), f"seed {seed}"
        records = await wasim.get("/messages", **{"from": "962302"})
        assert alice.acked <= {record["id"] for record in records if record["acked"]}
