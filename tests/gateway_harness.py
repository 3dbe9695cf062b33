"""A whole gateway in one process for tests: real SQLite, a fake engine, and a fake clock that advances when idle.

Nothing here sleeps or polls: `until` lets the event loop run, waits for the database while it has work, and only when
nothing else happens advances the clock to the next moment that something waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection
from yarl import URL

from holdfast.api.media import MediaService
from holdfast.api.webhooks import WebhookService
from holdfast.base.clock import ClockWatch
from holdfast.base.ids import SystemRandomSource
from holdfast.base.proxy_urls import proxy_address
from holdfast.delivery.media_links import MediaLinks
from holdfast.delivery.rate_limits import Allowance, Pace, Pacing
from holdfast.delivery.stores import Accepted, Deferral, Draft, Message, MessageChange, Taken
from holdfast.health.conditions import Condition
from holdfast.live.memory import MemoryLive
from holdfast.runtime.account_limits import AccountLimits, hold_notice
from holdfast.runtime.composer import Composer, text_request
from holdfast.runtime.connect_limiter import ConnectLimiter
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.inbound_media import InboundMediaService
from holdfast.runtime.media_spool import Spool
from holdfast.runtime.messages import Messages
from holdfast.runtime.operations import OperationService
from holdfast.runtime.outbound_media import OutboundMediaService
from holdfast.runtime.pairing import qr_code
from holdfast.runtime.people import People
from holdfast.runtime.quotas import QuotaLimits, Quotas
from holdfast.runtime.rate_limiter import SendShares
from holdfast.runtime.services import Services
from holdfast.runtime.view import Qr
from holdfast.session.engine import AnyCommand, Commit, Engine, InboundMessage, LinkId, Listener, OpenLink, Send
from holdfast.session.state import Policy
from holdfast.session.stores import Record, Transition
from holdfast.store.account_settings import AccountSettingRows
from holdfast.store.accounts import AccountRows
from holdfast.store.calls import CallRows
from holdfast.store.chat_rows import ChatRows
from holdfast.store.contacts import ContactRows
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database, Work
from holdfast.store.events import EventRows
from holdfast.store.figures import FigureRows
from holdfast.store.inbox import InboxRows
from holdfast.store.media import MediaRows
from holdfast.store.operations import OperationRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.references import ReferenceRows
from holdfast.store.sessions import SessionRows
from holdfast.store.timeline import TimelineRows
from holdfast.store.usage import UsageRows
from holdfast.store.webhooks import WebhookRows
from holdfast.web.client import WebClient
from tests.databases import migrated
from tests.doubles.fake_clock import FakeClock
from tests.doubles.fake_engine import FakeEngine

T = TypeVar("T")
C = TypeVar("C", bound=AnyCommand)

UNPACED = Pacing(bulk=Pace(per_minute=0, burst=1), new=Pace(per_minute=0, burst=1), new_per_day=0)
"""No limits: every accepted message is sent at once."""
_QUIET_ITERATIONS = 30
"""More iterations of the event loop than any chain of wake-ups needs."""
_MAX_DEADLINES = 400
UNLIMITED = QuotaLimits(
    requests_per_minute=0,
    open_requests=0,
    streams=0,
    outbox_messages=0,
    outbox_bytes=0,
    media_bytes=0,
    free_disk_bytes=0,
)
LINKS = MediaLinks(secret="secret", base_url="http://holdfast.test")
MEDIA_LIMIT = 64 * 1024 * 1024
NUMBER = "962790000001"
COMPANY = "962302"


class JitterFreeRandomSource(SystemRandomSource):
    """Random ids, but no jitter."""

    def jitter(self) -> float:
        return 0.0


class WatchedDatabase(Database):
    """Counts reads and writes in progress, and can fail every write."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(migrated())
        super().__init__(path)
        driver: Any = self._connection.connection.driver_connection
        driver.execute("PRAGMA synchronous=OFF")  # no test here loses power, and the disk took a third of their time
        self.under_way = 0
        self.update = asyncio.Event()
        self.failing: str | None = None
        """The error of every write, until it is reset to None."""

    def write(self, work: Work[T], *, company: str | None = None, last: bool = False) -> Awaitable[T]:
        return self._watch(super().write(self._work(work), company=company, last=last))

    def read(self, work: Callable[[Connection], T]) -> Awaitable[T]:
        return self._watch(super().read(work))

    def _work(self, work: Work[T]) -> Work[T]:
        if self.failing is None:
            return work
        sentence = self.failing

        def fails(_: object) -> T:
            raise OSError(sentence)

        return fails

    def _watch(self, running: Awaitable[T]) -> Awaitable[T]:
        future = asyncio.ensure_future(running)
        self.under_way += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, _: object) -> None:
        self.under_way -= 1
        self.update.set()


