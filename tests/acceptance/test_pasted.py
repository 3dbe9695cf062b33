"""The commands of README.md and of the documents for developers are executed as they are pasted, against a simulated
WhatsApp.

Three things differ from what a person types: ports are free ones, `uv run` runs what is installed already, and what a
page leaves open with `…` is filled in.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import socket
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.client import Client, connect
from tests.conftest import CACHE
from tests.pasted import blocks, finished, running, until, with_uv
from tests.processes import Wasim
from tests.served import KEY, Served, eventually, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER, FRIEND = "962302", "962790000002", "962790000099"


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def served_by_hand(folder: Path, wasim: Wasim) -> dict[str, str]:
    """The environment of a person who starts Holdfast in this folder with a line of the page."""
    port = free_port()
    return {
        **with_uv(folder), "HOLDFAST_PORT": port, "HOLDFAST_URL": f"http://127.0.0.1:{port}",
        "HOLDFAST_WHATSAPP_URL": wasim.url, "HOLDFAST_WHATSAPP_VERSION": "2.3000.1043857760",
        "HOLDFAST_CACHE_DIR": str(CACHE / "engine"),
    }  # fmt: skip


class Screen:
    """The output of a program on a terminal of 60 lines."""

    def __init__(self) -> None:
        self._bytes = b""
        self._changed = asyncio.Event()

    @property
    def text(self) -> str:
        return self._bytes.decode(errors="replace")

    def take(self, data: bytes) -> None:
        self._bytes += data
        self._changed.set()

    async def shows(self, words: str) -> None:
        while words not in self.text:
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def terminal() -> AsyncIterator[tuple[int, Screen]]:
    """A terminal's descriptor for a program, and the terminal's content."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 120, 0, 0))
    screen, loop = Screen(), asyncio.get_running_loop()
    loop.add_reader(ours, lambda: screen.take(os.read(ours, 1 << 16)))
    try:
        yield theirs, screen
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)


async def scan(client: Client, wasim: Wasim) -> None:
    """Scan the shown code with the company's phone."""
    code = await client.get(f"/v1/sessions/{COMPANY}/qr")
    await wasim.post(f"/phones/{NUMBER}/scan", {"qr": code["qr"]})


# README.


async def test_the_readme_without_a_phone(tmp_path: Path, bridge: Path) -> None:
    """Three terminals, with the commands as written: a company is linked, a message is sent, a link is cut."""
    settings = {**with_uv(tmp_path), "HOLDFAST_CACHE_DIR": str(CACHE / "engine")}
    ports = {port: free_port() for port in ("8090", "8091", "3001")}
    first, second, third = (
        re.sub("|".join(ports), lambda port: ports[port[0]], block)
        for block in blocks("README.md", "sh", heading="The same without a phone")
    )
    assert first != third
    async with running("bash", "-ec", first, folder=tmp_path, settings=settings) as whatsapp:
        await until(whatsapp, "ws://127.0.0.1:")
        async with running("bash", "-ec", second, folder=tmp_path, settings=settings) as gateway:
            await until(gateway, "Holdfast listens on")
            async with running("bash", "-ec", third, folder=tmp_path, settings=settings) as person:
                said = await finished(person)
    assert '"state":"pairing"' in said.replace(" ", "")
    assert '"to":"962790000099"' in said.replace(" ", "")
    assert "problem" not in said, said


async def test_the_readme_links_a_number(tmp_path: Path, wasim: Wasim, bridge: Path) -> None:
    """Two terminals: the code is drawn in the second, a phone scans it, and the message is sent."""
    await wasim.post("/phones", {"number": FRIEND})
    settings = served_by_hand(tmp_path, wasim)
    first, second = blocks("README.md", "sh", heading="Link a real number")
    async with (
        terminal() as (tty, screen),
        running("bash", "-ec", first, folder=tmp_path, settings=settings) as gateway,
    ):
        await until(gateway, "Holdfast listens on")
        key = (tmp_path / "holdfast-data" / "api-key").read_text().strip()
        async with (
            connect(settings["HOLDFAST_URL"], key) as client,
            running("bash", "-ec", second, folder=tmp_path, settings=settings, terminal=tty) as person,
            asyncio.timeout(60),
        ):
            await screen.shows("▀")
            await scan(client, wasim)
            assert await person.wait() == 0, screen.text
            sent = (await client.get(f"/v1/sessions/{COMPANY}/messages"))["items"]
    assert [(each["to"], each["state"] != "queued") for each in sent] == [(FRIEND, True)]


