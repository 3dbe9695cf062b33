"""The connect rate by literal values, then fleets that return to a simulated WhatsApp."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from holdfast.session import connect_limiter
from holdfast.session.connect_limiter import ConnectNow, Limiter, LimiterPolicy
from holdfast.session.connect_rate import Rate, RatePolicy, accepted, late, refused, resumed, unreached
from holdfast.session.reasons import BY_CODE, Reason

POLICY = RatePolicy()
NOW = 1000.0
BEGUN = resumed(Rate(), now=NOW, policy=POLICY)
BUSY, UNREACHABLE = BY_CODE[503], BY_CODE[408]


# By literal values.


def test_a_burst_starts_at_the_first_rate() -> None:
    """Also after a minute without logins, when a problem that was seen before counts no more."""
    assert BEGUN.per_s == 20
    cut = refused(BEGUN, now=NOW, policy=POLICY)
    assert resumed(cut, now=NOW + 60, policy=POLICY) == cut
    assert resumed(cut, now=NOW + 61, policy=POLICY) == replace(BEGUN, used_at=NOW + 61)


def test_a_burst_begins_faster_where_the_last_one_met_no_problem() -> None:
    """At the rate that was reached, up to forty a second; unless WhatsApp could not be reached since."""
    fast = BEGUN
    for _ in range(10):
        fast = accepted(fast, 0.1, now=NOW, policy=POLICY)
    assert resumed(fast, now=NOW + 61, policy=POLICY) == replace(BEGUN, used_at=NOW + 61, per_s=30)
    assert resumed(replace(fast, per_s=90), now=NOW + 61, policy=POLICY).per_s == 40
    assert resumed(replace(fast, unreachable=True), now=NOW + 61, policy=POLICY).per_s == 20
    assert resumed(replace(fast, per_s=90), now=NOW + 61, policy=replace(POLICY, cap=33)).per_s == 33


def test_fast_logins_double_the_rate_within_a_second() -> None:
    """Each of twenty logins adds one."""
    rate = BEGUN
    for _ in range(20):
        rate = accepted(rate, 0.1, now=NOW, policy=POLICY)
    assert rate.per_s == 40


def test_above_the_rate_of_the_last_problem_it_grows_slowly() -> None:
    """By five within a second, however many logins that has."""
    rate = replace(BEGUN, per_s=50, threshold=50)
    for _ in range(50):
        rate = accepted(rate, 0.1, now=NOW, policy=POLICY)
    assert rate.per_s == pytest.approx(54.8, abs=0.1)


def test_a_refusal_halves_it_once_a_second() -> None:
    """Everything that was started before reports the same trouble."""
    once = refused(BEGUN, now=NOW, policy=POLICY)
    assert (once.per_s, once.threshold) == (10, 10)
    assert refused(once, now=NOW + 0.9, policy=POLICY).per_s == 10
    assert refused(once, now=NOW + 1, policy=POLICY).per_s == 5


def test_a_slow_login_lowers_it() -> None:
    """A login is slow when it takes more than a second, and three times as long as the fastest recent one."""
    quick = accepted(BEGUN, 0.2, now=NOW, policy=POLICY)
    assert accepted(quick, 0.9, now=NOW, policy=POLICY).per_s == 22
    assert accepted(quick, 1.1, now=NOW, policy=POLICY).per_s == pytest.approx(14.7)
    far = accepted(BEGUN, 0.8, now=NOW, policy=POLICY)
    assert accepted(far, 2.3, now=NOW, policy=POLICY).per_s == 22


def test_a_slower_network_does_not_lower_the_rate_forever() -> None:
    """The fastest login is forgotten by 1 % with each later one."""
    rate, cuts = accepted(BEGUN, 0.5, now=NOW, policy=POLICY), 0
    for login in range(200):
        before, rate = rate, accepted(rate, 2, now=NOW + login, policy=POLICY)
        cuts += rate.per_s < before.per_s
    assert 0 < cuts < 40
    assert rate.per_s > 20


def test_a_process_that_is_late_lowers_it() -> None:
    """By 30 %, when a session asks more than 0.3 s after its time."""
    assert late(BEGUN, 0.3, now=NOW, policy=POLICY) == BEGUN
    assert late(BEGUN, 0.4, now=NOW, policy=POLICY).per_s == pytest.approx(14)


def test_while_whatsapp_is_unreachable_the_rate_falls_to_its_floor_and_recovers_at_once() -> None:
    """An unreachable WhatsApp says nothing about the rate that it takes."""
    rate = replace(BEGUN, per_s=50, threshold=30)
    for _ in range(10):
        rate = unreached(rate, now=NOW, policy=POLICY)
    assert (rate.per_s, rate.unreachable) == (4, True)
    back = accepted(rate, 0.1, now=NOW + 1, policy=POLICY)
    assert (back.per_s, back.unreachable) == (20, False)


def test_it_never_leaves_its_bounds() -> None:
    """Neither by growth nor by cuts; a share of a cluster may be lower than the floor."""
    rate = replace(BEGUN, per_s=99.5)
    assert accepted(rate, 0.1, now=NOW, policy=POLICY).per_s == 100
    for second in range(20):
        rate = refused(rate, now=NOW + second, policy=POLICY)
    assert rate.per_s == 4
    assert resumed(Rate(), now=NOW, policy=replace(POLICY, cap=0.5)).per_s == 0.5


# Fleets.


@dataclass
class Server:
    """A simulated WhatsApp: what becomes of a login that starts now."""

    per_s: float = 1000
    """Logins that it, or the machine, handles a second, one after another."""
    latency_s: float = 0.05
    refuses: Callable[[float, float], Reason | None] = lambda now, load: None
    """By time and the starts within the last second."""
    free_at: float = 0
    starts: list[float] = field(default_factory=list)

    def login(self, now: float) -> tuple[float, Reason | None]:
        """When the login ends, and why if it fails."""
        self.starts.append(now)
        load = sum(at > now - 1 for at in self.starts[-500:])
        if (reason := self.refuses(now, load)) is not None:
            return now + self.latency_s, reason
        self.free_at = max(self.free_at, now) + 1 / self.per_s
        return self.free_at + self.latency_s, None


@dataclass
class Fleet:
    """Sessions that all lost their links at 0 and back off by a fixed second."""

    server: Server
    sessions: int
    policy: LimiterPolicy = field(default_factory=LimiterPolicy)
    back_at: list[float] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)

    def run(self) -> Fleet:
        known, due = Limiter(), {f"{number:04}": 0.0 for number in range(self.sessions)}
        ends: list[tuple[float, str, Reason | None]] = []
        asks = [(0.0, company) for company in due]
        heapq.heapify(asks)
        while len(self.back_at) < self.sessions:
            if ends and (not asks or ends[0][0] <= asks[0][0]):
                now, company, reason = heapq.heappop(ends)
                if reason is None:
                    known, wakes = connect_limiter.opened(known, company, now=now, policy=self.policy)
                    self.back_at.append(now)
                else:
                    known, wakes = connect_limiter.ended(
                        known, company, reason, was_open=False, now=now, policy=self.policy
                    )
                    due[company] = now + 1
                    heapq.heappush(asks, (now + 1, company))
                self.rates.append((now, known.rate.per_s))
                for woken, at in wakes:
                    due[woken] = at
                    heapq.heappush(asks, (at, woken))
                continue
            now, company = heapq.heappop(asks)
            if due.get(company) != now:
                continue
            known, answer = connect_limiter.ask(known, company, now=now, policy=self.policy)
            if isinstance(answer, ConnectNow):
                del due[company]
                end, reason = self.server.login(now)
                heapq.heappush(ends, (end, company, reason))
            else:
                due[company] = answer.until
                heapq.heappush(asks, (answer.until, company))
        return self

    def starts(self, since: float, until: float) -> int:
        return sum(since <= at < until for at in self.server.starts)


def test_five_hundred_sessions_are_back_in_seconds() -> None:
    """A WhatsApp that takes everything gets ten at once, then twice as many each second, and never more than a
    hundred a second; each session connects once."""
    fleet = Fleet(Server(), 500).run()
    assert fleet.back_at[0] < 0.5
    assert fleet.back_at[249] < 4
    assert fleet.back_at[-1] < 8
    assert len(fleet.server.starts) == 500
    assert max(fleet.starts(second, second + 1) for second in range(8)) <= 101


def test_a_machine_that_manages_thirty_logins_a_second_is_not_flooded() -> None:
    """All are back about as fast as the machine can, and no login waits for longer than a second."""
    fleet = Fleet(Server(per_s=30), 300).run()
    assert fleet.back_at[-1] < 300 / 30 * 1.3
    assert len(fleet.server.starts) == 300


def test_the_rate_falls_when_whatsapp_refuses_above_a_rate() -> None:
    """It answers 429 above fifteen a second. The breaker is switched off, as it would hold all sessions."""
    policy = LimiterPolicy(alike=10_000)
    limited = Server(refuses=lambda now, load: BY_CODE[429] if load > 15 else None)
    fleet = Fleet(limited, 300, policy).run()
    assert fleet.starts(0, 1) >= 15
    later = [fleet.starts(second, second + 1) for second in range(3, int(fleet.back_at[-1]))]
    assert sum(later) / len(later) <= 20
    assert fleet.back_at[-1] < 300 / 15 * 2.5


def test_an_unreachable_whatsapp_is_tried_a_few_times_a_second() -> None:
    """For a minute: at the floor of the rate. All are back within seconds of its return."""
    away = Server(refuses=lambda now, load: UNREACHABLE if now < 60 else None)
    fleet = Fleet(away, 200).run()
    assert fleet.starts(10, 60) <= 50 * POLICY.floor + 1
    assert fleet.back_at[0] < 60.5
    assert fleet.back_at[-1] < 66


def test_a_slow_whatsapp_lowers_the_rate_and_a_fast_one_raises_it_again() -> None:
    """It handles 100 a second, then 5, then 100 again."""

    class Slow(Server):
        def login(self, now: float) -> tuple[float, Reason | None]:
            self.per_s = 5 if 2 <= now < 12 else 100
            return super().login(now)

    fleet = Fleet(Slow(), 600).run()
    slowest = min(rate for at, rate in fleet.rates if 6 < at < 14)
    assert slowest <= 14
    assert fleet.rates[-1][1] > slowest