class Latch:
    """Open, unless a test closes it for a while to delay something."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._shuts = False

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def close(self) -> None:
        self._open.clear()

    def let_one_pass(self) -> None:
        self._shuts = True
        self._open.set()

    def open(self) -> None:
        self._open.set()

    async def pass_through(self) -> None:
        await self._open.wait()
        if self._shuts:
            self._shuts = False
            self._open.clear()


class LatchedRows(EngineRows):
    """Commits wait at a latch. Those in `failing` (by seq) fail, and those with a message whose text is `refused`."""

    latch: Latch
    failing: frozenset[int] = frozenset()
    refused: str | None = None

    async def commit(self, company: str, commit: Commit) -> Sequence[InboundMessage]:
        await self.latch.pass_through()
        if commit.seq in self.failing:
            raise OSError("disk full")
        if any(item.message and item.message.text == self.refused for item in commit.decrypted if self.refused):
            raise ValueError("not storable")
        return await super().commit(company, commit)


class LatchedSessions(SessionRows):
    """Saving records waits at a latch; reading one can fail."""

    latch: Latch
    failing: str | None = None
    """The error of every read of one record, until it is reset to None."""

    async def find(self, company: str) -> Record | None:
        if self.failing is not None:
            raise OSError(self.failing)
        return await super().find(company)

    async def save(self, record: Record) -> None:
        await self.latch.pass_through()
        await super().save(record)


class FailingChats(ChatRows):
    """Marking messages as read can fail."""

    failing: str | None = None
    """The error, until it is reset to None."""

    async def set_read(self, company: str, chat: str, *, up_to: int) -> None:
        if self.failing is not None:
            raise OSError(self.failing)
        await super().set_read(company, chat, up_to=up_to)


class LatchedTimeline(TimelineRows):
    """Writing transitions waits at a latch."""

    latch: Latch

    async def add(self, transition: Transition) -> None:
        await self.latch.pass_through()
        await super().add(transition)


class LatchedOutbox(OutboxRows):
    """Latches before a look at the queue, after its commit, before the commit of status updates, before and after the
    commit of an acceptance, and before that of a lock's new end."""

    takes: Latch
    taken: Latch
    learns: Latch
    accepts: Latch
    accepted: Latch
    holds: Latch
    batches: list[int]
    """How many status updates each transaction committed."""
    torn = False
    """Acceptances are stored, but their results are lost."""

    async def accept(self, draft: Draft, *, begin: bool = False) -> Accepted:
        await self.accepts.pass_through()
        accepted = await super().accept(draft, begin=begin)
        await self.accepted.pass_through()
        if self.torn:
            raise OSError("connection lost")
        return accepted

    async def reschedule_held(self, company: str, *, code: str, until: str | None) -> None:
        await self.holds.pass_through()
        await super().reschedule_held(company, code=code, until=until)

    async def take(
        self,
        company: str,
        allowance: Allowance,
        *,
        exclude: Collection[str],
        alone: bool = False,
        updates: Sequence[MessageChange | Deferral] = (),
    ) -> Taken:
        await self.takes.pass_through()
        if updates:
            await self.learns.pass_through()
            self.batches.append(len(updates))
        taken = await super().take(company, allowance, exclude=exclude, alone=alone, updates=updates)
        if taken.messages:
            await self.taken.pass_through()
        return taken

    async def take_made_due(
        self,
        company: str,
        allowance: Allowance,
        *,
        exclude: Collection[str],
        updates: Sequence[MessageChange | Deferral],
    ) -> Taken | None:
        await self.takes.pass_through()
        await self.learns.pass_through()
        taken = await super().take_made_due(company, allowance, exclude=exclude, updates=updates)
        if taken is not None and taken.messages:
            await self.taken.pass_through()
        return taken

    async def apply_updates(self, company: str, changes: Sequence[MessageChange | Deferral]) -> list[Message]:
        await self.learns.pass_through()
        self.batches.append(len(changes))
        return await super().apply_updates(company, changes)