async def the_readme_in_daily_use(gateway: Served, tmp_path: Path) -> None:
    """The commands exist and accept their arguments; five minutes and a lab run are shortened."""
    (block,) = blocks("README.md", "sh", heading="In daily use")
    block = block.replace("--for 5m", "--for 1s").replace("lab run freeze", "lab run freeze --help")
    said = await typed(f"set +e; {block}", gateway, tmp_path)
    assert "Usage: holdfast lab run" in said
    assert not re.search("No such (command|option)", said), said


async def the_readme_by_http(gateway: Served, tmp_path: Path) -> None:
    """Every request is answered as its comment says."""
    (block,) = blocks("README.md", "sh", heading="By HTTP")
    said = await typed(block, gateway, tmp_path)
    assert '"whatsappId"' in said
    assert "is it ready?" in said


async def typed(block: str, gateway: Served, folder: Path) -> str:
    """The output of a block in a shell where KEY and URL are set, or read as the page says."""
    (folder / "holdfast-data").mkdir(exist_ok=True)
    (folder / "holdfast-data" / "api-key").write_text(KEY)
    settings = {**with_uv(folder), **gateway.settings_of_commands, "KEY": KEY, "URL": gateway.url}
    block = block.replace("http://127.0.0.1:3000", gateway.url)
    async with running("bash", "-ec", block, folder=folder, settings=settings) as person:
        said = await finished(person)
    shutil.rmtree(folder / "bin")
    assert '"status":4' not in said.replace(" ", ""), said
    return said


# docs/receiving.md and docs/webhooks.md.


async def test_a_webhook_receiver_gets_messages(tmp_path: Path, wasim: Wasim, bridge: Path) -> None:
    """Two terminals: messages to a linked number appear in the first."""
    (receiver,) = blocks("docs/receiving.md", "python", heading="A receiver that runs")
    first, second = blocks("docs/receiving.md", "sh", heading="A receiver that runs")
    (tmp_path / "receiver.py").write_text(receiver, "utf-8")
    settings, port = served_by_hand(tmp_path, wasim), free_port()
    async with running("bash", "-ec", first, folder=tmp_path, settings={"PORT": port}) as listener:
        secret = (await until(listener, "listening on port")).split()[0]
        second = second.replace("whsec_…", secret).replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        async with running("bash", "-ec", second, folder=tmp_path, settings=settings) as serve:
            await until(serve, "Holdfast listens on")
            key = (tmp_path / "holdfast-data" / "api-key").read_text().strip()
            async with connect(settings["HOLDFAST_URL"], key) as client:
                await wasim.post("/phones", {"number": FRIEND})
                await client.put(f"/v1/sessions/{COMPANY}")
                await scan(client, wasim)
                await wasim.post(f"/phones/{FRIEND}/send", {"to": NUMBER, "text": "is it ready?"})
                await until(listener, f"{FRIEND}@s.whatsapp.net is it ready?")


async def the_requests_about_webhooks_and_the_inbox(gateway: Served, tmp_path: Path) -> None:
    """The settings are accepted, an endpoint is set, deliveries are shown and replayed, the stream shows the next
    events.
    """
    setting, request = blocks("docs/webhooks.md", "sh", heading="Setting a webhook")
    shown = await typed(f"set -a\n{setting}\nuv run holdfast settings HOLDFAST_WEBHOOK_SECRET", gateway, tmp_path)
    assert "(set)" in shown
    assert "webhookSecret" in await typed(request, gateway, tmp_path)
    (inbox,) = blocks("docs/receiving.md", "sh", heading="Reading the inbox")
    assert "is it ready?" in await typed(inbox, gateway, tmp_path)
    events = await gateway.client.get("/v1/events", format="json")
    received = next(each["id"] for each in events["items"] if each["type"] == "message.received")
    (failing,) = blocks("docs/webhooks.md", "sh", heading="When a receiver fails")
    failing = failing.replace("evt_…", received).replace("endpoints/default", f"endpoints/session-{COMPANY}")
    assert '"session-962302"' in await typed(failing, gateway, tmp_path)
    (stream,) = blocks("docs/webhooks.md", "sh", heading="The event stream")
    settings = {"KEY": KEY, "URL": gateway.url}
    async with running("bash", "-ec", stream, folder=tmp_path, settings=settings) as reader, chatting(gateway):
        await until(reader, "event: message.")


