"""Maintains the record of one session: in the database, in live state and in its history."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from holdfast.base.clock import iso, to_monotonic, to_wall
from holdfast.base.clock_step import ClockStep
from holdfast.health.keepalive import KeepAlives, RoundTrips, follow
from holdfast.runtime.history_status import HistoryStatus
from holdfast.runtime.log_lines import is_routine, keep_alive, received, transition
from holdfast.runtime.services import Services
from holdfast.runtime.view import LinkEnd, NotStored
from holdfast.session.engine import InboundMessage
from holdfast.session.events import Event
from holdfast.session.reasons import stored_reason
from holdfast.session.state import Session, State, reason_of_change, restored
from holdfast.session.stores import Record, Transition
from holdfast.session.stubs import not_stored

log = logging.getLogger(__name__)

_ENDS_KEPT = 500
_NOT_STORED_KEPT = 500


class SessionRecord:
    """The record follows the session machine step by step; it is stored before a request is answered."""

    def __init__(self, record: Record, session: Session, *, is_stored: bool, services: Services) -> None:
        """`is_stored`: the database has this record; otherwise the first step stores it."""
        self._services = services
        self._saved = record if is_stored else None
        self.current = record
        self.take_state(session)
        self.keepalives = KeepAlives()
        self.round_trips = RoundTrips()
        self.ends: deque[LinkEnd] = deque(maxlen=_ENDS_KEPT)
        self.not_stored: deque[NotStored] = deque(maxlen=_NOT_STORED_KEPT)
        self.left_out: Counter[str] = Counter()
        """Messages that were not stored because the company ignores their kind, by kind, since the actor started."""
        self.history = HistoryStatus()
        self.frame_at: float | None = None
        """When bytes last arrived from WhatsApp, in monotonic seconds."""
        self.state_at = services.clock.monotonic()
        """Since when the session has been in its state, in monotonic seconds."""

    @property
    def company(self) -> str:
        return self.current.company

    def frame_arrived(self) -> None:
        """Bytes arrived from WhatsApp."""
        self.frame_at = self._services.clock.monotonic()
        self.current = replace(self.current, last_activity=self._now())
        self._services.live.put(self.current)

    def received(self, messages: Sequence[InboundMessage]) -> None:
        """Messages arrived and are stored, some as stubs."""
        self.frame_arrived()
        log.info("%s", received(self.company, len(messages)))
        for message in not_stored(messages):
            log.warning(
                "Session %s: message %s could not be stored; a stub was stored instead",
                self.company,
                message.whatsapp_id,
            )
            self.not_stored.append(NotStored(self._services.clock.monotonic(), message.whatsapp_id))

    def linked_as(self, jid: str) -> None:
        """WhatsApp named the account of this device. The next step stores it."""
        number = jid.split("@")[0].split(":")[0]
        self.current = replace(self.current, jid=jid, phone_number=number)

    def take_state(self, session: Session) -> None:
        """Show the state of a session that was just restored; the next step stores it."""
        if session.state is not self.current.state:
            self.current = replace(self.current, state=session.state, since=self._now())

    def clock_was_set(self, step: ClockStep) -> None:
        """Correct the start time of the state; it is stored with the next step."""
        since = datetime.fromisoformat(self.current.since) + timedelta(seconds=step.set_by_s)
        self.current = replace(self.current, since=iso(since))

    def actor_ended(self, session: Session) -> None:
        """The link is cut: show the session without it until another actor takes over."""
        self.take_state(session)
        self._services.live.put(self.current)

    async def step(self, before: Session, after: Session, event: Event, *, at: float) -> None:
        """Follow one step of the machine; returns when the change is stored."""
        self._follow_pings(before, after)
        if _has_lost_open_link(before, after) and after.reason is not None:
            self.ends.append(LinkEnd(at, after.reason))
        self.current = self._next(after)
        self._services.live.put(self.current)
        if line := transition(self.company, before, after, now=self._services.clock.monotonic()):
            log.log(logging.DEBUG if is_routine(before, after) else logging.INFO, "%s", line)
            await self._services.timeline.add(self._transition(before, after, event, at))
        if after.state is not before.state:
            self.state_at = at
        if not self._is_saved():
            saved = self.current  # it may change meanwhile, by what the link reports
            await self._services.sessions.save(saved)
            self._saved = saved

    def _is_saved(self) -> bool:
        """A change of only the last activity is not written."""
        if self._saved is None:
            return False
        return self.current == replace(self._saved, last_activity=self.current.last_activity)

    def _next(self, session: Session) -> Record:
        record = self.current
        if session.state is State.CONNECTED and record.state is not State.CONNECTED:
            record = replace(record, connected_at=self._now(), last_activity=self._now())
        if session.state is not record.state:
            record = replace(record, state=session.state, since=self._now())
        reason = session.shown_reason
        return replace(
            record,
            reason=None if reason is None else reason.name,
            code=None if reason is None else reason.code,
            attempts=session.attempts,
            resumes_at=self._resumes_at(session),
        )

    def _resumes_at(self, session: Session) -> str | None:
        """When a paused session continues automatically. A probe in progress would be due again after a restart."""
        if session.state is not State.PAUSED:
            return None
        if session.link is not None:
            return self.current.resumes_at or self._now()
        planned = session.next_attempt_at
        return None if planned is None else iso(self.wall(planned))

    def _follow_pings(self, before: Session, after: Session) -> None:
        known, self.keepalives = self.keepalives, follow(self.keepalives, before, after)
        if self.keepalives.outcomes is not known.outcomes:
            outcome = self.keepalives.outcomes[-1]
            self.round_trips.add(self._services.clock.now().timestamp(), outcome)
            is_new = outcome is None or (after.link is not None and after.link.ping == 1)
            log.log(logging.INFO if is_new else logging.DEBUG, "%s", keep_alive(self.company, outcome))

    def _transition(self, before: Session, after: Session, event: Event, at: float) -> Transition:
        planned, reason = after.next_attempt_at, reason_of_change(before, after)
        return Transition(
            company=self.company,
            at=self._now(),
            before=before.state,
            after=after.state,
            event=type(event).__name__,
            reason=None if reason is None else reason.name,
            code=None if reason is None else reason.code,
            attempts=after.attempts,
            next_attempt_at=None if planned is None else iso(self.wall(planned)),
            lasted_s=round(at - self.state_at, 3),
        )

    def wall(self, moment: float) -> datetime:
        """A moment in monotonic seconds as a wall-clock time."""
        return to_wall(self._services.clock, moment)

    def _now(self) -> str:
        return iso(self._services.clock.now())


def restored_session(record: Record, *, paired: bool, services: Services) -> Session:
    """The session as its process or actor left it."""
    resumes_at = None
    if record.resumes_at is not None:
        resumes_at = max(to_monotonic(services.clock, record.resumes_at), services.clock.monotonic())
        set_back_s = to_monotonic(services.clock, record.since) - services.clock.monotonic()
        if set_back_s > 0:  # the wall clock was set back while nobody ran the session
            resumes_at -= set_back_s
    return restored(
        state=record.state,
        paired=paired,
        attempts=record.attempts,
        resumes_at=resumes_at,
        reason=None if record.reason is None else stored_reason(record.reason, record.code),
    )


def _has_lost_open_link(before: Session, after: Session) -> bool:
    """Whether an open link ended. A refused login is a failed attempt, not a lost link."""
    link = before.link
    if link is None or link.opened_at is None:
        return False
    return after.link is None or after.link.number != link.number
