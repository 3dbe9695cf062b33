"""The work of one session through its open link: messages, operations, queries, downloads, presence, rejected calls,
and storing what the engine reports.

The actor says when the link is usable and when it is not. Reports about the life of the link itself are the actor's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from holdfast.base.clock_step import ClockStep
from holdfast.runtime.call_rejection import CallRejection
from holdfast.runtime.chat_reading import AutomaticReading
from holdfast.runtime.contact_presence import ContactPresence
from holdfast.runtime.engine_storage import EngineStorage
from holdfast.runtime.errors import NotConnected
from holdfast.runtime.link_requests import LinkRequests
from holdfast.runtime.operation_runner import OperationRunner
from holdfast.runtime.outbox_sender import OutboxSender
from holdfast.runtime.rate_limiter import RateLimiter
from holdfast.runtime.services import Services
from holdfast.runtime.session_queries import SessionQueries
from holdfast.runtime.session_record import SessionRecord
from holdfast.session import engine
from holdfast.session.engine import LinkId
from holdfast.session.ignoring import ignored_kinds
from holdfast.session.queries import subscribe_presence
from holdfast.session.stores import WaitingWork

_STREAM_ERROR, _CLOSED = 500, 428
_ENDED_BY_MESSAGE = frozenset({_STREAM_ERROR, _CLOSED})
"""A stream error without a code arrives as 500; a close without a reason as 428 (source: Baileys)."""


class LinkWork:
    def __init__(
        self,
        record: SessionRecord,
        services: Services,
        *,
        not_connected: Callable[[], NotConnected],
        sends_waited: Callable[[float | None], None],
        storing_failed: Callable[[LinkId], None],
    ) -> None:
        """`not_connected` makes the error of a caller who needs a link while none is logged in. `sends_waited` is
        called with the monotonic time since when sends wait for WhatsApp's answer; None: none does."""
        company, clock, command = record.company, services.clock, services.supervisor.command
        self._record = record
        self._services = services
        self._not_connected = not_connected
        self._link: LinkId | None = None
        """The link that is logged in."""
        self._waiting: WaitingWork | None = None
        self.requests = LinkRequests(clock=clock, command=command)
        self.queries = SessionQueries(company, clock=clock, command=command, link=self.open_link)
        self.operations = OperationRunner(
            company,
            store=services.operations,
            files=services.files,
            clock=clock,
            clock_watch=services.clock_watch,
            command=command,
        )
        self.contacts = ContactPresence(company, events=services.event_log, clock=clock, subscribe=self._subscribe)
        self.limiter = RateLimiter(
            company,
            outbox=services.outbox,
            accounts=services.accounts,
            clock=clock,
            pacing=services.pacing,
            jitter=services.randomness.jitter,
        )
        self.sender = OutboxSender(
            company,
            outbox=services.outbox,
            limiter=self.limiter,
            shares=services.shares,
            jitter=services.randomness.jitter,
            files=services.files,
            supervisor=services.supervisor,
            clock=clock,
            clock_watch=services.clock_watch,
            waited=sends_waited,
        )
        self.storage = EngineStorage(
            company,
            store=services.store,
            outbox=services.outbox,
            supervisor=services.supervisor,
            clock=clock,
            commit_receipts=self.sender.outcomes.commit,
            received=self._received,
            ignored=lambda: ignored_kinds(record.current.ignored),
            left_out=record.left_out.update,
            progressed=record.history.add,
            called=self._called,
            failed=storing_failed,
        )
        self._calls = CallRejection(
            calls=services.calls,
            clock=clock,
            randomness=services.randomness,
            record=lambda: record.current,
            command=self._command,
            accept=self.sender.accept,
        )
        self._reading = AutomaticReading(
            company,
            chats=services.chats,
            operations=services.operations,
            clock=clock,
            randomness=services.randomness,
            is_on=lambda: record.current.auto_read is not None,
            accepted=self.operations.recheck,
        )

    def start(self, tasks: asyncio.TaskGroup) -> None:
        company = self._record.company
        tasks.create_task(self.sender.run(), name=f"sender {company}")
        tasks.create_task(self.operations.run(), name=f"operations {company}")
        tasks.create_task(self.storage.run(), name=f"engine storage {company}")
        tasks.create_task(self._reading.run(), name=f"automatic reading {company}")
        tasks.create_task(self.contacts.run(), name=f"presence {company}")

    def continue_from(self, before: LinkWork) -> None:
        """Take over what the work of an actor that failed had in memory only."""
        self.contacts.continue_from(before.contacts)
        self._reading.continue_from(before._reading)

    def use(self, link: LinkId | None) -> None:
        """Use this link from now on; None: no link is logged in."""
        if link == self._link:
            return
        self.sender.link_down()
        self.operations.link_down()
        self._link = link
        if link is not None:
            self.sender.link_up(link)
            self.operations.link_up(link)
            self.contacts.link_up()

    def link_ended(self) -> None:
        """Answer every caller that waits for an answer through the link."""
        self.requests.link_ended()
        self.queries.link_ended()

    def end(self) -> None:
        """The session no longer runs here."""
        self.use(None)
        self.link_ended()

    def open_link(self) -> LinkId:
        """The link that is logged in. Raises `NotConnected`."""
        if self._link is None:
            raise self._not_connected()
        return self._link

    async def download(self, media_keys: str, file: Path, *, max_bytes: int, within_s: float) -> engine.Downloaded:
        """Fetch the media of an inbound message into a file, through the link that is open. Raises `NotConnected`."""
        return await self.requests.download(self.open_link(), media_keys, file, max_bytes=max_bytes, within_s=within_s)

    def recheck(self, waiting: WaitingWork | None = None) -> None:
        """Messages or operations wait in the database; `waiting`: which, if that was read.

        In a cluster this is called each second. While hundreds of sessions are disconnected, reading again what each of
        them knows already would delay every accept.
        """
        if waiting is not None:
            if waiting == self._waiting and self._link is None:
                return
            self._waiting = waiting
        self.sender.recheck()
        self.operations.recheck()

    def clock_was_set(self, step: ClockStep) -> None:
        self.sender.clock_was_set(step)
        self.operations.clock_was_set(step)

    def show_presence(self) -> None:
        """Contacts see the account as online or not, as the company set it; WhatsApp forgets it with each link."""
        shown = self._record.current.shown_available
        if shown is not None:
            self._command(lambda link: engine.Presence(link=link, available=shown == "yes"))

    def handle(self, report: engine.AnyReport) -> None:
        """Take a report of the session's link; those about its life are ignored."""
        match report:
            case engine.PairingCodeShown() | engine.Downloaded():
                self.requests.answer(report)
            case engine.QueryAnswered():
                self.queries.answer(report)
            case engine.OperationAnswered():
                self.operations.answer(report)
            case engine.Acked():
                self.sender.outcomes.handle_ack(report)
            case engine.SendRefused():
                self.sender.outcomes.handle_refusal(report)
            case engine.Receipted():
                self.sender.outcomes.handle_receipt(report)
            case engine.Written():
                self.sender.outcomes.handle_written(report)
            case engine.PresenceSeen():
                self.contacts.handle(report)
            case engine.NewChatsLocked():
                self.sender.outcomes.handle_lock(report)
            case engine.LinkClosed() if report.link == self._link and report.code in _ENDED_BY_MESSAGE:
                # WhatsApp may have ended the link because of a message; other codes have nothing to do with messages.
                self.sender.link_ended(by_stream_error=report.code == _STREAM_ERROR)

    def _subscribe(self, jids: Sequence[str]) -> None:
        query = subscribe_presence(jids)
        self._command(
            lambda link: engine.RunQuery(link=link, request=0, name=query.name, arguments=dict(query.arguments))
        )

    def _command(self, make: Callable[[LinkId], engine.AnyCommand]) -> None:
        if self._link is not None:
            self._services.supervisor.command(make(self._link))

    async def _called(self, signals: Sequence[engine.CallSignal]) -> None:
        await self._calls.handle(signals)

    def _received(self, messages: Sequence[engine.InboundMessage]) -> None:
        self._record.received(messages)
        self.sender.handle_received(messages)
        self._reading.received(messages)
