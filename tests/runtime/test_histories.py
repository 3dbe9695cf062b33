"""Histories by chance: whatever happens to links, hosts, the store and Holdfast itself, promises hold in the end."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from holdfast.base.errors import HoldfastError
from holdfast.delivery.ports import Message
from holdfast.engine.fake import FakeEngine
from holdfast.session import events
from holdfast.session.port import Send
from tests.world import COMPANY, World

CHATS = ["962790000001", "962790000002", "962790000003"]
STEPS = 40


class History:
    """One company's life: what chance does to it, and what must be true of it."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.told: list[str] = []
        """What happened, for whoever reads a failure."""
        self.accepted: list[Message] = []
        self.cancelled: set[str] = set()
        self.written: list[str] = []
        """Texts that people wrote to the company."""
        self.arrived: list[Send] = []
        self.confirmed: list[str] = []
        world.prepare = self._prepare

    def _prepare(self, engine: FakeEngine) -> None:
        engine.arrived = self.arrived
        engine.receipts_sent = self.confirmed

    async def live(self) -> None:
        """Three lives of Holdfast; the last has a good end without the help of a restart."""
        async with self.world.running():
            await self.world.pair()
            await self._suffer()
        async with self.world.running():
            await self._suffer()
        async with self.world.running():
            await self._suffer()
            await self._heal()

    async def _suffer(self) -> None:
        for _ in range(STEPS):
            happen = self.chance.choice(
                [
                    self._accept, self._accept, self._accept, self._receive, self._cancel, self._drop, self._freeze,
                    self._lose_host, self._fail_store, self._toggle_acks, self._toggle_busy, self._ask, self._wait,
                    self._hold, self._hold, self._heal_link, self._heal_link,
                ]
            )  # fmt: skip
            self.told.append(happen.__name__)
            await happen()
            await self._go_on()
        self._let_go()

    async def _go_on(self) -> None:
        """Until all is quiet, or only a little, so that the next thing happens amid the last."""
        if self.chance.random() < 0.5:
            for _ in range(self.chance.randrange(8)):
                await asyncio.sleep(0)
            return
        await self.world.quiet()
        assert len(self.world.engine.links) <= 1

    def _let_go(self) -> None:
        for door in self.world.doors:
            door.open()

    async def _hold(self) -> None:
        """Some kind of write takes its time."""
        self._let_go()
        self.chance.choice(self.world.doors).close()

    async def _heal_link(self) -> None:
        """A while in which links stay up."""
        self._let_go()
        self.world.engine.acks, self.world.engine.ack_error = True, None
        await self._wish(events.StartAsked())
        await self.world.wait(self.chance.choice([0.5, 3]))

    async def _accept(self) -> None:
        with contextlib.suppress(HoldfastError, OSError):
            self.accepted.append(await self.world.send(f"{len(self.accepted)}", to=self.chance.choice(CHATS)))

    async def _receive(self) -> None:
        self.written.append(f"text {len(self.written)}")
        self._deliver(self.written[-1])

    def _deliver(self, text: str) -> None:
        for link, far in self.world.engine.links.items():
            if far.opened:
                self.world.engine.receive(link, text=text, whatsapp_id=text)

    async def _cancel(self) -> None:
        if self.accepted:
            self._let_go()
            message = self.chance.choice(self.accepted[-4:])
            with contextlib.suppress(HoldfastError):
                await self.world.now(self.world.gateway.cancel(message.id))
                self.cancelled.add(message.id)

    async def _drop(self) -> None:
        for link in self.world.engine.links:
            self.world.engine.drop(link, code=self.chance.choice([428, 408, 500, 503, 515]))

    async def _freeze(self) -> None:
        for link in self.world.engine.links:
            self.world.engine.freeze(link)

    async def _lose_host(self) -> None:
        if self.world.engine.alive:
            self.world.engine.lose_host()

    async def _fail_store(self) -> None:
        self._let_go()
        self.world.database.failing = "disk full"
        self._deliver("never stored")
        await self.world.wait(self.chance.choice([0, 0.5, 20]))
        self.world.database.failing = None

    async def _toggle_acks(self) -> None:
        self.world.engine.acks = not self.world.engine.acks

    async def _toggle_busy(self) -> None:
        self.world.engine.ack_error = None if self.world.engine.ack_error else "503"

    async def _ask(self) -> None:
        wishes: list[events.Event] = [events.StopAsked(), events.StartAsked(), events.ReconnectAsked()]
        await self._wish(self.chance.choice(wishes))

    async def _wish(self, event: events.Event) -> None:
        self._let_go()
        with contextlib.suppress(HoldfastError):
            await self.world.now(self.world.gateway.ask(COMPANY, event))

    async def _wait(self) -> None:
        await self.world.wait(self.chance.choice([0.1, 1, 7, 40]))

    async def _heal(self) -> None:
        world = self.world
        await world.quiet()
        world.engine.acks, world.engine.ack_error = True, None
        await world.until(lambda: world.engine.alive)
        await self._wish(events.StartAsked())
        await world.wait(60)  # what is frozen is found out
        await world.until_state("connected", within_s=120)
        for message in self.accepted:
            if message.id not in self.cancelled:
                await world.until_message(message, "sent")
        self._deliver("never stored")
        for text in self.written:
            self._deliver(text)
        await world.until(lambda: {*self.written, "never stored"} <= set(self.confirmed))
        received = await world.now(world.gateway.received(COMPANY, after=0, most=500))
        texts = [each.text for each in received]
        assert sorted(texts, key=str) == sorted({*self.written, "never stored"})

    def check(self) -> None:
        """Nothing lost, nothing out of order, nothing that was taken back."""
        by_id = {message.whatsapp_id: message for message in self.accepted}
        first_arrivals = list(dict.fromkeys(send.whatsapp_id for send in self.arrived))
        came = [by_id[whatsapp_id] for whatsapp_id in first_arrivals]
        assert {message.id for message in came} == {each.id for each in self.accepted} - self.cancelled
        for chat in CHATS:
            in_chat = [message.seq for message in came if message.recipient == chat]
            assert in_chat == sorted(in_chat)


@pytest.mark.parametrize("seed", range(8))
async def test_nothing_is_lost_doubled_or_out_of_order_whatever_happens(world: World, seed: int) -> None:
    """Each accepted message arrives, in the order of its chat, unless cancelled; each inbound one is kept once."""
    history = History(world, seed)
    try:
        await history.live()
        history.check()
    except BaseException as error:
        error.add_note(f"what happened: {', '.join(history.told)}")
        raise
