"""Random histories of a session in a model of the world, and what must hold in every one of them.

The world carries effects out as an engine and WhatsApp would: links open, close, fall silent, report late. The
promises are those of the machine's own docstring, of the user's backoff formula and of "no link that nobody wants".
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.session.backoff import Backoff
from holdfast.session.deadlines import deadline
from holdfast.session.events import (
    CutLink,
    Effect,
    Event,
    HostLost,
    KeepingFailed,
    LinkClosed,
    LinkOpened,
    LogoutAsked,
    OpenLink,
    PairAsked,
    Paired,
    Ponged,
    QrShown,
    QuarantineCredentials,
    ReconnectAsked,
    SendPing,
    SendPresence,
    SendsWaited,
    StartAsked,
    StopAsked,
    Tick,
    Unlink,
)
from holdfast.session.life import RUNNING, Policy, Session, State, restored
from holdfast.session.machine import NotPossible, step
from holdfast.session.reasons import BY_CODE, Reaction

CODES = st.sampled_from([*(code for code in BY_CODE if code is not None), 400, 418, 999])
ATTRIBUTES = st.sampled_from([{}, {"type": "device_removed"}, {"type": "replaced"}, {"expire": "600"}, {"expire": "x"}])
DETAILS = st.sampled_from(["", "QR refs attempts ended", "WebSocket Error (Unexpected server response: 401)"])
JITTER = st.floats(0, 1, exclude_max=True)
SECONDS = st.one_of(st.floats(0, 5), st.floats(0, 100), st.floats(0, 4000))
QUIET = frozenset({State.STOPPED, State.LOGGED_OUT, State.UNPAIRED})
"""States in which only a person's event opens a link."""


