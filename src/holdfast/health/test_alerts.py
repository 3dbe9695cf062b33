"""The alert book, by literal times."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.health.alerts import Alert, AlertKind, AlertPolicy, Book, UnreadableBook, dump, load, update
from holdfast.health.conditions import Condition, Severity

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
POLICY = AlertPolicy()
HOUR_S = 3600


def trouble(company: str | None = "962302", cause: str = "not-connected", **changes: object) -> Condition:
    condition = Condition(
        company=company,
        cause=cause,
        severity=Severity.CRITICAL,
        title="not connected",
        sentence="Not connected for 5 min, after 7 attempts, because the connection was closed (428).",
        action="wait",
    )
    return replace(condition, **changes)  # type: ignore[arg-type]  # fields of Condition, which `replace` checks


def many(*numbers: int) -> list[Condition]:
    return [trouble(f"c{number}") for number in numbers]


class Diary:
    """A book over time; `after` advances the clock and returns the alerts to send."""

    def __init__(self) -> None:
        self.now = NOON
        self.book = Book()

    def after(self, seconds: float, *conditions: Condition) -> list[tuple[AlertKind, tuple[str, ...]]]:
        return [(alert.kind, alert.companies) for alert in self.alerts(seconds, conditions)]

    def alerts(self, seconds: float, conditions: Iterable[Condition]) -> tuple[Alert, ...]:
        self.now += timedelta(seconds=seconds)
        self.book, alerts = update(load(dump(self.book)), list(conditions), now=self.now, policy=POLICY)
        return alerts


RAISED, REMINDED, GREW, CLEARED = AlertKind.RAISED, AlertKind.REMINDED, AlertKind.GREW, AlertKind.CLEARED
ME = ("962302",)


def test_a_problem_raises_one_alert_and_one_all_clear() -> None:
    """One alert, none while the problem persists, and one all-clear after two minutes without it."""
    diary = Diary()
    assert diary.after(0, trouble()) == [(RAISED, ME)]
    assert [diary.after(30, trouble()) for _ in range(20)] == [[]] * 20
    assert diary.after(30) == []
    assert diary.after(119) == []
    assert diary.after(1) == [(CLEARED, ME)]
    assert (diary.book.open_problems, diary.after(HOUR_S)) == ((), [])


def test_an_alert_knows_since_when() -> None:
    """The alert is sent after five minutes, but says that the problem began earlier."""
    diary = Diary()
    (raised,) = diary.alerts(0, [trouble(lasting_s=300)])
    diary.alerts(600, [])
    (cleared,) = diary.alerts(120, [])
    assert raised.since == cleared.since == NOON - timedelta(minutes=5)
    assert (raised.at, cleared.at) == (NOON, NOON + timedelta(minutes=12))


def test_a_clock_that_was_set_back_delays_neither_reminders_nor_the_all_clear() -> None:
    """Times of the book that are now in the future count as just now, those of digests, too."""
    diary, back_s = Diary(), -400 * 24 * HOUR_S
    diary.after(0, trouble(), *many(1, 2, 3, 4))
    assert diary.after(back_s, trouble(), *many(1, 2, 3, 4)) == []
    assert [kind for kind, _ in diary.after(4 * HOUR_S, trouble(), *many(1, 2, 3, 4))] == [REMINDED]
    diary.after(1)
    assert diary.after(back_s) == []
    assert [kind for kind, _ in diary.after(120)] == [CLEARED]
    assert diary.after(back_s) == []
    assert diary.after(25 * HOUR_S) == []
    assert diary.book == Book()


def test_a_condition_of_the_whole_installation_names_no_company() -> None:
    """An unavailable Redis concerns no single company."""
    diary = Diary()
    assert diary.after(0, trouble(None, "redis-unavailable")) == [(RAISED, ())]
    diary.after(30)
    assert diary.after(120) == [(CLEARED, ())]


def test_companies_and_causes_are_distinguished() -> None:
    """Another company, or another cause of the same company, is another alert."""
    diary = Diary()
    assert diary.after(0, trouble()) == [(RAISED, ME)]
    assert diary.after(30, trouble(), trouble("962303"), trouble(cause="zombie")) == [
        (RAISED, ("962303",)),
        (RAISED, ME),
    ]


def test_a_reminder_after_four_hours_then_eight() -> None:
    """Reminders follow after four hours and then after twice the time."""
    diary = Diary()
    diary.after(0, trouble())
    reminded_after_h = [hour for hour in range(1, 40) if diary.after(HOUR_S, trouble()) == [(REMINDED, ME)]]
    assert reminded_after_h == [4, 12, 28]


def test_a_reminder_describes_the_current_condition() -> None:
    """The reminder has the current sentence."""
    diary = Diary()
    diary.after(0, trouble())
    (reminder,) = diary.alerts(4 * HOUR_S, [trouble(sentence="Not connected for 4 h.")])
    assert reminder.condition.sentence == "Not connected for 4 h."


def test_there_is_no_reminder_of_a_problem_that_has_just_ended() -> None:
    """While it is not certain whether the problem is over, no reminder is sent."""
    diary = Diary()
    diary.after(0, trouble())
    diary.after(4 * HOUR_S - 60, trouble())
    assert diary.after(60) == []


def test_flapping_is_one_alert() -> None:
    """A problem that comes and goes every minute is one alert, for as long as it flaps."""
    diary = Diary()
    alerts = [alert for minute in range(120) for alert in diary.after(60, *([trouble()] if minute % 2 else []))]
    assert alerts == [(RAISED, ME)]


def test_slow_flapping_raises_fewer_and_fewer_alerts() -> None:
    """A problem that returns after each all-clear must be absent twice as long the next time."""
    diary = Diary()
    raised_at = []
    for minute in range(24 * 60):
        for kind, _ in diary.after(60, *([trouble()] if minute % 6 == 0 else [])):
            if kind is RAISED:
                raised_at.append(minute)
    assert raised_at == [0, 6, 12]


def test_a_problem_is_forgotten_after_a_day() -> None:
    """A problem that returns after a day counts as new, with the short wait before its all-clear."""
    diary = Diary()
    diary.after(0, trouble())
    diary.after(30)
    diary.after(120)
    assert len(diary.book.over) == 1
    diary.after(24 * HOUR_S, trouble())
    diary.after(30)
    assert diary.after(120) == [(CLEARED, ME)]


def test_quiet_conditions_raise_nothing_and_end_nothing() -> None:
    """While a ban says more, "not connected" raises no alert; one that was raised before is not cleared."""
    diary = Diary()
    assert diary.after(0, trouble(quiet=True)) == []
    assert diary.after(30, trouble()) == [(RAISED, ME)]
    assert diary.after(HOUR_S, trouble(quiet=True)) == []
    diary.after(30)
    assert diary.after(120) == [(CLEARED, ME)]


# Many companies, one cause.


def test_many_at_once_are_one_alert() -> None:
    """Four companies with one cause make one alert with their number, and one all-clear."""
    diary = Diary()
    (raised,) = diary.alerts(0, many(1, 2, 3, 4))
    assert (raised.kind, raised.digest, raised.companies) == (RAISED, True, ("c1", "c2", "c3", "c4"))
    assert diary.after(30) == []
    (cleared,) = diary.alerts(120, [])
    assert (cleared.kind, cleared.digest, cleared.companies, cleared.remaining) == (
        CLEARED,
        True,
        ("c1", "c2", "c3", "c4"),
        (),
    )
    assert diary.book.digests == ()


def test_three_companies_get_single_alerts() -> None:
    """Three companies can each be named."""
    assert Diary().after(0, *many(1, 2, 3)) == [(RAISED, ("c1",)), (RAISED, ("c2",)), (RAISED, ("c3",))]


def test_the_fourth_within_five_minutes_makes_them_one() -> None:
    """Single alerts become part of the digest, and are cleared with it."""
    diary = Diary()
    diary.after(0, *many(1, 2))
    assert diary.after(200, *many(1, 2, 3)) == [(RAISED, ("c3",))]
    assert diary.after(30, *many(1, 2, 3, 4)) == [(RAISED, ("c1", "c2", "c3", "c4"))]
    diary.after(30)
    assert diary.after(120) == [(CLEARED, ("c1", "c2", "c3", "c4"))]


def test_old_problems_are_not_counted_for_a_digest() -> None:
    """A company disconnected for an hour is unrelated to three that are disconnected now."""
    diary = Diary()
    diary.after(0, *many(1))
    assert len(diary.after(HOUR_S, *many(1, 2, 3, 4))) == 3


def test_recovered_companies_do_not_count_towards_a_digest() -> None:
    """Three companies that have recovered and one that fails are not four failing ones."""
    diary = Diary()
    diary.after(0, *many(1, 2, 3))
    assert diary.after(60, *many(4)) == [(RAISED, ("c4",))]


def test_a_digest_grows_quietly_and_speaks_when_doubled() -> None:
    """A digest must not say "4 companies" while 400 are affected."""
    diary = Diary()
    diary.after(0, *many(1, 2, 3, 4))
    assert diary.after(30, *many(1, 2, 3, 4, 5, 6, 7)) == []
    assert diary.after(30, *many(*range(1, 9))) == [(GREW, tuple(f"c{n}" for n in range(1, 9)))]
    assert diary.after(30, *many(*range(1, 16))) == []


def test_a_digest_reminds_of_those_that_are_left() -> None:
    """Two of four have recovered: after four hours the other two are named."""
    diary = Diary()
    diary.after(0, *many(1, 2, 3, 4))
    assert diary.after(4 * HOUR_S, *many(3, 4)) == [(REMINDED, ("c3", "c4"))]
    assert diary.after(8 * HOUR_S) == []


def test_a_digest_ends_when_few_are_left_and_names_them() -> None:
    """One of five is still affected: the digest is cleared, and that company gets its own all-clear later."""
    diary = Diary()
    diary.after(0, *many(1, 2, 3, 4, 5))
    diary.after(30, *many(5))
    (cleared,) = diary.alerts(120, many(5))
    assert (cleared.kind, len(cleared.companies), cleared.remaining) == (CLEARED, 5, ("c5",))
    assert diary.after(4 * HOUR_S, *many(5)) == [(REMINDED, ("c5",))]
    diary.after(30)
    assert diary.after(120) == [(CLEARED, ("c5",))]


def test_causes_do_not_mix_in_a_digest() -> None:
    """Four companies with four causes are four alerts."""
    causes = ["not-connected", "zombie", "flapping", "banned"]
    assert len(Diary().after(0, *(trouble(f"c{n}", cause) for n, cause in enumerate(causes)))) == 4


# Kept.


def test_a_restart_repeats_nothing() -> None:
    """The stored book contains what has been sent; `Diary` loads it again before each update."""
    diary = Diary()
    diary.after(0, *many(1, 2, 3, 4), trouble(cause="banned"))
    again = Diary()
    again.book, again.now = load(dump(diary.book)), diary.now
    assert again.book == diary.book
    assert again.after(3 * HOUR_S, *many(1, 2, 3, 4), trouble(cause="banned")) == []


def test_a_book_of_an_earlier_version_has_the_current_causes() -> None:
    """An alert that was open under an earlier name of its cause is neither repeated nor cleared by the upgrade."""
    diary = Diary()
    diary.after(0, trouble(None, "redis-unavailable"))
    renamed = {"redis-unavailable": "redis-away", "alerted_at": "told_at", "open_problems": "standing"}
    earlier = dump(diary.book)
    for now, before in renamed.items():
        assert f'"{now}"' in earlier
        earlier = earlier.replace(now, before)
    diary.book = load(earlier)
    assert diary.after(30, trouble(None, "redis-unavailable")) == []


@pytest.mark.parametrize("text", ["", "{", '{"open_problems": [{}]}', '{"open_problems": 7}'])
def test_an_unreadable_book_is_an_error(text: str) -> None:
    """The caller starts with an empty book, and logs the reason."""
    with pytest.raises(UnreadableBook, match="the stored alert book can't be read"):
        load(text)
