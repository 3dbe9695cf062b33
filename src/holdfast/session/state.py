"""The values of the session machine: the states that people see, a session, its link, and the policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from holdfast.session.backoff import Backoff
from holdfast.session.engine import LinkId
from holdfast.session.reasons import PASSKEY_EXPIRED, PASSKEY_REQUIRED, Reason


class State(StrEnum):
    """The state of a session as people see it. `reconnecting` lasts from the loss of a link until the next one is
    open."""

    UNPAIRED = "unpaired"
    PAIRING = "pairing"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    PAUSED = "paused"
    LOGGED_OUT = "logged_out"
    STOPPED = "stopped"


class PasskeyStep(StrEnum):
    """The step of a link's passkey ceremony: who has to act now."""

    SIGN = "sign"
    """The owner of the account has to sign in a browser."""
    SENT = "sent"
    """WhatsApp has the signature and must continue."""
    COMPARE = "compare"
    """A person has to compare the code with that on the phone."""
    FINISH = "finish"
    """WhatsApp has everything and has to link the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Every number that the machine uses; seconds unless the name says otherwise."""

    backoff: Backoff = field(default_factory=Backoff)
    stable_after_s: float = 5
    """A link that has been open this long and answered a ping was no failed attempt: the count of attempts starts
    again. The hourly budget bounds how often a line that drops later than this is opened again."""
    keepalive_interval_s: float = 30
    """A ping leaves this long after the last one, or up to a tenth sooner."""
    presence: bool = True
    """With each ping the device is shown as available; the phone then gets no push notifications."""
    pong_deadline_s: float = 5
    """An unanswered ping means a dead link after this. Round trips to WhatsApp take well under a second."""
    ack_deadline_s: float = 2
    """A message without an ack after this time makes the machine ping at once."""
    no_acks_deadline_s: float = 15
    """A message without an ack after this time, on a link that answers pings, means that WhatsApp accepts no
    messages on it."""
    open_deadline_s: float = 20
    """Timeout of a login: if it has neither finished nor shown a QR code by then, the link is cut."""
    qr_deadline_s: float = 75
    """Longer than the sixty seconds for which WhatsApp's first QR code lives."""
    paired_deadline_s: float = 15
    """Within this time after pairing, WhatsApp closes the link with 515."""
    long_backoff_s: float = 300
    """The wait, plus up to 20 % jitter, when WhatsApp asks to connect less often (429)."""
    probe_interval_s: float = 300
    """The wait, plus up to 20 % jitter, before each probe of a refusal that may pass (405, 409, unknown codes)."""
    restart_memory_s: float = 60
    """A second 515 within this time is not answered at once, so that a server that repeats it is not hammered."""
    replaced_wait_s: float = 30
    """The wait after another connection took over (440): it may have been our own old one."""
    replaced_tries: int = 2
    """Attempts within one conflict over the credentials; then the session pauses until a person starts it."""
    replaced_memory_s: float = 3600
    """Replacements within this of each other are one conflict over the credentials, even if links open in between."""
    ban_margin_s: float = 60
    """Safety margin after a temporary ban."""
    ban_margin_share: float = 0.05
    """Further margin after a temporary ban, as a share of its length."""
    budget_an_hour: int = 120
    """Links started within an hour. Once a quarter of them is used, the rest is spread evenly over the hour; when all
    are used, each further automatic one waits for the cap of the backoff."""
    passkey_challenge_s: float = 600
    """Upper bound of the lifetime of WhatsApp's challenge."""
    passkey_compare_s: float = 300
    """How long a person may take to compare the codes."""
    passkey_step_s: float = 30
    """How long WhatsApp may take to continue after an assertion, and to link the device after the last step."""
    pairing_tries: int = 10
    """Lost links in a row while no phone is linked; then the session waits until somebody asks for a QR code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The current link and the evidence that it lives; times in monotonic seconds."""

    number: LinkId
    began_at: float
    gives_up_at: float | None
    """When a login that has not finished is cut; None once it is open."""
    opened_at: float | None = None
    ping: int = 0
    """Number of the last ping."""
    pinged_at: float | None = None
    """When the last ping left, while it is unanswered."""
    ponged_at: float | None = None
    round_trip_s: float | None = None
    next_ping_at: float | None = None
    unacked_since: float | None = None
    """When the oldest send without an ack was written, as the outbox sender reported."""
    paired: bool = False
    passkey: PasskeyStep | None = None
    """The step of the passkey ceremony; None where the account requires no passkey."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Everything that the machine knows about one session."""

    state: State = State.UNPAIRED
    paired: bool = False
    """Credentials of a linked device exist."""
    newest_link: LinkId = 0
    """The number of the newest link, also when that has ended; 0: there was none."""
    link: Link | None = None
    attempts: int = 0
    """Reconnections begun or planned since the last stable link."""
    next_attempt_at: float | None = None
    reason: Reason | None = None
    """Why the session is not connected; None when it is connected, or never was."""
    requested: bool = False
    """The connect limiter was asked for the next link and has not answered."""
    held: Reason | None = None
    """Why the connect limiter makes the next link wait; None while it does not."""
    same_reason: int = 0
    """How often in a row links ended for `reason` without an open link in between."""
    restarted_at: float | None = None
    """When WhatsApp's request for a new connection (515) was last followed at once."""
    replaced: int = 0
    replaced_at: float | None = None
    """How often another connection took over within one conflict, and when it last did."""
    begun_at: tuple[float, ...] = ()
    """When the newest links were started, oldest first: as many as the hourly budget has."""

    @property
    def shown_reason(self) -> Reason | None:
        """The reason shown to people: why the session waits now, or otherwise why it is not connected."""
        return self.held or self.reason

    @property
    def wanted(self) -> bool:
        """Whether this session should be connected, now or later."""
        return self.state not in {State.STOPPED, State.LOGGED_OUT, State.UNPAIRED}


