"""The connect limiter by literal values, then random histories of many sessions and a WhatsApp that refuses at
times."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.session import connect_limiter, reasons
from holdfast.session.connect_limiter import ConnectNow, DeferConnect, Limiter, LimiterPolicy, Wakes, ask, ended, opened
from holdfast.session.connect_rate import Rate
from holdfast.session.reasons import BY_CODE, CIRCUIT_BREAKER_OPEN, CONNECT_QUEUED

POLICY = LimiterPolicy()
SMALL = replace(POLICY, opening_at_once=2, burst_s=1)
NOW = 1000.0
BUSY, OUTDATED = BY_CODE[503], BY_CODE[405]


def asked(
    known: Limiter, *companies: str, now: float = NOW, policy: LimiterPolicy = POLICY
) -> tuple[Limiter, list[ConnectNow | DeferConnect]]:
    answers = []
    for company in companies:
        known, answer = ask(known, company, now=now, policy=policy)
        answers.append(answer)
    return known, answers


def refused(
    known: Limiter, *companies: str, reason: reasons.Reason | None = BUSY, was_open: bool = False, now: float = NOW
) -> tuple[Limiter, Wakes]:
    wakes: Wakes = ()
    for company in companies:
        known, wakes = ended(known, company, reason, was_open=was_open, now=now, policy=POLICY)
    return known, wakes


TRIPPED, _ = refused(Limiter(), "a", "b", "c")


# Limit and stagger.


def test_a_few_begin_at_once_and_the_rest_one_after_another() -> None:
    """Ten links start at once, and one more every 50 ms; each session gets a start time and starts then."""
    known, answers = asked(Limiter(), *(f"{number:02}" for number in range(13)))
    assert answers[:11] == [ConnectNow()] * 11
    places = [answer.until for answer in answers[11:] if isinstance(answer, DeferConnect)]
    assert places == pytest.approx([NOW + 0.05, NOW + 0.1])
    known, again = asked(known, "11", now=known.reserved["11"])
    assert again == [ConnectNow()]
    assert set(known.reserved) == {"12"}


def test_an_early_repetition_gets_the_same_answer() -> None:
    """A session that asks again before its start time gets the same answer."""
    known, _ = asked(Limiter(), *(f"{number:02}" for number in range(12)))
    again, (answer,) = asked(known, "11", now=NOW + 0.01)
    assert answer == DeferConnect(until=known.reserved["11"])
    assert again == known


def test_no_more_open_at_once_than_allowed() -> None:
    """A session that finds no free slot waits in line; asking twice does not queue it twice."""
    known, answers = asked(Limiter(), "a", "b", "c", "d", "c", policy=SMALL)
    assert answers == [ConnectNow(), ConnectNow(), *[DeferConnect(until=NOW + 60, because=CONNECT_QUEUED)] * 3]
    assert known.waiting == ("c", "d")


def test_a_link_that_opened_or_ended_makes_room_for_the_next_in_line() -> None:
    """First come, first served; a session that was stopped while it waited is skipped."""
    known, _ = asked(Limiter(), "a", "b", "c", "d", "e", policy=SMALL)
    known, wakes = opened(known, "a", now=NOW, policy=SMALL)
    assert wakes == (("c", NOW),)
    known, wakes = ended(known, "d", None, was_open=False, now=NOW, policy=SMALL)
    assert wakes == ()
    known, wakes = ended(known, "b", BUSY, was_open=False, now=NOW, policy=SMALL)
    assert wakes == (("e", NOW),)
    assert asked(known, "c", "e", policy=SMALL)[1] == [ConnectNow(), ConnectNow()]


# The breaker.


def test_three_equal_refusals_open_the_breaker_and_one_session_probes() -> None:
    """The first session that asks after 5 s is the probe; the first in line learns when to ask, the others wait for
    it."""
    known, answers = asked(TRIPPED, "d", "e", now=NOW + 1)
    assert answers == [
        DeferConnect(until=NOW + 5, because=CIRCUIT_BREAKER_OPEN),
        DeferConnect(until=NOW + 65, because=CIRCUIT_BREAKER_OPEN),
    ]
    known, answers = asked(known, "d", "e", now=NOW + 5)
    assert answers == [ConnectNow(), DeferConnect(until=NOW + 65, because=CIRCUIT_BREAKER_OPEN)]
    assert known.breaker is not None
    assert known.breaker.prober == "d"


def test_when_the_probe_succeeds_the_rest_follow() -> None:
    """All waiting sessions are woken, as many as there are slots, staggered; the refusals are forgotten."""
    known, _ = asked(TRIPPED, "d", *(f"{number:02}" for number in range(12)), now=NOW + 1)
    known, _ = asked(known, "d", now=NOW + 5)
    known, wakes = opened(known, "d", now=NOW + 6, policy=POLICY)
    assert [at for _, at in wakes] == [NOW + 6] * 11 + [pytest.approx(NOW + 6 + 11 / 21 - 0.5)]
    assert (known.breaker, known.refusals, known.waiting) == (None, {}, ())


def test_probes_slow_down() -> None:
    """The pause doubles from 5 s to 60 s; each failed probe makes the next in line the probe."""
    known, now, waits = TRIPPED, NOW, []
    for _ in range(6):
        assert known.breaker is not None
        waits.append(known.breaker.probe_at - now)
        now = known.breaker.probe_at
        known, _ = asked(known, "d", "e", now=now)
        known, wakes = refused(known, "d", now=now)
        assert known.breaker is not None
        assert wakes == (("e", known.breaker.probe_at),)
        known, _ = refused(known, "e", reason=None, now=now)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_an_outdated_client_is_probed_every_five_minutes() -> None:
    """405: every probe waits five minutes, the first one included."""
    known, _ = refused(Limiter(), "a", "b", "c", reason=OUTDATED)
    for begin in (NOW, NOW + 300):
        assert known.breaker is not None
        assert known.breaker.probe_at == begin + 300
        known, _ = asked(known, "a", now=begin + 300)
        known, wakes = refused(known, "a", reason=OUTDATED, now=begin + 300)
        assert wakes == ()


def test_a_probe_that_is_stopped_counts_as_none() -> None:
    """The next in line may probe at once, and the pauses do not grow."""
    known, _ = asked(TRIPPED, "d", "e", now=NOW + 5)
    known, wakes = refused(known, "d", reason=None, now=NOW + 6)
    assert wakes == (("e", NOW + 6),)
    assert known.breaker is not None
    assert known.breaker.failed == 0


def test_links_that_end_during_the_probe_have_no_effect() -> None:
    """Links that were opening when the breaker tripped may fail without effect; one that opens closes the breaker."""
    known, _ = asked(Limiter(), "d", "e")
    known, _ = refused(known, "a", "b", "c")
    after, wakes = refused(known, "d")
    assert (after.breaker, wakes) == (known.breaker, ())
    assert opened(known, "e", now=NOW, policy=POLICY)[0].breaker is None


@pytest.mark.parametrize(
    ("code", "was_open", "holds"),
    [
        (503, False, True),
        (503, True, False),
        (500, False, True),
        (500, True, False),
        (405, True, True),
        (429, True, True),
        (401, False, True),
        (401, True, False),
        (403, False, True),
        (408, False, False),
        (428, False, False),
        (440, False, False),
        (402, False, False),
        (515, False, False),
    ],
)
def test_what_counts_as_a_refusal(code: int, was_open: bool, holds: bool) -> None:
    """Refusals by WhatsApp that may concern everybody count; network errors and problems of one session do not."""
    known, _ = refused(Limiter(), "a", "b", "c", reason=BY_CODE[code], was_open=was_open)
    assert (known.breaker is not None) == holds


@pytest.mark.parametrize("own", reasons.OWN)
def test_own_findings_do_not_open_the_breaker(own: reasons.Reason) -> None:
    """A frozen network, a lost host or a full disk is Holdfast's own finding, not a refusal by WhatsApp."""
    assert refused(Limiter(), "a", "b", "c", reason=own)[0].breaker is None


