"""A session as API and dashboard see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from holdfast.base.clock import Clock
from holdfast.health.keepalive import KeepAlives, RoundTrips
from holdfast.health.signals import HoldSignals
from holdfast.runtime.history_status import HistoryStatus
from holdfast.runtime.passkeys import Passkey
from holdfast.session.reasons import Reason, stored_reason
from holdfast.session.state import Session, State
from holdfast.session.stores import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Qr:
    text: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """When (monotonic seconds) and why an open link ended."""

    at: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class NotStored:
    """When (monotonic seconds) a message arrived that could not be stored; a stub was stored instead."""

    at: float
    whatsapp_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A session as it is shown: its stored record, and what only the running actor knows."""

    record: Record
    session: Session
    qr: Qr | None
    next_attempt_at: datetime | None
    keepalives: KeepAlives
    ends: tuple[LinkEnd, ...]
    frame_at: float | None
    """When bytes last came from WhatsApp, in monotonic seconds."""
    acked_at: float | None
    in_state_s: float
    silent_s: float
    """Seconds since the actor last handled an event."""
    node: str | None
    """The name of the process that runs it; None without a cluster."""
    passkey: Passkey | None = None
    """The passkey challenge that the owner of the account must sign, or has just signed."""
    round_trips: RoundTrips = field(default_factory=RoundTrips)
    """Round trips of its pings. Unlike the other fields this is live, not a snapshot."""
    not_stored: tuple[NotStored, ...] = ()
    history: HistoryStatus = field(default_factory=HistoryStatus)
    """The progress of storing the phone's history."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Messages that were not stored because the company ignores their kind, by kind, since the session's start here."""
    hold: HoldSignals | None = None
    """WhatsApp's lock on messages to new contacts, while there is one."""

    @property
    def is_connected(self) -> bool:
        return self.record.state is State.CONNECTED

    @property
    def history_state(self) -> str:
        return self.history.state(is_connected=self.is_connected)


def view_of(record: Record, *, node: str, clock: Clock) -> View:
    """The view of a session of another process, from its stored record."""
    reason = None if record.reason is None else stored_reason(record.reason, record.code)
    resumes_at = None if record.resumes_at is None else datetime.fromisoformat(record.resumes_at)
    return View(
        record=record,
        session=Session(state=record.state, attempts=record.attempts, reason=reason),
        qr=None,
        next_attempt_at=resumes_at,
        keepalives=KeepAlives(),
        ends=(),
        frame_at=None,
        acked_at=None,
        in_state_s=(clock.now() - datetime.fromisoformat(record.since)).total_seconds(),
        silent_s=0,
        node=node or None,
    )
