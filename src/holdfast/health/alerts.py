"""The alert book decides which alerts to send, from the conditions that are present now.

It alerts about each problem once, reminds people of one that persists, and reports when it is cleared. Many companies
with the same cause become one alert (a digest). Flapping causes few alerts: a problem is cleared only after it has been
absent for some time, and that time doubles with each return. Every condition must be covered by an alert unless it is
quiet, and an all-clear must never be sent for a problem that was not reported.

Times are aware UTC: the book is stored across restarts (`dump`, `load`), so that a restart repeats no alert.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from holdfast.base.errors import HoldfastError
from holdfast.health.conditions import Condition

AlertKey = tuple[str, str]


class UnreadableBook(HoldfastError):
    """A stored alert book can't be read. The caller starts with an empty one, which repeats alerts of open problems."""

    code = "unreadable-alert-book"


class AlertKind(StrEnum):
    RAISED = "raised"
    REMINDED = "reminded"
    GREW = "grew"
    """A digest now covers at least twice as many companies as its last alert reported."""
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert to send."""

    kind: AlertKind
    condition: Condition
    """The condition as last seen; in a digest, the condition of one of its companies."""
    companies: tuple[str, ...]
    """The companies concerned; empty when the alert concerns Holdfast as a whole."""
    since: datetime
    at: datetime
    digest: bool = False
    """True when one alert covers many companies with the same cause."""
    remaining: tuple[str, ...] = ()
    """Companies that still have the problem when their digest is cleared. Each has its own alert from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPolicy:
    """Seconds, unless the name says otherwise."""

    clear_after_s: float = 120
    """A problem is cleared after it has been absent this long; doubled for each time it has come back."""
    clear_cap_s: float = 4 * 3600
    memory_s: float = 24 * 3600
    """A problem that returns after this long counts as new."""
    remind_after_s: float = 4 * 3600
    """Time until the first reminder of an open problem; it doubles for each further reminder."""
    digest_over: int = 3
    """A digest replaces single alerts when more companies than this have the same cause within `digest_within_s`."""
    digest_within_s: float = 300
    """Alerts raised within this time count towards a digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenProblem:
    """An open problem: an alert was sent and it is not cleared."""

    condition: Condition
    since: datetime
    raised_at: datetime
    alerted_at: datetime
    reminders: int = 0
    gone_at: datetime | None = None
    """When the condition disappeared; None while it is present."""
    times: int = 0
    """How often the problem has come back recently."""
    digest: bool = False
    """True when a digest covers this problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """One open alert about many companies with the same cause."""

    condition: Condition
    """The condition of one of the companies, as last seen."""
    since: datetime
    alerted_at: datetime
    alerted_count: int
    reminders: int = 0
    companies: tuple[str, ...]
    """All companies that the digest has ever covered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearedProblem:
    """A cleared problem, remembered for `AlertPolicy.memory_s`."""

    key: AlertKey
    at: datetime
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The state from which alerts are decided."""

    open_problems: tuple[OpenProblem, ...] = ()
    digests: tuple[Digest, ...] = ()
    over: tuple[ClearedProblem, ...] = ()


def update(
    book: Book, conditions: Collection[Condition], *, now: datetime, policy: AlertPolicy
) -> tuple[Book, tuple[Alert, ...]]:
    """Compare the book with *all* conditions present at `now`. Returns the new book and the alerts to send."""
    page = _Page(book, {condition.key: condition for condition in conditions}, now, policy)
    alerts = (*page.clear(), *page.raise_new(), *page.settle_digests(), *page.remind())
    return page.book(), alerts


def dump(book: Book) -> str:
    """Serialise the book as JSON."""
    return msgspec.json.encode(book).decode()


_RENAMED = {
    "redis-away": "redis-unavailable",
    "webhook-aside": "webhook-suspended",
    "budget-used-up": "reconnect-budget-exhausted",
    "told_at": "alerted_at",
    "told_count": "alerted_count",
    "standing": "open_problems",
}
"""Causes and fields by the names that earlier versions stored."""


