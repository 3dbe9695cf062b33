"""A session as others see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from holdfast.health.keepalive import KeepAlives
from holdfast.health.roundtrips import RoundTrips
from holdfast.health.signals import HoldSigns
from holdfast.runtime.passkeys import Passkey
from holdfast.session.reasons import Reason
from holdfast.session.state import Session
from holdfast.session.stores import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Qr:
    text: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """When (monotonic seconds) and why a link that was open ended."""

    at: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class NotStored:
    """When (monotonic seconds) a message came that could not be stored; a stub stands for it."""

    at: float
    whatsapp_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A session as it is shown: its record, and what is known only while it lives."""

    record: Record
    session: Session
    qr: Qr | None
    next_attempt_at: datetime | None
    keepalives: KeepAlives
    ends: tuple[LinkEnd, ...]
    frame_at: float | None
    """When WhatsApp was last heard, in monotonic seconds."""
    acked_at: float | None
    in_state_s: float
    silent_s: float
    """How long ago the actor last took an event."""
    node: str | None
    """The process that runs it."""
    passkey: Passkey | None = None
    """What the owner of the account is asked to sign, or has just signed."""
    round_trips: RoundTrips = field(default_factory=RoundTrips)
    """Of its pings, as they come: not a moment's picture."""
    not_stored: tuple[NotStored, ...] = ()
    hold: HoldSigns | None = None
    """WhatsApp's lock on messages to new contacts, while there is one."""
