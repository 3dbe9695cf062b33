"""Random histories of conditions, and the invariants of the alerts in each of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.health.alerts import Alert, AlertKind, AlertPolicy, Book, dump, load, update
from holdfast.health.conditions import Condition, Severity

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
POLICY = AlertPolicy()
Key = tuple[str, str | None]

COMPANIES = [None, *(f"c{number}" for number in range(9))]
CAUSES = ["not-connected", "banned"]
SECONDS = st.one_of(st.integers(0, 60), st.integers(0, 400), st.integers(0, 40_000), st.integers(-100, 0))
SOME = st.frozensets(st.tuples(st.sampled_from(CAUSES), st.sampled_from(COMPANIES)), max_size=18)
THE_FIRST = st.integers(0, len(COMPANIES)).map(lambda many: frozenset((CAUSES[0], each) for each in COMPANIES[:many]))
PRESENT = st.one_of(SOME, THE_FIRST)
HISTORY = st.lists(st.tuples(SECONDS, PRESENT, PRESENT), max_size=20)


def condition(key: Key, *, quiet: bool = False) -> Condition:
    return Condition(
        company=key[1],
        cause=key[0],
        severity=Severity.WARNING,
        title="trouble",
        sentence="There is trouble.",
        action="wait",
        quiet=quiet,
    )


class Reader:
    """A person who believes the alerts, and notices contradictions."""

    def __init__(self) -> None:
        self.single: set[Key] = set()
        self.digests: dict[str, set[Key]] = {}

    def read(self, alert: Alert) -> None:
        cause = alert.condition.cause
        keys: set[Key] = {(cause, company) for company in alert.companies or (None,)}
        match alert.kind:
            case AlertKind.RAISED if alert.digest:
                assert cause not in self.digests, "two digests of one cause"
                assert len(keys) > POLICY.digest_over, "a digest of few"
                self.single -= keys
                self.digests[cause] = keys
            case AlertKind.RAISED:
                assert not keys & self.single, "reported twice"
                assert not alert.companies or cause not in self.digests, "reported alone, though one of many"
                self.single |= keys
            case AlertKind.CLEARED if alert.digest:
                assert self.digests.pop(cause) <= keys, "over, and some that it covered are not named"
                assert len(alert.remaining) <= POLICY.digest_over // 2, "over, and many are left"
                self.single |= {(cause, company) for company in alert.remaining}
            case AlertKind.CLEARED:
                assert keys <= self.single, "cleared, and never reported"
                self.single -= keys
            case AlertKind.GREW:
                assert len(keys) > len(self.digests[cause]), "grown, and not more"
                self.digests[cause] = keys
            case AlertKind.REMINDED:  # pragma: no branch – mypy sees to it that there is no other
                assert cause in self.digests if alert.digest else keys <= self.single, (
                    "reminded of what was never reported"
                )

    def covers(self, key: Key) -> bool:
        return key in self.single or (key[1] is not None and key[0] in self.digests)


@given(HISTORY)
def test_no_alert_is_repeated_or_missing(
    history: list[tuple[int, frozenset[Key], frozenset[Key]]],
) -> None:
    """No second alert without an all-clear in between, no all-clear without an alert, no problem without an alert.

    This holds for loud and quiet conditions, any clock, and a restart between any two moments.
    """
    reader, book, now = Reader(), Book(), NOON
    for seconds, loud, quiet in history:
        now += timedelta(seconds=seconds)
        present = [condition(key, quiet=key in quiet) for key in sorted(loud | quiet, key=str)]
        book, alerts = update(load(dump(book)), present, now=now, policy=POLICY)
        for alert in alerts:
            reader.read(alert)
        assert all(reader.covers((each.cause, each.company)) for each in present if not each.quiet)


@given(HISTORY)
def test_when_all_is_well_for_long_all_is_cleared(history: list[tuple[int, frozenset[Key], frozenset[Key]]]) -> None:
    """No alert stays open for a condition that is gone, and after a day nothing is remembered."""
    reader, book, now = Reader(), Book(), NOON
    calm: list[tuple[int, frozenset[Key], frozenset[Key]]] = [(100, frozenset(), frozenset())]
    calm += [(int(POLICY.clear_cap_s), frozenset(), frozenset())] * 2
    for seconds, loud, _ in [*history, *calm]:
        now += timedelta(seconds=seconds)
        book, alerts = update(book, [condition(key) for key in loud], now=now, policy=POLICY)
        for alert in alerts:
            reader.read(alert)
    assert (reader.single, reader.digests, book.open_problems, book.digests) == (set(), {}, (), ())
    assert update(book, [], now=now + timedelta(days=1), policy=POLICY)[0] == Book()


@given(st.lists(st.tuples(st.integers(1, 900), st.booleans()), max_size=300))
@settings(max_examples=50)
def test_flapping_causes_few_alerts(history: list[tuple[int, bool]]) -> None:
    """Between two alerts about a flapping problem there is a quiet time that doubles from one to the next."""
    book, now, raised = Book(), NOON, 0
    for seconds, is_there in history:
        now += timedelta(seconds=seconds)
        present = [condition(("zombie", "c1"))] if is_there else []
        book, alerts = update(book, present, now=now, policy=POLICY)
        raised += sum(alert.kind is AlertKind.RAISED for alert in alerts)
    assert raised <= _max_alerts((now - NOON).total_seconds())


def _max_alerts(seconds: float) -> int:
    """The largest possible number of alerts in that time, each after the quiet time that the one before requires."""
    count, spent_s = 1, 0.0
    while (spent_s := spent_s + min(POLICY.clear_after_s * 2.0 ** (count - 1), POLICY.clear_cap_s)) <= seconds:
        count += 1
    return count
