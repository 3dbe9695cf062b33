"""Histories of a session on a simulated engine: every short one, random long ones, and the invariants of each.

The harness carries out effects as an engine and WhatsApp would: links open, close, fall silent and report late. The
invariants are those of the machine's docstring, the user's backoff formula, and "no link without a reason to connect".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from holdfast.session.backoff import Backoff
from holdfast.session.engine import CutLink, LinkClosed, LinkOpened, LogOut, Ping, Presence
from holdfast.session.events import (
    CommitFailed,
    ConnectDeferred,
    ConnectGranted,
    Effect,
    Event,
    HostLost,
    LogoutAsked,
    PairAsked,
    QuarantineCredentials,
    ReconnectAsked,
    RequestConnect,
    SendsWaited,
    StartAsked,
    StartLink,
    StopAsked,
    Tick,
)
from holdfast.session.liveness import deadline
from holdfast.session.machine import NotPossible, Step, step
from holdfast.session.reasons import BY_CODE, CIRCUIT_BREAKER_OPEN, CONNECT_QUEUED, SessionReaction
from holdfast.session.state import RUNNING, Policy, Session, State, restored
from tests.doubles.engine_reports import granted_step, link_closed, link_opened, link_paired, ponged, qr_shown

CODES = [*(code for code in BY_CODE if code is not None), 999]
ATTRIBUTES = st.sampled_from([{}, {"type": "device_removed"}, {"type": "replaced"}, {"expire": "600"}, {"expire": "x"}])
DETAILS = st.sampled_from(["", "QR refs attempts ended", "WebSocket Error (Unexpected server response: 401)"])
JITTER = st.floats(0, 1, exclude_max=True)
SECONDS = st.one_of(st.floats(0, 5), st.floats(0, 60), st.floats(0, 600))
QUIET = frozenset({State.STOPPED, State.LOGGED_OUT, State.UNPAIRED})
"""States in which a link opens only on the request of a person."""


@dataclass(kw_only=True)
class SessionHarness:
    """One session, its clock and the existing links; checks the invariants in each step and between steps."""

    policy: Policy = field(default_factory=Policy)
    session: Session
    now: float = 0.0
    links: frozenset[int] = frozenset()
    opened: frozenset[int] = frozenset()
    retired: frozenset[int] = frozenset()
    deferred_s: float | None = None
    """How long the connect limiter makes each link wait; None: it grants them at once."""

    def take(self, event: Event, jitter: float = 0.5) -> None:
        before = self.session
        try:
            self.session, effects = self.step(before, event, jitter)
        except NotPossible:
            assert not isinstance(event, Tick | StopAsked | LogoutAsked), "these are taken in every state"
            if isinstance(event, StartAsked):
                assert before.reason is not None, "only a ban keeps a start away"
                assert before.reason.reaction is SessionReaction.PAUSE_UNTIL, "only a ban keeps a start away"
            return
        if isinstance(event, LinkClosed | HostLost) and before.link is not None:
            self.retire(before.link.number)
        if isinstance(event, LinkOpened):
            self.opened |= {event.link}
        for effect in effects:
            self.carry_out(effect, event, before)
        self.check_attempts(before, event)
        self.check_plan(before)
        self.check_state()

    def step(self, session: Session, event: Event, jitter: float) -> Step:
        """A step of the machine and, if it requests a link, another one with the connect limiter's answer."""
        session, effects = step(session, event, now=self.now, jitter=jitter, policy=self.policy)
        if RequestConnect() not in effects:
            return session, effects
        answer: Event = ConnectGranted(session.newest_link + 1)
        if self.deferred_s is not None:
            answer = ConnectDeferred(self.now + self.deferred_s, CIRCUIT_BREAKER_OPEN)
        session, started = step(session, answer, now=self.now, jitter=jitter, policy=self.policy)
        return session, (*(effect for effect in effects if effect != RequestConnect()), *started)

    def tick(self, jitter: float = 0.5) -> None:
        """A Tick makes progress: no further Tick is due at the same time, except for an attempt that is made at
        once."""
        before = self.session
        self.take(Tick(), jitter)
        assert self.session != before, "a Tick without effect"
        assert self.due_at is None or self.due_at > self.now or self.session.next_attempt_at == self.now, "a hot loop"

    @property
    def due_at(self) -> float | None:
        return deadline(self.session, policy=self.policy)

    @property
    def link(self) -> int:
        (link,) = self.links
        return link

    def retire(self, link: int) -> None:
        self.links -= {link}
        self.opened -= {link}
        self.retired |= {link}

    def carry_out(self, effect: Effect, event: Event, before: Session) -> None:
        match effect:
            case StartLink(link=link):
                assert not self.links, "two links at once"
                assert link not in self.retired, "a number used twice"
                asked = isinstance(event, StartAsked | ReconnectAsked | PairAsked)
                assert asked or before.state not in QUIET, "a link that nobody requested"
                self.links |= {link}
            case CutLink(link=link) | LogOut(link=link):
                assert link in self.links, "a cut of a link that has ended"
                self.retire(link)
            case Ping(link=link) | Presence(link=link):
                assert link in self.opened, "a ping on a link that is not open"
            case QuarantineCredentials():
                assert isinstance(event, LogoutAsked | LinkClosed), "credentials quarantined without a logout"

    def check_attempts(self, before: Session, event: Event) -> None:
        after = self.session
        stable = isinstance(event, Tick) and before.state is after.state is State.CONNECTED
        at_rest = after.state in {State.LOGGED_OUT, State.UNPAIRED}
        paired = before.link is not None and before.link.paired
        asked = isinstance(event, StartAsked | StopAsked | LogoutAsked | PairAsked)
        allowed = stable or at_rest or paired or asked
        assert allowed or after.attempts >= before.attempts, "attempts forgotten by a flapping link"

    def check_plan(self, before: Session) -> None:
        after, cap_s = self.session, self.policy.backoff.cap_ms / 1000
        if after.next_attempt_at is None or after.next_attempt_at == before.next_attempt_at:
            return
        if after.held is not None:
            assert after.next_attempt_at >= self.now, "a place in the past"
            assert after.attempts <= before.attempts, "an attempt that was none"
            return
        assert after.reason is not None
        assert after.next_attempt_at >= self.now, "a plan for the past"
        if after.reason.reaction in {SessionReaction.BACKOFF, SessionReaction.RESTART, SessionReaction.CONFIRM_LOGOUT}:
            assert after.next_attempt_at - self.now <= cap_s + 1e-6, "a wait over the cap"

    def check_state(self) -> None:
        session = self.session
        known = set() if session.link is None else {session.link.number}
        assert known == self.links, "the machine and the harness have different links"
        is_open = session.link is not None and session.link.opened_at is not None
        assert is_open == (session.state is State.CONNECTED)
        assert session.reason is None or session.state is not State.CONNECTED
        assert session.link is None or session.next_attempt_at is None, "a plan besides a link"
        assert session.held is None or session.next_attempt_at is not None, "held forever"
        if session.state in {State.CONNECTING, State.CONNECTED, State.RECONNECTING, State.PAUSED}:
            assert session.paired, "a state that takes no QR code, without a phone"
        if session.state in QUIET:
            assert self.due_at is None, "a plan that nobody wants"
        if session.state in {State.CONNECTING, State.PAIRING, State.CONNECTED}:
            assert self.due_at is not None, "a state that nothing ends"
        assert len(session.begun_at) <= self.policy.budget_an_hour, "a memory without bounds"