def load(text: str) -> Book:
    """Read a book that `dump` wrote, in this version or an earlier one. Raises `UnreadableBook`."""
    for before, now in _RENAMED.items():
        text = text.replace(f'"{before}"', f'"{now}"')
    try:
        return msgspec.json.decode(text, type=Book)
    except msgspec.DecodeError as error:
        raise UnreadableBook(f"the stored alert book can't be read: {error}") from error


class _Page:
    """The mutable state of one `update` call."""

    def __init__(self, book: Book, present: dict[AlertKey, Condition], now: datetime, policy: AlertPolicy) -> None:
        self._now, self._policy, self._present = now, policy, present
        book = _not_after(book, now)
        self._open_problems = {each.condition.key: self._updated(each) for each in book.open_problems}
        self._digests = {each.condition.cause: each for each in book.digests}
        remembered = now - timedelta(seconds=policy.memory_s)
        self._over = {each.key: each for each in book.over if each.at > remembered}

    def book(self) -> Book:
        return Book(
            open_problems=tuple(self._open_problems.values()),
            digests=tuple(self._digests.values()),
            over=tuple(self._over.values()),
        )

    def _updated(self, problem: OpenProblem) -> OpenProblem:
        condition = self._present.get(problem.condition.key)
        if condition is None:
            return replace(problem, gone_at=problem.gone_at or self._now)
        return replace(problem, condition=condition, gone_at=None)

    def _passed(self, since: datetime, seconds: float) -> bool:
        return self._now - since >= timedelta(seconds=seconds)

    # Cleared problems.

    def clear(self) -> Iterator[Alert]:
        """Clear problems that have been absent long enough. Members of a digest get no all-clear of their own."""
        for key, problem in list(self._open_problems.items()):
            if problem.gone_at is None or not self._passed(problem.gone_at, self._hold_s(problem.times)):
                continue
            del self._open_problems[key]
            self._over[key] = ClearedProblem(key=key, at=self._now, times=problem.times + 1)
            if not problem.digest:
                yield self._alert(AlertKind.CLEARED, problem)

    def _hold_s(self, times: int) -> float:
        return min(self._policy.clear_after_s * 2.0 ** min(times, 30), self._policy.clear_cap_s)

    # New problems.

    def raise_new(self) -> Iterator[Alert]:
        """Alert about conditions that no alert covers yet, one by one or as a digest."""
        fresh: dict[str, list[OpenProblem]] = {}
        for key, condition in self._present.items():
            if key in self._open_problems or condition.quiet:
                continue
            self._open_problems[key] = problem = self._begin(condition)
            if condition.company is None:
                yield self._alert(AlertKind.RAISED, problem)
            else:
                fresh.setdefault(condition.cause, []).append(problem)
        for cause, group in fresh.items():
            yield from self._raise_group(cause, group)

    def _begin(self, condition: Condition) -> OpenProblem:
        before = self._over.pop(condition.key, None)
        since = self._now - timedelta(seconds=condition.lasting_s)
        times = 0 if before is None else before.times
        return OpenProblem(condition=condition, since=since, raised_at=self._now, alerted_at=self._now, times=times)

    def _raise_group(self, cause: str, group: list[OpenProblem]) -> Iterator[Alert]:
        if cause in self._digests:
            self._join(cause, group)
            return
        there = [each for each in self._of(cause) if each.gone_at is None]
        lately = [each for each in there if not self._passed(each.raised_at, self._policy.digest_within_s)]
        if len(lately) <= self._policy.digest_over:
            yield from (self._alert(AlertKind.RAISED, problem) for problem in group)
            return
        self._digests[cause] = Digest(
            condition=group[0].condition,
            since=min(each.since for each in lately),
            alerted_at=self._now,
            alerted_count=len(lately),
            companies=(),
        )
        self._join(cause, lately)
        yield self._digest_alert(AlertKind.RAISED, cause)

    def _join(self, cause: str, group: list[OpenProblem]) -> None:
        for problem in group:
            self._open_problems[problem.condition.key] = replace(problem, digest=True)
        digest = self._digests[cause]
        joined = dict.fromkeys((*digest.companies, *_companies(group)))
        self._digests[cause] = replace(digest, companies=tuple(joined))

    def _of(self, cause: str) -> list[OpenProblem]:
        """The open problems of companies with this cause."""
        every = self._open_problems.values()
        return [each for each in every if each.condition.cause == cause and each.condition.company is not None]

    # Digests.

    def settle_digests(self) -> Iterator[Alert]:
        """Report digests that are cleared or have grown."""
        for cause, digest in list(self._digests.items()):
            members = self._members(cause)
            there = [each for each in members if each.gone_at is None]
            if there:
                self._digests[cause] = digest = replace(digest, condition=there[0].condition)
            if len(members) <= self._policy.digest_over // 2:
                yield self._digest_alert(AlertKind.CLEARED, cause)
                self._part(cause, members)
            elif len(there) >= 2 * digest.alerted_count:
                self._digests[cause] = replace(digest, alerted_at=self._now, alerted_count=len(there))
                yield self._digest_alert(AlertKind.GREW, cause)

    def _members(self, cause: str) -> list[OpenProblem]:
        return [each for each in self._of(cause) if each.digest]

    def _part(self, cause: str, members: list[OpenProblem]) -> None:
        """Remove a digest. Its last companies, which the all-clear names, have alerts of their own from then on."""
        del self._digests[cause]
        for problem in members:
            self._open_problems[problem.condition.key] = replace(
                problem, digest=False, alerted_at=self._now, reminders=0
            )

    # Open problems.

    def remind(self) -> Iterator[Alert]:
        """Remind people of problems that have been open for long."""
        for key, problem in self._open_problems.items():
            if not problem.digest and problem.gone_at is None and self._is_reminder_due(problem):
                self._open_problems[key] = replace(problem, alerted_at=self._now, reminders=problem.reminders + 1)
                yield self._alert(AlertKind.REMINDED, problem)
        for cause, digest in self._digests.items():
            is_there = any(each.gone_at is None for each in self._members(cause))
            if is_there and self._is_reminder_due(digest):
                self._digests[cause] = replace(digest, alerted_at=self._now, reminders=digest.reminders + 1)
                yield self._digest_alert(AlertKind.REMINDED, cause)

    def _is_reminder_due(self, alerted: OpenProblem | Digest) -> bool:
        return self._passed(alerted.alerted_at, self._policy.remind_after_s * 2.0 ** min(alerted.reminders, 10))

    # Alert values.

    def _alert(self, kind: AlertKind, problem: OpenProblem) -> Alert:
        condition = problem.condition
        companies = () if condition.company is None else (condition.company,)
        return Alert(kind=kind, condition=condition, companies=companies, since=problem.since, at=self._now)

    def _digest_alert(self, kind: AlertKind, cause: str) -> Alert:
        """An all-clear lists all companies that the digest ever covered; other alerts list those affected now."""
        digest, members = self._digests[cause], self._members(cause)
        is_over = kind is AlertKind.CLEARED
        return Alert(
            kind=kind,
            condition=digest.condition,
            companies=digest.companies if is_over else _companies(each for each in members if each.gone_at is None),
            since=digest.since,
            at=self._now,
            digest=True,
            remaining=_companies(members) if is_over else (),
        )


def _not_after(book: Book, now: datetime) -> Book:
    """The book without times in the future. The wall clock was set back: what is due would wait for those times."""
    return Book(
        open_problems=tuple(
            replace(
                each,
                since=min(each.since, now),
                raised_at=min(each.raised_at, now),
                alerted_at=min(each.alerted_at, now),
                gone_at=None if each.gone_at is None else min(each.gone_at, now),
            )
            for each in book.open_problems
        ),
        digests=tuple(
            replace(each, since=min(each.since, now), alerted_at=min(each.alerted_at, now)) for each in book.digests
        ),
        over=tuple(replace(each, at=min(each.at, now)) for each in book.over),
    )


def _companies(group: Iterable[OpenProblem]) -> tuple[str, ...]:
    return tuple(each.condition.company or "" for each in group)