class GatewayHarness:
    """`gateway`, `engine` and `clock` are the current ones; a restart replaces gateway and engine."""

    gateway: Gateway
    engine: FakeEngine
    services: Services
    messages: Messages
    operations: OperationService
    limits: AccountLimits
    listener: Listener
    """The listener of the current engine."""

    def __init__(self, folder: Path) -> None:
        self.database = WatchedDatabase(folder / "holdfast.db")
        self.clock = FakeClock()
        self.policy = Policy()
        self.pacing = UNPACED
        self.free_disk_bytes = 1 << 40
        self.outbox = LatchedOutbox(self.database, clock=self.clock)
        self.outbox.batches = []
        self.takes = self.outbox.takes = Latch()
        self.taken = self.outbox.taken = Latch()
        self.learns = self.outbox.learns = Latch()
        self.accepts = self.outbox.accepts = Latch()
        self.accepted = self.outbox.accepted = Latch()
        self.holds = self.outbox.holds = Latch()
        self.timeline = LatchedTimeline(self.database)
        self.transitions = self.timeline.latch = Latch()
        self.inbox = InboxRows(self.database)
        self.chats = FailingChats(self.database)
        self.contacts = ContactRows(self.database, clock=self.clock)
        self.labels = AccountSettingRows(self.database)
        self.media = MediaRows(self.database, clock=self.clock)
        self.outbound_media = OutboundMediaService(
            self.media, web=WebClient(), randomness=JitterFreeRandomSource(), limit_bytes=MEDIA_LIMIT
        )
        """Nothing can be fetched from the network in tests."""
        self.spool = Spool(self.media, folder=folder / "spool", clock=self.clock)
        references = ReferenceRows(self.database)
        self.composer = Composer(
            references=references,
            outbound_media=self.outbound_media,
            clock=self.clock,
            randomness=JitterFreeRandomSource(),
        )
        self.events = EventRows(self.database)
        self.calls = CallRows(self.database, clock=self.clock)
        self.names: dict[str, list[str]] = {}
        """IP addresses by host name; other names are unknown."""
        self.web = WebClient(resolve=self._addresses)
        self.webhooks = WebhookService(WebhookRows(self.database), randomness=JitterFreeRandomSource(), web=self.web)
        self.store = LatchedRows(self.database, clock=self.clock, randomness=JitterFreeRandomSource())
        self.sessions = LatchedSessions(self.database)
        self.commits = self.store.latch = Latch()
        self.saves = self.sessions.latch = Latch()
        self.latches = [self.commits, self.saves, self.takes, self.taken, self.learns]
        self.latches += [self.accepts, self.accepted, self.holds]
        self.prepare: Callable[[FakeEngine], None] = lambda engine: None
        """Prepares each new engine before it is used."""
        self.engines = 0
        self.host_starts = Latch()
        """Engine hosts start while this latch is open."""

    async def _addresses(self, url: URL) -> list[str]:
        host = url.host or ""
        try:
            return [str(ip_address(host))]
        except ValueError:
            return self.names.get(host, [])

    @contextlib.asynccontextmanager
    async def running(self, *, until_ready: bool = True) -> AsyncIterator[Gateway]:
        """A gateway from its start to its stop; the database outlives it."""
        supervisor = EngineSupervisor(self._start_host, clock=self.clock, backoff=self.policy.backoff)
        self.services = services = Services(
            supervisor=supervisor,
            connect_limiter=ConnectLimiter(clock=self.clock),
            shares=SendShares(clock=self.clock),
            sessions=self.sessions,
            timeline=self.timeline,
            live=MemoryLive(node="here", clock=self.clock),
            store=self.store,
            outbox=self.outbox,
            operations=OperationRows(self.database, clock=self.clock),
            calls=self.calls,
            chats=self.chats,
            event_log=self.events,
            accounts=AccountRows(self.database),
            files=self.spool,
            pacing=self.pacing,
            clock=self.clock,
            clock_watch=ClockWatch(self.clock),
            randomness=JitterFreeRandomSource(),
            policy=self.policy,
            whatsapp_url=None,
            proxy_addresses=lambda proxy: self.web.addresses(f"http://{proxy_address(proxy)}"),
        )
        self.gateway = Gateway(services)
        self.people = People(self.gateway, self.contacts)
        self.messages = Messages(self.gateway, self.outbox, self.composer, self.people)
        self.operations = OperationService(
            self.gateway, services.operations, events=self.events, clock=self.clock, randomness=JitterFreeRandomSource()
        )
        self.open_alerts: list[Condition] = []
        """The open alerts that the dashboard shows."""
        self.limits = AccountLimits(self.gateway, services.accounts, default=services.pacing, clock=self.clock)
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.gateway.run(ready=ready.set))
            if until_ready:
                await ready.wait()
            try:
                yield self.gateway
            finally:
                running.cancel()

    @contextlib.asynccontextmanager
    async def _start_host(self, listener: Listener) -> AsyncIterator[Engine]:
        await self.host_starts.pass_through()
        self.listener = listener
        self.engine = FakeEngine(listener=listener)
        self.prepare(self.engine)
        self.engines += 1
        yield self.engine

    def media_service(self) -> MediaService:
        inbound = InboundMediaService(
            self.media, outbound_media=self.outbound_media, gateway=self.gateway, folder=self.spool.folder
        )
        return MediaService(
            inbound=inbound, outbound=self.outbound_media, inbox=self.inbox, links=LINKS, clock=self.clock
        )

    def quotas(self, limits: QuotaLimits = UNLIMITED) -> Quotas:
        return Quotas(limits, UsageRows(self.database), clock=self.clock, free_disk_bytes=lambda: self.free_disk_bytes)

    def diagnoser(self) -> Diagnoser:
        return Diagnoser(self.gateway, self.services, figures=FigureRows(self.database), limits=self.limits)

    # Time.

    async def until(self, true: Callable[[], bool], *, within_s: float = 600) -> None:
        """Run until the condition holds; the clock jumps to the next deadline whenever nothing else happens."""
        until = self.clock.monotonic() + within_s
        for _ in range(_MAX_DEADLINES):
            await self.quiet(true)
            if true():
                return
            due = self.clock.next_due
            if due is None or due > until:
                raise AssertionError(f"the condition did not hold within {within_s} s; {self._seen()}")
            self.clock.advance_to(due)
        raise AssertionError(f"the condition did not hold within {_MAX_DEADLINES} deadlines; {self._seen()}")

    async def wait(self, seconds: float) -> None:
        """Advance the clock by that many seconds, and run everything that is due in between."""
        until = self.clock.monotonic() + seconds
        for _ in range(_MAX_DEADLINES):
            await self.quiet()
            due = self.clock.next_due
            if due is None or due > until:
                self.clock.advance_to(until)
                return await self.quiet()
            self.clock.advance_to(due)
        raise AssertionError(f"more than {_MAX_DEADLINES} deadlines within {seconds} s: a hot loop; {self._seen()}")

    async def quiet(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Run until nothing more happens without time passing, or earlier when `enough` holds."""
        iterations = 0
        while iterations < _QUIET_ITERATIONS and not enough():
            iterations += 1
            await asyncio.sleep(0)
            while self.database.under_way and not enough():
                iterations = 0
                self.database.update.clear()
                await self.database.update.wait()

    async def now(self, awaitable: Awaitable[T], *, within_s: float = 600) -> T:
        """The result of an awaitable; time advances while it is pending."""
        task = asyncio.ensure_future(awaitable)
        try:
            await self.until(task.done, within_s=within_s)
        finally:
            task.cancel()
        return task.result()

    def _seen(self) -> str:
        states = [f"{view.record.company} {view.record.state}" for view in self.gateway.views()]
        return f"sessions: {states}; last commands: {self.engine.commands[-8:]}"

    # Actions of users.

    def state(self, company: str = COMPANY) -> str:
        return self.gateway.view(company).record.state.value

    async def until_state(self, state: str, company: str = COMPANY, *, within_s: float = 600) -> None:
        await self.until(lambda: self.state(company) == state, within_s=within_s)

    async def pair(self, company: str = COMPANY) -> LinkId:
        """Create a company with a linked phone and connect it; returns its link."""
        await self.now(self.gateway.put(company))
        await self.qr(company)
        self.engine.scan(self.link(company))
        await self.until_state("connected", company)
        await self.quiet()
        return self.link(company)

    async def qr(self, company: str = COMPANY) -> Qr:
        """Return the QR code that the session shows; requests one if there is none."""
        return await self.now(qr_code(await self.gateway.actor(company), within_s=15))

    async def send(self, text: str = "hello", *, to: str = NUMBER, company: str = COMPANY) -> Message:
        return await self.now(self.messages.accept(company, text_request(to, text)))

    async def message(self, message: Message) -> Message:
        return await self.now(self.messages.find(message.id))

    async def until_sends(self, count: int) -> None:
        await self.until(lambda: len(self.sends()) == count)

    async def held(self, message: Message) -> str | None:
        """The code of the hold of a message, as the API shows it."""
        found = await self.message(message)
        limits = await self.now(self.limits.restrictions(message.company))
        what = hold_notice(found, self.gateway.view(message.company), limits)
        return None if what is None else what.code

    async def until_message(self, message: Message, state: str, *, within_s: float = 600) -> Message:
        """Wait until the message has that state, and return it."""
        found = message
        for _ in range(_MAX_DEADLINES):
            await self.quiet()
            found = await self.message(message)
            if found.state == state:
                return found
            due = self.clock.next_due
            if due is None or due > self.clock.monotonic() + within_s:
                break
            self.clock.advance_to(due)
        raise AssertionError(f"the message is {found.state}, not {state}; {self._seen()}")

    # The engine's side.

    def link(self, company: str = COMPANY) -> LinkId:
        """The newest link of a company."""
        return self.commands(OpenLink, company)[-1].link

    def commands(self, kind: type[C], company: str = COMPANY) -> list[C]:
        """The commands to the current engine for the links of a company."""
        opened = self.engine.commands
        links = {order.link for order in opened if isinstance(order, OpenLink) and order.company == company}
        return [order for order in opened if isinstance(order, kind) and order.link in links]

    def sends(self, company: str = COMPANY) -> list[tuple[LinkId, str]]:
        return [(order.link, str(order.content["text"])) for order in self.commands(Send, company)]

    def set_policy(self, **changes: object) -> None:
        """Change the policy; call it before `running`."""
        self.policy = replace(self.policy, **changes)  # type: ignore[arg-type]  # fields of Policy, checked by replace