# Every short history.


def possible(harness: SessionHarness) -> list[Event]:
    """Events that are possible next: any request of a person, reports of existing links, the deadline."""
    people: list[Event] = [StartAsked(), StopAsked(), ReconnectAsked(), LogoutAsked(), PairAsked()]
    time: list[Event] = [] if harness.due_at is None else [Tick()]
    if not harness.links:
        return people + time
    reports: list[Event] = [
        *(link_closed(harness.link, code) for code in CODES),
        HostLost(),
        CommitFailed(harness.link),
    ]
    if harness.opened:
        return people + time + reports + [SendsWaited(harness.link, harness.now), ponged(harness.link, 1)]
    scanned: list[Event] = [link_paired(harness.link)] if harness.session.state is State.PAIRING else []
    return people + time + reports + scanned + [qr_shown(harness.link), link_opened(harness.link)]


@pytest.mark.parametrize("deferred_s", [None, 5])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("state", State)
def test_every_history_of_five_events(state: State, paired: bool, deferred_s: float | None) -> None:
    """From every state, every sequence of five events keeps all invariants at each step; nothing is random."""
    harnesses = [
        SessionHarness(session=restored(state=state, paired=paired, attempts=0, resumes_at=5.0), deferred_s=deferred_s)
    ]
    for _ in range(5):
        after: dict[Session, SessionHarness] = {}
        for before, event in [(harness, event) for harness in harnesses for event in possible(harness)]:
            changed = replace(before)
            if isinstance(event, Tick):
                changed.now = max(changed.now, changed.due_at or 0)
                changed.tick()
            else:
                changed.take(event)
            after.setdefault(changed.session, changed)
        harnesses = list(after.values())
    assert len(harnesses) > (100 if deferred_s is None else 5)


