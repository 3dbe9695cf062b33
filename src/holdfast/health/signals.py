"""The evidence about one session at one moment, and the limits that it is judged by.

All values are ages or counts, so that a verdict needs no clock. The absence of messages is not evidence: a company
without traffic is healthy as long as its pings are answered.
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
"""Reasons of links that looked open but were dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSignals:
    """The ages of the current link's signs of life, in seconds. None means that there was none yet."""

    age_s: float
    open_s: float | None
    """Seconds since the login finished; None while it is under way."""
    pong_s: float | None
    ping_s: float | None
    """Seconds since the last ping was sent; None when no ping is unanswered."""
    unacked_s: float | None
    """Seconds since the oldest message without an ack was written to the link."""
    frame_s: float | None
    """Seconds since any bytes were received."""

    @property
    def silent_s(self) -> float | None:
        """Seconds since the last sign of life, including the opening; None while the login is under way."""
        if self.open_s is None:
            return None
        return min(age for age in (self.open_s, self.pong_s, self.frame_s) if age is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSignals:
    """The messages that wait in the outbox."""

    waiting: int = 0
    oldest_s: float | None = None
    late_s: float | None = None
    """How long the oldest message has waited that neither WhatsApp nor bulk pacing holds back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSignals:
    """A temporary limit of WhatsApp: it accepts no messages from this number to new contacts."""

    code: str
    """`reach-out-lock` or `new-chat-quota`."""
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlySignals:
    """Links that were open and were lost within the last hour. Attempts that never opened are not counted."""

    lost: int = 0
    zombies: int = 0
    calm_s: float = 0
    """Seconds since the latest loss."""
    main_cause: str | None = None
    """Name of the most frequent reason."""

    @classmethod
    def of(cls, ends: Iterable[tuple[float, str, str]]) -> HourlySignals:
        """Summarise ends of links: seconds ago, reason name and fault. Ends with the fault `nobody` are not counted."""
        counted = [(ago_s, name) for ago_s, name, fault in ends if ago_s < _HOUR_S and fault != "nobody"]
        names = Counter(name for _, name in counted)
        return cls(
            main_cause=max(names, key=lambda name: names[name], default=None),
            lost=len(counted),
            zombies=sum(name in ZOMBIES for _, name in counted),
            calm_s=min((ago_s for ago_s, _ in counted), default=0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStoredSignals:
    """Inbound messages of the last hour that could not be stored; the inbox has a stub for each."""

    count: int = 0
    newest: str | None = None
    """WhatsApp id of the newest such message."""
    since_s: float = 0
    """Seconds since the first such message."""

    @classmethod
    def of(cls, messages: Iterable[tuple[float, str]]) -> NotStoredSignals:
        """Summarise messages, given as seconds ago and WhatsApp id, in order of arrival."""
        lately = [(ago_s, id_) for ago_s, id_ in messages if ago_s < _HOUR_S]
        return cls(count=len(lately), newest=lately[-1][1], since_s=lately[0][0]) if lately else cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSignals:
    """The actor and the engine host of the session, as the health monitor sees them."""

    actor_silent_s: float = 0
    """Seconds since the session's actor last handled an event."""
    host_silent_s: float | None = 0
    """Seconds since the engine host's last heartbeat; None while a new host is being started."""
    check_late_s: float = 0
    """How late this check runs. After a pause of the whole process, late actors and hosts are not to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """All evidence about one session at one moment."""

    company: str
    state: State
    reason: Reason | None
    in_state_s: float
    attempts: int
    next_attempt_in_s: float | None
    """None when no attempt is planned; negative when the attempt is overdue."""
    overdue_s: float | None
    """How long the session's next action has been overdue; None when no action is due."""
    budget_left: int
    """Links that may still be started this hour without the maximum backoff."""
    link: LinkSignals | None
    keepalives: KeepAlives
    messages: MessageSignals
    hour: HourlySignals
    machinery: ProcessSignals
    qr_requested: bool
    """True while somebody asks for a QR code."""
    not_stored: NotStoredSignals = NotStoredSignals()
    hold: HoldSignals | None = None
    others_connected: bool = False
    """True when another session of this process is connected, which shows that the machine's network works."""


def observe(
    session: Session,
    *,
    company: str,
    now: float,
    policy: Policy,
    in_state_s: float,
    frame_at: float | None,
    keepalives: KeepAlives,
    messages: MessageSignals,
    hour: HourlySignals,
    machinery: ProcessSignals,
    qr_requested: bool,
    not_stored: NotStoredSignals = NotStoredSignals(),
    hold: HoldSignals | None = None,
    others_connected: bool = False,
) -> Signals:
    """Collect the evidence at `now` (monotonic seconds) from the session machine and from the other arguments.

    `frame_at` is when any link of the session last received bytes.
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
        qr_requested=qr_requested,
        not_stored=not_stored,
        hold=hold,
        others_connected=others_connected,
    )


def _link_signs(session: Session, now: float, frame_at: float | None) -> LinkSignals | None:
    link = session.link
    if link is None:
        return None
    is_of_this_link = frame_at is not None and frame_at >= link.began_at
    return LinkSignals(
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
    """The limits that evidence is judged by. `of` takes those that the session machine also uses from its policy."""

    keepalive_interval_s: float = 30
    pong_deadline_s: float = 5
    ack_deadline_s: float = 2
    no_acks_deadline_s: float = 15
    grace_s: float = 5
    """Extra time after the session machine's deadlines before the monitor assumes that it failed to react."""
    moment_s: float = 10
    """A shorter disconnection only degrades the session: the goal (M26) allows a reconnection this much time."""
    silent_intervals: float = 3
    """The monitor pings an open link that gave no sign of life for this many keep-alive intervals."""
    keepalives_needed: int = 5
    """Minimum number of outcomes before the success rate is judged."""
    keepalives_poor: float = 0.95
    unstable_losses: int = 3
    """Links lost within an hour from which a session is unsteady."""
    flapping_losses: int = 5
    """Links lost within an hour from which an alert is raised."""
    calm_after_s: float = 600
    """A session that has kept its link for this long no longer flaps."""
    zombies: int = 2
    queue_late_s: float = 120
    """A message that nothing holds back is late after this time."""
    queue_alert_s: float = 600
    """A message that nothing holds back raises an alert after this time."""
    budget_low: int = 12
    actor_hangs_s: float = 30
    host_hangs_s: float = 30
    """The monitor replaces a host without heartbeats after this time, in case the engine supervisor did not."""
    check_late_s: float = 10
    """A check that runs later than this does not judge actors and hosts: the process itself was blocked."""
    failures: int = 5
    disconnected_s: float = 300
    redis_down_s: float = 60
    host_down_s: float = 30
    host_restarts: int = 3
    undelivered_s: float = 900

    @classmethod
    def of(cls, policy: Policy) -> Limits:
        """The limits that match a session machine's policy."""
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
