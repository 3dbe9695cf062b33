"""Random histories: whatever happens to links, hosts, the store and Holdfast itself, the guarantees hold in the end."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from holdfast.base.errors import HoldfastError
from holdfast.delivery.stores import Message
from holdfast.runtime.composer import SendRequest, text_request
from holdfast.session import events
from holdfast.session.engine import Send, Undecryptable
from tests.doubles.fake_engine import FakeEngine
from tests.gateway_harness import COMPANY, GatewayHarness

CHATS = ["962790000001", "962790000002", "962790000003"]
STEPS = 40


class Arrivals(list[Send]):
    """The messages that the other side got and did not refuse."""

    def __init__(self, harness: GatewayHarness) -> None:
        super().__init__()
        self._harness = harness

    def append(self, send: Send) -> None:
        if not (self._harness.engine.acks and self._harness.engine.ack_error):
            super().append(send)


class History:
    """One company, the random events that happen to it, and the invariants."""

    def __init__(self, harness: GatewayHarness, seed: int) -> None:
        self.harness = harness
        self.randomness = random.Random(seed)
        self.steps: list[str] = []
        """The events so far, for the message of a failure."""
        self.accepted: list[Message] = []
        self.cancelled: set[str] = set()
        self.written: list[str] = []
        """Texts that people wrote to the company."""
        self.accepting: list[asyncio.Task[None]] = []
        self.garbled: list[str] = []
        """Those that were stored as undecryptable."""
        self.expired: set[str] = set()
        self.refused: set[str] = set()
        """Messages that WhatsApp refused for good; an earlier attempt may have arrived without an ack."""
        self.arrived = Arrivals(harness)
        self.confirmed: list[str] = []
        harness.prepare = self._prepare

    def _prepare(self, engine: FakeEngine) -> None:
        engine.arrived = self.arrived
        engine.receipts_sent = self.confirmed

    async def live(self) -> None:
        """Run Holdfast three times; the last run ends well without the help of a restart."""
        async with self.harness.running():
            await self.harness.pair()
            await self._suffer()
        async with self.harness.running():
            await self._suffer()
        async with self.harness.running():
            await self._suffer()
            await self._heal()

    async def _suffer(self) -> None:
        for _ in range(STEPS):
            happen = self.randomness.choice(
                [
                    self._accept, self._accept, self._accept, self._receive, self._cancel, self._drop, self._freeze,
                    self._lose_host, self._fail_store, self._toggle_acks, self._toggle_busy, self._ask, self._wait,
                    self._hold, self._hold, self._heal_link, self._heal_link, self._garble, self._store_elsewhere,
                    self._lift_lock,
                ]
            )  # fmt: skip
            self.steps.append(happen.__name__)
            await happen()
            await self._continue()
        self._release()
        await self.harness.until(lambda: all(task.done() for task in self.accepting))

    async def _continue(self) -> None:
        """Run until nothing more happens, or only a little, so that the next event happens during the last one."""
        if self.randomness.random() < 0.5:
            for _ in range(self.randomness.randrange(8)):
                await asyncio.sleep(0)
            return
        await self.harness.quiet()
        assert len(self.harness.engine.links) <= 1

    def _release(self) -> None:
        for latch in self.harness.latches:
            latch.open()

    async def _hold(self) -> None:
        """Delay some kind of write."""
        self._release()
        self.randomness.choice(self.harness.latches).close()

    async def _heal_link(self) -> None:
        """A period in which links stay open."""
        self._release()
        self.harness.engine.acks, self.harness.engine.ack_error = True, None
        await self._requested_state(events.StartAsked())
        await self.harness.wait(self.randomness.choice([0.5, 3]))

    async def _accept(self) -> None:
        """The result may be delayed by a closed latch."""
        priority = self.randomness.choice([0, 0, 1])
        to, text = self.randomness.choice(CHATS), f"{len(self.accepting)}"
        expires_in_s = 60 if self.randomness.random() < 0.2 else None
        send_request = text_request(to, text, priority=priority, expires_in_s=expires_in_s)
        accepting = asyncio.ensure_future(self._accept_request(send_request))
        self.accepting.append(accepting)
        if self.harness.accepts.is_open and self.harness.accepted.is_open:
            await self.harness.until(accepting.done)

    async def _accept_request(self, send_request: SendRequest) -> None:
        with contextlib.suppress(HoldfastError, OSError):
            self.accepted.append(await self.harness.messages.accept(COMPANY, send_request))

    async def _store_elsewhere(self) -> None:
        """Act as if another process had accepted a message."""
        self.harness.gateway.work_waits(COMPANY)

    async def _garble(self) -> None:
        self.garbled.append(f"garbled {len(self.garbled)}")
        for link, far in self.harness.engine.links.items():
            if far.opened:
                sender = "962799999999@s.whatsapp.net"
                unread = Undecryptable(whatsapp_id=self.garbled[-1], chat=sender, sender=sender)
                self.harness.engine.garble(link, unread)

    async def _lift_lock(self) -> None:
        for link in self.harness.engine.links:
            self.harness.engine.lock_reach_out(link, active=False)

    async def _receive(self) -> None:
        self.written.append(f"text {len(self.written)}")
        self._deliver(self.written[-1])

    def _deliver(self, text: str) -> None:
        for link, far in self.harness.engine.links.items():
            if far.opened:
                self.harness.engine.receive(link, text=text, whatsapp_id=text)

    async def _cancel(self) -> None:
        if self.accepted:
            self._release()
            message = self.randomness.choice(self.accepted[-4:])
            with contextlib.suppress(HoldfastError):
                await self.harness.now(self.harness.messages.cancel(message.id))
                self.cancelled.add(message.id)

    async def _drop(self) -> None:
        for link in self.harness.engine.links:
            self.harness.engine.drop(link, code=self.randomness.choice([428, 408, 500, 503, 515]))

    async def _freeze(self) -> None:
        for link in self.harness.engine.links:
            self.harness.engine.freeze(link)

    async def _lose_host(self) -> None:
        if self.harness.engine.alive:
            self.harness.engine.lose_host()

    async def _fail_store(self) -> None:
        self._release()
        self.harness.database.failing = "disk full"
        self._deliver("never stored")
        await self.harness.wait(self.randomness.choice([0, 0.5, 20]))
        self.harness.database.failing = None

    async def _toggle_acks(self) -> None:
        self.harness.engine.acks = not self.harness.engine.acks

    async def _toggle_busy(self) -> None:
        errors = [None, "503", "500", "479", "463"]
        self.harness.engine.ack_error = None if self.harness.engine.ack_error else self.randomness.choice(errors)

    async def _ask(self) -> None:
        send_requests: list[events.Event] = [events.StopAsked(), events.StartAsked(), events.ReconnectAsked()]
        await self._requested_state(self.randomness.choice(send_requests))

    async def _requested_state(self, event: events.Event) -> None:
        self._release()
        with contextlib.suppress(HoldfastError):
            await self.harness.now(self.harness.gateway.ask(COMPANY, event))

    async def _wait(self) -> None:
        await self.harness.wait(self.randomness.choice([0.1, 1, 7, 40]))

    async def _heal(self) -> None:
        harness = self.harness
        await harness.quiet()
        harness.engine.acks, harness.engine.ack_error = True, None
        await harness.until(lambda: harness.engine.alive)
        await self._requested_state(events.StartAsked())
        await harness.wait(60)  # what is frozen is found out
        await harness.until_state("connected", within_s=120)
        await self._lift_lock()
        for message in self.accepted:
            if message.id not in self.cancelled:
                await self._until_settled(message)
        written = {*self.written, *self.garbled, "never stored"}
        for text in written:
            self._deliver(text)
        await harness.until(lambda: written <= set(self.confirmed))
        received = await harness.now(harness.inbox.received(COMPANY, after=0, limit=500))
        assert sorted(str(each.text) for each in received) == sorted(written)

    async def _until_settled(self, message: Message) -> None:
        """Wait until each message is sent, was reported in time as not to be sent, or was refused by WhatsApp
        for good.
        """
        found = await self.harness.message(message)
        if found.state == "expired":
            self.expired.add(message.id)
        elif found.error_code == "ack-479":
            self.refused.add(message.id)
        else:
            await self.harness.until_message(message, "sent")

    def check(self) -> None:
        """Check that nothing is lost, out of order, or sent although it was cancelled."""
        by_id = {message.whatsapp_id: message for message in self.accepted}
        first_arrivals = list(dict.fromkeys(send.whatsapp_id for send in self.arrived))
        came = [by_id[whatsapp_id] for whatsapp_id in first_arrivals]
        ids = {message.id for message in came}
        assert ids >= {each.id for each in self.accepted} - self.cancelled - self.expired - self.refused
        assert not ids & self.cancelled
        assert not ids & self.expired
        for chat in CHATS:
            in_chat = [message.seq for message in came if message.recipient == chat]
            assert in_chat == sorted(in_chat)


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_is_lost_duplicated_or_out_of_order(harness: GatewayHarness, seed: int) -> None:
    """Each accepted message arrives, in the order of its chat, unless cancelled, expired or refused. Each inbound one
    is stored once.
    """
    history = History(harness, seed)
    try:
        await history.live()
        history.check()
    except BaseException as error:
        error.add_note(f"what happened: {', '.join(history.steps)}")
        raise