# Random longer ones.


class Histories(RuleBasedStateMachine):
    """Forty random events under random settings."""

    harness: SessionHarness

    @initialize(
        paired=st.booleans(),
        state=st.sampled_from(State),
        attempts=st.integers(0, 200),
        resumes_at=st.one_of(st.none(), st.floats(0, 60)),
        reason=st.sampled_from([None, *BY_CODE.values()]),
        presence=st.booleans(),
        budget=st.sampled_from([1, 3, 120]),
        cap_ms=st.sampled_from([100, 5000, 60_000]),
    )
    def begin(self, presence: bool, budget: int, cap_ms: int, **before: Any) -> None:
        """A session as it was before a restart, under some settings."""
        policy = Policy(presence=presence, budget_an_hour=budget, backoff=Backoff(cap_ms=cap_ms))
        self.harness = SessionHarness(policy=policy, session=restored(**before))

    # What people do.

    @rule()
    def somebody_starts_it(self) -> None:
        self.harness.take(StartAsked())

    @rule(event=st.sampled_from([ReconnectAsked(), PairAsked()]))
    def somebody_insists(self, event: Event) -> None:
        self.harness.take(event)

    @precondition(lambda self: self.harness.session.state not in QUIET)
    @rule(event=st.sampled_from([StopAsked(), LogoutAsked()]))
    def somebody_ends_it(self, event: Event) -> None:
        self.harness.take(event)

    # What time does.

    @rule(seconds=SECONDS, jitter=JITTER)
    def time_passes(self, seconds: float, jitter: float) -> None:
        """At its deadline the session continues automatically, even while WhatsApp sends nothing."""
        until = self.harness.now + seconds
        while (due_at := self.harness.due_at) is not None and due_at <= until:
            self.harness.now = max(self.harness.now, due_at)
            self.harness.tick(jitter)
        self.harness.now = until

    @precondition(lambda self: self.harness.due_at is not None)
    @rule(jitter=JITTER)
    def the_deadline_comes(self, jitter: float) -> None:
        assert self.harness.due_at is not None
        self.harness.now = max(self.harness.now, self.harness.due_at)
        self.harness.tick(jitter)

    @rule()
    def an_early_tick(self) -> None:
        if self.harness.due_at is None or self.harness.now < self.harness.due_at:
            assert step(self.harness.session, Tick(), now=self.harness.now, jitter=0.5, policy=self.harness.policy) == (
                self.harness.session,
                (),
            )

    # What WhatsApp and the engine do.

    @precondition(lambda self: self.harness.links - self.harness.opened)
    @rule()
    def the_login_is_accepted(self) -> None:
        self.harness.take(link_opened(self.harness.link))

    @precondition(lambda self: self.harness.links - self.harness.opened)
    @rule()
    def a_code_is_shown(self) -> None:
        self.harness.take(qr_shown(self.harness.link))

    @precondition(lambda self: self.harness.links - self.harness.opened and self.harness.session.state is State.PAIRING)
    @rule()
    def a_phone_scans(self) -> None:
        self.harness.take(link_paired(self.harness.link))

    @precondition(lambda self: self.harness.links)
    @rule(code=st.sampled_from(CODES), attributes=ATTRIBUTES, detail=DETAILS, jitter=JITTER)
    def the_link_closes(self, code: int, attributes: dict[str, str], detail: str, jitter: float) -> None:
        self.harness.take(link_closed(self.harness.link, code, detail, attributes), jitter)

    @precondition(
        lambda self: (
            self.harness.opened and self.harness.session.link and self.harness.session.link.pinged_at is not None
        )
    )
    @rule()
    def a_pong_comes(self) -> None:
        assert self.harness.session.link is not None
        self.harness.take(ponged(self.harness.link, self.harness.session.link.ping))

    @rule(seconds=st.one_of(st.none(), st.floats(1, 600)))
    def the_connect_limiter_defers(self, seconds: float | None) -> None:
        self.harness.deferred_s = seconds

    @rule(seconds=SECONDS)
    def the_connect_limiter_wakes_it(self, seconds: float) -> None:
        before = self.harness.session
        self.harness.take(ConnectDeferred(self.harness.now + seconds, CONNECT_QUEUED))
        assert before.held is not None or self.harness.session == before, "a wake for one that does not wait"

    @precondition(lambda self: self.harness.opened)
    @rule(age_s=st.one_of(st.none(), st.floats(0, 30)))
    def the_outbox_waits(self, age_s: float | None) -> None:
        self.harness.take(SendsWaited(self.harness.link, None if age_s is None else self.harness.now - age_s))

    @precondition(lambda self: self.harness.session.state not in QUIET)
    @rule(jitter=JITTER)
    def the_host_dies(self, jitter: float) -> None:
        self.harness.take(HostLost(), jitter)

    @precondition(lambda self: self.harness.links)
    @rule()
    def the_disk_is_full(self) -> None:
        self.harness.take(CommitFailed(self.harness.link))

    @precondition(lambda self: self.harness.retired)
    @rule(choice=st.data(), code=st.sampled_from(CODES))
    def an_old_link_reports(self, choice: Any, code: int) -> None:
        old = choice.draw(st.sampled_from(sorted(self.harness.retired)))
        reports: list[Event] = [
            link_closed(old, code),
            link_opened(old),
            qr_shown(old),
            link_paired(old),
            HostLost(old),
        ]
        reports += [ponged(old, 1), SendsWaited(old, 0), CommitFailed(old)]
        for event in reports:
            assert step(self.harness.session, event, now=self.harness.now, jitter=0, policy=self.harness.policy) == (
                self.harness.session,
                (),
            )

    # What happens when WhatsApp works.

    @rule()
    def whatsapp_is_well(self) -> None:
        """From every state of a running session, it connects at its own times to a server that accepts logins."""
        self.harness.deferred_s = None
        if self.harness.session.state not in RUNNING:
            return
        for _ in range(5):
            if self.harness.links and not self.harness.opened:
                self.the_login_is_accepted()
            if self.harness.session.state is State.CONNECTED:
                break
            if self.harness.due_at is None:
                self.harness.take(StartAsked())
                continue
            self.harness.now = max(self.harness.now, self.harness.due_at)
            self.harness.tick(0.5)
        assert self.harness.session.state is State.CONNECTED, "no way back"

    @precondition(lambda self: self.harness.opened)
    @rule(minutes=st.integers(2, 10))
    def a_quiet_time(self, minutes: int) -> None:
        """An open link on which pings are answered and nothing is sent stays open, and the attempts are reset."""
        number, until = self.harness.link, self.harness.now + 60 * minutes
        self.the_outbox_waits(None)
        for _ in range(4 * minutes):
            if self.harness.now >= until:
                break
            assert self.harness.session.link is not None
            if self.harness.session.link.pinged_at is not None:
                self.harness.take(ponged(number, self.harness.session.link.ping))
            assert self.harness.due_at is not None
            self.harness.now = max(self.harness.now, self.harness.due_at)
            self.harness.tick(0.5)
        assert self.harness.now >= until, "more than two ticks for each ping"
        assert (self.harness.links, self.harness.session.attempts) == (frozenset({number}), 0)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@given(lives_s=st.lists(st.sampled_from([0, 0, 0, 0, 1, 6, 61]), min_size=1, max_size=12), jitter=JITTER)
