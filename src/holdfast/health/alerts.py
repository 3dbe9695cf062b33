"""The alert book: from the conditions that stand now, what a person is to be told now.

It tells of each trouble once, reminds after long, says when it is over, and makes one alert of many companies with one
cause. Flapping gives few alerts: trouble is over only after it stayed away for a while, and that while doubles each
time it comes back. It must never be silent about a condition that no alert covers, nor say "over" of one that it never
told of.

Times are aware UTC, for the book is kept across restarts (`dump`, `load`) so that a restart repeats nothing.
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
    """A stored alert book can't be read; begin with an empty one: what still stands is told once more."""

    code = "unreadable-alert-book"


class AlertKind(StrEnum):
    RAISED = "raised"
    REMINDED = "reminded"
    GREW = "grew"
    """An alert about many companies now covers at least twice as many as were last told of."""
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something to tell a person."""

    kind: AlertKind
    condition: Condition
    """As last seen; of an alert about many companies, that of one of them."""
    companies: tuple[str, ...]
    """Whom it is about; none: Holdfast as a whole."""
    since: datetime
    at: datetime
    digest: bool = False
    """About many companies with one cause."""
    remaining: tuple[str, ...] = ()
    """Of a digest that is over: the few companies for which it is not, each with an alert of its own from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanyName:
    """By what people know a company, beside its id."""

    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPolicy:
    """Seconds, unless the name says otherwise."""

    clear_after_s: float = 120
    """Trouble is over when it stayed away this long; doubled for each time it came back."""
    clear_cap_s: float = 4 * 3600
    memory_s: float = 24 * 3600
    """Trouble that stayed away this long is new when it comes again."""
    remind_after_s: float = 4 * 3600
    """Trouble that still stands is told again after this; then after twice as long, and so on."""
    digest_over: int = 3
    """More companies than this with one cause become one alert …"""
    digest_within_s: float = 300
    """… when all came within this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Trouble that a person was told of and that is not over."""

    condition: Condition
    since: datetime
    raised_at: datetime
    told_at: datetime
    reminders: int = 0
    gone_at: datetime | None = None
    """When it was first not there any more, while it stays away."""
    times: int = 0
    """How often it had come back lately."""
    digest: bool = False
    """It is told of as one of many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """An alert about many companies with one cause."""

    condition: Condition
    """That of one of them, as last seen."""
    since: datetime
    told_at: datetime
    told_count: int
    reminders: int = 0
    companies: tuple[str, ...]
    """All that it ever covered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """Trouble that is over, remembered for a day."""

    key: AlertKey
    at: datetime
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Everything the alerts are decided by."""

    standing: tuple[Standing, ...] = ()
    digests: tuple[Digest, ...] = ()
    over: tuple[Over, ...] = ()


def update(
    book: Book, conditions: Collection[Condition], *, now: datetime, policy: AlertPolicy
) -> tuple[Book, tuple[Alert, ...]]:
    """Compare the book with *all* conditions that stand at `now`: the new book, and what to tell."""
    page = _Page(book, {condition.key: condition for condition in conditions}, now, policy)
    alerts = (*page.clear(), *page.tell_new(), *page.settle_digests(), *page.remind())
    return page.book(), alerts


def dump(book: Book) -> str:
    """The book as JSON."""
    return msgspec.json.encode(book).decode()


def load(text: str) -> Book:
    """The book that was dumped. Raises `UnreadableBook`."""
    try:
        return msgspec.json.decode(text, type=Book)
    except msgspec.DecodeError as error:
        raise UnreadableBook(f"the stored alert book can't be read: {error}") from error


class _Page:
    """The book while it is being brought up to date. Lives for one `update`."""

    def __init__(self, book: Book, present: dict[AlertKey, Condition], now: datetime, policy: AlertPolicy) -> None:
        self._now, self._policy, self._present = now, policy, present
        self._standing = {each.condition.key: self._seen(each) for each in book.standing}
        self._digests = {each.condition.cause: each for each in book.digests}
        remembered = now - timedelta(seconds=policy.memory_s)
        self._over = {each.key: each for each in book.over if each.at > remembered}

    def book(self) -> Book:
        return Book(
            standing=tuple(self._standing.values()),
            digests=tuple(self._digests.values()),
            over=tuple(self._over.values()),
        )

    def _seen(self, standing: Standing) -> Standing:
        condition = self._present.get(standing.condition.key)
        if condition is None:
            return replace(standing, gone_at=standing.gone_at or self._now)
        return replace(standing, condition=condition, gone_at=None)

    def _passed(self, since: datetime, seconds: float) -> bool:
        return self._now - since >= timedelta(seconds=seconds)

    # What is over.

    def clear(self) -> Iterator[Alert]:
        """What stayed away for long enough. One of many leaves quietly: its digest says when it is over."""
        for key, standing in list(self._standing.items()):
            if standing.gone_at is None or not self._passed(standing.gone_at, self._hold_s(standing.times)):
                continue
            del self._standing[key]
            self._over[key] = Over(key=key, at=self._now, times=standing.times + 1)
            if not standing.digest:
                yield self._alert(AlertKind.CLEARED, standing)

    def _hold_s(self, times: int) -> float:
        return min(self._policy.clear_after_s * 2.0 ** min(times, 30), self._policy.clear_cap_s)

    # What is new.

    def tell_new(self) -> Iterator[Alert]:
        """What no alert covers yet: one by one, or of many companies as one."""
        fresh: dict[str, list[Standing]] = {}
        for key, condition in self._present.items():
            if key in self._standing or condition.quiet:
                continue
            self._standing[key] = standing = self._begin(condition)
            if condition.company is None:
                yield self._alert(AlertKind.RAISED, standing)
            else:
                fresh.setdefault(condition.cause, []).append(standing)
        for cause, group in fresh.items():
            yield from self._raise_group(cause, group)

    def _begin(self, condition: Condition) -> Standing:
        before = self._over.pop(condition.key, None)
        since = self._now - timedelta(seconds=condition.lasting_s)
        times = 0 if before is None else before.times
        return Standing(condition=condition, since=since, raised_at=self._now, told_at=self._now, times=times)

    def _raise_group(self, cause: str, group: list[Standing]) -> Iterator[Alert]:
        if cause in self._digests:
            self._join(cause, group)
            return
        there = [each for each in self._of(cause) if each.gone_at is None]
        lately = [each for each in there if not self._passed(each.raised_at, self._policy.digest_within_s)]
        if len(lately) <= self._policy.digest_over:
            yield from (self._alert(AlertKind.RAISED, standing) for standing in group)
            return
        self._digests[cause] = Digest(
            condition=group[0].condition,
            since=min(each.since for each in lately),
            told_at=self._now,
            told_count=len(lately),
            companies=(),
        )
        self._join(cause, lately)
        yield self._digest_alert(AlertKind.RAISED, cause)

    def _join(self, cause: str, group: list[Standing]) -> None:
        for standing in group:
            self._standing[standing.condition.key] = replace(standing, digest=True)
        digest = self._digests[cause]
        joined = dict.fromkeys((*digest.companies, *_companies(group)))
        self._digests[cause] = replace(digest, companies=tuple(joined))

    def _of(self, cause: str) -> list[Standing]:
        """The companies for which this cause stands."""
        every = self._standing.values()
        return [each for each in every if each.condition.cause == cause and each.condition.company is not None]

    # Alerts about many.

    def settle_digests(self) -> Iterator[Alert]:
        """Say of a digest that it is over, or that it has grown."""
        for cause, digest in list(self._digests.items()):
            members = self._members(cause)
            there = [each for each in members if each.gone_at is None]
            if there:
                self._digests[cause] = digest = replace(digest, condition=there[0].condition)
            if len(members) <= self._policy.digest_over // 2:
                yield self._digest_alert(AlertKind.CLEARED, cause)
                self._part(cause, members)
            elif len(there) >= 2 * digest.told_count:
                self._digests[cause] = replace(digest, told_at=self._now, told_count=len(there))
                yield self._digest_alert(AlertKind.GREW, cause)

    def _members(self, cause: str) -> list[Standing]:
        return [each for each in self._of(cause) if each.digest]

    def _part(self, cause: str, members: list[Standing]) -> None:
        """The few that are left have been named; from now on each stands for itself."""
        del self._digests[cause]
        for standing in members:
            self._standing[standing.condition.key] = replace(standing, digest=False, told_at=self._now, reminders=0)

    # What still stands.

    def remind(self) -> Iterator[Alert]:
        """What a person may have forgotten."""
        for key, standing in self._standing.items():
            if not standing.digest and standing.gone_at is None and self._is_forgotten(standing):
                self._standing[key] = replace(standing, told_at=self._now, reminders=standing.reminders + 1)
                yield self._alert(AlertKind.REMINDED, standing)
        for cause, digest in self._digests.items():
            is_there = any(each.gone_at is None for each in self._members(cause))
            if is_there and self._is_forgotten(digest):
                self._digests[cause] = replace(digest, told_at=self._now, reminders=digest.reminders + 1)
                yield self._digest_alert(AlertKind.REMINDED, cause)

    def _is_forgotten(self, told: Standing | Digest) -> bool:
        return self._passed(told.told_at, self._policy.remind_after_s * 2.0 ** min(told.reminders, 10))

    # The words' values.

    def _alert(self, kind: AlertKind, standing: Standing) -> Alert:
        condition = standing.condition
        companies = () if condition.company is None else (condition.company,)
        return Alert(kind=kind, condition=condition, companies=companies, since=standing.since, at=self._now)

    def _digest_alert(self, kind: AlertKind, cause: str) -> Alert:
        """Over: all it ever covered. Else: those for which it stands now."""
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


def _companies(group: Iterable[Standing]) -> tuple[str, ...]:
    return tuple(each.condition.company or "" for each in group)
