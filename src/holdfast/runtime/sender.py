"""The outbox sender of one session: gives the engine what may leave, and learns from acks what became of it.

A message is committed as `sending` before the engine is told. What was under way when the link died is sent again,
under the same id, as soon as there is a link: the outcome is settled by WhatsApp's answer, never by a guess.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from holdfast.base.clock import Clock, iso
from holdfast.delivery.chats import Chats, Entry
from holdfast.delivery.message import GiveUp, News, Retry, judge_ack_error, judge_refusal
from holdfast.delivery.ports import Change, Outbox, Outgoing
from holdfast.runtime.hub import EngineHub
from holdfast.session.port import Acked, LinkId, Receipted, Send, SendRefused

log = logging.getLogger(__name__)

MOST_UNDER_WAY = 20
"""Messages of one session that an engine holds at a time, each of another chat."""
MOST_LOADED = 1000
"""Messages of one session that are known in memory; the outbox may hold many more."""
UNANSWERED_S = 30
"""A message without an ack for so long is sent again under its id, on a link that acks others."""
_RECEIPTS = {"delivered": News.DELIVERED, "read": News.READ, "played": News.PLAYED}


class OutboxSender:
    def __init__(
        self,
        company: str,
        *,
        outbox: Outbox,
        hub: EngineHub,
        clock: Clock,
        waited: Callable[[float | None], None],
    ) -> None:
        """`waited` hears since when (monotonic seconds) the link has acked nothing while a send waited for it, whenever
        that changes; None while nothing waits."""
        self._company = company
        self._outbox = outbox
        self._hub = hub
        self._clock = clock
        self._waited = waited
        self._chats = Chats(most_under_way=MOST_UNDER_WAY)
        self._errors: dict[str, int] = {}
        """By WhatsApp id: how often a message that is still to be sent was answered with an error."""
        self._loaded_to = 0
        self._late_wanted = False
        self._link: LinkId | None = None
        self._told_since: float | None = None
        self.acked_at: float | None = None
        """When WhatsApp last acked a message, in monotonic seconds."""
        self._wake = asyncio.Event()
        self._news: list[Change] = []
        self._learners: list[asyncio.Future[None]] = []
        self._news_came = asyncio.Event()

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_all(), name=f"outbox {self._company}")
            tasks.create_task(self._learn_all(), name=f"acks {self._company}")

    def accepted(self) -> None:
        """There is something new in the outbox."""
        self._wake.set()

    def look_again(self) -> None:
        """There may be messages that another process accepted: not all of them behind those already loaded."""
        self._late_wanted = True
        self._wake.set()

    def forget(self, whatsapp_id: str) -> None:
        """This message is not to be sent any more."""
        self._chats.settle(whatsapp_id)
        self._wake.set()

    def link_up(self, link: LinkId) -> None:
        self._link = link
        self._wake.set()

    def link_down(self) -> None:
        self._link = None
        self._chats.lose_link()
        self._told_since = None

    def hear_ack(self, ack: Acked) -> None:
        self.acked_at = self._clock.monotonic()
        if ack.error is None:
            self._settle(ack.whatsapp_id, News.ACKED)
            return
        log.info("Connection %s: WhatsApp answered a message with error %s", self._company, ack.error)
        verdict = judge_ack_error(ack.error, attempts=self._failed_attempts(ack.whatsapp_id))
        self._follow(ack.whatsapp_id, verdict, code=f"ack-{ack.error}")

    def hear_refusal(self, refusal: SendRefused) -> None:
        attempts = self._failed_attempts(refusal.whatsapp_id)
        verdict = judge_refusal(refusal.code, refusal.detail, attempts=attempts)
        self._follow(refusal.whatsapp_id, verdict, code=refusal.code)

    def hear_receipt(self, receipt: Receipted) -> None:
        news = _RECEIPTS.get(receipt.kind)
        if news is None:
            log.warning("Connection %s: a receipt of the unknown kind %r", self._company, receipt.kind)
            return
        for whatsapp_id in receipt.whatsapp_ids:
            self._settle(whatsapp_id, news)

    async def learned(self) -> None:
        """Returns when everything that was heard before is durable."""
        learner = asyncio.get_running_loop().create_future()
        self._learners.append(learner)
        self._news_came.set()
        await learner

    def _failed_attempts(self, whatsapp_id: str) -> int:
        """With the one just heard of. Links that died say nothing against a message and are not counted."""
        errors = self._errors.get(whatsapp_id, 0) + 1
        if whatsapp_id in self._chats:
            self._errors[whatsapp_id] = errors
        return errors

    def _follow(self, whatsapp_id: str, verdict: Retry | GiveUp, *, code: str) -> None:
        match verdict:
            case Retry(after_s=after_s):
                self._chats.put_back(whatsapp_id, until=self._clock.monotonic() + after_s)
                self._tell_wait()
                self._wake.set()
            case GiveUp(sentence=sentence):
                self._settle(whatsapp_id, News.GIVEN_UP, code=code, sentence=sentence)

    def _settle(self, whatsapp_id: str, news: News, *, code: str | None = None, sentence: str | None = None) -> None:
        at = iso(self._clock.now())
        self._news.append(Change(whatsapp_id=whatsapp_id, news=news, at=at, error_code=code, error=sentence))
        self._news_came.set()
        self._chats.settle(whatsapp_id)
        self._errors.pop(whatsapp_id, None)
        self._tell_wait()
        self._wake.set()

    def _tell_wait(self) -> None:
        since = self._chats.unacked_since
        if since is not None and self.acked_at is not None:
            since = max(since, self.acked_at)
        if self._link is not None and since != self._told_since:
            self._told_since = since
            self._waited(since)

    async def _send_all(self) -> None:
        while True:
            async with self._clock.until(self._wakes_at()):
                await self._wake.wait()
            self._wake.clear()
            self._put_back_unanswered()
            if self._link is not None:
                await self._load()
                await self._load_late()
            if self._link is not None:
                await self._hand_over(self._link)

    def _wakes_at(self) -> float | None:
        if self._link is None:
            return None
        unacked_since = self._chats.unacked_since
        unanswered_at = None if unacked_since is None else unacked_since + UNANSWERED_S
        return min((time for time in (self._chats.wakes_at, unanswered_at) if time is not None), default=None)

    def _put_back_unanswered(self) -> None:
        now = self._clock.monotonic()
        for whatsapp_id in self._chats.handed_by(now - UNANSWERED_S):
            log.info("Connection %s: a message has had no ack for %d s; it is sent again", self._company, UNANSWERED_S)
            self._chats.put_back(whatsapp_id, until=now)

    async def _load(self) -> None:
        room = MOST_LOADED - len(self._chats)
        if room < MOST_LOADED // 2:
            return
        entries = await self._outbox.open_entries(self._company, after=self._loaded_to, most=room)
        for entry in entries:
            self._loaded_to = entry.seq
            self._chats.add(entry)

    async def _load_late(self) -> None:
        """Numbers are given before the commit: another process's message may come in behind a later one."""
        wanted, self._late_wanted = self._late_wanted, False
        if not wanted:
            return
        for entry in await self._outbox.late_entries(self._company, up_to=self._loaded_to, most=MOST_LOADED):
            if entry.whatsapp_id not in self._chats:
                self._chats.add(entry)

    async def _hand_over(self, link: LinkId) -> None:
        entries = list(self._chats.take(self._clock.monotonic()))
        if not entries:
            return
        outgoing = await self._outbox.begin(self._company, entries)
        self._drop_missing(entries, outgoing)
        for message in outgoing:
            entry = message.entry
            if self._chats.is_under_way(entry.whatsapp_id):  # a link that died meanwhile has nothing under way
                self._hub.command(
                    Send(link=link, whatsapp_id=entry.whatsapp_id, to=entry.chat, content=message.content)
                )
        self._tell_wait()

    def _drop_missing(self, entries: Sequence[Entry], outgoing: Sequence[Outgoing]) -> None:
        """Messages that were cancelled or settled since they were loaded."""
        kept = {message.entry.id for message in outgoing}
        for entry in entries:
            if entry.id not in kept:
                self.forget(entry.whatsapp_id)

    async def _learn_all(self) -> None:
        while True:
            await self._news_came.wait()
            self._news_came.clear()
            news, self._news = self._news, []
            learners, self._learners = self._learners, []
            if news:
                await self._outbox.learn(self._company, news)
            for learner in learners:
                if not learner.done():
                    learner.set_result(None)