class Histories(RuleBasedStateMachine):
    """One session, its clock, and the links that the world believes to be open."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy()
        self.session = Session()
        self.now = 0.0
        self.links: set[int] = set()
        self.opened: set[int] = set()
        self.retired: list[int] = []

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
        self.policy = Policy(presence=presence, budget_an_hour=budget, backoff=Backoff(cap_ms=cap_ms))
        self.session = restored(**before)

    # One step, and what must hold of each.

    def take(self, event: Event, jitter: float = 0.5) -> None:
        before = self.session
        try:
            after, effects = step(before, event, now=self.now, jitter=jitter, policy=self.policy)
        except NotPossible:
            assert not isinstance(event, Tick | StartAsked | StopAsked | LogoutAsked), "these are taken in every state"
            return
        if isinstance(event, LinkClosed | HostLost) and before.link is not None:
            self.retire(before.link.number)
        for effect in effects:
            self.carry_out(effect, event, before)
        self.session = after
        self.check_plan(before, event)

    def carry_out(self, effect: Effect, event: Event, before: Session) -> None:
        match effect:
            case OpenLink(link=link):
                assert not self.links, "two links at once"
                assert link not in self.retired, "a number used twice"
                asked = isinstance(event, StartAsked | ReconnectAsked | PairAsked)
                assert asked or before.state not in QUIET, "a link that nobody wants"
                self.links.add(link)
            case CutLink(link=link) | Unlink(link=link):
                assert link in self.links, "a cut of a link that is gone"
                self.retire(link)
            case SendPing(link=link) | SendPresence(link=link):
                assert link in self.opened, "a ping on a link that is not open"
            case QuarantineCredentials():
                assert isinstance(event, LogoutAsked | LinkClosed), "credentials set aside without a logout"

    def check_plan(self, before: Session, event: Event) -> None:
        after = self.session
        if after.attempts < before.attempts:
            stable = isinstance(event, Tick) and before.state is after.state is State.CONNECTED
            logged_out = after.state in {State.LOGGED_OUT, State.UNPAIRED}
            paired = before.link is not None and before.link.paired
            asked = isinstance(event, StartAsked | StopAsked | LogoutAsked | PairAsked)
            assert stable or logged_out or paired or asked, "attempts forgotten by a flapping link"
        if after.next_attempt_at is not None and after.next_attempt_at != before.next_attempt_at:
            assert after.reason is not None
            wait_s, cap_s = after.next_attempt_at - self.now, self.policy.backoff.cap_ms / 1000
            assert wait_s >= 0
            if after.reason.reaction in {Reaction.BACKOFF, Reaction.RESTART, Reaction.CONFIRM_LOGOUT}:
                assert wait_s <= cap_s + 1e-9, "a wait over the cap"

    def retire(self, link: int) -> None:
        self.links.discard(link)
        self.opened.discard(link)
        self.retired.append(link)

    @property
    def link(self) -> int:
        return next(iter(self.links))

    # What people do.

    @rule(event=st.sampled_from([StartAsked(), StopAsked(), ReconnectAsked(), LogoutAsked(), PairAsked()]))
    def somebody_asks(self, event: Event) -> None:
        self.take(event)

    # What time does.

    @rule(seconds=SECONDS, jitter=JITTER)
    def time_passes(self, seconds: float, jitter: float) -> None:
        """At its deadline the session moves on by itself, while WhatsApp says nothing."""
        until = self.now + seconds
        while (due_at := self.due_at) is not None and due_at <= until:
            self.now = max(self.now, due_at)
            self.tick(jitter)
        self.now = until

    def tick(self, jitter: float) -> None:
        """A Tick makes progress: it is not wanted again at the same time, but for an attempt that comes at once."""
        before = self.session
        self.take(Tick(), jitter)
        assert self.session != before, "a Tick for nothing"
        assert self.due_at is None or self.due_at > self.now or self.session.next_attempt_at == self.now, "a hot loop"

    @property
    def due_at(self) -> float | None:
        return deadline(self.session, policy=self.policy)

    @rule()
    def an_early_tick(self) -> None:
        if self.due_at is None or self.now < self.due_at:
            assert step(self.session, Tick(), now=self.now, jitter=0.5, policy=self.policy) == (self.session, ())

    # What WhatsApp and the engine do.

    @precondition(lambda self: self.links - self.opened)
    @rule()
    def the_login_is_accepted(self) -> None:
        self.opened.add(self.link)
        self.take(LinkOpened(self.link))

    @precondition(lambda self: self.links - self.opened)
    @rule()
    def a_code_is_shown(self) -> None:
        self.take(QrShown(self.link))

    @precondition(lambda self: self.links - self.opened and self.session.state is State.PAIRING)
    @rule()
    def a_phone_scans(self) -> None:
        self.take(Paired(self.link))

    @precondition(lambda self: self.links)
    @rule(code=CODES, attributes=ATTRIBUTES, detail=DETAILS, jitter=JITTER)
    def the_link_closes(self, code: int, attributes: dict[str, str], detail: str, jitter: float) -> None:
        self.take(LinkClosed(self.link, code, detail, attributes), jitter)

    @precondition(lambda self: self.opened and self.session.link and self.session.link.pinged_at is not None)
    @rule()
    def a_pong_comes(self) -> None:
        assert self.session.link is not None
        self.take(Ponged(self.link, self.session.link.ping))

    @precondition(lambda self: self.opened)
    @rule(age_s=st.one_of(st.none(), st.floats(0, 30)))
    def the_outbox_waits(self, age_s: float | None) -> None:
        self.take(SendsWaited(self.link, None if age_s is None else self.now - age_s))

    @rule(jitter=JITTER)
    def the_host_dies(self, jitter: float) -> None:
        self.take(HostLost(), jitter)

    @precondition(lambda self: self.links)
    @rule()
    def the_disk_is_full(self) -> None:
        self.take(KeepingFailed(self.link))

    @precondition(lambda self: self.retired)
    @rule(choice=st.data(), code=CODES)
    def an_old_link_reports(self, choice: Any, code: int) -> None:
        old = choice.draw(st.sampled_from(self.retired))
        reports: list[Event] = [LinkClosed(old, code), LinkOpened(old), QrShown(old), Paired(old), HostLost(old)]
        reports += [Ponged(old, 1), SendsWaited(old, 0), KeepingFailed(old)]
        for event in reports:
            assert step(self.session, event, now=self.now, jitter=0, policy=self.policy) == (self.session, ())

    # What a good world leads to.

    @rule()
    def whatsapp_is_well(self) -> None:
        """From every state of a running session, a server that accepts logins is reached at the session's own times."""
        if self.session.state not in RUNNING:
            return
        for _ in range(6):
            if self.links and not self.opened:
                self.the_login_is_accepted()
            if self.session.state is State.CONNECTED:
                break
            if self.due_at is None:
                self.take(StartAsked())
                continue
            self.now = max(self.now, self.due_at)
            self.tick(0.5)
        assert self.session.state is State.CONNECTED, "no way back"

    @precondition(lambda self: self.opened)
    @rule(minutes=st.integers(2, 10))
    def a_quiet_time(self, minutes: int) -> None:
        """An open link on which pings are answered and nothing is sent stays, and the attempts are forgotten."""
        number, until = self.link, self.now + 60 * minutes
        self.the_outbox_waits(None)
        for _ in range(4 * minutes):
            if self.now >= until:
                break
            assert self.session.link is not None
            if self.session.link.pinged_at is not None:
                self.take(Ponged(number, self.session.link.ping))
            assert self.due_at is not None
            self.now = max(self.now, self.due_at)
            self.tick(0.5)
        assert self.now >= until, "more ticks than two for each ping"
        assert (self.links, self.session.attempts) == ({number}, 0)

    # What holds at any moment.

    @invariant()
    def the_session_knows_its_link(self) -> None:
        known = set() if self.session.link is None else {self.session.link.number}
        assert known == self.links, "the machine's link and the world's differ"

    @invariant()
    def states_agree_with_what_is_known(self) -> None:
        session = self.session
        is_open = session.link is not None and session.link.opened_at is not None
        assert is_open == (session.state is State.CONNECTED)
        assert session.reason is None or session.state is not State.CONNECTED
        assert session.link is None or session.next_attempt_at is None, "a plan besides a link"
        if session.state in {State.CONNECTING, State.CONNECTED, State.RECONNECTING, State.PAUSED}:
            assert session.paired, "a state that takes no QR code, without a phone"
        if session.state in QUIET:
            assert deadline(session, policy=self.policy) is None, "a plan that nobody wants"
        if session.state in {State.CONNECTING, State.PAIRING, State.CONNECTED}:
            assert deadline(session, policy=self.policy) is not None, "a state that nothing ends"

    @invariant()
    def the_budget_is_remembered_in_bounds(self) -> None:
        assert len(self.session.begun_at) <= self.policy.budget_an_hour


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(lives_s=st.lists(st.sampled_from([0, 0, 0, 0, 1, 61]), min_size=1, max_size=12), jitter=JITTER)
@settings(max_examples=50, deadline=None)
def test_links_an_hour_are_bounded(lives_s: list[float], jitter: float) -> None:
    """However nervously links open and close: no hour has more of them than the budget and one for each capped wait."""
    policy = Policy()
    session, now, begun = restored(state=State.CONNECTED, paired=True, attempts=0, resumes_at=None), 0.0, []
    session, _ = step(session, StartAsked(), now=now, jitter=jitter, policy=policy)
    for life_s in (lives_s * 500)[:500]:
        begun.append(now)
        session, _ = step(session, LinkOpened(session.links), now=now, jitter=jitter, policy=policy)
        if life_s > policy.stable_after_s:
            session, _ = step(session, Ponged(session.links, 1), now=now, jitter=jitter, policy=policy)
            session, _ = step(session, Tick(), now=now + life_s, jitter=jitter, policy=policy)
        now += life_s
        session, _ = step(session, LinkClosed(session.links, 428), now=now, jitter=jitter, policy=policy)
        assert session.next_attempt_at is not None
        now = session.next_attempt_at
        session, _ = step(session, Tick(), now=now, jitter=jitter, policy=policy)
    most = max(sum(start <= at < start + 3600 for at in begun) for start in begun)
    assert most <= policy.budget_an_hour + 60
