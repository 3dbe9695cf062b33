"""Two sessions on real Baileys against wasim, ready to talk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from holdfast.base.clock import SystemClock
from holdfast.engine.host import EngineHost
from holdfast.engine.node import Node
from holdfast.engine.sandbox import sandboxed
from holdfast.session.engine import Acked, LinkClosed, LinkOpened, OpenLink, QrShown, Receipted, Send, Written
from tests.doubles.engine_recorder import Recorder
from tests.processes import Wasim


class Party:
    """One session: its number, its host, its links in order and, through its recorder, its store."""

    def __init__(
        self,
        number: str,
        *,
        first_link: int,
        host: EngineHost,
        recorder: Recorder,
        wasim: Wasim,
        history: str = "none",
    ) -> None:
        self.number = number
        self.jid = f"{number}@s.whatsapp.net"
        self.link = first_link
        self.history = history
        self.host, self.recorder, self.wasim = host, recorder, wasim
        self.store = recorder.store(first_link)

    async def pair(self) -> None:
        """Link a new device of the number's phone."""
        await self.wasim.post("/phones", {"number": self.number, "name": "Layla's Flowers"})
        self._open(self.link, None)
        shown = await self.recorder.wait(QrShown, self.link)
        await self.wasim.post(f"/phones/{self.number}/scan", {"qr": shown.qr})
        await self.recorder.wait(LinkClosed, self.link)

    async def log_in(self, *, host: EngineHost | None = None, recorder: Recorder | None = None) -> None:
        """Open the next link with the stored credentials, on another host if one is given."""
        self.host, self.recorder = host or self.host, recorder or self.recorder
        self.link += 1
        self.recorder.stored[self.link] = self.store
        self._open(self.link, self.store.credentials)
        await self.recorder.wait(LinkOpened, self.link)

    def _open(self, link: int, credentials: str | None) -> None:
        command = OpenLink(
            link=link, company=self.number, credentials=credentials, url=self.wasim.url, history=self.history
        )
        self.host.command(command)

    def send(self, whatsapp_id: str, to: str, text: str = "hello", *, typing_ms: int = 0) -> None:
        self.send_content(whatsapp_id, to, {"text": text}, typing_ms=typing_ms)

    def send_content(
        self, whatsapp_id: str, to: str, content: dict[str, object], *, made: str | None = None, typing_ms: int = 0
    ) -> None:
        self.store.sent[whatsapp_id] = content
        self.host.command(
            Send(link=self.link, whatsapp_id=whatsapp_id, to=to, content=content, made=made, typing_ms=typing_ms)
        )

    def acks(self) -> list[Acked]:
        """The acks of the current link."""
        return self.recorder.of(Acked, self.link)

    async def acked(self, whatsapp_id: str) -> Acked:
        def found() -> list[Acked]:
            return [ack for ack in self.acks() if ack.whatsapp_id == whatsapp_id]

        await self.recorder.until(lambda: bool(found()), what=f"the ack of {whatsapp_id}")
        return found()[0]

    async def written(self, whatsapp_id: str) -> None:
        await self.recorder.until(
            lambda: any(w.whatsapp_id == whatsapp_id for w in self.recorder.of(Written, self.link)),
            what=f"the write of {whatsapp_id}",
        )

    async def shown(self, count: int, *, seconds: float = 20) -> list[str]:
        """Wait until the inbox has that many texts, and return them."""
        await self.recorder.until(
            lambda: len(self.store.inbox) >= count, what=f"{count} messages in the inbox", seconds=seconds
        )
        return [message.text or message.type for message in self.store.inbox]

    def receipts(self, whatsapp_id: str) -> int:
        """The number of devices that have confirmed a message."""
        receipts = [r for r in self.recorder.of(Receipted) if r.kind == "delivered"]
        return sum(whatsapp_id in receipt.whatsapp_ids for receipt in receipts)

    async def waiting(self) -> int:
        """The number of stanzas that WhatsApp still stores for this session's device."""
        for phone in await self.wasim.get("/phones"):
            if phone["number"] == self.number:
                return sum(device["waiting"] for device in phone["devices"])
        raise AssertionError(f"wasim has no phone {self.number}")

    async def settled(self) -> None:
        """Wait until WhatsApp stores nothing for this session's device any more."""
        async with asyncio.timeout(10):
            while await self.waiting():  # noqa: ASYNC110 – another process's queue
                await asyncio.sleep(0.05)


StartHost = Callable[[Recorder], EngineHost]


@pytest.fixture
def start_host(node: Node, bridge: Path, wasim: Wasim, tmp_path: Path) -> StartHost:
    """A function that creates another host, as a context manager."""

    def make(recorder: Recorder) -> EngineHost:
        environment = {**os.environ, "NODE_EXTRA_CA_CERTS": wasim.ca}
        program = sandboxed(node, bridge, spool=tmp_path, environment=environment)
        host = EngineHost(program, listener=recorder, clock=SystemClock())
        recorder.engine = host
        return host

    return make


@pytest.fixture
async def ours(start_host: StartHost, wasim: Wasim) -> AsyncIterator[Party]:
    """The session under test, logged in, on its own host, which a test may kill."""
    recorder = Recorder()
    async with start_host(recorder) as host:
        party = Party("962700000001", first_link=1, host=host, recorder=recorder, wasim=wasim)
        await party.pair()
        await party.log_in()
        yield party


@pytest.fixture
async def friend(start_host: StartHost, wasim: Wasim) -> AsyncIterator[Party]:
    """The other party, logged in, on another host."""
    recorder = Recorder()
    async with start_host(recorder) as host:
        party = Party("962799999999", first_link=1, host=host, recorder=recorder, wasim=wasim)
        await party.pair()
        await party.log_in()
        yield party
