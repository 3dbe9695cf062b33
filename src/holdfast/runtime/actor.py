"""The session actor: one task that feeds the machine of one session and carries its effects out.

Whatever happens – a person's wish, an engine's report, the time – goes through the mailbox, one event at a time, so
the machine never runs twice at once. The record is stored at every change, before whoever asked is answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from holdfast.base.clock import iso
from holdfast.delivery.ports import Accepted, Draft
from holdfast.health.keepalive import KeepAlives, follow
from holdfast.health.roundtrips import RoundTrips
from holdfast.runtime.errors import BeginsAnew, NotConnected
from holdfast.runtime.keeper import Keeper
from holdfast.runtime.outbox_sender import OutboxSender
from holdfast.runtime.parts import Parts
from holdfast.runtime.passkeys import PasskeyRelay
from holdfast.runtime.rate_limiter import RateLimiter
from holdfast.runtime.view import LinkEnd, NotStored, Qr, View
from holdfast.runtime.words import keep_alive, transition
from holdfast.session import engine, events
from holdfast.session.client_version import ClientVersion
from holdfast.session.events import Effect, Event
from holdfast.session.machine import NotPossible, deadline, step
from holdfast.session.reasons import CLIENT_OUTDATED_CODE, ENGINE_QUARANTINED, HOST_REPLACED, Reaction, stored_reason
from holdfast.session.state import Session, State, budget_left, restored
from holdfast.session.stores import Record, Turn
from holdfast.session.stubs import not_stored
from holdfast.session.untrusted import bounded

log = logging.getLogger(__name__)

_ENDS_KEPT = 500
_NOT_STORED_KEPT = 500
_TIGHT_S = 24 * 3600.0
"""How long after the end of a temporary ban less is sent."""
_STREAM_ERROR, _CLOSED = 500, 428
_ENDED_BY_MESSAGE = frozenset({_STREAM_ERROR, _CLOSED})
"""A stream error without a code of its own arrives as 500; a close without a word as 428 (source: Baileys)."""


@dataclass(frozen=True, slots=True)
class _Asked:
    event: Event
    answer: asyncio.Future[None] | None = None
    link: int | None = None
    """Number of the session's link that it is about, for an event that doesn't say so itself."""


class SessionActor:
    def __init__(self, record: Record, *, paired: bool, parts: Parts) -> None:
        self._parts = parts
        self._session = _restored(record, paired=paired, parts=parts)
        self._saved = record
        self._record = record
        if record.reason == ENGINE_QUARANTINED.name:
            parts.hub.distrust(record.company)
        if self._session.state is not record.state:
            self._record = replace(record, state=self._session.state, since=self._now())
        self._mailbox: asyncio.Queue[_Asked] = asyncio.Queue()
        self._link: engine.LinkId | None = None
        self._leaving: engine.LinkId | None = None
        """The link on which the device logs out. It ends by itself; until then it may want things kept."""
        self._sending_on: engine.LinkId | None = None
        self._version: ClientVersion | None = None
        """With which the newest link logged in; None: the engine's own."""
        self._qr: Qr | None = None
        self._pairing_code: asyncio.Future[engine.PairingCodeShown] | None = None
        self._downloads: dict[int, asyncio.Future[engine.Downloaded]] = {}
        self._asked_downloads = 0
        self._changed = asyncio.Event()
        self._has_ended = False
        self._keepalives = KeepAlives()
        self._round_trips = RoundTrips()
        self._ends: deque[LinkEnd] = deque(maxlen=_ENDS_KEPT)
        self._not_stored: deque[NotStored] = deque(maxlen=_NOT_STORED_KEPT)
        self._frame_at: float | None = None
        self._took_at = self._state_at = parts.clock.monotonic()
        company = record.company
        self.passkeys = PasskeyRelay(
            company, clock=parts.clock, policy=parts.policy, command=self._command, tell=self._tell_of_link
        )
        self._sender = OutboxSender(
            company,
            outbox=parts.outbox,
            limiter=_limiter(company, parts),
            shares=parts.shares,
            jitter=parts.chance.jitter,
            files=parts.files,
            hub=parts.hub,
            clock=parts.clock,
            waited=self._sends_waited,
        )
        self._keeper = Keeper(
            company,
            store=parts.store,
            outbox=parts.outbox,
            hub=parts.hub,
            settled=self._sender.learned,
            received=self._received,
            failed=self._keeping_failed,
        )

    @property
    def company(self) -> str:
        return self._record.company

    @property
    def view(self) -> View:
        planned, now = self._session.next_attempt_at, self._parts.clock.monotonic()
        return View(
            record=self._record,
            session=self._session,
            qr=self._qr,
            passkey=self.passkeys.now,
            next_attempt_at=None if planned is None else self._wall(planned),
            keepalives=self._keepalives,
            ends=tuple(self._ends),
            frame_at=self._frame_at,
            acked_at=self._sender.acked_at,
            in_state_s=now - self._state_at,
            silent_s=now - self._took_at,
            node=self._parts.node,
            round_trips=self._round_trips,
            not_stored=tuple(self._not_stored),
        )

    async def run(self) -> None:
        """Live until cancelled; the engine's link is cut on the way out."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._sender.run(), name=f"sender {self.company}")
                tasks.create_task(self._keeper.run(), name=f"keeper {self.company}")
                await self._live()
        finally:
            self._cut_link()
            self._end_downloads()
            self.passkeys.link_gone(None)
            self._end()
            self._parts.connect_limiter.leave(self.company)
            self._parts.hub.forget(self.company)

    def tell(self, event: Event) -> None:
        self._mailbox.put_nowait(_Asked(event))

    async def ask(self, event: Event) -> None:
        """Like `tell`; returns when it is done and stored. Raises `NotPossible` and `BeginsAnew`."""
        if self._has_ended:
            raise BeginsAnew(self.company)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._mailbox.put_nowait(_Asked(event, answer))
        await answer

    async def wait_for_qr(self, *, at_most_s: float) -> Qr | None:
        """The QR code that is shown, waiting for it while one can still come."""
        until = self._parts.clock.monotonic() + at_most_s
        async with self._parts.clock.until(until):
            while self._qr is None and self.passkeys.now is None and self._session.state is State.PAIRING:
                await self._changed.wait()
        return self._qr

    async def pairing_code(self, phone: str, *, at_most_s: float) -> engine.PairingCodeShown:
        """Ask WhatsApp for a code to be typed on the phone. Needs a link that shows QR codes."""
        self._pairing_code = asyncio.get_running_loop().create_future()
        if self._link is not None:
            self._parts.hub.command(engine.AskPairingCode(link=self._link, phone=phone))
        async with self._parts.clock.until(self._parts.clock.monotonic() + at_most_s):
            return await self._pairing_code
        return engine.PairingCodeShown(link=0, error="WhatsApp gave no code in time; try again")

    async def download(self, media_keys: str, file: Path, *, most_bytes: int, within_s: float) -> engine.Downloaded:
        """Fetch the media of an inbound message into a file, through the link that is open. Raises `NotConnected`."""
        link = self._sending_on
        if link is None:
            raise NotConnected(self.company, self._session.state)
        self._asked_downloads += 1
        number = self._asked_downloads
        answer: asyncio.Future[engine.Downloaded] = asyncio.get_running_loop().create_future()
        self._downloads[number] = answer
        order = engine.Download(link=link, request=number, media_keys=media_keys, file=str(file), most_bytes=most_bytes)
        self._parts.hub.command(order)
        try:
            async with self._parts.clock.until(self._parts.clock.monotonic() + within_s):
                return await answer
            return engine.Downloaded(link=link, request=number, error="timeout")
        finally:
            del self._downloads[number]

    async def accept(self, draft: Draft) -> Accepted:
        """Store a message, and send it as soon as it may leave."""
        return await self._sender.accept(draft)

    async def account_changed(self) -> None:
        """Other limits are set for what this company may write."""
        await self._sender.account_changed()

    def messages_wait(self) -> None:
        self._sender.look_again()

    def message_cancelled(self, whatsapp_id: str) -> None:
        self._sender.forget(whatsapp_id)

    # What the engine says.

    def hear(self, report: engine.AnyReport) -> None:
        report = bounded(report)
        match report:
            case engine.Commit() | engine.KeysWanted() | engine.PlaintextWanted() | engine.SentContentWanted():
                if report.link in {self._link, self._leaving}:
                    self._keeper.hear(report)
            case _ if report.link == self._link and self._session.link is not None:
                self._hear(report, self._session.link.number)

    def _hear(self, report: engine.AnyReport, number: int) -> None:
        match report:
            case engine.Acked():
                self._sender.hear_ack(report)
            case engine.SendRefused():
                self._sender.hear_refusal(report)
            case engine.Receipted():
                self._sender.hear_receipt(report)
            case engine.FrameSeen():
                self._touch()
            case engine.PairingCodeShown():
                if self._pairing_code is not None and not self._pairing_code.done():
                    self._pairing_code.set_result(report)
            case engine.QrShown():
                self._show_qr(report)
                self.tell(events.QrShown(number))
            case engine.PasskeyRequested() | engine.PasskeyContinued() | engine.PasskeyFailed():
                self._qr = None
                self.passkeys.hear(report)
                self._ring()
            case engine.Paired():
                self._know(jid=report.jid)
                self.tell(events.Paired(number))
            case engine.LinkOpened():
                self._know(jid=report.jid)
                self.tell(events.LinkOpened(number))
                if self._parts.client_versions is not None:
                    self._parts.client_versions.worked(self._version)
            case engine.LinkClosed():
                self._sender_link_ended(report)
                if report.code == CLIENT_OUTDATED_CODE and self._parts.client_versions is not None:
                    self._parts.client_versions.refused(self._version)
                self.tell(events.LinkClosed(number, report.code, report.detail, report.attributes))
            case engine.Ponged():
                self.tell(events.Ponged(number, report.n))
            case engine.Written():
                self._sender.hear_written(report)
            case engine.Downloaded():
                self._answer_download(report)
            case engine.ReachOutLocked():
                self._sender.hear_lock(report)

    def _sender_link_ended(self, report: engine.LinkClosed) -> None:
        """WhatsApp may have ended the link because of a message; codes about the session say nothing of messages."""
        if report.link == self._sending_on and report.code in _ENDED_BY_MESSAGE:
            self._sender.link_ended(by_stream_error=report.code == _STREAM_ERROR)

    def _answer_download(self, report: engine.Downloaded) -> None:
        answer = self._downloads.get(report.request)
        if answer is not None and not answer.done():
            answer.set_result(report)

    def _end_downloads(self) -> None:
        """What the link was fetching does not come any more."""
        for number in self._downloads:
            self._answer_download(engine.Downloaded(link=0, request=number, error="link-down"))

    def lose_host(self) -> None:
        self._sender.host_lost()
        if self._session.link is not None:
            self._mailbox.put_nowait(_Asked(events.HostLost(), link=self._session.link.number))

    def quarantine(self) -> None:
        self._sender.host_lost()
        self.tell(events.EngineQuarantined())

    def change_host(self) -> bool:
        now, policy = self._parts.clock.monotonic(), self._parts.policy
        if budget_left(self._session, now=now, policy=policy) <= policy.budget_an_hour // 2:
            return False
        if self._session.state is State.CONNECTED:
            self.tell(events.ReconnectAsked(HOST_REPLACED))
        return True

    def _received(self, messages: Sequence[engine.InboundMessage]) -> None:
        self._touch()
        self._sender.hear_received(messages)
        log.info("Session %s received %d message(s)", self.company, len(messages))
        for message in not_stored(messages):
            log.warning("Session %s: message %s could not be stored; a stub is", self.company, message.whatsapp_id)
            self._not_stored.append(NotStored(self._parts.clock.monotonic(), message.whatsapp_id))

    def _tell_of_link(self, make: Callable[[int], Event]) -> None:
        if self._session.link is not None:
            self.tell(make(self._session.link.number))

    def _keeping_failed(self, link: engine.LinkId) -> None:
        if link == self._link and self._session.link is not None:
            self.tell(events.KeepingFailed(self._session.link.number))

    def _sends_waited(self, since: float | None) -> None:
        if self._session.link is not None:
            self.tell(events.SendsWaited(self._session.link.number, since))

    # One event at a time.

    async def _live(self) -> None:
        clock, policy = self._parts.clock, self._parts.policy
        while True:
            asked = _Asked(events.Tick())
            async with clock.until(deadline(self._session, policy=policy)):
                asked = await self._mailbox.get()
            try:
                await self._take(asked)
            finally:
                self._refuse(asked)

    async def _take(self, asked: _Asked) -> None:
        before = self._session
        self._took_at = self._parts.clock.monotonic()
        if asked.link is not None and asked.link != _number(before):
            return
        try:
            self._session, effects = step(
                before,
                asked.event,
                now=self._parts.clock.monotonic(),
                jitter=self._parts.chance.jitter(),
                policy=self._parts.policy,
            )
        except NotPossible as error:
            if asked.answer is None:
                log.warning("Session %s: %s", self.company, error)
            elif not asked.answer.done():
                asked.answer.set_exception(error)
            return
        self._parts.connect_limiter.follow(self.company, asked.event, before, self._session)
        self._follow_link()
        for effect in effects:
            await self._carry_out(effect)
        await self._note(before, asked.event)
        if asked.answer is not None and not asked.answer.done():
            asked.answer.set_result(None)

    def _end(self) -> None:
        """Answer all who still wait for this actor."""
        self._has_ended = True
        while not self._mailbox.empty():
            self._refuse(self._mailbox.get_nowait())

    def _refuse(self, asked: _Asked) -> None:
        """What was asked is not going to be done, unless it was."""
        if asked.answer is not None and not asked.answer.done():
            asked.answer.set_exception(BeginsAnew(self.company))

    def _follow_link(self) -> None:
        """The outbox sends on a link that is open, and on no other."""
        link = self._session.link
        usable = self._link if link is not None and link.opened_at is not None else None
        if usable == self._sending_on:
            return
        self._sender.link_down()
        self._end_downloads()
        self._sending_on = usable
        if usable is not None:
            self._sender.link_up(usable)

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case events.OpenLink(link=number):
                await self._open_link_in_turn(number)
            case events.CutLink():
                self._cut_link()
            case events.SendPing(ping=ping):
                self._command(lambda link: engine.Ping(link=link, n=ping))
            case events.SendPresence():
                self._command(lambda link: engine.Presence(link=link, available=True))
            case events.Unlink():
                self._command(lambda link: engine.LogOut(link=link))
                self._link, self._leaving = None, self._link
            case events.QuarantineCredentials():
                await self._quarantine()

    def _command(self, make: Callable[[engine.LinkId], engine.AnyCommand]) -> None:
        if self._link is not None:
            self._parts.hub.command(make(self._link))

    async def _open_link_in_turn(self, number: int) -> None:
        held = self._parts.connect_limiter.ask(self, number)
        if held is None:
            await self._open_link()
        else:
            self._link = None
            self.tell(held)

    async def _open_link(self) -> None:
        """The credentials are read behind all that the link before wanted kept."""
        await self._keeper.caught_up()
        credentials = await self._parts.store.credentials(self.company)
        self._link = self._parts.hub.new_link(self)
        versions = self._parts.client_versions
        self._version = None if versions is None else versions.current
        order = engine.OpenLink(
            link=self._link,
            company=self.company,
            credentials=credentials,
            url=self._parts.whatsapp_url,
            device_name=self._parts.device_name,
            version=None if self._version is None else list(self._version.numbers),
        )
        self._parts.hub.command(order)

    def _cut_link(self) -> None:
        self._command(lambda link: engine.CutLink(link=link))
        self._link = None

    async def _quarantine(self) -> None:
        """What the dying link still wants kept must not bring the credentials back."""
        link = self._leaving if self._link is None else self._link
        if link is not None:
            self._keeper.forget_keys(link)
        await self._keeper.caught_up()
        reason = self._session.reason
        await self._parts.store.quarantine(self.company, reason="" if reason is None else reason.name)

    # What is known and shown.

    async def _note(self, before: Session, event: Event) -> None:
        session, record = self._session, self._record
        self._follow_pings(before)
        if _has_lost(before, session, event) and session.reason is not None:
            self._ends.append(LinkEnd(self._took_at, session.reason))
        if not _shows_code(session) or _number(session) != _number(before):
            self._qr = None
        if _number(session) != _number(before):
            self.passkeys.link_gone(None if session.reason is None else session.reason.name)
        if session.state is State.CONNECTED and record.state is not State.CONNECTED:
            record = replace(record, connected_at=self._now(), last_activity=self._now())
        if session.state is not record.state:
            record = replace(record, state=session.state, since=self._now())
        reason = session.told_reason
        record = replace(
            record,
            reason=None if reason is None else reason.name,
            code=None if reason is None else reason.code,
            attempts=session.attempts,
            resumes_at=self._resumes_at(),
        )
        self._record = record
        self._parts.live.put(record)
        if line := transition(self.company, before, session, now=self._parts.clock.monotonic()):
            log.info("%s", line)
            await self._parts.timeline.add(self._turn(before, event))
        if session.state is not before.state:
            self._state_at = self._took_at
            self._note_ban()
        if record != replace(self._saved, last_activity=record.last_activity):
            await self._parts.sessions.save(record)
            self._saved = record
        self._ring()

    def _note_ban(self) -> None:
        """After a temporary ban the number is to write less for a day."""
        session = self._session
        is_banned = session.reason is not None and session.reason.reaction is Reaction.PAUSE_UNTIL
        if is_banned and session.state is State.PAUSED and session.next_attempt_at is not None:
            self._sender.hear_ban(session.next_attempt_at - self._took_at + _TIGHT_S)

    def _follow_pings(self, before: Session) -> None:
        known, self._keepalives = self._keepalives, follow(self._keepalives, before, self._session)
        if self._keepalives.outcomes is not known.outcomes:
            outcome = self._keepalives.outcomes[-1]
            self._round_trips.add(self._parts.clock.now().timestamp(), outcome)
            link = self._session.link
            is_new = outcome is None or (link is not None and link.ping == 1)
            log.log(logging.INFO if is_new else logging.DEBUG, "%s", keep_alive(self.company, outcome))

    def _turn(self, before: Session, event: Event) -> Turn:
        session, record = self._session, self._record
        planned = session.next_attempt_at
        return Turn(
            company=self.company,
            at=self._now(),
            before=before.state,
            after=session.state,
            event=type(event).__name__,
            reason=record.reason,
            code=record.code,
            attempts=session.attempts,
            next_attempt_at=None if planned is None else iso(self._wall(planned)),
            lasted_s=round(self._took_at - self._state_at, 3),
        )

    def _resumes_at(self) -> str | None:
        """When a paused session goes on by itself; a probe that is under way would be due again after a restart."""
        if self._session.state is not State.PAUSED:
            return None
        if self._session.link is not None:
            return self._record.resumes_at or self._now()
        planned = self._session.next_attempt_at
        return None if planned is None else iso(self._wall(planned))

    def _know(self, *, jid: str) -> None:
        number = jid.split("@")[0].split(":")[0]
        self._record = replace(self._record, jid=jid, phone_number=number)

    def _touch(self) -> None:
        self._frame_at = self._parts.clock.monotonic()
        self._record = replace(self._record, last_activity=self._now())
        self._parts.live.put(self._record)

    def _show_qr(self, shown: engine.QrShown) -> None:
        expires_at = self._parts.clock.now() + timedelta(milliseconds=shown.valid_ms)
        self._qr = Qr(text=shown.qr, expires_at=expires_at)
        self._parts.qr_shown(self.company, shown.qr)
        self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _now(self) -> str:
        return iso(self._parts.clock.now())

    def _wall(self, moment: float) -> datetime:
        return self._parts.clock.now() + timedelta(seconds=moment - self._parts.clock.monotonic())


def _limiter(company: str, parts: Parts) -> RateLimiter:
    return RateLimiter(
        company,
        outbox=parts.outbox,
        accounts=parts.accounts,
        clock=parts.clock,
        pacing=parts.pacing,
        jitter=parts.chance.jitter,
    )


def _shows_code(session: Session) -> bool:
    """Can a QR code that the link showed still be scanned?"""
    return session.state is State.PAIRING and session.link is not None and not session.link.paired


def _has_lost(before: Session, after: Session, event: Event) -> bool:
    """Did a link end? One that was held has not begun."""
    return (
        before.link is not None and _number(after) != before.link.number and not isinstance(event, events.ConnectHeld)
    )


def _number(session: Session) -> int | None:
    return None if session.link is None else session.link.number


def _restored(record: Record, *, paired: bool, parts: Parts) -> Session:
    resumes_at = None
    if record.resumes_at is not None:
        left = datetime.fromisoformat(record.resumes_at) - parts.clock.now()
        resumes_at = parts.clock.monotonic() + max(left.total_seconds(), 0)
    return restored(
        state=record.state,
        paired=paired,
        attempts=record.attempts,
        resumes_at=resumes_at,
        reason=None if record.reason is None else stored_reason(record.reason, record.code),
    )
