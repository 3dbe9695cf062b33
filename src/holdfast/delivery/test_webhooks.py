"""How deliveries and endpoints change with each attempt, and which deliveries may be sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.delivery.webhooks import (
    OF_ALL,
    RETRY_DELAYS_S,
    Attempt,
    AttemptOutcome,
    Delivered,
    Endpoint,
    EndpointHealth,
    EndpointState,
    GivenUp,
    Head,
    Lanes,
    RetryAfter,
    endpoint_id,
    endpoint_of,
    health_after,
    judge,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BAD, SILENT, GONE = Attempt(status=500), Attempt(status=None, error="no answer"), Attempt(status=410)
ANYTHING = st.sampled_from([Attempt(status=200), Attempt(status=204), BAD, SILENT, GONE, Attempt(status=302)])


def judged(attempt: Attempt, *, attempts: int = 1, is_probe: bool = False, jitter: float = 0) -> AttemptOutcome:
    return judge(attempt, attempts=attempts, is_probe=is_probe, jitter=jitter)


# One attempt.


@pytest.mark.parametrize(
    ("status", "is_accepted"), [(199, False), (200, True), (299, True), (300, False), (None, False)]
)
def test_only_2xx_counts_as_accepted(status: int | None, is_accepted: bool) -> None:
    """A redirect or no response is a failure."""
    assert (judged(Attempt(status=status)) == Delivered()) is is_accepted


def test_a_delivery_is_tried_twelve_times_over_three_days() -> None:
    """Each pause is longer than the one before, plus some jitter."""
    pauses = [judged(BAD, attempts=attempts) for attempts in range(1, 14)]
    assert pauses == [*(RetryAfter(delay_s) for delay_s in RETRY_DELAYS_S), GivenUp(), GivenUp()]
    assert list(RETRY_DELAYS_S) == sorted(RETRY_DELAYS_S)
    assert timedelta(days=3) < timedelta(seconds=sum(RETRY_DELAYS_S)) < timedelta(days=4)
    assert judged(BAD, attempts=2, jitter=1) == RetryAfter(33)


@pytest.mark.parametrize(
    ("status", "asked_s", "delay_s"),
    [(429, 60.0, 60), (503, 60.0, 60), (500, 60.0, 5), (429, 1.0, 5), (503, None, 5), (429, 1e9, 86_400)],
)
def test_a_receiver_may_ask_for_time(status: int, asked_s: float | None, delay_s: float) -> None:
    """`Retry-After` counts with 429 and 503: never less than the schedule's pause, and a day at most."""
    assert judged(Attempt(status=status, retry_after_s=asked_s)) == RetryAfter(delay_s)


def test_no_probe_and_no_410_uses_up_a_delivery() -> None:
    """The endpoint has the problem, and its state decides when the next attempt is made."""
    assert judged(BAD, attempts=99, is_probe=True) == RetryAfter(0)
    assert judged(GONE, attempts=99) == RetryAfter(0)
    assert judged(Attempt(status=200), attempts=99, is_probe=True) == Delivered()


# An endpoint.


def after(*tries: tuple[float, Attempt], health: EndpointHealth | None = None) -> EndpointHealth:
    """The health of an endpoint after attempts at these seconds."""
    known = health or EndpointHealth()
    for at_s, attempt in tries:
        known = health_after(known, attempt, now=NOW + timedelta(seconds=at_s), jitter=0)
    return known


def test_an_endpoint_is_suspended_after_many_failures_over_a_while() -> None:
    """Neither many failures at once nor a few over a long time are enough; one success resets the count."""
    assert after(*[(1, BAD)] * 50).state is EndpointState.ACTIVE
    assert after(*[(at, SILENT) for at in (0, 1000, 2000, 3000)]).state is EndpointState.ACTIVE
    assert after(*[(at, BAD) for at in (0, 1, 2, 3, 299)]).state is EndpointState.ACTIVE
    suspended = after(*[(at, BAD) for at in (0, 1, 2, 3, 300)])
    assert (suspended.state, suspended.failures, suspended.failing_since) == (EndpointState.SUSPENDED, 5, NOW)
    assert after((400, Attempt(status=200)), health=suspended) == EndpointHealth()


def test_probes_have_growing_intervals_up_to_an_hour() -> None:
    """A minute, two, four … after each failed probe; attempts that began before the endpoint was suspended do not
    count."""
    known, pauses = after(*[(at, BAD) for at in (0, 1, 2, 3, 300)]), list[float]()
    at = NOW + timedelta(seconds=300)
    for _ in range(9):
        assert known.probe_at is not None
        pauses.append((known.probe_at - at).total_seconds())
        late = health_after(known, BAD, now=at + timedelta(seconds=1), jitter=0)
        assert (late.probe_at, late.probes) == (known.probe_at, known.probes)
        at = known.probe_at
        known = health_after(known, BAD, now=at, jitter=0)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_410_switches_off_until_a_person_resumes() -> None:
    """This holds in every state, and for responses that arrive later."""
    suspended = after(*[(at, BAD) for at in (0, 1, 2, 3, 300)])
    for before in (EndpointHealth(), suspended):
        off = after((400, GONE), health=before)
        assert off.state is EndpointState.OFF
        assert after((401, Attempt(status=200)), (402, BAD), health=off) == off


