"""The session actor: one task that feeds events to the machine of one session and carries out its effects.

Everything that happens – a person's request, an engine's report, a deadline – goes through the mailbox, one event at a
time, so the machine never runs concurrently. Every change of the record is stored before a request is answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from holdfast.base.clock_step import ClockStep
from holdfast.runtime.errors import NotConnected, SessionRestarting
from holdfast.runtime.link_opener import LinkOpener
from holdfast.runtime.link_work import LinkWork
from holdfast.runtime.passkeys import PasskeyRelay
from holdfast.runtime.services import Services
from holdfast.runtime.session_record import SessionRecord, restored_session
from holdfast.runtime.view import Qr, View
from holdfast.session import engine, events
from holdfast.session.engine import LinkId
from holdfast.session.events import Effect, Event
from holdfast.session.machine import NotPossible, deadline, step
from holdfast.session.reasons import ENGINE_HOST_REPLACED, ENGINE_QUARANTINED, SessionReaction
from holdfast.session.state import Session, State, budget_left
from holdfast.session.stores import Record
from holdfast.session.untrusted import bounded

log = logging.getLogger(__name__)

_REDUCED_RATE_S = 24 * 3600.0
"""For how long after a temporary ban fewer messages are sent."""


@dataclass(frozen=True, slots=True)
class _Mail:
    event: Event
    answer: asyncio.Future[None] | None = None


class SessionActor:
    def __init__(self, record: Record, *, paired: bool, services: Services, is_stored: bool = True) -> None:
        """`is_stored`: the database has this record."""
        self._services = services
        self._session = restored_session(record, paired=paired, services=services)
        self._record = SessionRecord(record, self._session, is_stored=is_stored, services=services)
        if record.reason == ENGINE_QUARANTINED.name:
            services.supervisor.distrust(record.company)
        self._mailbox: asyncio.Queue[_Mail] = asyncio.Queue()
        self._leaving: LinkId | None = None
        """The link on which the device logs out. WhatsApp ends it; until then its commits must still be stored."""
        self._qr: Qr | None = None
        self._changed = asyncio.Event()
        self._has_ended = False
        self._processing_since = services.clock.monotonic()
        company = record.company
        self.passkeys = PasskeyRelay(
            company, clock=services.clock, policy=services.policy, command=self._command, post=self._post_for_link
        )
        self.work = LinkWork(
            self._record,
            services,
            not_connected=lambda: NotConnected(company, self._session.state, self._session.reason),
            sends_waited=lambda since: self._post_for_link(lambda link: events.SendsWaited(link, since)),
            storing_failed=lambda link: self.post(events.CommitFailed(link)),
        )
        self._opener = LinkOpener(company, services, storage=self.work.storage)

    @property
    def company(self) -> str:
        return self._record.company

    @property
    def has_messages(self) -> bool:
        return self.work.sender.has_messages

    @property
    def has_own_route(self) -> bool:
        return self._record.current.proxy_url is not None

    @property
    def is_connected(self) -> bool:
        return self._record.current.state is State.CONNECTED

    @property
    def view(self) -> View:
        planned, now, record = self._session.next_attempt_at, self._services.clock.monotonic(), self._record
        return View(
            record=record.current,
            session=self._session,
            qr=self._qr,
            passkey=self.passkeys.now,
            next_attempt_at=None if planned is None else record.wall(planned),
            keepalives=record.keepalives,
            ends=tuple(record.ends),
            history=record.history,
            frame_at=record.frame_at,
            acked_at=self.work.sender.outcomes.acked_at,
            in_state_s=now - record.state_at,
            silent_s=now - self._processing_since,
            node=self._services.node,
            round_trips=record.round_trips,
            not_stored=tuple(record.not_stored),
            left_out=dict(record.left_out),
            hold=self.work.limiter.lock_now,
        )

    async def run(self) -> None:
        """Run until cancelled; then the engine's link is cut."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self.work.start(tasks)
                await self._live()
        finally:
            self._end()

    def _end(self) -> None:
        """Clean up: cut the link, answer every waiting caller, and show the correct state."""
        self._has_ended = True
        if self._session.link is not None:
            self._services.supervisor.command(engine.CutLink(link=self._session.link.number))
        self.work.end()
        self.passkeys.link_ended(None)
        while not self._mailbox.empty():
            self._refuse(self._mailbox.get_nowait())
        self._services.connect_limiter.leave(self.company)
        self._services.supervisor.forget(self.company)
        self._qr = None
        self._session = restored_session(self._record.current, paired=self._session.paired, services=self._services)
        self._record.actor_ended(self._session)
        self._notify_waiters()

    def post(self, event: Event) -> None:
        self._mailbox.put_nowait(_Mail(event))

    async def ask(self, event: Event) -> None:
        """Like `post`; returns when it is done and stored. Raises `NotPossible` and `SessionRestarting`."""
        if self._has_ended:
            raise SessionRestarting(self.company)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._mailbox.put_nowait(_Mail(event, answer))
        await answer

    async def wait_for_qr(self, *, within_s: float) -> Qr | None:
        """The current QR code; waits for one while the session is pairing."""
        until = self._services.clock.monotonic() + within_s
        async with self._services.clock.until(until):
            while self._qr is None and self.passkeys.now is None and self._session.state is State.PAIRING:
                await self._changed.wait()
        return self._qr

    async def pairing_code(self, phone: str, *, within_s: float) -> engine.PairingCodeShown:
        """Ask WhatsApp for a code to be typed on the phone. Needs a link that shows QR codes."""
        return await self.work.requests.pairing_code(self._link, phone, within_s=within_s)

    def set_connection(self, changes: Mapping[str, str | None]) -> None:
        """Apply the stored settings. A link through another proxy is replaced."""
        before = self._record.current
        self._record.current = after = replace(
            before,
            device_name=changes.get("device_name", before.device_name),
            proxy_url=changes.get("proxy_url", before.proxy_url),
            history=changes.get("history", before.history),
            ignored=changes.get("ignored", before.ignored),
            auto_reject_calls=changes.get("auto_reject_calls", before.auto_reject_calls),
            rejected_call_text=changes.get("rejected_call_text", before.rejected_call_text),
            shown_available=changes.get("shown_available", before.shown_available),
            auto_read=changes.get("auto_read", before.auto_read),
        )
        is_unlinked = self._session.state is State.PAIRING
        differs = after.proxy_url != before.proxy_url or (is_unlinked and after.device_name != before.device_name)
        if differs and self._session.link is not None:
            self.post(events.ReconnectAsked())
        if after.shown_available != before.shown_available:
            self.work.show_presence()

    def clock_was_set(self, step: ClockStep) -> None:
        """Adjust to a step of the wall clock, also the stored time of the next attempt."""
        self.work.clock_was_set(step)
        self._record.clock_was_set(step)
        self.post(events.Tick())

    # What the engine reports.

    @property
    def _link(self) -> LinkId | None:
        return None if self._session.link is None else self._session.link.number

    def handle(self, report: engine.AnyReport) -> None:
        report = bounded(report)
        match report:
            case (
                engine.Commit()
                | engine.KeysRequested()
                | engine.PlaintextRequested()
                | engine.SentContentRequested()
                | engine.AnsweredMessageRequested()
            ):
                if report.link in {self._link, self._leaving}:
                    self.work.storage.handle(report)
            case _ if report.link == self._link:
                self._handle(report)

    def _handle(self, report: engine.AnyReport) -> None:
        match report:
            case engine.QrShown():
                self._show_qr(report)
                self.post(report)
            case engine.PasskeyRequested() | engine.PasskeyContinued() | engine.PasskeyFailed():
                self._qr = None
                self.passkeys.handle(report)
                self.post(report)
                self._notify_waiters()
            case engine.Paired() | engine.LinkOpened():
                self._record.linked_as(report.jid)
                self._opener.handle(report)
                self.post(report)
            case engine.LinkClosed():
                self.work.handle(report)
                self._opener.handle(report)
                self.post(report)
            case engine.Ponged():
                self.post(report)
            case engine.FrameSeen():
                self._record.frame_arrived()
            case _:
                self.work.handle(report)

    def lose_host(self, end: engine.HostEnd) -> None:
        self.work.sender.host_lost(end)
        self._post_for_link(events.HostLost)

    def quarantine(self, end: engine.HostEnd) -> None:
        self.work.sender.host_lost(end)
        self.post(events.EngineQuarantined())

    @property
    def may_move(self) -> bool:
        """Whether its reconnection budget allows another link. There is no limit while a phone is being linked."""
        return self._has_reconnections and self._session.state is not State.PAIRING

    @property
    def _has_reconnections(self) -> bool:
        now, policy = self._services.clock.monotonic(), self._services.policy
        return budget_left(self._session, now=now, policy=policy) > policy.budget_an_hour // 2

    def change_host(self) -> bool:
        if not self._has_reconnections:
            return False
        if self._session.state is State.CONNECTED:
            self.post(events.ReconnectAsked(ENGINE_HOST_REPLACED))
        return True

    def _post_for_link(self, make: Callable[[LinkId], Event]) -> None:
        if self._link is not None:
            self.post(make(self._link))

    def _command(self, make: Callable[[LinkId], engine.AnyCommand]) -> None:
        if self._link is not None:
            self._services.supervisor.command(make(self._link))

    # One event at a time.

    async def _live(self) -> None:
        clock, policy = self._services.clock, self._services.policy
        while True:
            mail = _Mail(events.Tick())
            async with clock.until(deadline(self._session, policy=policy)):
                mail = await self._mailbox.get()
            if isinstance(mail.event, events.Tick):
                mail = _Mail(events.Tick(held_until=self.work.storage.held_until), mail.answer)
            try:
                await self._process(mail)
            finally:
                self._refuse(mail)

    async def _process(self, mail: _Mail) -> None:
        before = self._session
        self._processing_since = self._services.clock.monotonic()
        try:
            effects = self._step(mail.event)
        except NotPossible as error:
            if mail.answer is None:
                log.warning("Session %s: %s", self.company, error)
            elif not mail.answer.done():
                mail.answer.set_exception(error)
            return
        self._services.connect_limiter.follow(self, mail.event, before, self._session)
        self._follow_link()
        for effect in effects:
            await self._carry_out(effect)
        await self._note(before, mail.event)
        if mail.answer is not None and not mail.answer.done():
            mail.answer.set_result(None)

    def _step(self, event: Event) -> tuple[Effect, ...]:
        now, jitter = self._services.clock.monotonic(), self._services.randomness.jitter()
        self._session, effects = step(self._session, event, now=now, jitter=jitter, policy=self._services.policy)
        return effects

    def _refuse(self, mail: _Mail) -> None:
        """Fail the request of a caller that has no answer yet."""
        if mail.answer is not None and not mail.answer.done():
            mail.answer.set_exception(SessionRestarting(self.company))

    def _follow_link(self) -> None:
        link = self._session.link
        self.work.use(link.number if link is not None and link.opened_at is not None else None)

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case events.RequestConnect():
                await self._request_connect()
            case events.StartLink(link=number):
                if closed := await self._opener.open(number, self._record.current):
                    self.post(closed)
            case events.QuarantineCredentials(link=number):
                reason = self._session.reason
                await self._opener.quarantine(number, reason="" if reason is None else reason.name)
            case engine.LogOut():
                self._leaving = effect.link
                self._services.supervisor.command(effect)
            case engine.Ping():
                self._services.supervisor.command(effect)
                self.work.show_presence()
            case engine.Presence() if self._record.current.shown_available is not None:
                pass  # the company's own setting counts
            case engine.CutLink() | engine.Presence():
                self._services.supervisor.command(effect)

    async def _request_connect(self) -> None:
        """Ask the connect limiter, and pass its answer to the machine before any other event."""
        deferred = self._services.connect_limiter.ask(self)
        for effect in self._step(deferred or events.ConnectGranted(self._services.supervisor.new_link(self))):
            await self._carry_out(effect)

    # Record and view.

    async def _note(self, before: Session, event: Event) -> None:
        link_changed = before.link is not None and before.link.number != self._link
        if link_changed:
            self.work.link_ended()
            self.passkeys.link_ended(None if self._session.reason is None else self._session.reason.name)
        if link_changed or not _shows_code(self._session):
            self._qr = None
        if self._session.state is not before.state:
            self._note_ban()
        await self._record.step(before, self._session, event, at=self._processing_since)
        self._notify_waiters()

    def _note_ban(self) -> None:
        """After a temporary ban fewer messages are sent for a day."""
        session = self._session
        is_banned = session.reason is not None and session.reason.reaction is SessionReaction.PAUSE_UNTIL
        if is_banned and session.state is State.PAUSED and session.next_attempt_at is not None:
            self.work.sender.handle_ban(session.next_attempt_at - self._processing_since + _REDUCED_RATE_S)

    def _show_qr(self, shown: engine.QrShown) -> None:
        expires_at = self._services.clock.now() + timedelta(milliseconds=shown.valid_ms)
        self._qr = Qr(text=shown.qr, expires_at=expires_at)
        self._services.qr_shown(self.company, shown.qr)
        self._notify_waiters()

    def _notify_waiters(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _shows_code(session: Session) -> bool:
    """Whether the QR code of the link can still be scanned."""
    return session.state is State.PAIRING and session.link is not None and not session.link.paired
