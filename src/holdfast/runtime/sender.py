"""The outbox sender of one session: gives the engine what may leave, and learns from acks what became of it.

A message is committed as `sending` before the engine is told – in the transaction that accepts it, where its chat is
idle and nothing holds it. What was under way when the link died is sent again, under the same id, as soon as there is
a link: the outcome is settled by WhatsApp's answer, never by a guess.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime

from holdfast.base.clock import Clock, iso
from holdfast.base.errors import HoldfastError
from holdfast.delivery.chats import Chats, Entry
from holdfast.delivery.message import GiveUp, HoldBack, News, Retry, Verdict, judge_ack_error, judge_refusal
from holdfast.delivery.ports import (
    BULK,
    Accepted,
    Change,
    Content,
    Draft,
    MediaFiles,
    Outbox,
    Outgoing,
)
from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.runtime.restraint import Restraint
from holdfast.session.engine import Acked, InboundMessage, LinkId, ReachOutLocked, Receipted, Send, SendRefused, Written

log = logging.getLogger(__name__)

MOST_UNDER_WAY = 20
"""Messages of one session that an engine holds at a time, each of another chat."""
MOST_LOADED = 1000
"""Messages of one session that are known in memory; the outbox may hold many more."""
MOST_KEPT = 20_000
"""The same while those that are known can't leave – to one slow chat, or to strangers – and others may stand behind."""
UNANSWERED_S = 30
"""A message without an ack for so long is sent again under its id, on a link that acks others."""
UNWRITTEN_S = 900
"""The same for one that the engine has not made a frame of: large media take long on a slow line."""
SUSPECT_AFTER, CONDEMNED_AFTER = 3, 5
"""Hosts that died with a message under way, until it is sent alone; and, alone, until it is given up."""
_RECEIPTS = {"delivered": News.DELIVERED, "read": News.READ, "played": News.PLAYED}
_TYPED_MS, _LEAST_TYPED_MS, _MOST_TYPED_MS = 40, 600, 4000
"""A letter takes so long to type; a whole message at least and at most."""