def test_refusals_must_be_alike_close_together_and_of_three_sessions() -> None:
    """The breaker stays closed for two sessions, however often they are refused, for different codes, and for refusals
    more than a minute apart."""
    assert refused(Limiter(), *"abababab")[0].breaker is None
    mixed, _ = refused(Limiter(), "a", "b")
    assert refused(mixed, "c", reason=BY_CODE[500])[0].breaker is None
    assert refused(mixed, "c", now=NOW + 60)[0].breaker is None
    assert refused(mixed, "c", now=NOW + 59)[0].breaker is not None


# By chance.


@given(
    count=st.integers(1, 60),
    heals_at=st.floats(0, 400),
    reason=st.sampled_from([BUSY, BY_CODE[429], BY_CODE[401], BY_CODE[408]]),
    retry_s=st.floats(0.1, 60),
    login_s=st.floats(0.01, 20),
)
@example(count=1, heals_at=4.0, reason=BUSY, retry_s=0.125, login_s=0.0625)
@settings(max_examples=60, deadline=None)
def test_all_get_in_once_whatsapp_lets_them(
    count: int, heals_at: float, reason: reasons.Reason, retry_s: float, login_s: float
) -> None:
    """With any number of sessions and any length of trouble, no more links open at once than allowed, and only one
    while the breaker is open, which never holds one or two sessions; all are connected soon after the trouble ends."""
    known, inside = Limiter(), set[str]()
    asks = {f"{number:02}": 0.0 for number in range(count)}
    ends: dict[str, float] = {}
    now = 0.0
    while len(inside) < count:
        company, now = min({**asks, **ends}.items(), key=lambda item: (item[1], item[0]))
        if company in ends:
            del ends[company]
            if now >= heals_at:
                known, wakes = opened(known, company, now=now, policy=POLICY)
                inside.add(company)
            else:
                known, wakes = ended(known, company, reason, was_open=False, now=now, policy=POLICY)
                asks[company] = now + retry_s
            asks |= {woken: at for woken, at in wakes if woken in asks}
        else:
            was_held = known.breaker is not None
            known, answer = ask(known, company, now=now, policy=POLICY)
            if isinstance(answer, ConnectNow):
                assert not (was_held and known.breaker and known.breaker.prober != company), "a second probe"
                del asks[company]
                ends[company] = now + login_s
            else:
                assert answer.until > now, "a hot loop"
                assert count > 2 or answer.because is CONNECT_QUEUED, "the breaker holds a small installation"
                asks[company] = answer.until
        assert len(ends) <= max(POLICY.opening_at_once, known.rate.per_s * min(known.rate.fastest_s, 20) * 2)
        assert known.opening.keys() == ends.keys()
    rounds = count / POLICY.opening_at_once + 1
    assert now <= heals_at + 60 + 2 * retry_s + rounds * (login_s + 1) + count / POLICY.rate.floor + 20