@given(st.lists(st.tuples(st.floats(0, 4000), ANYTHING), max_size=40))
def test_a_suspended_endpoint_has_a_time_for_its_probe(tries: list[tuple[float, Attempt]]) -> None:
    """In any history it has one, so it can recover without a person."""
    known, at_s = EndpointHealth(), 0.0
    for delay_s, attempt in tries:
        at_s += delay_s
        known = after((at_s, attempt), health=known)
        assert (known.probe_at is not None) is (known.state is EndpointState.SUSPENDED)
        assert (known.failures > 0) is (known.failing_since is not None)


def endpoint(company: str, url: str | None = "https://crm.example") -> Endpoint:
    return Endpoint(
        id=endpoint_id(company), company=company, url=url, secret=None, events=None, health=EndpointHealth()
    )


def test_a_company_uses_its_own_endpoint_or_that_of_all() -> None:
    """An endpoint without a URL does not count."""
    own, default = endpoint("962302"), endpoint(OF_ALL)
    assert endpoint_of("962302", [default, own]) is own
    assert endpoint_of("962303", [default, own]) is default
    assert endpoint_of("962303", [endpoint(OF_ALL, url=None), own]) is None
    assert len({each.id for each in (own, default)}) == 2


# Which deliveries may be sent.


def head(seq: int, *, company: str = "c", chat: str = "a", to: str = "default", is_probe: bool = False) -> Head:
    return Head(seq=seq, company=company, chat=chat, attempts=0, endpoint=to, is_probe=is_probe)


def test_one_of_a_chat_is_under_way_and_others_go_past_it() -> None:
    """This holds also when a replay makes an earlier one pending again."""
    lanes = Lanes()
    lanes.add([head(2), head(1), head(3, chat="b"), head(4, company="d")])
    first = list(lanes.take({"c", "d"}))
    assert [each.seq for each in first] == [2, 3, 4]
    lanes.end(first[0])
    assert [each.seq for each in lanes.take({"c", "d"})] == [1]


def test_a_slow_endpoint_uses_only_its_share() -> None:
    """Deliveries to other endpoints are sent in the meantime."""
    lanes = Lanes(limit=3, limit_per_endpoint=2)
    lanes.add([head(n, chat=f"{n}", to="slow") for n in range(5)] + [head(9, chat="9")])
    assert [each.seq for each in lanes.take({"c"})] == [0, 1, 9]
    assert not lanes.has_room
    assert (lanes.used_endpoints, lanes.waiting) == ({"slow", "default"}, 3)
    assert set(lanes.known) == {0, 1, 2, 3, 4, 9}


def test_several_slow_endpoints_leave_room_for_others() -> None:
    """Four receivers that take long to answer: a delivery to a fifth one is sent at once, and to a sixth."""
    lanes = Lanes()
    slow = [head(n, chat=f"{n}", to=f"slow {n % 4}") for n in range(100)]
    lanes.add(slow)
    under_way = list(lanes.take({"c"}))
    assert len(under_way) >= 24
    assert lanes.busy_endpoints == {f"slow {n}" for n in range(4)}
    for n in range(100, 102):
        lanes.add([head(n, company="d", chat=f"{n}", to=f"fast {n}")])
        assert [each.seq for each in lanes.take({"c", "d"})] == [n]


def test_a_probe_is_the_only_delivery_in_flight() -> None:
    """A delivery in flight to its endpoint is a probe already."""
    lanes = Lanes()
    lanes.add([head(1), head(2, chat="b", is_probe=True)])
    assert [each.seq for each in lanes.take({"c"})] == [1]
    assert lanes.waiting == 0


def test_deliveries_of_sessions_that_moved_are_discarded() -> None:
    """A delivery that is loaded already is not added twice."""
    lanes = Lanes()
    lanes.add([head(1), head(2, company="d", chat="b")])
    assert [each.seq for each in lanes.take({"c"})] == [1]
    lanes.add([head(1), head(3, chat="z")])
    assert set(lanes.known) == {1, 3}
    lanes.forget_waiting()
    assert set(lanes.known) == {1}


@given(st.data())
def test_the_limits_hold_in_any_history(data: st.DataObject) -> None:
    """Never two of one chat in flight, never more than the limits; and whatever may be sent is sent."""
    lanes, under_way = Lanes(limit=4, limit_per_endpoint=2), list[Head]()
    heads = st.builds(
        head, st.integers(0, 30), company=st.sampled_from("cd"), chat=st.sampled_from("abc"), to=st.sampled_from("xyz")
    )
    for _ in range(data.draw(st.integers(1, 20))):
        lanes.add(data.draw(st.lists(heads, max_size=6)))
        under_way += lanes.take({"c", "d"})
        assert len(under_way) <= 4
        assert len({each.lane for each in under_way}) == len(under_way)
        assert all(count <= 2 for count in Counter(each.endpoint for each in under_way).values())
        assert list(lanes.take({"c", "d"})) == []
        if under_way:
            lanes.end(under_way.pop(data.draw(st.integers(0, len(under_way) - 1))))
    for each in under_way:
        lanes.end(each)
    while taken := list(lanes.take({"c", "d"})):
        for each in taken:
            lanes.end(each)
    assert lanes.waiting == 0


def test_a_head_is_known_by_its_chat_within_its_company() -> None:
    """The same person may write to two companies."""
    assert head(1).lane != replace(head(1), company="d").lane
