"""The gateway: all sessions of this process, and what callers may ask of them. The one door for api and commands."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from holdfast.base.clock import iso
from holdfast.base.errors import BadInput, Conflict, NotFound
from holdfast.base.ids import COMPANY_RULE, is_company_id, may_be_id
from holdfast.delivery.content import StoredMedia
from holdfast.delivery.message import MessageState
from holdfast.delivery.rate_limits import TENANT, loosened, pacing_with
from holdfast.delivery.recipient import phone_number
from holdfast.delivery.stores import Accepted, Content, Draft, Inbox, Message, Received
from holdfast.runtime.actor import SessionActor
from holdfast.runtime.composer import Composer, Repeated, SendRequest
from holdfast.runtime.errors import PairingCodeRefused, SessionRestarting
from holdfast.runtime.inbound_media import Fetched, unknown_inbound
from holdfast.runtime.ownership import Ownership, RunsElsewhere
from holdfast.runtime.passkeys import Passkey
from holdfast.runtime.rate_limiter import Restrictions, restrictions
from holdfast.runtime.remote_sessions import view_of
from holdfast.runtime.services import Services
from holdfast.runtime.view import Qr, View
from holdfast.session import events
from holdfast.session.machine import NotPossible
from holdfast.session.state import RUNNING, State
from holdfast.session.stores import LeaseLost, Record, Transition

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Aside:
    """What is done to a session that must not run meanwhile."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    works: int = 0
    """How many run or wait."""


