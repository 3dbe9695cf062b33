"""The evidence about one session at one moment, and the numbers by which it is weighed.

Everything is an age or a count, so that a verdict needs no clock. Silence of people is no evidence and is not here:
a company that neither writes nor is written to is as healthy as its answered pings say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from holdfast.health.keepalive import KeepAlives
from holdfast.session import reasons
from holdfast.session.liveness import deadline
from holdfast.session.reasons import Reason
from holdfast.session.state import Policy, Session, State, budget_left

_HOUR_S = 3600
ZOMBIES = frozenset({reasons.NO_PONG.name, reasons.NO_ACKS.name})
"""Why links were cut that were open in name only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSigns:
    """The current link: how long ago each sign of life was. None: there was none yet."""

    age_s: float
    open_s: float | None
    """Since the login finished; None while it is under way."""
    pong_s: float | None
    ping_s: float | None
    """Since the last ping left, while it is unanswered."""
    unacked_s: float | None
    """Since the oldest message without an ack was written."""
    frame_s: float | None
    """Since bytes of any kind came in."""

    @property
    def silent_s(self) -> float | None:
        """Since the last sign of life, opening included; None while the login is under way."""
        if self.open_s is None:
            return None
        return min(age for age in (self.open_s, self.pong_s, self.frame_s) if age is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSigns:
    """The outbox."""

    waiting: int = 0
    oldest_s: float | None = None
    late_s: float | None = None
    """Age of the oldest message that neither WhatsApp nor bulk pacing holds back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSigns:
    """WhatsApp does not accept messages to new contacts from this number for now."""

    code: str
    """`reach-out-lock` or `new-chat-quota`."""
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HourSigns:
    """Links that were open and were lost within the last hour. Attempts that never opened are not counted."""

    lost: int = 0
    zombies: int = 0
    calm_s: float = 0
    """Since the newest loss."""
    main_cause: str | None = None
    """Name of the reason of most losses."""

    @classmethod
    def of(cls, ends: Iterable[tuple[float, str, str]]) -> HourSigns:
        """From the ends of links: seconds ago, name of the reason, whose fault (nobody's: meant, and not counted)."""
        counted = [(ago_s, name) for ago_s, name, fault in ends if ago_s < _HOUR_S and fault != "nobody"]
        names = Counter(name for _, name in counted)
        return cls(
            main_cause=max(names, key=lambda name: names[name], default=None),
            lost=len(counted),
            zombies=sum(name in ZOMBIES for _, name in counted),
            calm_s=min((ago_s for ago_s, _ in counted), default=0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStoredSigns:
    """The last hour's inbound messages that could not be stored; stubs stand for them in the inbox."""

    count: int = 0
    newest: str | None = None
    """Its WhatsApp id."""
    since_s: float = 0
    """Since the first of them."""

    @classmethod
    def of(cls, messages: Iterable[tuple[float, str]]) -> NotStoredSigns:
        """From seconds ago and WhatsApp ids, in the order in which they came."""
        lately = [(ago_s, id_) for ago_s, id_ in messages if ago_s < _HOUR_S]
        return cls(count=len(lately), newest=lately[-1][1], since_s=lately[0][0]) if lately else cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinerySigns:
    """Holdfast's own parts that carry the session, as its health monitor sees them from the outside."""

    actor_silent_s: float = 0
    """Since the session's actor last took an event."""
    host_silent_s: float | None = 0
    """Since the engine host's last heartbeat; None: there is no host just now, another one is being started."""
    check_late_s: float = 0
    """How late this very check is. A process that was stopped for a while must not blame others for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """All evidence about one session at one moment."""

    company: str
    state: State
    reason: Reason | None
    in_state_s: float
    attempts: int
    next_attempt_in_s: float | None
    """None: nothing is planned; below zero: it is overdue."""
    overdue_s: float | None
    """For how long something has been due in the session that was not done; None: nothing is due."""
    budget_left: int
    """Links that may still be begun this hour without waiting for the backoff's cap."""
    link: LinkSigns | None
    keepalives: KeepAlives
    messages: MessageSigns
    hour: HourSigns
    machinery: MachinerySigns
    qr_wanted: bool
    """Is somebody asking for a QR code?"""
    not_stored: NotStoredSigns = NotStoredSigns()
    hold: HoldSigns | None = None
    others_connected: bool = False
    """Another session of this process is connected: the machine's network works."""


def observe(
    session: Session,
    *,
    company: str,
    now: float,
    policy: Policy,
    in_state_s: float,
    frame_at: float | None,
    keepalives: KeepAlives,
    messages: MessageSigns,
    hour: HourSigns,
    machinery: MachinerySigns,
    qr_wanted: bool,
    not_stored: NotStoredSigns = NotStoredSigns(),
    hold: HoldSigns | None = None,
    others_connected: bool = False,
) -> Signals:
    """The evidence: what the session machine knows at `now` (monotonic seconds), and what only others can tell.

    `frame_at` is when bytes last came in on any link of the session.
    """
    planned, due_at = session.next_attempt_at, deadline(session, policy=policy)
    return Signals(
        company=company,
        state=session.state,
        reason=session.reason,
        in_state_s=in_state_s,
        attempts=session.attempts,
        next_attempt_in_s=None if planned is None else planned - now,
        overdue_s=now - due_at if due_at is not None and due_at <= now else None,
        budget_left=budget_left(session, now=now, policy=policy),
        link=_link_signs(session, now, frame_at),
        keepalives=keepalives,
        messages=messages,
        hour=hour,
        machinery=machinery,
        qr_wanted=qr_wanted,
        not_stored=not_stored,
        hold=hold,
        others_connected=others_connected,
    )


def _link_signs(session: Session, now: float, frame_at: float | None) -> LinkSigns | None:
    link = session.link
    if link is None:
        return None
    is_of_this_link = frame_at is not None and frame_at >= link.began_at
    return LinkSigns(
        age_s=now - link.began_at,
        open_s=_age(link.opened_at, now),
        pong_s=_age(link.ponged_at, now),
        ping_s=_age(link.pinged_at, now),
        unacked_s=_age(link.unacked_since, now),
        frame_s=_age(frame_at if is_of_this_link else None, now),
    )


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else now - at


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every number that evidence is weighed by. `of` takes those that the session machine goes by from its policy."""

    keepalive_interval_s: float = 30
    pong_deadline_s: float = 5
    ack_deadline_s: float = 2
    no_acks_deadline_s: float = 15
    grace_s: float = 5
    """The session machine reacts at its deadlines; the monitor believes that it failed to only this much later."""
    moment_s: float = 10
    """Being away for no longer than this is a passing moment: a reconnection is promised within it (M26)."""
    silent_intervals: float = 3
    """An open link without a sign of life for this many keep-alive intervals is asked for one."""
    keepalives_needed: int = 5
    """Fewer outcomes than this make no rate."""
    keepalives_poor: float = 0.95
    unstable_losses: int = 3
    """Links lost within an hour that make a session unsteady …"""
    flapping_losses: int = 5
    """… and worth an alert."""
    calm_after_s: float = 600
    """A session that has kept its link for this long no longer flaps."""
    zombies: int = 2
    queue_late_s: float = 120
    """A message that could leave and has waited for so long is late …"""
    queue_alert_s: float = 600
    """… and worth an alert."""
    budget_low: int = 12
    actor_hangs_s: float = 30
    host_hangs_s: float = 30
    """The engine supervisor ends a host that sends no heartbeat; this is for when that failed."""
    check_late_s: float = 10
    """A check that comes later than this can't tell whether others hang: it hung itself."""
    failures: int = 5
    away_s: float = 300
    redis_away_s: float = 60
    host_away_s: float = 30
    host_restarts: int = 3
    undelivered_s: float = 900

    @classmethod
    def of(cls, policy: Policy) -> Limits:
        """The limits that go with a session machine's policy."""
        return cls(
            keepalive_interval_s=policy.keepalive_interval_s,
            pong_deadline_s=policy.pong_deadline_s,
            ack_deadline_s=policy.ack_deadline_s,
            no_acks_deadline_s=policy.no_acks_deadline_s,
            budget_low=policy.budget_an_hour // 10,
        )

    @property
    def silent_s(self) -> float:
        return self.silent_intervals * self.keepalive_interval_s