class OutboxSender:
    def __init__(
        self,
        company: str,
        *,
        outbox: Outbox,
        restraint: Restraint,
        files: MediaFiles,
        hub: EngineSupervisor,
        clock: Clock,
        waited: Callable[[float | None], None],
    ) -> None:
        """`waited` hears since when (monotonic seconds) the link has acked nothing while a send waited for it, whenever
        that changes; None while nothing waits."""
        self._company = company
        self._outbox = outbox
        self._restraint = restraint
        self._files = files
        self._hub = hub
        self._clock = clock
        self._waited = waited
        self._chats = Chats(most_under_way=MOST_UNDER_WAY)
        self._errors: dict[str, Counter[str]] = {}
        """By WhatsApp id and code: how often a message that is still to be sent was answered with an error."""
        self._deaths: Counter[str] = Counter()
        """By WhatsApp id: engine hosts that died while it was under way."""
        self._loaded_to = self._urgent_to = 0
        self._is_behind = True
        """The outbox may have messages that were not loaded."""
        self._is_loading = False
        self._is_starved = False
        """All of what is known that may leave has left, and the engine would take more."""
        self._urgent_wanted = False
        """Among them may be some that should not wait for those before them."""
        self._unmet: set[str] = set()
        """Chats of which it is to be asked whether they are known."""
        self._storing: Counter[str] = Counter()
        """Messages that are being accepted, by chat."""
        self._late_wanted = False
        self._next_expiry: float | None = None
        self._link: LinkId | None = None
        self._told_since: float | None = None
        self.acked_at: float | None = None
        """When WhatsApp last acked a message, in monotonic seconds."""
        self._tasks: asyncio.TaskGroup | None = None
        self._wake = asyncio.Event()
        self._news: list[Change] = []
        self._untold: Counter[str] = Counter()
        """By WhatsApp id: news that is not stored yet; until then its row says that it is to be sent."""
        self._learners: list[asyncio.Future[None]] = []
        self._news_came = asyncio.Event()

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._send_all(), name=f"outbox {self._company}")
            self._tasks.create_task(self._learn_all(), name=f"acks {self._company}")

    # Accepting.

    async def accept(self, draft: Draft) -> Accepted:
        """Store a message; one that may leave at once is `sending` when that returns, and the engine has it."""
        entry = _entry(draft)
        at_once = self._reserve(entry)
        self._storing[draft.chat] += 1
        try:
            accepted = await self._outbox.accept(draft, begin=at_once)
        except BaseException:
            if at_once:
                self._chats.give_back(draft.chat)
            self.look_again()  # it may have been stored all the same
            raise
        finally:
            self._storing[draft.chat] -= 1
            if not self._storing[draft.chat]:
                del self._storing[draft.chat]
        entry = _entry(draft, seq=accepted.message.seq)
        if accepted.has_begun:
            self._begun(entry, draft.content)
        else:
            self._not_begun(entry, reserved=at_once, is_new=accepted.is_new)
        self._expect_expiry(draft.expires_at)
        return accepted

    def _reserve(self, entry: Entry) -> bool:
        """May this message leave as soon as it is stored? Then its chat's turn is kept for it."""
        if self._link is None or self._is_behind or self._is_loading or self._storing[entry.chat] or self._suspect:
            return False
        if not self._restraint.knows(entry.chat) or not self._chats.reserve(entry.chat):
            return False
        if self._restraint.admit(entry):
            return True
        self._chats.give_back(entry.chat)
        return False

    def _begun(self, entry: Entry, content: Content) -> None:
        self._chats.begin(entry, self._clock.monotonic(), answered_later=_is_slow(content))
        if self._link is None:
            self._chats.put_back(entry.whatsapp_id, until=self._clock.monotonic())
            self._wake.set()
        else:
            self._give(self._link, Outgoing(entry=entry, content=content, attempts=1))
        self._tell_wait()

    def _not_begun(self, entry: Entry, *, reserved: bool, is_new: bool) -> None:
        if reserved:
            self._chats.give_back(entry.chat)
        if is_new and (self._is_behind or self._is_loading or len(self._chats) >= MOST_LOADED):
            self._is_behind = True  # what a load under way passes over must not be taken for loaded
            self._urgent_wanted |= not entry.is_bulk
        elif is_new:
            self._add(entry)
            self._loaded_to = max(self._loaded_to, entry.seq)
        self._wake.set()

    def _expect_expiry(self, at: str | None) -> None:
        if at is None:
            return
        left = datetime.fromisoformat(at) - self._clock.now()
        moment = self._clock.monotonic() + left.total_seconds()
        self._next_expiry = moment if self._next_expiry is None else min(self._next_expiry, moment)
        self._wake.set()

    # What others tell.

    def look_again(self) -> None:
        """There may be messages that another process accepted: not all of them behind those already loaded."""
        self._late_wanted = self._is_behind = self._urgent_wanted = True
        self._next_expiry = self._clock.monotonic()  # they may expire
        self._wake.set()

    def forget(self, whatsapp_id: str) -> None:
        """This message is not to be sent any more, and did not arrive."""
        entry = self._chats.entry(whatsapp_id)
        self._chats.settle(whatsapp_id)
        if entry is not None and not self._chats.is_busy(entry.chat):
            self._restraint.failed(entry.chat)
        self._errors.pop(whatsapp_id, None)
        self._deaths.pop(whatsapp_id, None)
        self._wake.set()

    def link_up(self, link: LinkId) -> None:
        self._link = link
        self._wake.set()

    def link_down(self) -> None:
        self._link = None
        self._chats.lose_link()
        self._told_since = None

    def host_lost(self) -> None:
        """The engine host died, perhaps of a message. One that is under way whenever a host dies would end them all,
        with every company's links, for as long as it is sent again."""
        for whatsapp_id in self._chats.handed_by(self._clock.monotonic()):
            self._deaths[whatsapp_id] += 1
            if self._deaths[whatsapp_id] >= CONDEMNED_AFTER:
                sentence = (
                    f"{CONDEMNED_AFTER} engine hosts ended while this message was under way, some of them alone with it"
                )
                self._settle(whatsapp_id, News.GIVEN_UP, code="engine-ended", sentence=sentence)

    @property
    def _suspect(self) -> str | None:
        """The message that is sent alone, because hosts died with it."""
        suspects = (each for each, deaths in self._deaths.items() if deaths >= SUSPECT_AFTER)
        return next(suspects, None)

    def _admit(self, entry: Entry) -> bool:
        return not self._is_kept_apart(entry) and self._restraint.admit(entry)

    def _is_kept_apart(self, entry: Entry) -> bool:
        """The suspect leaves when nothing is under way, and others not before it; unless it could not leave anyhow."""
        suspect = self._suspect
        if suspect is None:
            return False
        if suspect == entry.whatsapp_id:
            return self._chats.handed_since is not None
        waits = self._chats.entry(suspect)
        if waits is None or not self._chats.could_leave(suspect):
            return self._chats.is_under_way(suspect)
        return not self._restraint.holds(waits)

    def hear_received(self, messages: Sequence[InboundMessage]) -> None:
        """Whoever writes to the company is known to it."""
        self._restraint.know(message.chat for message in messages if not message.from_me)

    def hear_lock(self, lock: ReachOutLocked) -> None:
        """WhatsApp told of its lock on messages to new contacts."""
        self._spawn(self._follow_lock(lock))

    def hear_ban(self, for_s: float) -> None:
        """The number was banned for a time; after it, less is sent."""
        self._spawn(self._restraint.tighten(for_s=for_s))

    def hear_written(self, written: Written) -> None:
        self._chats.written(written.whatsapp_id, self._clock.monotonic())
        self._tell_wait()

    def hear_ack(self, ack: Acked) -> None:
        self.acked_at = self._clock.monotonic()
        if ack.error is None:
            self._settle(ack.whatsapp_id, News.ACKED)
            return
        log.info("Connection %s: WhatsApp answered a message with error %s", self._company, ack.error)
        verdict = judge_ack_error(ack.error, attempts=self._failed_attempts(ack.whatsapp_id, ack.error))
        self._follow(ack.whatsapp_id, verdict, code=f"ack-{ack.error}")

    def hear_refusal(self, refusal: SendRefused) -> None:
        attempts = self._failed_attempts(refusal.whatsapp_id, refusal.code)
        verdict = judge_refusal(refusal.code, refusal.detail, attempts=attempts)
        if isinstance(verdict, Retry) and refusal.code != "link-down":  # that is told of the session
            words = "Connection %s: a message could not be handed over (%s, try %d); again in %.0f s"
            log.info(words, self._company, refusal.code, attempts, verdict.after_s)
        self._follow(refusal.whatsapp_id, verdict, code=refusal.code)

    def hear_receipt(self, receipt: Receipted) -> None:
        news = _RECEIPTS.get(receipt.kind)
        if news is None:
            log.warning("Connection %s: a receipt of the unknown kind %r", self._company, receipt.kind)
            return
        for whatsapp_id in receipt.whatsapp_ids:
            self._settle(whatsapp_id, news)

    async def account_changed(self) -> None:
        """The operator set other limits."""
        await self._restraint.load()
        self._wake.set()

    def learned(self) -> Awaitable[None]:
        """Its end is that everything that was heard before is durable; begins at once."""
        learner: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._learners.append(learner)
        self._news_came.set()
        return learner

    def _failed_attempts(self, whatsapp_id: str, code: str) -> int:
        """In this way, with the one just heard of. Links that died say nothing against a message: they do not count."""
        errors = self._errors.get(whatsapp_id, Counter())
        errors[code] += 1
        if whatsapp_id in self._chats:
            self._errors[whatsapp_id] = errors
        return errors[code]

    def _follow(self, whatsapp_id: str, verdict: Verdict, *, code: str) -> None:
        match verdict:
            case Retry(after_s=after_s):
                self._chats.put_back(whatsapp_id, until=self._clock.monotonic() + after_s)
                self._tell_wait()
                self._wake.set()
            case GiveUp(sentence=sentence):
                self._settle(whatsapp_id, News.GIVEN_UP, code=code, sentence=sentence)
            case HoldBack():
                self._hold_back(whatsapp_id)

    def _hold_back(self, whatsapp_id: str) -> None:
        """At once, so that nothing begins it before its row says what holds it. A stranger's chat waits for the lock's
        end, or until it is known; one that is known was refused all the same and rests."""
        entry = self._chats.entry(whatsapp_id)
        if entry is None:
            return
        until = self._restraint.lock()
        is_known = self._restraint.knows(entry.chat)
        self._chats.put_back(whatsapp_id, until=until if is_known else self._clock.monotonic())
        self._errors.pop(whatsapp_id, None)
        self._spawn(self._keep_hold(whatsapp_id, until))
        self._tell_wait()

    async def _keep_hold(self, whatsapp_id: str, until: float) -> None:
        await self._restraint.hold_back([whatsapp_id], until)
        await self._restraint.keep_lock()
        self._wake.set()

    async def _follow_lock(self, lock: ReachOutLocked) -> None:
        if lock.active:
            self._restraint.lock(until_s=lock.until_s)
            await self._restraint.keep_lock()
        else:
            await self._restraint.unlock()
            self._chats.rouse()
        self._wake.set()

    def _settle(self, whatsapp_id: str, news: News, *, code: str | None = None, sentence: str | None = None) -> None:
        at = iso(self._clock.now())
        entry = self._chats.entry(whatsapp_id)
        makes_known = entry is not None and news is not News.GIVEN_UP and not self._restraint.knows(entry.chat)
        if entry is not None and makes_known:
            self._restraint.acked(entry.chat)
        elif entry is not None:
            self._restraint.failed(entry.chat)
        self._untold[whatsapp_id] += 1
        self._news.append(
            Change(whatsapp_id=whatsapp_id, news=news, at=at, error_code=code, error=sentence, makes_known=makes_known)
        )
        self._news_came.set()
        self._chats.settle(whatsapp_id)
        self._errors.pop(whatsapp_id, None)
        self._deaths.pop(whatsapp_id, None)
        self._tell_wait()
        self._wake.set()

    def _tell_wait(self) -> None:
        since = self._chats.unacked_since
        if since is not None and self.acked_at is not None:
            since = max(since, self.acked_at)
        if self._link is not None and since != self._told_since:
            self._told_since = since
            self._waited(since)

    # Sending.

    async def _send_all(self) -> None:
        await self._restraint.load()
        self._expect_expiry(await self._outbox.next_expiry(self._company))
        while True:
            async with self._clock.until(self._wakes_at()):
                await self._wake.wait()
            self._wake.clear()
            await self._expire()
            self._put_back_unanswered()
            if self._link is not None:
                await self._load()
            if self._link is not None:
                await self._hand_over(self._link)

    def _wakes_at(self) -> float | None:
        moments = [self._next_expiry]
        if self._link is not None:
            unacked, handed = self._chats.unacked_since, self._chats.handed_since
            moments += [
                self._chats.wakes_at,
                self._restraint.wakes_at,
                None if unacked is None else unacked + UNANSWERED_S,
                None if handed is None else handed + UNWRITTEN_S,
            ]
        return min((moment for moment in moments if moment is not None), default=None)

    async def _expire(self) -> None:
        if self._next_expiry is None or self._next_expiry > self._clock.monotonic():
            return
        for message in await self._outbox.expire(self._company, at=iso(self._clock.now())):
            self.forget(message.whatsapp_id)
        self._next_expiry = None
        self._expect_expiry(await self._outbox.next_expiry(self._company))

    def _put_back_unanswered(self) -> None:
        now = self._clock.monotonic()
        for seconds, overdue in (
            (UNANSWERED_S, self._chats.unanswered_by(now - UNANSWERED_S)),
            (UNWRITTEN_S, self._chats.handed_by(now - UNWRITTEN_S)),
        ):
            for whatsapp_id in overdue:
                log.info("Connection %s: a message has had no ack for %d s; it is sent again", self._company, seconds)
                self._chats.put_back(whatsapp_id, until=now)

    async def _load(self) -> None:
        """What the outbox has and memory has not: the oldest, and urgent messages from behind them."""
        self._is_loading = True
        try:
            if self._is_behind and (self._is_starved or len(self._chats) <= MOST_LOADED // 2):
                self._is_behind = False
                await self._load_late()
                await self._load_oldest(MOST_LOADED if self._is_starved else MOST_LOADED - len(self._chats))
            if self._is_behind and self._urgent_wanted:
                self._urgent_wanted = False
                await self._load_urgent()
        finally:
            self._is_loading = False

    async def _load_oldest(self, room: int) -> None:
        entries = await self._outbox.open_entries(self._company, after=self._loaded_to, most=room)
        for entry in entries:
            self._loaded_to = max(self._loaded_to, entry.seq)
            self._add(entry)
        if len(entries) >= room:
            self._is_behind = self._urgent_wanted = True

    async def _load_urgent(self) -> None:
        """With what is to be sent before them in their chats."""
        after = max(self._urgent_to, self._loaded_to)
        for entry in await self._outbox.urgent_entries(self._company, after=after, most=MOST_LOADED):
            self._add(entry)
            if not entry.is_bulk:
                self._urgent_to = max(self._urgent_to, entry.seq)

    async def _load_late(self) -> None:
        """Numbers are given before the commit: another process's message may come in behind a later one."""
        wanted, self._late_wanted = self._late_wanted, False
        if wanted:
            for entry in await self._outbox.late_entries(self._company, up_to=self._loaded_to, most=MOST_LOADED):
                self._add(entry)

    def _add(self, entry: Entry) -> None:
        if entry.whatsapp_id in self._chats or entry.whatsapp_id in self._untold:
            return
        self._chats.add(entry)
        if not self._restraint.knows(entry.chat):
            self._unmet.add(entry.chat)

    async def _hand_over(self, link: LinkId) -> None:
        unmet, self._unmet = self._unmet, set()
        await self._restraint.meet(unmet)
        may_leave = self._restraint.begin()
        now = self._clock.monotonic()
        entries = list(self._chats.take(now, admit=self._admit)) if may_leave else []
        self._is_starved = may_leave and not self._chats.is_full and len(self._chats) < MOST_KEPT
        await self._restraint.note_held()
        if self._is_starved and self._is_behind:
            self._wake.set()
        if not entries:
            return
        outgoing = await self._outbox.begin(self._company, entries)
        self._drop_missing(entries, outgoing)
        for message in outgoing:
            if _is_slow(message.content):
                self._chats.wait_for_engine(message.entry.whatsapp_id)
            self._give(link, message)
        self._tell_wait()

    def _give(self, link: LinkId, message: Outgoing) -> None:
        if message.made is None and _has_media(message.content):
            self._spawn(self._give_media(link, message))
        else:
            self._command(link, message, message.content)

    async def _give_media(self, link: LinkId, message: Outgoing) -> None:
        try:
            content = await self._files.content_for_engine(message.content)
        except HoldfastError as error:
            self._settle(message.entry.whatsapp_id, News.GIVEN_UP, code=error.code, sentence=error.sentence)
            return
        self._command(link, message, content)

    def _command(self, link: LinkId, message: Outgoing, content: Content) -> None:
        entry = message.entry
        if self._link != link or not self._chats.is_under_way(entry.whatsapp_id):
            return  # a link that died meanwhile has nothing under way
        content = {name: value for name, value in content.items() if name != "typing"}
        self._hub.command(
            Send(
                link=link,
                whatsapp_id=entry.whatsapp_id,
                to=entry.chat,
                content=content,
                made=message.made,
                typing_ms=_typing_ms(message),
            )
        )

    def _drop_missing(self, entries: Sequence[Entry], outgoing: Sequence[Outgoing]) -> None:
        """Messages that were cancelled, settled or expired since they were loaded."""
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
                self._untold -= Counter(change.whatsapp_id for change in news)
            for learner in learners:
                if not learner.done():
                    learner.set_result(None)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._tasks is None:
            work.close()
            return
        try:
            self._tasks.create_task(work, name=f"delivery {self._company}")
        except RuntimeError:
            work.close()  # this sender has failed meanwhile; its successor finds in the rows what is to be sent


def _entry(draft: Draft, *, seq: int = 0) -> Entry:
    return Entry(seq=seq, id=draft.id, whatsapp_id=draft.whatsapp_id, chat=draft.chat, is_bulk=draft.priority >= BULK)


def _has_media(content: Content) -> bool:
    return any(isinstance(part, dict) and "media" in part for part in content.values())


def _is_slow(content: Content) -> bool:
    """Will the engine need long before there is a frame?"""
    return _has_media(content) or bool(content.get("typing"))


def _typing_ms(message: Outgoing) -> int:
    """How long the recipient is shown "typing", at the first try."""
    if not message.content.get("typing") or message.attempts > 1:
        return 0
    text = message.content.get("text")
    letters = len(text) if isinstance(text, str) else 0
    return min(max(letters * _TYPED_MS, _LEAST_TYPED_MS), _MOST_TYPED_MS)
