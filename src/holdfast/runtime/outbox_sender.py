"""The outbox sender of one session: gives the engine what is due, and records what WhatsApp answers.

A message is committed as `sending` before the engine gets it: in the transaction that accepts it where its chat is idle
and nothing holds it, or when it is taken from the queue. What was in flight when the link ended is due again at once,
under the same id: WhatsApp's answer settles the outcome, never a guess. Memory holds only what is in flight; all that
waits is in the outbox, whoever accepted it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta

from holdfast.base.clock import Clock, iso, to_monotonic
from holdfast.base.errors import HoldfastError
from holdfast.delivery.breaker import Breaker
from holdfast.delivery.in_flight import InFlight
from holdfast.delivery.message import (
    CLOSE_POINTS,
    CRASH_POINTS,
    RETRY_FOR_DAYS,
    AckDecision,
    GiveUp,
    HoldBack,
    Retry,
    StatusUpdate,
    is_condemned,
    is_suspect,
    judge_ack_error,
    judge_refusal,
)
from holdfast.delivery.rate_limits import Allowance, Contact
from holdfast.delivery.stores import (
    BULK,
    Accepted,
    Content,
    Deferral,
    Draft,
    MediaFiles,
    MessageChange,
    Outbox,
    Outgoing,
)
from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.runtime.rate_limiter import RateLimiter
from holdfast.runtime.send_shares import MOST, SendShares
from holdfast.session.engine import Acked, InboundMessage, LinkId, NewChatsLocked, Receipted, Send, SendRefused, Written

log = logging.getLogger(__name__)

UNANSWERED_S = 30
"""A message without an ack for so long is sent again under its id, on a link that acks others."""
UNWRITTEN_S = 900
"""The same for one that the engine has not made a frame of: large media take long on a slow line."""
_CLOSE_SUSPICION_S = 10
"""A link that is closed so soon after a frame left may have ended because of it."""
_SUSPECT_WAITS_S = 30
"""A suspect that has waited so long for a moment in which nothing else is due gets one."""
_CLOCK_STEP_S = 5
"""The wall clock moved by more than this against the monotonic one: somebody set it."""
_LINK_DOWN = "link-down"
_NOT_HANDED_OVER = "the link ended before the message was handed over"
_RECEIPTS = {"delivered": StatusUpdate.DELIVERED, "read": StatusUpdate.READ, "played": StatusUpdate.PLAYED}
_TYPING_MS_PER_CHARACTER, _LEAST_TYPING_MS, _MOST_TYPING_MS = 40, 600, 4000


class OutboxSender:
    def __init__(
        self,
        company: str,
        *,
        outbox: Outbox,
        limiter: RateLimiter,
        shares: SendShares,
        files: MediaFiles,
        supervisor: EngineSupervisor,
        clock: Clock,
        jitter: Callable[[], float],
        waited: Callable[[float | None], None],
    ) -> None:
        """`waited` is called with the time (monotonic seconds) since which a send has waited for an ack while the link
        acked nothing, whenever that changes; None while nothing waits."""
        self._company = company
        self._outbox = outbox
        self._limiter = limiter
        self._shares = shares
        self._files = files
        self._supervisor = supervisor
        self._clock = clock
        self._waited = waited
        self._in_flight = InFlight(most=MOST)
        self._breaker = Breaker(jitter=jitter)
        self._link: LinkId | None = None
        self._has_backlog = True
        """The outbox may hold messages that are not in flight."""
        self._may_be_due = True
        """Some of them may be due and allowed: none that is accepted now may overtake them."""
        self._looks = 0
        """How often somebody asked for a look at the queue."""
        self._due_at: float | None = None
        """When the next chat that rests becomes due."""
        self._suspect_since: float | None = None
        """Since when a message that may end links is due and waits for others."""
        self._next_expiry: float | None = None
        self._reported_wait: float | None = None
        self.acked_at: float | None = None
        """When WhatsApp last acked a message, in monotonic seconds."""
        self._updates: list[MessageChange | Deferral] = []
        self._barriers: list[asyncio.Future[None]] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._wake = asyncio.Event()
        self._wall_offset = self._offset()

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._limiter.load()
            self._expect_expiry(await self._outbox.next_expiry(self._company))
            while True:
                async with self._clock.until(self._wakes_at()):
                    await self._wake.wait()
                self._wake.clear()
                await self._round()

    # Accepting.

    async def accept(self, draft: Draft) -> Accepted:
        """Store a message; one that may leave at once is `sending` when this returns, and the engine has it."""
        at_once = self._may_leave_at_once(draft)
        if at_once:
            self._in_flight.reserve(draft.whatsapp_id)
        try:
            accepted = await self._outbox.accept(draft, begin=at_once)
        except BaseException:
            self._in_flight.release(draft.whatsapp_id)
            self.look_again()  # it may have been stored all the same
            raise
        if accepted.has_begun:
            self._begun(_outgoing(draft, accepted))
        else:
            self._in_flight.release(draft.whatsapp_id)
            self._look()
        self._expect_expiry(draft.expires_at)
        return accepted

    def _may_leave_at_once(self, draft: Draft) -> bool:
        """Only where nothing that is due is overtaken; the store looks whether the chat is idle and known."""
        if self._link is None or self._may_be_due or self._breaker.is_open or self._is_draining():
            return False
        allowance = self._limiter.allowance(room=self._room)
        return min(allowance.total, allowance.bulk if draft.priority >= BULK else allowance.total) > 0

    def _begun(self, message: Outgoing) -> None:
        self._limiter.spend(message)
        if self._link is None:  # it ended meanwhile: the message is due again
            self._in_flight.release(message.whatsapp_id)
            self._retry(message, code=_LINK_DOWN, reason=_NOT_HANDED_OVER, next_at=None)
        else:
            self._send(self._link, message)
        self._report_wait()

    def _expect_expiry(self, at: str | None) -> None:
        if at is None:
            return
        moment = to_monotonic(self._clock, at)
        self._next_expiry = moment if self._next_expiry is None else min(self._next_expiry, moment)
        self._wake.set()

    # What others report.

    def look_again(self) -> None:
        """There may be messages that another process accepted, or that may leave by now."""
        self._next_expiry = self._clock.monotonic()  # they may expire
        self._look()

    def _look(self) -> None:
        """Look at the queue: something may have become due."""
        self._has_backlog = self._may_be_due = True
        self._looks += 1
        self._wake.set()

    def forget(self, whatsapp_id: str) -> None:
        """This message was cancelled or has expired."""
        message = self._in_flight.remove(whatsapp_id)
        if message is not None:
            self._limiter.forget(message.chat)
        self._report_wait()
        self._look()

    def link_up(self, link: LinkId) -> None:
        self._link = link
        self._look()

    def link_down(self) -> None:
        self._link = None
        self._in_flight.clear()
        self._has_backlog = self._may_be_due = True
        self._reported_wait = None

    def link_ended(self, *, by_stream_error: bool) -> None:
        """WhatsApp ended the link, perhaps because of a message whose frame just left.

        A message that ends every link would starve all others of its company.
        """
        if by_stream_error:
            self._accuse(self._in_flight.messages, CRASH_POINTS, code="link-ended")
        else:
            just_left = self._in_flight.answerable_after(self._clock.monotonic() - _CLOSE_SUSPICION_S)
            self._accuse(just_left, CLOSE_POINTS, code="link-ended")
        self.link_down()

    def host_lost(self) -> None:
        """The engine host died, perhaps of a message."""
        self._accuse(self._in_flight.messages, CRASH_POINTS, code="engine-ended")
        self.link_down()

    def _accuse(self, messages: Sequence[Outgoing], points: int, *, code: str) -> None:
        """One that is in flight whenever links end becomes suspect, is then sent alone, and at last fails."""
        what = "engine hosts" if code == "engine-ended" else "links"
        for message in messages:
            score = message.crash_score + points
            if is_condemned(score):
                log.error("Session %s: message %s ended %s again and again; it failed", self._company, message.id, what)
                sentence = f"{what} ended again and again while this message was being sent, at last with it alone"
                self._settle(message.whatsapp_id, StatusUpdate.GIVEN_UP, code=code, sentence=sentence)
                continue
            if is_suspect(score) and not is_suspect(message.crash_score):
                words = "Session %s: message %s was in flight whenever %s ended; from now on it is sent alone"
                log.warning(words, self._company, message.id, what)
            at = iso(self._clock.now())
            self._defer(Deferral(whatsapp_id=message.whatsapp_id, at=at, next_at=None, crash_score=score))

    def hear_received(self, messages: Sequence[InboundMessage]) -> None:
        """Whoever writes to the company is known to it; the store knows by now."""
        for message in messages:
            if not message.from_me:
                self._limiter.forget(message.chat)
        if self._has_backlog:
            self._look()

    def hear_lock(self, lock: NewChatsLocked) -> None:
        """WhatsApp reported its lock on messages to new contacts."""
        self._spawn(self._follow_lock(lock))

    def hear_ban(self, for_s: float) -> None:
        """The number was banned for a time; after it, less is sent."""
        self._spawn(self._limiter.tighten(for_s=for_s))

    def hear_written(self, written: Written) -> None:
        self._in_flight.written(written.whatsapp_id, self._clock.monotonic())
        self._report_wait()

    def hear_ack(self, ack: Acked) -> None:
        self.acked_at = self._clock.monotonic()
        if ack.error is None:
            if self._breaker.accepted():
                log.info("Session %s: WhatsApp accepts messages again", self._company)
                self._spawn(self._make_due())
            self._settle(ack.whatsapp_id, StatusUpdate.ACKED)
            return
        log.info("Connection %s: WhatsApp answered a message with error %s", self._company, ack.error)
        code = f"ack-{ack.error}"
        verdict = judge_ack_error(ack.error, attempts=self._failures(ack.whatsapp_id, code))
        self._follow(ack.whatsapp_id, verdict, code=code)

    def hear_refusal(self, refusal: SendRefused) -> None:
        attempts = self._failures(refusal.whatsapp_id, refusal.code)
        verdict = judge_refusal(refusal.code, refusal.detail, attempts=attempts, retry_after_s=refusal.retry_after_s)
        if isinstance(verdict, Retry) and refusal.code != _LINK_DOWN:  # the session's own line says that
            words = "Connection %s: a message could not be handed over (%s, attempt %d); retry in %.0f s"
            log.info(words, self._company, refusal.code, attempts, verdict.after_s)
        self._follow(refusal.whatsapp_id, verdict, code=refusal.code)

    def hear_receipt(self, receipt: Receipted) -> None:
        update = _RECEIPTS.get(receipt.kind)
        if update is None:
            log.warning("Connection %s: a receipt of the unknown kind %r", self._company, receipt.kind)
            return
        for whatsapp_id in receipt.whatsapp_ids:
            message = self._in_flight.get(whatsapp_id)
            if message is None or message.chat == receipt.chat:
                self._settle(whatsapp_id, update, chat=receipt.chat)
            else:  # the chat by another name, or a stranger's receipt: only the store can tell which
                at = iso(self._clock.now())
                self._updates.append(MessageChange(whatsapp_id=whatsapp_id, update=update, at=at, chat=receipt.chat))
                self._wake.set()

    async def account_changed(self) -> None:
        """The operator set other limits."""
        await self._limiter.load()
        self._look()

    def learned(self) -> Awaitable[None]:
        """Resolves when every update reported so far is durable."""
        barrier: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._barriers.append(barrier)
        self._wake.set()
        return barrier

    def _failures(self, whatsapp_id: str, code: str) -> int:
        """Attempts in a row that failed with this code, the one just reported included."""
        message = self._in_flight.get(whatsapp_id)
        return message.retry_count + 1 if message is not None and message.retry_code == code else 1

    def _follow(self, whatsapp_id: str, verdict: AckDecision, *, code: str) -> None:
        message = self._in_flight.get(whatsapp_id)
        match verdict:
            case GiveUp(sentence=sentence):
                self._settle(whatsapp_id, StatusUpdate.GIVEN_UP, code=code, sentence=sentence)
            case _ if message is None:
                pass  # a late word about an earlier attempt: the one under way decides
            case HoldBack():
                until = self._limiter.lock(verdict.code)
                self._retry(message, code=code, reason=verdict.message, next_at=until, held_code=verdict.code)
                self._spawn(self._keep_lock(verdict.code))
            case Retry(after_s=after_s) if not self._is_too_old(message):
                if verdict.is_general and self._breaker.refused(message.chat, self._clock.monotonic()):
                    words = "Session %s: WhatsApp refuses one message after another (%s); sending pauses"
                    log.warning(words, self._company, code)
                self._retry(message, code=code, reason=verdict.message, next_at=self._wall_in(after_s))
            case Retry():
                sentence = f"{verdict.message}; retried for {RETRY_FOR_DAYS} days"
                self._settle(whatsapp_id, StatusUpdate.GIVEN_UP, code=code, sentence=sentence)

    def _is_too_old(self, message: Outgoing) -> bool:
        age = self._clock.now() - datetime.fromisoformat(message.accepted_at)
        return age >= timedelta(days=RETRY_FOR_DAYS)

    def _retry(
        self, message: Outgoing, *, code: str, reason: str, next_at: str | None, held_code: str | None = None
    ) -> None:
        self._defer(
            Deferral(
                whatsapp_id=message.whatsapp_id,
                at=iso(self._clock.now()),
                next_at=next_at,
                code=code,
                message=reason,
                held_code=held_code,
            )
        )

    def _defer(self, deferral: Deferral) -> None:
        self._in_flight.remove(deferral.whatsapp_id)
        self._updates.append(deferral)
        self._report_wait()
        self._look()

    async def _keep_lock(self, code: str) -> None:
        await self.learned()  # with the messages that it holds
        await self._limiter.keep_lock(code)
        self._look()

    async def _follow_lock(self, report: NewChatsLocked) -> None:
        if report.active:
            self._limiter.lock(report.lock, until_s=report.until_s)
            await self._keep_lock(report.lock)
        else:
            await self.learned()
            await self._limiter.unlock(report.lock)
            self._look()

    async def _make_due(self) -> None:
        await self.learned()
        await self._outbox.make_due(self._company)
        self._look()

    def _settle(
        self,
        whatsapp_id: str,
        update: StatusUpdate,
        *,
        code: str | None = None,
        sentence: str | None = None,
        chat: str | None = None,
    ) -> None:
        message = self._in_flight.remove(whatsapp_id)
        makes_known = False
        if message is not None and update is StatusUpdate.GIVEN_UP:
            self._limiter.forget(message.chat)
        elif message is not None:
            makes_known = message.contact is not Contact.KNOWN
            self._limiter.acked(message)
        at = iso(self._clock.now())
        change = MessageChange(
            whatsapp_id=whatsapp_id,
            update=update,
            at=at,
            error_code=code,
            error=sentence,
            makes_known=makes_known,
            chat=chat,
        )
        self._updates.append(change)
        self._report_wait()
        self._wake.set()

    def _report_wait(self) -> None:
        since = self._in_flight.unacked_since
        if since is not None and self.acked_at is not None:
            since = max(since, self.acked_at)
        if self._link is not None and since != self._reported_wait:
            self._reported_wait = since
            self._waited(since)

    # Sending.

    async def _round(self) -> None:
        """Store the updates and take what is due, in one transaction."""
        await self._follow_clock()
        await self._expire()
        self._give_back_unanswered()
        updates, self._updates = self._updates, []
        barriers, self._barriers = self._barriers, []
        link, allowance = self._link, self._allowance(has_updates=bool(updates))
        if link is not None and allowance is not None:
            await self._take(link, allowance, updates)
        elif updates:
            await self._outbox.apply_updates(self._company, updates)
        for barrier in barriers:
            if not barrier.done():
                barrier.set_result(None)

    def _allowance(self, *, has_updates: bool) -> Allowance | None:
        """How much may be taken now; None when it is not worth a look at the queue, or nothing may leave."""
        now = self._clock.monotonic()
        if self._due_at is not None and self._due_at <= now:
            self._due_at, self._may_be_due = None, True
        drains = self._is_draining()
        is_worth_it = self._may_be_due or drains or (has_updates and self._has_backlog)
        if self._link is None or not is_worth_it or (drains and not self._in_flight.is_empty):
            return None
        room = self._breaker.room(now, room=self._room, is_idle=self._in_flight.is_empty)
        allowance = self._limiter.allowance(room=room)
        self._due_at = _earliest(self._due_at, allowance.more_at, self._breaker.probes_at(now))
        return allowance if allowance.total else None

    async def _take(self, link: LinkId, allowance: Allowance, updates: Sequence[MessageChange | Deferral]) -> None:
        self._has_backlog = False  # unless the answer, or whoever adds to it meanwhile, says otherwise
        looks_again, self._may_be_due = self._looks, True  # nothing that is accepted meanwhile may leave at once
        taken = await self._outbox.take(
            self._company,
            allowance,
            but=tuple(self._in_flight.whatsapp_ids),
            alone=self._is_draining(),
            updates=updates,
        )
        self._has_backlog |= taken.has_more
        self._may_be_due = taken.is_limited or looks_again != self._looks
        if taken.next_at is not None:
            self._due_at = _earliest(self._due_at, to_monotonic(self._clock, taken.next_at))
        self._suspect_since = (self._suspect_since or self._clock.monotonic()) if taken.suspect_waits else None
        settled = {update.whatsapp_id for update in self._updates if isinstance(update, MessageChange)}
        for message in taken.messages:
            self._limiter.spend(message)
            if self._link != link:
                self._retry(message, code=_LINK_DOWN, reason=_NOT_HANDED_OVER, next_at=None)
            elif message.whatsapp_id in settled:
                self._look()  # a receipt came meanwhile; should the store not accept it, the message is due still
            else:
                self._send(link, message)
        if self._may_be_due:
            self._wake.set()
        self._report_wait()

    def _is_draining(self) -> bool:
        """Does a message that may end links have its turn, now or as soon as nothing else is in flight?"""
        since = self._suspect_since
        waited = since is not None and self._clock.monotonic() - since >= _SUSPECT_WAITS_S
        return waited or any(is_suspect(message.crash_score) for message in self._in_flight.messages)

    @property
    def _room(self) -> int:
        """How many more messages the engine may get now."""
        return max(self._in_flight.room - MOST + self._shares.share(self._company), 0)

    def _send(self, link: LinkId, message: Outgoing) -> None:
        self._shares.sends(self._company)
        self._in_flight.add(message, self._clock.monotonic(), is_slow=_is_slow(message.content))
        if message.made is None and _has_media(message.content):
            self._spawn(self._send_media(link, message))
        else:
            self._command(link, message, message.content)

    async def _send_media(self, link: LinkId, message: Outgoing) -> None:
        try:
            content = await self._files.content_for_engine(message.content)
        except HoldfastError as error:
            self._settle(message.whatsapp_id, StatusUpdate.GIVEN_UP, code=error.code, sentence=error.sentence)
            return
        self._command(link, message, content)

    def _command(self, link: LinkId, message: Outgoing, content: Content) -> None:
        if self._link != link or self._in_flight.get(message.whatsapp_id) is not message:
            return  # the link ended meanwhile, or another attempt has begun
        self._supervisor.command(
            Send(
                link=link,
                whatsapp_id=message.whatsapp_id,
                to=message.chat,
                content={name: value for name, value in content.items() if name != "typing"},
                made=message.made,
                typing_ms=_typing_ms(message),
            )
        )

    # Time.

    def _wakes_at(self) -> float | None:
        moments = [self._next_expiry]
        if self._link is not None:
            unacked, taken = self._in_flight.unacked_since, self._in_flight.taken_since
            moments += [
                self._due_at,
                None if unacked is None else unacked + UNANSWERED_S,
                None if taken is None else taken + UNWRITTEN_S,
                None if self._is_draining() or self._suspect_since is None else self._suspect_since + _SUSPECT_WAITS_S,
            ]
        return min((moment for moment in moments if moment is not None), default=None)

    async def _expire(self) -> None:
        if self._next_expiry is None or self._next_expiry > self._clock.monotonic():
            return
        for message in await self._outbox.expire(self._company, at=iso(self._clock.now())):
            self.forget(message.whatsapp_id)
        self._next_expiry = None
        self._expect_expiry(await self._outbox.next_expiry(self._company))

    def _give_back_unanswered(self) -> None:
        now = self._clock.monotonic()
        for seconds, overdue in (
            (UNANSWERED_S, self._in_flight.unanswered_by(now - UNANSWERED_S)),
            (UNWRITTEN_S, self._in_flight.taken_by(now - UNWRITTEN_S)),
        ):
            for whatsapp_id in overdue:
                log.info("Connection %s: a message has had no ack for %d s; it is sent again", self._company, seconds)
                self._in_flight.remove(whatsapp_id)
                self._look()

    async def _follow_clock(self) -> None:
        """Stored times are of the wall clock: when that was set, what rests is due at once rather than days later."""
        offset = self._offset()
        if abs(offset - self._wall_offset) > _CLOCK_STEP_S:
            log.warning("Session %s: the wall clock was set by %.0f s", self._company, offset - self._wall_offset)
            await self._outbox.make_due(self._company)
            self._look()
        self._wall_offset = offset

    def _offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()

    def _wall_in(self, seconds: float) -> str:
        return iso(self._clock.now() + timedelta(seconds=seconds))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._tasks is None:
            work.close()
            return
        try:
            self._tasks.create_task(work, name=f"delivery {self._company}")
        except RuntimeError:
            work.close()  # this sender has failed meanwhile; its successor finds in the rows what is to be sent


def _earliest(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _outgoing(draft: Draft, accepted: Accepted) -> Outgoing:
    """A message that was committed as `sending` with its acceptance."""
    return Outgoing(
        seq=accepted.message.seq,
        id=draft.id,
        whatsapp_id=draft.whatsapp_id,
        chat=draft.chat,
        content=draft.content,
        attempts=1,
        accepted_at=accepted.message.accepted_at,
        is_bulk=draft.priority >= BULK,
    )


def _has_media(content: Content) -> bool:
    return any(isinstance(part, dict) and "media" in part for part in content.values())


def _is_slow(content: Content) -> bool:
    """Does the engine need long before there is a frame?"""
    return _has_media(content) or bool(content.get("typing"))


def _typing_ms(message: Outgoing) -> int:
    """How long the recipient is shown "typing", at the first attempt."""
    if not message.content.get("typing") or message.attempts > 1:
        return 0
    text = message.content.get("text")
    characters = len(text) if isinstance(text, str) else 0
    return min(max(characters * _TYPING_MS_PER_CHARACTER, _LEAST_TYPING_MS), _MOST_TYPING_MS)
