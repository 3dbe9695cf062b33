"""The actor supervisor: runs the actor of each session and starts another one, after a pause, when an actor fails.

An actor that fails has a defect, or the disk has one. The failure is logged, and the next actor continues from the
stored state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from holdfast.runtime.actor import SessionActor
from holdfast.runtime.services import Services
from holdfast.session import events, reasons
from holdfast.session.event_words import HOLDFAST_STOPPED
from holdfast.session.state import RUNNING, State
from holdfast.session.stores import LeaseLost, Record, Transition

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Session:
    """One session that runs in this process."""

    actor: SessionActor
    supervision: asyncio.Task[None] | None = None
    run: asyncio.Task[None] | None = None
    """The actor's own task; None during the pause before the next actor."""
    is_ending: bool = False


class ActorSupervisor:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._sessions: dict[str, _Session] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._is_stopping = False

    def supervise_in(self, tasks: asyncio.TaskGroup) -> None:
        """Actors run as tasks of this group."""
        self._tasks = tasks

    def stop(self) -> None:
        """The group is about to be cancelled: an actor that fails from now on has no successor."""
        self._is_stopping = True

    # What runs.

    @property
    def companies(self) -> Collection[str]:
        """Companies whose session runs here."""
        return self._sessions.keys()

    def find(self, company: str) -> SessionActor | None:
        session = self._sessions.get(company)
        return None if session is None else session.actor

    @property
    def actors(self) -> Mapping[str, SessionActor]:
        """The current actor of each session, by company."""
        return {company: session.actor for company, session in self._sessions.items()}

    # Starting and ending.

    async def start(
        self, record: Record, *, alive_at: str | None, is_allowed: Callable[[], bool] = lambda: True
    ) -> None:
        """Run a session from its stored record, unless it runs already.

        `alive_at`: when the process that ran it was last alive, ISO 8601; the history shows the gap since. `is_allowed`
        is called again immediately before the start.
        """
        company = record.company
        await self._record_absence(record, alive_at)
        actor = await self._revive(lambda: record)
        if company in self._sessions or not is_allowed():
            return
        assert self._tasks is not None
        session = self._sessions[company] = _Session(actor)
        session.supervision = self._tasks.create_task(self._supervise(session), name=f"session {company}")

    async def end(self, companies: Collection[str]) -> None:
        """Cut the links of these sessions at once, and write nothing more for them. Some may have ended already."""
        sessions = [session for company in companies if (session := self._sessions.get(company)) is not None]
        ending = []
        for session in sessions:
            session.is_ending = True
            if session.supervision is not None:
                session.supervision.cancel()
                ending.append(session.supervision)
        if ending:
            await asyncio.wait(ending)
        for company in companies:
            self._forget(company)

    def replace(self, company: str, because: str) -> None:
        """End an actor that hangs; its successor takes over at once."""
        log.error("Session %s: %s; it is being restarted", company, because)
        run = self._sessions[company].run
        if run is not None:
            run.cancel()

    def _forget(self, company: str) -> None:
        self._sessions.pop(company, None)
        self._services.live.release(company)

    # One session.

    async def _supervise(self, session: _Session) -> None:
        clock, backoff, company = self._services.clock, self._services.policy.backoff, session.actor.company
        failures = 0
        has_run = False
        while True:
            began_at = clock.monotonic()
            try:
                if has_run:
                    actor = await self._revive(lambda: session.actor.view.record, is_stored=False)
                    actor.work.continue_from(session.actor.work)
                    session.actor = actor
                has_run = True
                async with asyncio.TaskGroup() as alone:
                    session.run = alone.create_task(session.actor.run(), name=f"actor {company}")
            except Exception as error:
                session.run = None
                if self._is_stopping or session.is_ending:
                    # A task group that fails while it is cancelled raises the failure alone (Python < 3.13).
                    raise asyncio.CancelledError from error
                if self._services.ownership is not None and _is_lease_lost(error):
                    log.warning("Session %s is owned by another process now", company)
                    self._services.ownership.lost(company)
                    return self._forget(company)
                failures = failures + 1 if clock.monotonic() - began_at < backoff.cap_ms / 1000 else 1
                pause_s = backoff.delay_s(failures, jitter=self._services.randomness.jitter())
                log.exception("Session %s failed inside Holdfast; it is restarted in %.1f s", company, pause_s)
                await clock.sleep(pause_s)

    async def _revive(self, read: Callable[[], Record], *, is_stored: bool = True) -> SessionActor:
        """A new actor for a session as it was when its process or actor ended. One that was running connects again.

        `read` returns the record. It is called again after the database was read, since callers may change settings.
        """
        paired = await self._services.store.is_paired(read().company)
        record = read()
        actor = SessionActor(record, paired=paired, services=self._services, is_stored=is_stored)
        if paired and record.state in RUNNING | {State.PAIRING}:
            actor.post(events.StartAsked())
        return actor

    async def _record_absence(self, record: Record, alive_at: str | None) -> None:
        """A session that was running has been disconnected since the process that ran it was last alive."""
        if record.state not in RUNNING:
            return
        transition = Transition(
            company=record.company,
            at=max(alive_at or record.since, record.since),
            before=record.state,
            after=State.RECONNECTING,
            event=HOLDFAST_STOPPED,
            reason=reasons.HOLDFAST_STOPPED.name,
            code=None,
            attempts=record.attempts,
            next_attempt_at=None,
            lasted_s=0,
        )
        await self._services.timeline.add(transition)


def _is_lease_lost(error: Exception) -> bool:
    found = error.subgroup(LeaseLost) is not None if isinstance(error, ExceptionGroup) else False
    return found or isinstance(error, LeaseLost)
