"""Known chats are unlimited; new contacts wait for paces, the daily limit and WhatsApp's locks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.delivery.rate_limits import (
    DAILY_LIMIT,
    NEW_CHAT_QUOTA,
    REACH_OUT_LOCK,
    Allowance,
    ContactStatus,
    Hold,
    Pace,
    Pacing,
    RateLimits,
    pacing_with,
)

DAY_S = 86_400.0
FREE = Pace(per_minute=0, burst=1)
UNPACED = Pacing(every=FREE, bulk=FREE, new=FREE, new_per_day=0)
KNOWN, APPROACHED, NEW = ContactStatus


def limits(pacing: Pacing = UNPACED, *, jitter: float = 0.0) -> RateLimits:
    return RateLimits(pacing, jitter=lambda: jitter)


def daily(limit: int) -> Pacing:
    return Pacing(every=FREE, bulk=FREE, new=FREE, new_per_day=limit)


def test_without_limits_there_is_as_much_as_there_is_room() -> None:
    """This includes new contacts."""
    expected = Allowance(total=20, bulk=20, new=20, approached=20, more_at=None)
    assert limits().allowance(0, room=20) == expected


def test_a_lock_holds_all_but_known_chats_until_its_end() -> None:
    """It reports what holds the other messages, and when to look again."""
    made = limits()
    made.lock(REACH_OUT_LOCK, 60)
    assert made.allowance(0, room=9) == Allowance(total=9, bulk=9, new=0, approached=0, more_at=60)
    assert made.hold(0) == Hold(code=REACH_OUT_LOCK, until=60)
    assert (made.allowance(60, room=9).new, made.hold(60)) == (9, None)


def test_the_longest_lock_is_reported() -> None:
    """Lifting one lock leaves the other in force."""
    made = limits()
    made.lock(REACH_OUT_LOCK, 60)
    made.lock(NEW_CHAT_QUOTA, 90)
    assert made.hold(0) == Hold(code=NEW_CHAT_QUOTA, until=90)
    made.lock(NEW_CHAT_QUOTA, 0)
    assert made.hold(0) == Hold(code=REACH_OUT_LOCK, until=60)


def test_so_many_new_contacts_a_day() -> None:
    """A pending first message counts, a failed one does not; a place is free again after a day."""
    made = limits(daily(2))
    for chat in "ab":
        made.spend(chat, NEW, is_bulk=False, now=0)
    assert (made.allowance(0, room=9).new, made.allowance(0, room=9).approached) == (0, 9)
    made.forget("b")
    assert made.allowance(10, room=9).new == 1
    made.spend("c", NEW, is_bulk=False, now=10)
    made.acked("a", APPROACHED, 20)
    made.acked("c", APPROACHED, 30)
    made.acked("k", KNOWN, 30)
    assert made.hold(40) == Hold(code=DAILY_LIMIT, until=20 + DAY_S)
    assert made.allowance(40, room=9) == Allowance(total=9, bulk=9, new=0, approached=9, more_at=20 + DAY_S)
    assert made.allowance(20 + DAY_S, room=9).new == 1


def test_counts_from_before_a_restart_apply() -> None:
    """The store provides the first contacts of the last day and the chats that were tried."""
    made = limits(daily(3))
    made.restore(first_contacts=[-DAY_S, -100.0], approached=["a"])
    assert made.allowance(0, room=9).new == 1
    made.spend("a", APPROACHED, is_bulk=False, now=0)
    assert made.allowance(0, room=9).new == 1, "a second attempt is not a second contact"


@pytest.mark.parametrize(
    ("pacing", "contact", "is_bulk", "left"),
    [
        (Pacing(every=Pace(per_minute=60, burst=2), bulk=FREE, new=FREE, new_per_day=0), KNOWN, False, (0, 0, 0)),
        (Pacing(every=FREE, bulk=Pace(per_minute=60, burst=2), new=FREE, new_per_day=0), KNOWN, False, (9, 2, 9)),
        (Pacing(every=FREE, bulk=Pace(per_minute=60, burst=2), new=FREE, new_per_day=0), KNOWN, True, (9, 0, 9)),
        (Pacing(every=FREE, bulk=FREE, new=Pace(per_minute=60, burst=2), new_per_day=0), KNOWN, False, (9, 9, 2)),
        (Pacing(every=FREE, bulk=FREE, new=Pace(per_minute=60, burst=2), new_per_day=0), NEW, False, (9, 9, 0)),
    ],
)
def test_each_pace_counts_its_own_messages(
    pacing: Pacing, contact: ContactStatus, is_bulk: bool, left: tuple[int, int, int]
) -> None:
    """Limits for all messages, for bulk and for new contacts. A second later one more may be sent."""
    made = limits(pacing)
    for chat in "ab":
        made.spend(chat, contact, is_bulk=is_bulk, now=0)
    found = made.allowance(0, room=9)
    assert (found.total, found.bulk, found.new) == left
    assert found.more_at == (1 if 0 in left else None)
    later = made.allowance(1, room=9)
    assert min(later.total, later.bulk, later.new) >= 1


def test_messages_have_a_random_minimum_gap() -> None:
    """The minimum gap, plus up to as much again; one message at a time."""
    made = limits(Pacing(every=FREE, bulk=FREE, new=FREE, new_per_day=0, gap_ms=1000), jitter=0.5)
    assert made.allowance(0, room=9).total == 1
    made.spend("a", KNOWN, is_bulk=False, now=0)
    assert [(each.total, each.more_at) for each in (made.allowance(at, room=9) for at in (0, 1.4, 1.5))] == [
        (0, 1.5),
        (0, 1.5),
        (1, None),
    ]


def test_changed_limits_apply_at_once_and_equal_ones_change_nothing() -> None:
    """Setting the same pacing again gives no new burst."""
    pacing = Pacing(every=Pace(per_minute=60, burst=1), bulk=FREE, new=FREE, new_per_day=0)
    made = limits(pacing)
    made.spend("a", KNOWN, is_bulk=False, now=0)
    made.set_pacing(pacing)
    assert made.allowance(0, room=9).total == 0
    made.set_pacing(UNPACED)
    assert made.allowance(0, room=9).total == 9


def test_after_a_ban_everything_is_slower() -> None:
    """The slower limits apply whatever was configured, and a slower configured limit stays."""
    assert Pacing().tightened.every == Pace(per_minute=20, burst=5)
    slow = Pacing(every=Pace(per_minute=3, burst=1), new_per_day=5)
    assert (slow.tightened.every, slow.tightened.new_per_day) == (Pace(per_minute=3, burst=1), 5)
    assert Pacing(new_per_day=0).tightened.new_per_day == 20


@given(st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=200), st.integers(1, 10))
def test_no_minute_sees_more_than_burst_and_rate(gaps: list[float], burst: int) -> None:
    """Whenever messages are offered, at most the burst plus the rate of one minute are sent within any minute."""
    made = limits(Pacing(every=Pace(per_minute=30, burst=burst), bulk=FREE, new=FREE, new_per_day=0))
    now, left = 0.0, []
    for gap in gaps:
        now += gap
        if made.allowance(now, room=1).total:
            made.spend("a", KNOWN, is_bulk=False, now=now)
            left.append(now)
    for moment in left:
        assert sum(moment <= each < moment + 60 for each in left) <= burst + 31


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(ContactStatus), st.booleans()), max_size=40),
    st.integers(0, 3),
)
def test_no_allowance_is_larger_than_the_whole(sent: list[tuple[str, ContactStatus, bool]], limit: int) -> None:
    """The allowance of a kind is neither above the total nor negative."""
    made = limits(Pacing(every=Pace(per_minute=5, burst=9), new_per_day=limit))
    for now, (chat, contact, is_bulk) in enumerate(sent):
        made.spend(chat, contact, is_bulk=is_bulk, now=float(now))
        found = made.allowance(float(now), room=5)
        assert 0 <= max(found.bulk, found.new, found.approached) <= found.total <= 5 or found.total <= 0


def test_a_pace_is_set_figure_by_figure() -> None:
    """Figures that are not named stay as they are."""
    pacing = pacing_with(Pacing(), {"perMinute": 30, "newPerDay": 5, "gapMs": 100, "bulkBurst": None})
    assert pacing == Pacing(every=Pace(per_minute=30, burst=50), new_per_day=5, gap_ms=100)
