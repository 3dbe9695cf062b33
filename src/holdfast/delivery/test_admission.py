"""Known chats pass; strangers wait for paces, the daily limit and WhatsApp's lock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.delivery.admission import DAILY_LIMIT, REACH_OUT_LOCK, Admission, Hold
from holdfast.delivery.chats import Entry
from holdfast.delivery.pacing import Pace, Pacing, pacing_with

DAY_S = 86_400.0
FREE = Pace(per_minute=0, burst=1)
UNPACED = Pacing(every=FREE, bulk=FREE, new=FREE, new_per_day=0)


def entry(chat: str = "a", *, is_bulk: bool = False) -> Entry:
    return Entry(seq=1, id="msg_1", whatsapp_id="W1", chat=chat, is_bulk=is_bulk)


def admission(pacing: Pacing = UNPACED, *, known: str = "", jitter: float = 0.0) -> Admission:
    made = Admission(pacing, jitter=lambda: jitter)
    made.know(known)
    return made


def admitted(made: Admission, chats: str, *, now: float = 0.0, is_bulk: bool = False) -> str:
    """Those of the chats to which a message may leave, one after the other."""
    made.begin()
    return "".join(chat for chat in chats if made.admit(entry(chat, is_bulk=is_bulk), now))


def test_without_limits_everything_leaves() -> None:
    """To strangers as well."""
    assert admitted(admission(), "abcabc") == "abcabc"


def test_a_lock_lets_known_chats_and_groups_pass_until_its_end() -> None:
    """And says what holds the others, and when it is worth another look."""
    made = admission(known="a")
    made.lock(60)
    assert admitted(made, "ab") == "a"
    assert made.wakes_at == 60
    assert made.hold(0) == Hold(REACH_OUT_LOCK, 60)
    assert made.admit(entry("1234@g.us"), 0)
    assert admitted(made, "ab", now=60) == "ab"
    assert made.hold(60) is None


def test_an_ack_makes_a_chat_known() -> None:
    """From then on a lock does not concern it."""
    made = admission()
    made.acked("b", 0)
    made.lock(60)
    assert admitted(made, "abc") == "b"


def test_so_many_strangers_a_day() -> None:
    """One on its way counts; one that failed does not; the place is free when the first is a day ago."""
    made = admission(Pacing(every=FREE, bulk=FREE, new=FREE, new_per_day=2), known="k")
    assert admitted(made, "abck") == "abk"
    made.failed("b")
    assert admitted(made, "ck", now=10) == "ck"
    made.acked("a", 20)
    made.acked("c", 30)
    assert made.hold(40) == Hold(DAILY_LIMIT, 20 + DAY_S)
    assert admitted(made, "ad", now=40) == "a"
    assert made.wakes_at == 20 + DAY_S
    assert admitted(made, "de", now=20 + DAY_S) == "d"


def test_a_second_try_to_the_same_stranger_is_no_second_stranger() -> None:
    """A link that died between leaves the place taken once."""
    made = admission(Pacing(every=FREE, bulk=FREE, new=FREE, new_per_day=1))
    assert admitted(made, "aab") == "aa"


def test_what_was_counted_before_a_restart_counts() -> None:
    """First contacts of the last day come from the store."""
    made = admission(Pacing(every=FREE, bulk=FREE, new=FREE, new_per_day=2))
    made.first_contacts([-DAY_S, -100.0])
    assert admitted(made, "ab") == "a"


@pytest.mark.parametrize(
    ("pacing", "is_bulk", "leaving"),
    [
        (Pacing(every=Pace(per_minute=60, burst=2), bulk=FREE, new=FREE, new_per_day=0), False, "kl"),
        (Pacing(every=FREE, bulk=Pace(per_minute=60, burst=2), new=FREE, new_per_day=0), False, "klabc"),
        (Pacing(every=FREE, bulk=Pace(per_minute=60, burst=2), new=FREE, new_per_day=0), True, "kl"),
        (Pacing(every=FREE, bulk=FREE, new=Pace(per_minute=60, burst=2), new_per_day=0), False, "klab"),
    ],
)
def test_each_pace_counts_its_own_messages(pacing: Pacing, is_bulk: bool, leaving: str) -> None:
    """All, bulk, strangers; `k` and `l` are known. A second later there is room for one more."""
    made = admission(pacing, known="kl")
    assert admitted(made, "klabc", is_bulk=is_bulk) == leaving
    assert made.wakes_at == (None if leaving == "klabc" else 1)


def test_messages_keep_a_gap_of_chance() -> None:
    """The least gap, and up to as much again."""
    made = admission(Pacing(every=FREE, bulk=FREE, new=FREE, new_per_day=0, gap_ms=1000), jitter=0.5)
    assert admitted(made, "ab") == "a"
    assert (made.wakes_at, made.is_open(1.4), made.is_open(1.5)) == (1.5, False, True)


def test_other_limits_count_at_once_and_equal_ones_keep_what_was_used() -> None:
    """Setting the same pacing again gives no fresh burst."""
    pacing = Pacing(every=Pace(per_minute=60, burst=1), bulk=FREE, new=FREE, new_per_day=0)
    made = admission(pacing)
    assert admitted(made, "ab") == "a"
    made.set_pacing(pacing)
    assert admitted(made, "b") == ""
    made.set_pacing(UNPACED)
    assert admitted(made, "b") == "b"


def test_after_a_ban_everything_is_slower() -> None:
    """Whatever was set, and never faster than that."""
    assert Pacing().tightened.every == Pace(per_minute=20, burst=5)
    slow = Pacing(every=Pace(per_minute=3, burst=1), new_per_day=5)
    assert (slow.tightened.every, slow.tightened.new_per_day) == (Pace(per_minute=3, burst=1), 5)
    assert Pacing(new_per_day=0).tightened.new_per_day == 20


@given(st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=200), st.integers(1, 10))
def test_no_minute_sees_more_than_burst_and_rate(gaps: list[float], burst: int) -> None:
    """Whenever messages are offered: within any window of a minute, at most burst + a minute's worth leave."""
    made = admission(Pacing(every=Pace(per_minute=30, burst=burst), bulk=FREE, new=FREE, new_per_day=0), known="a")
    now, left = 0.0, []
    for gap in gaps:
        now += gap
        if made.admit(entry("a"), now):
            left.append(now)
    for moment in left:
        assert sum(moment <= each < moment + 60 for each in left) <= burst + 31


def test_a_pace_is_set_figure_by_figure() -> None:
    """Those that are not named stay."""
    pacing = pacing_with(Pacing(), {"perMinute": 30, "newPerDay": 5, "gapMs": 100, "bulkBurst": None})
    assert pacing == Pacing(every=Pace(per_minute=30, burst=50), new_per_day=5, gap_ms=100)


def test_what_is_held_as_new_is_told_without_being_admitted() -> None:
    """The lock holds every stranger; the daily limit lets those pass to whom a message is on its way."""
    made = admission(Pacing(every=FREE, bulk=FREE, new=FREE, new_per_day=1), known="k")
    assert admitted(made, "a") == "a"
    assert [made.holds(entry(chat), 0) for chat in "akb"] == [False, False, True]
    made.lock(60)
    assert [made.holds(entry(chat), 0) for chat in "akb"] == [True, False, True]
