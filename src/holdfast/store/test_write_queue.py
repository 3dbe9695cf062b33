"""Fair queueing of writes between companies."""

from __future__ import annotations

import math
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from holdfast.store.write_queue import LONGEST_REST_S, MAX_BURST_WRITES, MAX_GROUP, WriteQueue

BUSY, OTHER = "962302", "962303"


def queue_with(now: float = 100, **counts: int) -> WriteQueue[tuple[str, int]]:
    """A queue with that many writes of each company."""
    queue: WriteQueue[tuple[str, int]] = WriteQueue()
    for company, count in counts.items():
        for n in range(count):
            queue.add((company, n), company, now)
    return queue


def test_a_company_that_writes_alone_is_not_limited() -> None:
    """All waiting writes are one group, up to the general limit, in order, and no pause follows."""
    queue = queue_with(busy=MAX_GROUP + 1)
    first = queue.take(100)
    assert first.writes == [("busy", n) for n in range(MAX_GROUP)]
    queue.committed(first, took_s=1, now=101)
    assert queue.take(101).writes == [("busy", MAX_GROUP)]
    assert queue.take(101).next_at is None


def test_companies_that_write_alike_are_not_limited() -> None:
    """Neither company makes many more writes than the other."""
    queue = queue_with(one=60, two=60)
    assert len(queue.take(100).writes) == 120


def test_a_few_writes_are_no_burst() -> None:
    """Even if it makes most of all writes."""
    queue = queue_with(one=40, two=1)
    assert queue.take(100).bursting == []


def test_a_burst_gets_small_groups_and_rests_between_them() -> None:
    """Each rest is four times as long as the group took, so that most of the time is left for the other companies."""
    queue = queue_with(busy=60, other=1)
    first = queue.take(100)
    assert [name for name, _ in first.writes] == ["other"] + ["busy"] * MAX_BURST_WRITES
    queue.committed(first, took_s=0.02, now=100.02)
    resting = queue.take(100.03)
    assert resting.writes == []
    assert resting.next_at is not None
    assert math.isclose(resting.next_at, 100.10)
    assert len(queue.take(resting.next_at).writes) == MAX_BURST_WRITES


def test_two_bursts_at_once_are_both_limited() -> None:
    """Others are committed with the first small group, however much both have waiting."""
    queue = queue_with(one=600, two=600, other=1)
    group = queue.take(100)
    assert len(group.writes) == 2 * MAX_BURST_WRITES + 1
    assert ("other", 0) in group.writes
    queue.committed(group, took_s=0.02, now=100.02)
    resting = queue.take(100.03)
    assert resting.writes == []
    assert resting.next_at is not None
    assert math.isclose(resting.next_at, 100.10)


def test_the_fewest_writes_come_first_in_a_group() -> None:
    """Companies with similar write rates may fill a group; one with few writes is in it all the same."""
    queue = queue_with(one=MAX_GROUP, two=MAX_GROUP, three=MAX_GROUP, four=1)
    queue.take(100)
    assert "four" not in queue.companies


def test_a_write_of_another_company_does_not_wait_for_a_burst() -> None:
    """While the bursting company is paused, the writes of others are committed at once, in groups of their own."""
    queue = queue_with(busy=60, other=1)
    queue.committed(queue.take(100), took_s=0.02, now=100.02)
    queue.add(("other", 1), "other", 100.03)
    group = queue.take(100.03)
    assert (group.writes, group.bursting) == ([("other", 1)], [])


def test_a_rest_is_bounded() -> None:
    """After a disk hung for seconds, the pause is not as long."""
    queue = queue_with(busy=200, other=1)
    queue.committed(queue.take(100), took_s=30, now=100.5)
    assert queue.take(100.5).next_at == 100.5 + LONGEST_REST_S


def test_a_burst_gets_all_of_the_time_when_the_others_are_idle() -> None:
    """About a second after their last write."""
    queue = queue_with(busy=60, other=1)
    queue.committed(queue.take(100), took_s=0.02, now=100.02)
    for n in range(60, 90):
        queue.add(("busy", n), "busy", 102)
    assert len(queue.take(102).writes) == 60 - MAX_BURST_WRITES + 30


def test_writes_of_no_company_never_rest() -> None:
    """They are few, and many of them concern every company."""
    queue: WriteQueue[int] = WriteQueue()
    queue.add(0, OTHER, 100)
    for n in range(1, 60):
        queue.add(n, None, 100)
    group = queue.take(100)
    assert (len(group.writes), group.bursting) == (60, [])


def test_a_company_need_not_leave_room_for_writes_of_no_company() -> None:
    """Background work, such as the record of a session, would halve the speed of a company that is alone."""
    queue = queue_with(busy=60)
    queue.add(("none", 0), None, 100)
    group = queue.take(100)
    assert (len(group.writes), group.bursting) == (61, [])


def test_companies_with_waiting_writes_are_known() -> None:
    """They are forgotten some time after their last write."""
    queue = queue_with(busy=1, other=1)
    assert set(queue.companies) == {"busy", "other"}
    queue.take(100)
    assert not queue.companies
    assert queue.take(110).writes == []


@given(st.lists(st.tuples(st.sampled_from([BUSY, BUSY, BUSY, OTHER, None]), st.integers(0, 30)), max_size=120))
def test_every_write_is_committed_once_and_in_the_order_of_its_company(steps: list[tuple[str | None, int]]) -> None:
    """Whatever is added, and whenever groups are taken."""
    queue: WriteQueue[tuple[str | None, int]] = WriteQueue()
    added: dict[str | None, list[int]] = defaultdict(list)
    taken: dict[str | None, list[int]] = defaultdict(list)
    now = 100.0

    def commit_one(now: float) -> float:
        group = queue.take(now)
        for company, n in group.writes:
            taken[company].append(n)
        queue.committed(group, took_s=0.01, now=now + 0.01)
        return now + 0.01 if group.next_at is None else group.next_at

    for n, (company, ms) in enumerate(steps):
        queue.add((company, n), company, now)
        added[company].append(n)
        now += ms / 1000
        if ms % 3 == 0:
            commit_one(now)
    while queue.companies:
        now = commit_one(now)
    assert taken == added