def test_the_limit_is_that_of_the_policy() -> None:
    """The default is twenty, as the documents say."""
    assert connect_limiter.LimiterPolicy().opening_at_once == 20


def test_an_updated_client_is_probed_at_once_and_by_one() -> None:
    """Only the first waiting session is woken; while its probe is in progress no other may connect."""
    outdated = connect_limiter.OpenBreaker(reason=BY_CODE[405], probe_at=1300)
    held = connect_limiter.Limiter(waiting=("a", "b"), breaker=outdated)
    hurried, wakes = connect_limiter.hurry(held, now=1000, policy=POLICY)
    assert wakes == (("a", 1000),)
    assert hurried.breaker is not None
    assert hurried.breaker.probe_at == 1000
    probing = connect_limiter.Limiter(waiting=("b",), breaker=replace(outdated, prober="a"))
    assert connect_limiter.hurry(probing, now=1000, policy=POLICY) == (probing, ())
    assert connect_limiter.hurry(connect_limiter.Limiter(), now=1000, policy=POLICY) == (connect_limiter.Limiter(), ())


# Priority and rate.


def test_sessions_with_messages_go_first() -> None:
    """They are let through before all that have none, in the order in which they asked; a session that gets a message
    while it waits moves up."""
    known, _ = asked(Limiter(), "a", "b", "c", "d", policy=SMALL)
    for company in ("e", "f", "d", "e"):
        known, _ = ask(known, company, now=NOW, policy=SMALL, urgent=True)
    assert known.waiting == ("e", "f", "d", "c")
    known, wakes = opened(known, "a", now=NOW, policy=SMALL)
    assert wakes == (("e", NOW),)
    assert known.urgent == {"f", "d"}


def test_more_may_be_opening_where_logins_take_long() -> None:
    """At a rate of forty a second and logins of a second, eighty links may be opening."""
    slow = replace(Limiter(), rate=Rate(per_s=40, fastest_s=1, used_at=NOW))
    assert len(asked(slow, *(f"{number:02}" for number in range(100)))[0].waiting) == 20


def test_promises_of_a_slow_time_are_replaced_when_whatsapp_is_back() -> None:
    """Links that were scheduled at the floor of the rate start at once when the first login succeeds."""
    away = replace(Limiter(), rate=Rate(per_s=4, used_at=NOW, unreachable=True), next_at=NOW)
    known, _ = asked(away, *(f"{number:02}" for number in range(12)))
    assert max(known.reserved.values()) > NOW + 2
    known, wakes = opened(known, "00", now=NOW + 0.1, policy=POLICY)
    assert {company for company, _ in wakes} == {f"{number:02}" for number in range(3, 12)}
    assert max(at for _, at in wakes) <= NOW + 0.1 + 0.05


@pytest.mark.parametrize(
    ("reason", "was_open", "rate", "unreachable"),
    [
        (BY_CODE[503], False, 10, False),
        (BY_CODE[429], True, 10, False),
        (BY_CODE[503], True, 20, False),
        (reasons.LOGIN_TIMEOUT, False, 10, False),
        (BY_CODE[408], False, 10, True),
        (BY_CODE[428], True, 20, False),
        (BY_CODE[401], False, 20, False),
        (BY_CODE[440], False, 20, False),
        (None, False, 20, False),
    ],
)
def test_how_the_end_of_a_link_changes_the_rate(
    reason: reasons.Reason | None, was_open: bool, rate: float, unreachable: bool
) -> None:
    """Refusals that may be due to load halve it, and so does an unreachable WhatsApp; problems of one session don't."""
    known, _ = asked(Limiter(), "a")
    known, _ = ended(known, "a", reason, was_open=was_open, now=NOW + 0.5, policy=POLICY)
    assert (known.rate.per_s, known.rate.unreachable) == (rate, unreachable)


def test_a_late_session_lowers_the_rate() -> None:
    """A session that starts its link long after its reserved time shows that this process has too much to do."""
    known, _ = asked(Limiter(), *(f"{number:02}" for number in range(13)))
    assert asked(known, "12", now=NOW + 0.2)[0].rate.per_s == 20
    assert asked(known, "12", now=NOW + 1)[0].rate.per_s == pytest.approx(14)