def reason_of_change(before: Session, after: Session) -> Reason | None:
    """The reason shown for a change: why the link ended if it did, although the next one may have to wait already."""
    has_ended = before.link is not None and after.link is None
    return after.reason if has_ended else after.shown_reason


RUNNING = frozenset({State.CONNECTING, State.CONNECTED, State.RECONNECTING})

_HOUR_S = 3600
_UNPACED_ABOVE = 0.75
"""The share of the hourly budget above which links start as soon as the backoff allows."""


def budget_left(session: Session, *, now: float, policy: Policy) -> int:
    """How many links may still start without waiting for the backoff's cap."""
    return max(policy.budget_an_hour - sum(began_at > now - _HOUR_S for began_at in session.begun_at), 0)


def even_pace_s(session: Session, *, now: float, policy: Policy) -> float:
    """Seconds between the starts of two links at which the hourly budget never runs out.

    0 while more than three quarters of the budget are left, so that ordinary drops are answered at once. Each link
    gives its place in the budget back an hour after its start; the pace is the slowest that any of these times demands.
    Without this a line that drops every 10 s has used its budget after 20 min and is away for the rest of the hour.
    """
    budget = policy.budget_an_hour
    returns_in_s = [began_at + _HOUR_S - now for began_at in session.begun_at if began_at > now - _HOUR_S]
    left = budget - len(returns_in_s)
    if left > budget * _UNPACED_ABOVE or left <= 0:
        return 0
    return max(*(wait_s / (left + n) for n, wait_s in enumerate(returns_in_s)), _HOUR_S / budget)


def restored(
    *, state: State, paired: bool, attempts: int, resumes_at: float | None, reason: Reason | None = None
) -> Session:
    """A session as it was before a restart, without a link.

    `StartAsked` is for those that come back as `reconnecting`; a stopped, paused or logged-out session stays so, and
    `reason` keeps a ban in force. The count of attempts continues. `resumes_at` is the planned attempt of a paused
    session in this process's monotonic seconds.
    """
    if reason is PASSKEY_REQUIRED:
        reason = PASSKEY_EXPIRED  # its link is gone, and the challenge with it
    if paired and state in RUNNING | {State.PAIRING}:
        return Session(state=State.RECONNECTING, paired=True, attempts=attempts, reason=reason)
    if paired and state is State.PAUSED:
        return Session(state=state, paired=True, attempts=attempts, next_attempt_at=resumes_at, reason=reason)
    if state in {State.STOPPED, State.LOGGED_OUT}:
        return Session(state=state, paired=paired, reason=reason)
    return Session(state=State.UNPAIRED, paired=paired, reason=reason)