# docs/examples.md.


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim, bridge: Path) -> AsyncIterator[Served]:
    """A linked company, and a contact that has written to it."""
    await wasim.post("/phones", {"number": FRIEND})
    async with served(tmp_path, wasim=wasim) as running_gateway:
        await running_gateway.pair(COMPANY, NUMBER, wasim)
        await wasim.post(f"/phones/{FRIEND}/send", {"to": NUMBER, "text": "is it ready?"})

        async def received() -> object:
            return (await running_gateway.client.get(f"/v1/sessions/{COMPANY}/inbox"))["items"]

        await eventually(received, within_s=30, what="the message to the company")
        yield running_gateway


async def test_the_examples_and_requests(gateway: Served, tmp_path: Path, node_bin: Path) -> None:
    """Each does what its page says; all use one gateway."""
    await the_readme_by_http(gateway, tmp_path)
    await the_readme_in_daily_use(gateway, tmp_path)
    await the_python_example(gateway, tmp_path)
    await the_node_example(gateway, tmp_path, node_bin)
    await the_curl_example(gateway, tmp_path)
    await the_requests_about_webhooks_and_the_inbox(gateway, tmp_path)
    await the_requests_about_chats(gateway, tmp_path)


async def the_requests_about_chats(gateway: Served, tmp_path: Path) -> None:
    """Each finds the chat with the contact; it is marked as read, and then as unread."""
    (block,) = blocks("docs/chats.md", "sh", heading="By HTTP")
    said = await typed(block, gateway, tmp_path)
    assert "is it ready?" in said
    assert said.count('"state":"succeeded"') == len(["read", "unread"])


async def the_python_example(gateway: Served, tmp_path: Path) -> None:
    """It sends, waits for the outcome and reads the inbox."""
    (block,) = blocks("docs/examples.md", "python", heading="Python")
    async with running(sys.executable, "-c", block, folder=tmp_path, settings=gateway.settings_of_commands) as example:
        said = await finished(example)
    assert re.match(r"(sent|delivered|read) None\n", said), said
    assert f"{FRIEND}@s.whatsapp.net text is it ready?" in said


async def the_node_example(gateway: Served, tmp_path: Path, node_bin: Path) -> None:
    """It sends, and shows events as they come."""
    (block,) = blocks("docs/examples.md", "js", heading="Node")
    (tmp_path / "example.mjs").write_text(block, "utf-8")
    settings = gateway.settings_of_commands
    async with running(str(node_bin), "example.mjs", folder=tmp_path, settings=settings) as example:
        await until(example, "msg_")
        async with chatting(gateway):
            await until(example, "event: message.")


async def the_curl_example(gateway: Served, tmp_path: Path) -> None:
    """It sends, lists, and shows events as they come."""
    (block,) = blocks("docs/examples.md", "sh", heading="curl")
    (tmp_path / "holdfast-data").mkdir(exist_ok=True)
    (tmp_path / "holdfast-data" / "api-key").write_text(gateway.settings_of_commands["HOLDFAST_API_KEY"])
    block = block.replace("http://127.0.0.1:3000", gateway.settings_of_commands["HOLDFAST_URL"])
    async with running("bash", "-ec", block, folder=tmp_path, settings={}) as example, chatting(gateway):
        said = await until(example, '"items"', "event: message.")
    assert re.search(r'"state":\s*"(queued|sending|sent|delivered|read)"', said), said


@asynccontextmanager
async def chatting(gateway: Served) -> AsyncIterator[None]:
    """Send messages until the block ends: a stream that starts at any time sees some of them."""

    async def chat() -> None:
        while True:
            message = await gateway.send(COMPANY, FRIEND, "one more")
            await gateway.until_message(message["id"], "delivered", "read", within_s=30)

    async with asyncio.TaskGroup() as tasks:
        talking = tasks.create_task(chat())
        try:
            yield
        finally:
            talking.cancel()