class Gateway:
    def __init__(self, parts: Services, *, inbox: Inbox, composer: Composer) -> None:
        self._parts = parts
        self._inbox = inbox
        self._composer = composer
        self._actors: dict[str, SessionActor] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._restarters: dict[str, asyncio.Task[None]] = {}
        self._aside: dict[str, _Aside] = {}
        """Sessions that are not to run just now."""
        self._ended: set[str] = set()
        """Sessions that were told to end, and have not yet."""
        self._has_ended = False
        """All of them were."""
        self._tasks: asyncio.TaskGroup | None = None
        self.is_ready = False

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Keep all sessions alive until cancelled. `ready` is called when the engine host is up."""
        ownership = self._parts.ownership
        try:
            async with asyncio.TaskGroup() as engines:
                engine_up = asyncio.Event()
                engines.create_task(self._parts.supervisor.run(ready=engine_up.set), name="engine hub")
                engines.create_task(self._parts.live.run(), name="live state")
                await engine_up.wait()
                async with asyncio.TaskGroup() as self._tasks:
                    try:
                        await (self._begin_all() if ownership is None else self._begin_owned(ownership))
                        self.is_ready = True
                        ready()
                        await asyncio.Event().wait()  # a group without sessions would end here and take none in later
                    finally:
                        self._has_ended = True
        finally:
            if ownership is not None:
                await ownership.release()

    async def _begin_all(self) -> None:
        alive_at = await self._parts.timeline.seen_alive(self._now())
        for record in await self._parts.sessions.all():
            await self._note_absence(record, alive_at)
            self._start(await self._revive(record))

    async def _begin_owned(self, ownership: Ownership) -> None:
        assert self._tasks is not None
        looked = asyncio.Event()
        self._tasks.create_task(ownership.run(self, looked=looked.set), name="ownership")
        await looked.wait()

    # Sessions.

    async def put(self, company: str) -> SessionActor:
        """Create the session, or find it, and start it."""
        if not is_company_id(company):
            raise BadInput(f'company "{company[:80]}" is not usable: {COMPANY_RULE}', field="company")
        if company not in self._actors:
            ownership, now = self._parts.ownership, self._now()
            owned = ownership is None or await ownership.claim(company)
            record = Record(company=company, state=State.UNPAIRED, since=now, created_at=now)
            await self._parts.sessions.create(record)
            if owned:
                await self.begin(company)
        actor = await self._own(company)
        with contextlib.suppress(NotPossible):  # creating and updating work during a ban too; the session waits
            await actor.ask(events.StartAsked())
        return actor

    async def set_pacing(self, company: str, pacing: Content | None) -> None:
        """Store how the pacing of this company differs from the settings; None removes all differences."""
        await self._known(company)
        await self._parts.accounts.set_pacing(company, pacing)
        if actor := self._actors.get(company):
            await actor.account_changed()

    async def tenant_pacing(self, company: str, wanted: Content) -> Content | None:
        """What to store when a tenant wants these figures, beside those of the operator.

        They can only tighten what the operator set, in the settings or for this company. Raises `BadInput`, naming the
        first figure that would lift a limit.
        """
        account = await self._parts.accounts.account(company, since=self._now())
        operators = {name: value for name, value in (account.pacing or {}).items() if name != TENANT}
        figure = loosened(pacing_with(self._parts.pacing, operators), wanted)
        if figure is not None:
            raise BadInput(
                f"pacing.{figure} is {wanted[figure]}, which is above the operator's limit: this API key can only "
                "tighten the limits; an API key for all companies can set others",
                field=f"pacing.{figure}",
            )
        return operators | ({TENANT: wanted} if wanted else {}) or None

    async def restrictions(self, company: str) -> Restrictions:
        """What this company may write now."""
        await self._known(company)
        return await restrictions(company, self._parts.accounts, self._parts.pacing, self._parts.clock)

    def views(self) -> list[View]:
        return [self._actors[company].view for company in sorted(self._actors)]

    def view(self, company: str) -> View:
        """One that this process runs. Raises `NotFound`, and `RunsElsewhere` for one that another runs."""
        return self._actor(company).view

    async def look(self, company: str) -> View:
        """One that anybody runs; of another process's, what its stored record tells. Raises `NotFound`."""
        actor = self._actors.get(company)
        if actor is not None:
            return actor.view
        return view_of(await self._stored(company), node=await self._node(company), clock=self._parts.clock)

    async def looks(self) -> list[View]:
        """All that anybody runs."""
        if self._parts.ownership is None:
            return self.views()
        records = await self._parts.sessions.all()
        own = {company: actor.view for company, actor in self._actors.items()}
        elsewhere, clock = self._parts.ownership.elsewhere, self._parts.clock
        return [
            own.get(record.company) or view_of(record, node=elsewhere.get(record.company, ""), clock=clock)
            for record in records
        ]

    def tell(self, company: str, event: events.Event) -> None:
        """The health monitor's wish: nobody waits for it."""
        self._actor(company).tell(event)

    async def ask(self, company: str, event: events.Event) -> View:
        """A person's wish. Raises `NotFound`, and `Conflict` when the session's state forbids it."""
        actor = await self._own(company)
        await _ask(actor, event)
        return actor.view

    async def qr(self, company: str, *, at_most_s: float) -> Qr:
        """The QR code to be scanned; asks for one when none is shown. Raises `Conflict` when there can be none."""
        actor = await self._own(company)
        await _ask(actor, events.PairAsked())
        code = await actor.wait_for_qr(at_most_s=at_most_s)
        if code is None:
            raise Conflict(_no_qr(actor.view))
        return code

    async def pairing_code(self, company: str, phone: str, *, at_most_s: float) -> str:
        """An eight-character code to be typed on the phone with this number. Raises `PairingCodeRefused`."""
        digits = phone_number(phone, field="phoneNumber")
        actor = await self._own(company)
        await _ask(actor, events.PairAsked())
        if await actor.wait_for_qr(at_most_s=at_most_s) is None:
            raise Conflict(_no_qr(actor.view))
        shown = await actor.pairing_code(digits, within_s=at_most_s)
        if shown.refused is not None:
            raise PairingCodeRefused(shown.refused, shown.error)
        if shown.code is None:
            raise Conflict(f"WhatsApp gave no pairing code: {shown.error}")
        return shown.code

    def client_updated(self) -> None:
        """There is another client version: one refused session probes at once, the others follow when it gets in."""
        self._parts.connect_limiter.hurry()
        for actor in self._actors.values():
            if actor.view.record.state is State.PAUSED:
                actor.tell(events.ClientUpdated())

    # Passkeys.

    async def passkey(self, company: str) -> Passkey:
        """What the owner of the account has to sign. Raises `NotFound` while nothing is asked."""
        return (await self._own(company)).passkeys.shown()

    async def answer_passkey(self, company: str, assertion: Mapping[str, object]) -> Passkey:
        """Hand the owner's assertion to WhatsApp; returns when WhatsApp has gone on.

        Raises `Conflict`, `BadAssertion` and `WhatsAppSilent`.
        """
        return await (await self._own(company)).passkeys.answer(assertion)

    async def confirm_passkey(self, company: str, *, matches: bool = True) -> None:
        """A person compared the code with that on the phone. Raises `Conflict`."""
        relay = (await self._own(company)).passkeys
        if matches:
            relay.confirm()
        else:
            relay.mismatch()

    async def decline_passkey(self, company: str) -> None:
        """Give the ceremony up. Raises `Conflict`."""
        (await self._own(company)).passkeys.decline()

    # Messages.

    async def accept(self, company: str, request: SendRequest) -> Message:
        """Commit a message to the outbox. When this returns, Holdfast owes its delivery."""
        await self._known(company)
        draft = await self._composer.compose(company, request)
        if isinstance(draft, Repeated):
            return await self.message(draft.message_id)
        return (await self._store_draft(draft)).message

    async def _store_draft(self, draft: Draft) -> Accepted:
        """To its end also when the caller is gone meanwhile: what is stored is sent."""
        assert self._tasks is not None
        answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._accept_draft(draft, answer), name=f"accept for {draft.company}")
        return await answer

    async def _accept_draft(self, draft: Draft, answer: asyncio.Future[Accepted]) -> None:
        actor = self._actors.get(draft.company)
        try:
            accepted = await (self._parts.outbox.accept(draft) if actor is None else actor.accept(draft))
        except Exception as error:  # noqa: BLE001 – the caller's to hear, and no end of all sessions
            if not answer.done():
                answer.set_exception(error)
            return
        if not answer.done():
            answer.set_result(accepted)
        newer = self._actors.get(draft.company)
        if newer is not None and newer is not actor:
            newer.messages_wait()

    async def put_media(
        self, company: str, pieces: AsyncIterator[bytes], *, mimetype: str | None, filename: str | None
    ) -> StoredMedia:
        """Store a medium for messages that follow. Raises `BadInput`."""
        await self._known(company)
        return await self._composer.outbound_media.put(company, pieces, mimetype=mimetype, filename=filename)

    @property
    def media_limit_bytes(self) -> int:
        """The size of the largest medium that is accepted."""
        return self._composer.outbound_media.limit_bytes

    async def download(self, company: str, media_keys: str, file: Path, *, most_bytes: int, within_s: float) -> Fetched:
        """Fetch an inbound medium from WhatsApp. Raises `NotConnected` and `RunsElsewhere`."""
        actor = await self._own(company)
        report = await actor.download(media_keys, file, most_bytes=most_bytes, within_s=within_s)
        return Fetched(size_bytes=report.size_bytes, error=report.error)

    async def message(self, message_id: str) -> Message:
        message = await self._parts.outbox.message(message_id) if may_be_id(message_id) else None
        if message is None:
            raise unknown_message(message_id)
        return message

    async def messages(
        self, company: str, *, state: MessageState | None, after: int, most: int, chat: str | None = None
    ) -> list[Message]:
        await self._known(company)
        return await self._parts.outbox.messages(company, state=state, after=after, most=most, chat=chat)

    async def cancel(self, message_id: str, *, force: bool = False) -> Message:
        """Raises `NotFound`, and `Conflict` when it may have left and `force` is not set."""
        message = await self._parts.outbox.cancel(message_id, force=force)
        if actor := self._actors.get(message.company):
            actor.message_cancelled(message.whatsapp_id)
        return message

    async def received_one(self, inbox_id: str) -> Received:
        received = await self._inbox.find(inbox_id) if may_be_id(inbox_id) else None
        if received is None:
            raise unknown_inbound(inbox_id)
        return received

    async def received(self, company: str, *, after: int, most: int, chat: str | None = None) -> list[Received]:
        await self._known(company)
        return await self._inbox.received(company, after=after, most=most, chat=chat)

    # Actors.

    def _actor(self, company: str) -> SessionActor:
        actor = self._actors.get(company)
        if actor is None:
            ownership = self._parts.ownership
            if company in self._aside:
                raise SessionRestarting(company)
            if ownership is not None and company in ownership.elsewhere:
                raise RunsElsewhere(company, ownership.elsewhere[company])
            raise _unknown(company)
        return actor

    async def _own(self, company: str) -> SessionActor:
        if company not in self._actors:
            await self._stored(company)
            raise RunsElsewhere(company, await self._node(company))
        return self._actors[company]

    async def _node(self, company: str) -> str:
        return "" if self._parts.ownership is None else await self._parts.ownership.owner(company)

    async def _known(self, company: str) -> None:
        """Raises `NotFound` when nobody runs such a session."""
        if company not in self._actors:
            await self._stored(company)

    async def _stored(self, company: str) -> Record:
        if company in self._aside:
            raise SessionRestarting(company)
        record = None if self._parts.ownership is None else await self._parts.sessions.find(company)
        if record is None:
            raise _unknown(company)
        return record

    @property
    def running(self) -> Collection[str]:
        return self._actors.keys()

    async def begin(self, company: str) -> None:
        """Run a session that is this process's own, from its stored record, unless it runs."""
        record = await self._parts.sessions.find(company)
        if record is None or company in self._actors or company in self._aside:
            return
        await self._note_absence(record, self._now())
        actor = await self._revive(record)
        if company not in self._actors and company not in self._aside:
            self._start(actor)

    async def set_aside(self, company: str, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` while nothing runs the session; then it goes on from its stored record, if it has one.

        Several for one session run one after another, and the session goes on behind the last. It need not exist yet.
        Raises `RunsElsewhere` for one that another process runs.
        """
        ownership = self._parts.ownership
        if company not in self._actors and ownership is not None and not await ownership.claim(company):
            raise RunsElsewhere(company, await self._node(company))
        aside = self._aside.setdefault(company, _Aside())
        aside.works += 1
        async with aside.lock:
            try:
                await self.end([company] if company in self._actors else [])
                return await work()
            finally:
                aside.works -= 1
                if not aside.works:
                    del self._aside[company]
                    await self.begin(company)
                    if company not in self._actors:
                        self._parts.live.remove(company)

    async def end(self, companies: Collection[str]) -> None:
        """Sessions that another process owns, or may own by now: their links are cut at once."""
        ending = [self._restarters[company] for company in companies]
        self._ended.update(companies)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        for company in companies:
            self._forget(company)

    def messages_wait(self, company: str) -> None:
        if actor := self._actors.get(company):
            actor.messages_wait()

    def _forget(self, company: str) -> None:
        for known in (self._actors, self._running, self._restarters):
            known.pop(company, None)
        self._ended.discard(company)
        self._parts.live.release(company)

    async def _note_absence(self, record: Record, alive_at: str | None) -> None:
        """A session that was running has been away since Holdfast was last alive."""
        if record.state not in RUNNING:
            return
        transition = Transition(
            company=record.company,
            at=max(alive_at or record.since, record.since),
            before=record.state,
            after=State.RECONNECTING,
            event="HoldfastStopped",
            reason="holdfast-stopped",
            code=None,
            attempts=record.attempts,
            next_attempt_at=None,
            lasted_s=0,
        )
        await self._parts.timeline.add(transition)

    def _now(self) -> str:
        return iso(self._parts.clock.now())

    async def _revive(self, record: Record, *, is_stored: bool = True) -> SessionActor:
        """A session as it was when its process or actor ended; one that was running, connects again by itself."""
        paired = await self._parts.store.is_paired(record.company)
        actor = SessionActor(record, paired=paired, parts=self._parts, is_stored=is_stored)
        if paired and record.state in RUNNING | {State.PAIRING}:
            actor.tell(events.StartAsked())
        return actor

    def _start(self, actor: SessionActor) -> SessionActor:
        assert self._tasks is not None
        self._actors[actor.company] = actor
        engine_storage = self._tasks.create_task(self._keep_alive(actor), name=f"session {actor.company}")
        self._restarters[actor.company] = engine_storage
        return actor

    def replace_actor(self, company: str, because: str) -> None:
        """End an actor that hangs; another takes over from its record at once."""
        log.error("Session %s: %s; it is being restarted", company, because)
        self._running[company].cancel()

    async def _keep_alive(self, actor: SessionActor) -> None:
        """An actor that fails is a defect of ours, or of the disk's: it is told, and later a new one takes over."""
        clock, backoff = self._parts.clock, self._parts.policy.backoff
        failures = 0
        has_ended = False
        while True:
            began_at = clock.monotonic()
            try:
                if has_ended:
                    actor = self._actors[actor.company] = await self._revive(actor.view.record, is_stored=False)
                has_ended = True
                async with asyncio.TaskGroup() as alone:
                    self._running[actor.company] = alone.create_task(actor.run(), name=f"actor {actor.company}")
            except Exception as error:
                if self._has_ended or actor.company in self._ended:
                    # A group of tasks that fails while it is cancelled tells of the failure alone (Python < 3.13).
                    raise asyncio.CancelledError from error
                if self._parts.ownership is not None and _says_lost(error):
                    log.warning("Session %s is another process's now", actor.company)
                    self._parts.ownership.lost(actor.company)
                    return self._forget(actor.company)
                failures = failures + 1 if clock.monotonic() - began_at < backoff.cap_ms / 1000 else 1
                pause_s = backoff.delay_s(failures, jitter=self._parts.randomness.jitter())
                log.exception("Session %s failed inside Holdfast; it is restarted in %.1f s", actor.company, pause_s)
                await clock.sleep(pause_s)


def _says_lost(error: Exception) -> bool:
    found = error.subgroup(LeaseLost) is not None if isinstance(error, ExceptionGroup) else False
    return found or isinstance(error, LeaseLost)


def _unknown(company: str) -> NotFound:
    sentence = f'company "{company[:80]}" is unknown: create it with PUT /v1/sessions/{company[:80]}'
    return NotFound(sentence, field="company")


def unknown_message(message_id: str) -> NotFound:
    """Also said of a message that the caller may not know of."""
    return NotFound(f'message "{message_id[:80]}" is unknown: its id was in the answer that accepted it', field="id")


async def _ask(actor: SessionActor, event: events.Event) -> None:
    try:
        await actor.ask(event)
    except NotPossible as error:
        raise Conflict(str(error)) from error


def _no_qr(view: View) -> str:
    state = view.record.state
    if state in {State.CONNECTED, State.CONNECTING, State.RECONNECTING}:
        return f"there is no QR code: a phone is linked already, the session is {state}"
    if view.passkey is not None:
        return "there is no QR code: the owner of the account has to sign with a passkey first; see GET …/passkey"
    return f"WhatsApp showed no QR code in time: the session is {state}; try again"