@settings(max_examples=20, deadline=None)
def test_links_an_hour_are_bounded(lives_s: list[float], jitter: float) -> None:
    """However often links open and close, no hour has more of them than the budget allows."""
    policy = Policy()
    session, now, begun = restored(state=State.CONNECTED, paired=True, attempts=0, resumes_at=None), 0.0, []
    session, _ = granted_step(session, StartAsked(), now=now, jitter=jitter, policy=policy)
    for life_s in (lives_s * 500)[:500]:
        begun.append(now)
        session, _ = granted_step(session, link_opened(session.newest_link), now=now, jitter=jitter, policy=policy)
        if life_s > policy.stable_after_s:
            session, _ = granted_step(session, ponged(session.newest_link, 1), now=now, jitter=jitter, policy=policy)
            session, _ = granted_step(session, Tick(), now=now + life_s, jitter=jitter, policy=policy)
        now += life_s
        session, _ = granted_step(session, link_closed(session.newest_link, 428), now=now, jitter=jitter, policy=policy)
        assert session.next_attempt_at is not None
        now = session.next_attempt_at
        session, _ = granted_step(session, Tick(), now=now, jitter=jitter, policy=policy)
    limit = max(sum(start <= at < start + 3600 for at in begun) for start in begun)
    assert limit <= policy.budget_an_hour
