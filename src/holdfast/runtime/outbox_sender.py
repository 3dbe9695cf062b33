"""The outbox sender of one session: passes due messages to the engine.

A message is committed as `sending` before the engine gets it. This happens in the transaction that accepts it, if its
chat is idle and nothing holds it; otherwise when it is taken from the queue. Messages that were in flight when the link
ended are due again at once, under the same ids: only WhatsApp's answer settles the outcome. Memory holds only messages
in flight. All waiting messages are in the outbox, no matter which process accepted them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

from holdfast.base.clock import Clock, ClockWatch, to_monotonic
from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import HoldfastError
from holdfast.delivery.breaker import Breaker
from holdfast.delivery.content import Content
from holdfast.delivery.in_flight import InFlight
from holdfast.delivery.message import is_suspect
from holdfast.delivery.queue_watch import QueueQuery, QueueWatch, earliest
from holdfast.delivery.rate_limits import Allowance
from holdfast.delivery.stores import BULK, Accepted, Draft, MediaFiles, Outbox, Outgoing
from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.runtime.message_expiry import MessageExpiry
from holdfast.runtime.outcomes import Outcomes, UpdateBatch
from holdfast.runtime.rate_limiter import MAX_IN_FLIGHT, RateLimiter, SendShares
from holdfast.session.engine import HostEnd, InboundMessage, LinkId, Send

log = logging.getLogger(__name__)


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
        clock_watch: ClockWatch,
        jitter: Callable[[], float],
        waited: Callable[[float | None], None],
    ) -> None:
        """`waited` is called as `Outcomes` says."""
        self._company = company
        self._outbox = outbox
        self._limiter = limiter
        self._shares = shares
        self._files = files
        self._supervisor = supervisor
        self._clock = clock
        self._clock_watch = clock_watch
        self._clock_was_set = False
        self._in_flight = InFlight(limit=MAX_IN_FLIGHT)
        self._breaker = Breaker(jitter=jitter)
        self._queue = QueueWatch()
        self._has_messages = False
        """Messages were waiting at the last query, or were added since."""
        self._expiry = MessageExpiry(company, outbox=outbox, clock=clock, clock_watch=clock_watch, expired=self.forget)
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._link: LinkId | None = None
        self.outcomes = Outcomes(
            company,
            in_flight=self._in_flight,
            breaker=self._breaker,
            limiter=limiter,
            outbox=outbox,
            clock=clock,
            wake=self._wake.set,
            requery=self._requery,
            spawn=self._spawn,
            waited=waited,
        )

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._limiter.load()
            self._tasks.create_task(self._expiry.run(), name=f"message expiry {self._company}")
            while True:
                async with self._clock.until(self._wakes_at()):
                    await self._wake.wait()
                self._wake.clear()
                await self._round()

    # Accepting.

    async def accept(self, draft: Draft) -> Accepted:
        """Store a message; one that may leave at once is `sending` when this returns, and the engine has it."""
        at_once = self._may_send_at_once(draft)
        if at_once:
            self._in_flight.reserve(draft.whatsapp_id)
        try:
            accepted = await self._outbox.accept(draft, begin=at_once)
        except BaseException:
            self._in_flight.release(draft.whatsapp_id)
            self.recheck()  # it may have been stored nevertheless
            raise
        if accepted.has_begun:
            self._start_sending(accepted.outgoing(draft))
        else:
            self._in_flight.release(draft.whatsapp_id)
            self._has_messages = True
            self._queue.changed()
            if self._link is not None:
                self._wake.set()
        self._expiry.expect(draft.expires_at)
        return accepted

    def _may_send_at_once(self, draft: Draft) -> bool:
        """True if it overtakes no message that is due. The store checks that the chat is idle and known."""
        self._queue.advance(self._clock.monotonic())
        if self._link is None or self._queue.may_be_due or self._breaker.is_open or self._is_draining():
            return False
        allowance = self._limiter.allowance(room=self._free_slots)
        return min(allowance.total, allowance.bulk if draft.priority >= BULK else allowance.total) > 0

    def _start_sending(self, message: Outgoing) -> None:
        self._limiter.spend(message)
        if self._link is None:  # it ended while the message was being stored
            self._in_flight.release(message.whatsapp_id)
            self.outcomes.put_back(message)
        else:
            self._send(self._link, message)
        self.outcomes.report_wait()

    # What others report.

    @property
    def has_messages(self) -> bool:
        """Whether messages wait for a link, as far as this sender knows."""
        return self._has_messages or not self._in_flight.is_empty

    def recheck(self) -> None:
        """The outbox may hold messages of other processes, or messages that may be sent by now."""
        self._has_messages = True
        self._expiry.recheck()
        self._requery()

    def clock_was_set(self, step: ClockStep) -> None:
        """Waiting messages are due at once, not days later; each still expires after the seconds that it was given."""
        self._clock_was_set = True
        self._expiry.clock_was_set(step)
        self._requery()

    def _requery(self) -> None:
        self._queue.changed()
        self._wake.set()

    def forget(self, whatsapp_id: str) -> None:
        """This message was cancelled or has expired."""
        message = self._in_flight.remove(whatsapp_id)
        if message is not None:
            self._limiter.forget(message.chat)
        self.outcomes.report_wait()
        self._requery()

    def link_up(self, link: LinkId) -> None:
        self._link = link
        self._queue.link_opened(self._clock.monotonic())
        self._wake.set()

    def link_down(self) -> None:
        self._link = None
        self._has_messages = self.has_messages
        self.outcomes.link_down()
        self._queue.changed()

    def link_ended(self, *, by_stream_error: bool) -> None:
        """WhatsApp ended the link, perhaps because of a message."""
        self._has_messages = self.has_messages
        self.outcomes.link_ended(by_stream_error=by_stream_error)
        self.link_down()

    def host_lost(self, end: HostEnd) -> None:
        """The engine host ended, perhaps because of a message."""
        self._has_messages = self.has_messages
        self.outcomes.host_lost(end)
        self.link_down()

    def handle_received(self, messages: Sequence[InboundMessage]) -> None:
        """Whoever writes to the company is a known contact; the store has recorded that already."""
        for message in messages:
            if not message.from_me:
                self._limiter.forget(message.chat)
        if not self._queue.is_empty:
            self._requery()

    def handle_ban(self, for_s: float) -> None:
        """WhatsApp banned the number for a time; after it, less is sent."""
        self._spawn(self._limiter.tighten(for_s=for_s))

    async def account_changed(self) -> None:
        """The operator set other limits."""
        await self._limiter.load()
        self._requery()

    # Sending.

    async def _round(self) -> None:
        """Commit the updates and take what is due, in one transaction."""
        await self._follow_clock()
        self._put_back_overdue()
        batch = self.outcomes.take_batch()
        query = self._next_query(has_updates=bool(batch.updates))
        link, allowance = self._link, None if query is QueueQuery.NONE else self._allowance()
        if link is not None and allowance is not None:
            await self._take_batch(link, query, allowance, batch)
        elif batch.updates:
            if query is not QueueQuery.NONE:
                self._queue.changed()  # the updates may make messages due, which nothing may take now
            await self._outbox.apply_updates(self._company, batch.updates)
        batch.is_durable.set()

    def _next_query(self, *, has_updates: bool) -> QueueQuery:
        drains = self._is_draining()
        self._queue.advance(self._clock.monotonic())
        if self._link is None or (drains and not self._in_flight.is_empty):
            return QueueQuery.NONE
        return self._queue.next_query(has_updates=has_updates, drains=drains)

    def _allowance(self) -> Allowance | None:
        """How many messages may be taken now; None when nothing may be sent."""
        now = self._clock.monotonic()
        room = self._breaker.room(now, room=self._free_slots, is_idle=self._in_flight.is_empty)
        allowance = self._limiter.allowance(room=room)
        self._queue.expect(earliest(allowance.more_at, self._breaker.probes_at(now)))
        return replace(allowance, suspects=self._queue.allows_suspects(now)) if allowance.total else None

    async def _take_batch(self, link: LinkId, query: QueueQuery, allowance: Allowance, batch: UpdateBatch) -> None:
        self._queue.query_begins()
        exclude, updates = tuple(self._in_flight.whatsapp_ids), batch.updates
        if query is QueueQuery.IF_MADE_DUE:
            made_due = await self._outbox.take_made_due(self._company, allowance, exclude=exclude, updates=updates)
            if made_due is None:
                self._queue.query_found_nothing_due()
                return
            taken = made_due
        else:
            alone = self._is_draining()
            taken = await self._outbox.take(self._company, allowance, exclude=exclude, alone=alone, updates=updates)
        self._has_messages = taken.has_more
        self._queue.query_ended(
            self._clock.monotonic(),
            has_more=taken.has_more,
            is_limited=taken.is_limited,
            suspect_waits=taken.suspect_waits,
        )
        self._queue.expect(None if taken.next_at is None else to_monotonic(self._clock, taken.next_at))
        settled = self.outcomes.batch.settled
        for message in taken.messages:
            self._limiter.spend(message)
            if self._link != link:
                self.outcomes.put_back(message)
            elif message.whatsapp_id in settled:
                self._requery()  # a receipt came in between; should the store not accept it, the message is due still
            else:
                self._send(link, message)
        if self._queue.may_be_due:
            self._wake.set()
        self.outcomes.report_wait()

    def _is_draining(self) -> bool:
        """Whether a message that may end links must be sent next, as soon as nothing else is in flight."""
        has_suspect = any(is_suspect(message.crash_score) for message in self._in_flight.messages)
        return has_suspect or self._queue.suspect_is_overdue(self._clock.monotonic())

    @property
    def _free_slots(self) -> int:
        """How many more messages the engine may get now."""
        return max(self._in_flight.room - MAX_IN_FLIGHT + self._shares.share(self._company), 0)

    def _send(self, link: LinkId, message: Outgoing) -> None:
        self._shares.sends(self._company)
        self._in_flight.add(message, self._clock.monotonic(), is_slow=message.is_slow)
        if message.made is None and message.has_media:
            self._spawn(self._send_media(link, message))
        else:
            self._command(link, message, message.content)

    async def _send_media(self, link: LinkId, message: Outgoing) -> None:
        try:
            content = await self._files.content_for_engine(message.content)
        except HoldfastError as error:
            self.outcomes.give_up(message, code=error.code, sentence=error.sentence)
            return
        except OSError as error:  # such as a full disk: it must neither end the session nor fail the message
            self.outcomes.no_file(message, detail=error.strerror or type(error).__name__)
            return
        self._command(link, message, content)

    def _command(self, link: LinkId, message: Outgoing, content: Content) -> None:
        if self._link != link or self._in_flight.get(message.whatsapp_id) is not message:
            return  # the link has ended, or another attempt has begun
        self._supervisor.command(
            Send(
                link=link,
                whatsapp_id=message.whatsapp_id,
                to=message.chat,
                content={name: value for name, value in content.items() if name != "typing"},
                made=message.made,
                typing_ms=message.typing_ms,
            )
        )

    # Time.

    def _wakes_at(self) -> float | None:
        if self._link is None:
            return None
        return earliest(self._in_flight.overdue_at, self._queue.wakes_at(drains=self._is_draining()))

    def _put_back_overdue(self) -> None:
        for whatsapp_id, seconds in self._in_flight.overdue(self._clock.monotonic()):
            log.info("Connection %s: a message has had no ack for %d s; it is sent again", self._company, seconds)
            self._in_flight.remove(whatsapp_id)
            self._requery()

    async def _follow_clock(self) -> None:
        self._clock_watch.check()
        if self._clock_was_set:
            await self._outbox.make_due(self._company)
            self._clock_was_set = False

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._tasks is None:
            work.close()
            return
        try:
            self._tasks.create_task(work, name=f"delivery {self._company}")
        except RuntimeError:
            work.close()  # this sender has failed; its successor finds in the rows what is to be sent
