"""Outcomes of the messages in flight: turns acks, refusals, receipts and ended links into status updates for the store.

`delivery.message` decides what an answer means; this applies it to the messages that the engine has, to the limits, and
to the batch of updates that the sender commits next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from holdfast.base.clock import Clock, iso
from holdfast.delivery.breaker import Breaker
from holdfast.delivery.in_flight import InFlight
from holdfast.delivery.message import (
    CLOSE_POINTS,
    CRASH_POINTS,
    FILE_NOT_WRITTEN,
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
from holdfast.delivery.rate_limits import ContactStatus
from holdfast.delivery.stores import Deferral, MessageChange, Outbox, Outgoing
from holdfast.runtime.rate_limiter import RateLimiter
from holdfast.session.engine import Acked, HostEnd, NewChatsLocked, Receipted, SendRefused, Written

log = logging.getLogger(__name__)

_CLOSE_SUSPICION_S = 10
"""A link that is closed so soon after a frame left may have ended because of it."""
_LINK_DOWN = "link-down"
_REPORTED_AFTER_S = 1
"""Most acks take less, and the session does nothing about a wait before `ack_deadline_s` (`session.state`)."""
_MAX_AT_ONCE = 500
"""Updates of one transaction. A receipt may name tens of thousands of messages, and all companies share the writer."""
_RECEIPTS = {"delivered": StatusUpdate.DELIVERED, "read": StatusUpdate.READ, "played": StatusUpdate.PLAYED}


@dataclass(slots=True)
class UpdateBatch:
    """Updates that are committed together."""

    updates: list[MessageChange | Deferral] = field(default_factory=list)
    is_durable: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def settled(self) -> set[str]:
        """WhatsApp ids of messages that the batch gives a final answer or a receipt."""
        return {update.whatsapp_id for update in self.updates if isinstance(update, MessageChange)}


class Outcomes:
    def __init__(
        self,
        company: str,
        *,
        in_flight: InFlight,
        breaker: Breaker,
        limiter: RateLimiter,
        outbox: Outbox,
        clock: Clock,
        wake: Callable[[], None],
        requery: Callable[[], None],
        spawn: Callable[[Coroutine[None, None, None]], None],
        waited: Callable[[float | None], None],
    ) -> None:
        """`wake` makes the sender commit the batch; `requery`, also query the queue. `waited` is called with the time
        (monotonic seconds) since which a send has waited for an ack while the link acked nothing, whenever that
        changes and is a second ago; None while nothing has waited as long."""
        self._company = company
        self._in_flight = in_flight
        self._breaker = breaker
        self._limiter = limiter
        self._outbox = outbox
        self._clock = clock
        self._wake = wake
        self._requery = requery
        self._spawn = spawn
        self._waited = waited
        self._reported_wait: float | None = None
        self._will_report_wait = False
        self.acked_at: float | None = None
        """When WhatsApp last acked a message, in monotonic seconds."""
        self.batch = UpdateBatch()
        """Updates that are not committed yet."""
        self._members: dict[str, int] = {}
        """By WhatsApp id: to how many members of its group a message in flight was sent."""

    def take_batch(self) -> UpdateBatch:
        """The updates to commit now, a bounded number; later ones go into the next batch."""
        batch = self.batch
        if len(batch.updates) <= _MAX_AT_ONCE:
            self.batch = UpdateBatch()
            return batch
        first, batch.updates = batch.updates[:_MAX_AT_ONCE], batch.updates[_MAX_AT_ONCE:]
        self._wake()
        return UpdateBatch(updates=first)

    def commit(self) -> asyncio.Event:
        """Commit soon; the event is set when every update reported so far is durable."""
        self._wake()
        return self.batch.is_durable

    # What the engine reports.

    def handle_written(self, written: Written) -> None:
        self._in_flight.written(written.whatsapp_id, self._clock.monotonic())
        if written.members:
            self._members[written.whatsapp_id] = written.members
        self.report_wait()

    def handle_ack(self, ack: Acked) -> None:
        self.acked_at = self._clock.monotonic()
        if ack.error is None:
            if self._breaker.accepted():
                log.info("Session %s: WhatsApp accepts messages again", self._company)
                self._spawn(self._make_due())
            self._settle(ack.whatsapp_id, StatusUpdate.ACKED)
            return
        log.info("Connection %s: WhatsApp answered a message with error %s", self._company, ack.error)
        code = f"ack-{ack.error}"
        decision = judge_ack_error(ack.error, attempts=self._failures(ack.whatsapp_id, code))
        self._follow(ack.whatsapp_id, decision, code=code)

    def handle_refusal(self, refusal: SendRefused) -> None:
        attempts = self._failures(refusal.whatsapp_id, refusal.code)
        decision = judge_refusal(refusal.code, refusal.detail, attempts=attempts, retry_after_s=refusal.retry_after_s)
        if isinstance(decision, Retry) and refusal.code != _LINK_DOWN:  # the session logs the end of its link itself
            words = "Connection %s: a message could not be handed over (%s, attempt %d); retry in %.0f s"
            log.info(words, self._company, refusal.code, attempts, decision.after_s)
        self._follow(refusal.whatsapp_id, decision, code=refusal.code)

    def handle_receipt(self, receipt: Receipted) -> None:
        update = _RECEIPTS.get(receipt.kind)
        if update is None:
            log.warning("Connection %s: a receipt of the unknown kind %r", self._company, receipt.kind)
            return
        at = iso(self._clock.now())
        for whatsapp_id in dict.fromkeys(receipt.whatsapp_ids):
            message = self._in_flight.get(whatsapp_id)
            if message is not None and message.chat == receipt.chat:
                self._settle(whatsapp_id, update, chat=receipt.chat, member=receipt.participant)
            else:  # sent long ago, a chat under an alias, or a forged receipt: only the store knows which
                change = MessageChange(
                    whatsapp_id=whatsapp_id, update=update, at=at, chat=receipt.chat, member=receipt.participant
                )
                self.batch.updates.append(change)
        self._wake()

    def handle_lock(self, lock: NewChatsLocked) -> None:
        """WhatsApp reported its lock on messages to new contacts."""
        self._spawn(self._follow_lock(lock))

    # Links that end.

    def link_ended(self, *, by_stream_error: bool) -> None:
        """WhatsApp ended the link, perhaps because of a message whose frame just left."""
        if by_stream_error:
            self._raise_suspicion(self._in_flight.messages, CRASH_POINTS, code="link-ended")
        else:
            just_left = self._in_flight.answerable_after(self._clock.monotonic() - _CLOSE_SUSPICION_S)
            self._raise_suspicion(just_left, CLOSE_POINTS, code="link-ended")

    def host_lost(self, end: HostEnd) -> None:
        """The engine host ended, perhaps because of a message.

        A host that was killed may have run out of memory over a message that it still prepared, never over one whose
        frame had left."""
        match end:
            case HostEnd.CRASHED:
                accused = self._in_flight.messages
            case HostEnd.KILLED:
                accused = self._in_flight.unwritten
            case HostEnd.HEARTBEAT_LOST:
                accused = []
        self._raise_suspicion(accused, CRASH_POINTS, code="engine-ended")

    def link_down(self) -> None:
        """There is no link: the store decides what becomes of the messages that were in flight."""
        self._in_flight.clear()
        self._members.clear()
        self._reported_wait = None

    def _raise_suspicion(self, messages: Sequence[Outgoing], points: int, *, code: str) -> None:
        """A message that ends every link would starve all others of its company. So one that is in flight whenever
        links end becomes suspect, is then sent alone, and finally fails."""
        what = "engine hosts" if code == "engine-ended" else "links"
        for message in messages:
            score = message.crash_score + points
            if is_condemned(score):
                sentence = f"{what} ended again and again while this message was being sent, at last with it alone"
                self._settle(message.whatsapp_id, StatusUpdate.GIVEN_UP, code=code, sentence=sentence)
                continue
            if is_suspect(score) and not is_suspect(message.crash_score):
                words = "Session %s: message %s was in flight whenever %s ended; from now on it is sent alone"
                log.warning(words, self._company, message.id, what)
            at = iso(self._clock.now())
            self._defer(Deferral(whatsapp_id=message.whatsapp_id, at=at, next_at=None, crash_score=score))

    # What follows from a decision.

    def give_up(self, message: Outgoing, *, code: str, sentence: str) -> None:
        """The message fails."""
        self._settle(message.whatsapp_id, StatusUpdate.GIVEN_UP, code=code, sentence=sentence)

    def no_file(self, message: Outgoing, *, detail: str) -> None:
        """The message's file could not be written for the engine: it is tried again later."""
        if self._in_flight.get(message.whatsapp_id) is message:
            refusal = SendRefused(link=0, whatsapp_id=message.whatsapp_id, code=FILE_NOT_WRITTEN, detail=detail)
            self.handle_refusal(refusal)

    def put_back(self, message: Outgoing) -> None:
        """The link ended before the message was handed over: it is due again."""
        self._retry(message, code=_LINK_DOWN, reason="the link ended before the message was handed over", next_at=None)

    def _failures(self, whatsapp_id: str, code: str) -> int:
        """Attempts in a row that failed with this code, the one just reported included."""
        message = self._in_flight.get(whatsapp_id)
        return message.retry_count + 1 if message is not None and message.retry_code == code else 1

    def _follow(self, whatsapp_id: str, decision: AckDecision, *, code: str) -> None:
        message = self._in_flight.get(whatsapp_id)
        match decision:
            case GiveUp(sentence=sentence):
                self._settle(whatsapp_id, StatusUpdate.GIVEN_UP, code=code, sentence=sentence)
            case _ if message is None:
                pass  # a late report about an earlier attempt: the present one decides
            case HoldBack():
                until = self._limiter.lock(decision.code)
                self._retry(message, code=code, reason=decision.message, next_at=until, held_code=decision.code)
                self._spawn(self._store_lock(decision.code))
            case Retry(after_s=after_s) if not self._is_too_old(message):
                if decision.is_general and self._breaker.refused(message.chat, self._clock.monotonic()):
                    words = "Session %s: WhatsApp refuses one message after another (%s); sending pauses"
                    log.warning(words, self._company, code)
                next_at = iso(self._clock.now() + timedelta(seconds=after_s))
                self._retry(message, code=code, reason=decision.message, next_at=next_at)
            case Retry():
                sentence = f"{decision.message}; retried for {RETRY_FOR_DAYS} days"
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
        self._add(deferral)
        self.report_wait()
        self._requery()

    def _settle(
        self,
        whatsapp_id: str,
        update: StatusUpdate,
        *,
        code: str | None = None,
        sentence: str | None = None,
        chat: str | None = None,
        member: str | None = None,
    ) -> None:
        message = self._in_flight.remove(whatsapp_id)
        makes_known = False
        if update is StatusUpdate.GIVEN_UP:
            name = whatsapp_id if message is None else message.id
            log.warning("Session %s: message %s failed: %s (%s)", self._company, name, sentence, code)
        if message is not None and update is StatusUpdate.GIVEN_UP:
            self._limiter.forget(message.chat)
            self._requery()  # for another new contact may be allowed now
        elif message is not None:
            makes_known = message.contact is not ContactStatus.KNOWN
            self._limiter.acked(message)
        change = MessageChange(
            whatsapp_id=whatsapp_id,
            update=update,
            at=iso(self._clock.now()),
            error_code=code,
            error=sentence,
            makes_known=makes_known,
            chat=chat,
            member=member,
            members=self._members.pop(whatsapp_id, None),
        )
        self._add(change)
        self.report_wait()

    def _add(self, update: MessageChange | Deferral) -> None:
        self.batch.updates.append(update)
        self._wake()

    def report_wait(self) -> None:
        """Report since when WhatsApp's answers have been overdue, if that changed with what is in flight."""
        since = self._in_flight.unacked_since
        if since is not None and self.acked_at is not None:
            since = max(since, self.acked_at)
        if since is not None and self._clock.monotonic() < since + _REPORTED_AFTER_S:
            if not self._will_report_wait:
                self._will_report_wait = True
                self._spawn(self._report_wait_at(since + _REPORTED_AFTER_S))
            since = None
        if since != self._reported_wait:
            self._reported_wait = since
            self._waited(since)

    async def _report_wait_at(self, moment: float) -> None:
        await self._clock.sleep(moment - self._clock.monotonic())
        self._will_report_wait = False
        self.report_wait()

    async def _store_lock(self, code: str) -> None:
        await self.commit().wait()  # with the messages that it holds
        await self._limiter.store_lock(code)
        self._requery()

    async def _follow_lock(self, report: NewChatsLocked) -> None:
        if report.active:
            self._limiter.lock(report.lock, until_s=report.until_s)
            await self._store_lock(report.lock)
        else:
            await self.commit().wait()
            await self._limiter.unlock(report.lock)
            self._requery()

    async def _make_due(self) -> None:
        await self.commit().wait()
        await self._outbox.make_due(self._company)
        self._requery()
