"""The clients' port as test suites for other servers use it: TLS, and a route that scans QR codes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from wasim.authority import open_authority
from wasim.clock import Clock
from wasim.compatibility_routes import SCAN_PATH, make_compatibility_app
from wasim.pairings import FIRST_NUMBER
from wasim.server.conftest import ClientDevice, ServerHarness
from wasim.shell import Simulator, running
from wasim.store import Store
from wasim.wire.conftest import ClientLink
from wasim.wire.nodes import Node


class Connection:
    """A client's WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, link: ClientLink) -> None:
        self._socket = socket
        self.link = link

    async def send(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def next(self) -> Node:
        """The next node from the server."""
        while True:
            nodes, answer = self.link.receive(await self._socket.receive_bytes())
            if answer:
                await self.send(answer)
            if nodes:
                return nodes[0]


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    """A running simulator whose clients connect with TLS."""
    clock = Clock()
    tls = open_authority(tmp_path, now=clock.now()).server_context("127.0.0.1", now=clock.now())
    with Store(tmp_path) as store:
        simulator = Simulator(store=store, clock=clock, host="127.0.0.1", port=0, tls=tls)
        runner = web.AppRunner(make_compatibility_app(simulator), shutdown_timeout=0.5)
        await runner.setup()
        simulator.make_web_handler = runner.server
        async with running(simulator):
            yield simulator
        await runner.cleanup()


@pytest.fixture
async def session(simulator: Simulator, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Trusts the authority, and nothing else."""
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    base = f"https://127.0.0.1:{simulator.port}"
    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=trust)) as session:
        yield session


@asynccontextmanager
async def connected(
    session: aiohttp.ClientSession, harness: ServerHarness, device: ClientDevice
) -> AsyncIterator[Connection]:
    """The connection of a device that requests to be linked."""
    payload = device.keys.registration(nonce=harness.entropy(64))
    async with session.ws_connect("/ws/chat") as socket:
        connection = Connection(socket, ClientLink(noise=device.keys.noise, ephemeral=harness.key(), payload=payload))
        await connection.send(connection.link.hello())
        yield connection


async def scanned(
    session: aiohttp.ClientSession, harness: ServerHarness, link: Connection, device: ClientDevice
) -> int:
    """Show a code to the scan route, finish the pairing, and return the route's status."""
    ref = (await link.next()).children[0].children[0].data.decode()

    async def body() -> AsyncIterator[bytes]:  # in chunks, without a length, as Node sends it
        yield harness.qr(device, ref).encode()

    async def answer() -> None:
        offered = await link.next()
        success = offered.children[0].child("device")
        assert success is not None
        device.jid = success.attrs["jid"]
        await link.send(link.link.send(harness.sign(device, offered)))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(answer())
        async with session.post(SCAN_PATH, data=body()) as response:
            return response.status


async def test_a_posted_code_is_scanned_by_a_free_phone(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    """Devices are linked to phones that have no linked device, oldest first, and then to new phones."""
    harness = ServerHarness()
    with simulator.update() as (server, now):
        server.phone("962302", name="Alice", now=now)
    numbers = []
    for _ in range(3):
        device = harness.new_device()
        async with connected(session, harness, device) as link:
            assert await scanned(session, harness, link, device) == 200
        numbers.append(device.jid.partition(":")[0])
    assert numbers == ["962302", str(FIRST_NUMBER), str(FIRST_NUMBER + 1)]


async def test_a_bad_code_is_refused(simulator: Simulator, session: aiohttp.ClientSession) -> None:
    """A text that is no code gets 400, a code that no device shows gets 404, and neither counts as a client."""
    harness = ServerHarness()
    unknown = harness.qr(harness.new_device(), "no-such-ref")
    for text, status in (("hello", 400), (unknown, 404)):
        async with session.post(SCAN_PATH, data=text) as response:
            assert (response.status, bool(await response.text())) == (status, True)
    assert simulator.stats.connects == 0
