"""One session's queries to WhatsApp: with a deadline, one at a time for the same question, limited in number.

A query needs the link that is open and fails when that ends; nothing is stored or retried. How often WhatsApp is asked
is limited for each session, so that no caller endangers the account. Messages do not count against that limit,
and a query that WhatsApp refuses fails no message.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from holdfast.base.clock import Clock
from holdfast.base.errors import Fault, HoldfastError, NotFound
from holdfast.delivery.rate_limits import Bucket, Pace
from holdfast.runtime.quotas import QuotaExceeded
from holdfast.session.engine import AnyCommand, LinkId, QueryAnswered, RunQuery
from holdfast.session.queries import CheckedNumber, Query, check_numbers

R = TypeVar("R")

DEADLINE_S = 20.0
PACE = Pace(per_minute=60, burst=30)
"""Queries of one session."""
_EXISTS_CACHE_S, _ABSENT_CACHE_S = 3600.0, 300.0
_MAX_CACHED = 10_000
_MAX_ANSWERS_CACHED = 1_000
"""More than can be valid at a time, given their pace and how long they are kept."""
_NOT_FOUND = frozenset({"not-found", "no-such-group"})


class TooManyQueries(QuotaExceeded):
    """The session has reached its limit of queries to WhatsApp."""

    code = "too-many-queries"


class WhatsAppBusy(HoldfastError):
    """WhatsApp answers no queries of this kind for now."""

    code = "whatsapp-busy"
    fault = Fault.WHATSAPP

    def __init__(self, sentence: str, *, retry_after_s: float) -> None:
        super().__init__(sentence)
        self.retry_after_s = max(1, math.ceil(retry_after_s))


class QueryTimedOut(HoldfastError):
    """WhatsApp did not answer in time."""

    code = "whatsapp-timeout"
    fault = Fault.WHATSAPP


class PhoneTimedOut(HoldfastError):
    """The phone, the only source of the data, did not answer in time."""

    code = "phone-timeout"
    fault = Fault.CALLER


class ConnectionEnded(HoldfastError):
    """The connection ended during the query."""

    code = "not-connected"
    fault = Fault.HOLDFAST


class QueryFailed(HoldfastError):
    """WhatsApp's answer is an error, or can't be used."""

    code = "query-failed"
    fault = Fault.WHATSAPP


class NotPermitted(HoldfastError):
    """WhatsApp does not allow this account to make this query."""

    code = "not-permitted"
    fault = Fault.WHATSAPP


@dataclass(frozen=True, slots=True)
class _Pending:
    number: int
    asked_at: float
    answer: asyncio.Future[QueryAnswered]


@dataclass(frozen=True, slots=True)
class _CacheEntry:
    until: float
    value: Any


class SessionQueries:
    def __init__(
        self, company: str, *, clock: Clock, command: Callable[[AnyCommand], None], link: Callable[[], LinkId]
    ) -> None:
        """`link`: the link that is open; raises `NotConnected`."""
        self._company = company
        self._clock = clock
        self._command = command
        self._link = link
        self._bucket = Bucket(PACE)
        self._pending: dict[str, _Pending] = {}
        self._cache: dict[str, _CacheEntry] = {}
        self._numbers: dict[str, _CacheEntry] = {}
        self._last_number = 0

    async def ask(self, query: Query[R]) -> R:
        """Raises `NotConnected`, `TooManyQueries`, `WhatsAppBusy`, `QueryTimedOut`, `NotFound`, `NotPermitted`
        and `QueryFailed`."""
        now, key = self._clock.monotonic(), query.key
        link = self._link()
        kept = self._cache.get(key)
        if kept is not None and now < kept.until:
            value: R = kept.value
            return value
        pending = self._pending.get(key)
        if pending is None or now - pending.asked_at >= DEADLINE_S:
            pending = self._send(link, query, now)
        async with self._clock.until(now + DEADLINE_S):
            return self._value(query, await asyncio.shield(pending.answer))
        raise QueryTimedOut("WhatsApp did not answer in time: try again shortly")

    async def check(self, numbers: Sequence[str]) -> list[CheckedNumber]:
        """Which of these phone numbers (digits) are on WhatsApp, in their order. Raises as `ask` does."""
        now = self._clock.monotonic()
        self._link()
        known = {number: kept.value for number in numbers if (kept := self._numbers.get(number)) and now < kept.until}
        missing = [number for number in dict.fromkeys(numbers) if number not in known]
        if missing:
            found = {row.number: row for row in await self.ask(check_numbers(missing))}
            absent = [number for number in missing if number not in found]
            if absent:
                raise QueryFailed(f"WhatsApp gave no answer for {len(absent)} of {len(missing)} numbers: try again")
            known |= found
            self._cache_numbers(found)
        return [known[number] for number in numbers]

    def answer(self, report: QueryAnswered) -> None:
        """Pass the engine's answer to the callers that wait for it."""
        for key, pending in self._pending.items():
            if pending.number == report.request:
                del self._pending[key]
                pending.answer.set_result(report)
                return

    def link_ended(self) -> None:
        """The link ended: its queries are not answered any more, and changes of cached groups may have been missed."""
        for pending in self._pending.values():
            pending.answer.set_result(QueryAnswered(link=0, request=pending.number, error="link-down"))
        self._pending.clear()
        self._cache.clear()

    def _send(self, link: LinkId, query: Query[R], now: float) -> _Pending:
        self._spend(query.cost, query.reserve, now)
        self._last_number += 1
        answer: asyncio.Future[QueryAnswered] = asyncio.get_running_loop().create_future()
        pending = self._pending[query.key] = _Pending(self._last_number, now, answer)
        arguments = dict(query.arguments)
        self._command(RunQuery(link=link, request=pending.number, name=query.name, arguments=arguments))
        return pending

    def _spend(self, cost: int, reserve: int, now: float) -> None:
        if self._bucket.available(now) < min(cost + reserve, PACE.burst):
            raise TooManyQueries(
                f"company {self._company} has sent WhatsApp {PACE.burst} queries at once, or more than "
                f"{PACE.per_minute:g} in a minute: wait, or ask about more numbers at a time",
                retry_after_s=cost * 60 / PACE.per_minute,
            )
        for _ in range(cost):
            self._bucket.spend(now)

    def _value(self, query: Query[R], report: QueryAnswered) -> R:
        if report.error is not None:
            raise self._failure(report)
        try:
            value = msgspec.convert(report.result, query.answer)
        except msgspec.ValidationError as error:
            raise QueryFailed(f"WhatsApp's answer can't be read ({error})") from error
        if query.cache_s:
            now = self._clock.monotonic()
            if len(self._cache) >= _MAX_ANSWERS_CACHED:  # a link may stay open for weeks; few of these are valid still
                self._cache = {key: kept for key, kept in self._cache.items() if now < kept.until}
            self._cache[query.key] = _CacheEntry(now + query.cache_s, value)
        return value

    def _failure(self, report: QueryAnswered) -> HoldfastError:
        match report.error:
            case str(error) if error in _NOT_FOUND:
                return NotFound(report.detail or "WhatsApp knows nothing with this id")
            case "rate-limited" | "server-busy":
                seconds = report.retry_after_s or 1
                return WhatsAppBusy(
                    f"WhatsApp currently answers no queries ({report.detail}): try again in {math.ceil(seconds)} s",
                    retry_after_s=seconds,
                )
            case "timeout":
                return QueryTimedOut("WhatsApp did not answer in time: try again shortly")
            case "phone-timeout":
                return PhoneTimedOut("the phone did not answer: it may be off or without a connection; try again later")
            case "link-down":
                return ConnectionEnded("the connection to WhatsApp ended before it answered: try again shortly")
            case "refused" if report.code in {401, 403}:
                return NotPermitted(
                    f"WhatsApp does not allow this account to ask that (code {report.code}): in a group it has to be a "
                    "member, and for some things an admin"
                )
            case "refused" if report.code in {404, 406, 410}:
                return NotFound(f"WhatsApp knows nothing with this id, or it was revoked (code {report.code})")
        return QueryFailed(f"WhatsApp's answer can't be used ({report.error}: {report.detail})")

    def _cache_numbers(self, numbers: dict[str, CheckedNumber]) -> None:
        now = self._clock.monotonic()
        for number, row in numbers.items():
            cache_s = _ABSENT_CACHE_S if row.chat is None else _EXISTS_CACHE_S
            self._numbers.pop(number, None)
            self._numbers[number] = _CacheEntry(now + cache_s, row)
        for number in list(self._numbers)[: max(len(self._numbers) - _MAX_CACHED, 0)]:
            del self._numbers[number]
