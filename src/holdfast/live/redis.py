"""Live state in Redis, with a copy in memory.

Writers never wait for Redis, and readers wait only for a fraction of a second: memory is updated at once, and one
task writes the records that are due. While Redis is unreachable, live state is kept in memory. When Redis is reachable
again, all records are rewritten, because it may be empty. A Redis that is emptied while connected is noticed as well:
every two seconds one command counts the keys.

This module must log an outage, or a loss of records, only once, and must never touch keys other than its own.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from holdfast.base.clock import Clock, iso
from holdfast.live.encoding import LIFETIME_S, decode, document, encode, key
from holdfast.live.entries import Entries, EntryChange
from holdfast.live.redis_connection import RedisCommand, RedisConnection, RedisReply, RedisUnavailable
from holdfast.session.stores import Availability, LiveStatus, Record

log = logging.getLogger(__name__)

T = TypeVar("T")
Changed = Callable[[LiveStatus], None]

_ANSWER_S = 0.2
"""Seconds that a reader waits for Redis before it gets the record in memory."""
_CHECK_S = 2
"""How often the keys are counted."""
_PAUSES_S = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Seconds between two attempts while Redis is unreachable; the last value repeats."""
_FAILURES_BEFORE_WARNING = 2
"""Failures in a row before an outage is reported: a single failure is usually over at once."""
OUTAGE_NOTE = "live state stays in memory and is written back when Redis returns"
_WRITES_AT_ONCE = 100
_COUNTED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Question:
    company: str
    answer: asyncio.Future[RedisReply]


class RedisLive:
    """Implements `holdfast.session.stores.LiveState`."""

    def __init__(
        self, server: RedisConnection, *, node: str, clock: Clock, changed: Changed = lambda status: None
    ) -> None:
        """`node` names this process in what it writes. `changed` is called when Redis is lost or returns."""
        self._server = server
        self._node = node
        self._clock = clock
        self._changed = changed
        self._entries = Entries()
        self._questions: list[_Question] = []
        self._wake = asyncio.Event()
        self._check_at = clock.monotonic()
        self._is_well = False
        self._is_losing = False
        self._failures = 0
        self._failing_since = clock.now()
        self._reported: Availability | None = None
        self._status = self._describe(Availability.DOWN, "it has not been asked yet", since=clock.now())

    @property
    def status(self) -> LiveStatus:
        return self._status

    def put(self, record: Record) -> None:
        if self._entries.put(record, now=self._clock.monotonic()):
            self._wake.set()

    def release(self, company: str) -> None:
        self._entries.release(company)

    def remove(self, company: str) -> None:
        self._entries.remove(company)
        self._wake.set()

    async def get(self, company: str) -> Mapping[str, object] | None:
        now = self._clock.monotonic()
        if not self._is_well or self._entries.is_due(company, now=now):
            return self._remembered(company)
        question = _Question(company, asyncio.get_running_loop().create_future())
        self._questions.append(question)
        self._wake.set()
        async with self._clock.until(now + _ANSWER_S):
            return self._choose(company, await question.answer)
        return self._remembered(company)

    async def run(self) -> None:
        try:
            while True:
                await self._catch_up()
                await self._wait_for_work()
        finally:
            await self._write_remaining()

    def _remembered(self, company: str) -> dict[str, object] | None:
        record = self._entries.record(company)
        return None if record is None else document(record, node=self._node)

    def _choose(self, company: str, answer: RedisReply) -> Mapping[str, object] | None:
        """Prefer memory to a record that this process wrote, and a record of another process to memory."""
        ours, theirs = self._remembered(company), decode(answer)
        if theirs is None and answer is not None:
            self._entries.rewrite([company])
            self._wake.set()
        if theirs is None or (ours is not None and theirs.get("node") == self._node):
            return ours
        return theirs

    # One task speaks with Redis.

    async def _catch_up(self) -> None:
        """Answer waiting readers and write all due records, unless Redis is unavailable."""
        try:
            if not self._is_well:
                await self._server.ask([("PING",)])
            await self._answer()
            await self._write()
            await self._count()
        except RedisUnavailable as trouble:
            self._suspect(str(trouble))
        else:
            self._trust()

    async def _wait_for_work(self) -> None:
        """Wait until there is something to do; while Redis is unavailable, there is nothing."""
        if not self._is_well:
            await self._clock.sleep(_PAUSES_S[min(self._failures, len(_PAUSES_S)) - 1])
            return
        async with self._clock.until(min(self._check_at, self._entries.next_due)):
            await self._wake.wait()
        self._wake.clear()

    async def _write_remaining(self) -> None:
        """Write the records that are still due, if Redis works."""
        try:
            if self._is_well:
                await self._catch_up()
        finally:
            self._is_well = False
            self._answer_from_memory()
            await self._server.close()

    async def _answer(self) -> None:
        questions, self._questions = self._questions, []
        try:
            for some in _batches(questions, _WRITES_AT_ONCE):
                answers = await self._server.ask([("GET", key(question.company)) for question in some])
                for question, answer in zip(some, answers, strict=True):
                    _resolve(question, answer)
        finally:
            for question in questions:
                _resolve(question, None)

    def _answer_from_memory(self) -> None:
        for question in self._questions:
            _resolve(question, None)
        self._questions = []

    async def _write(self) -> None:
        for some in _batches(self._entries.due(now=self._clock.monotonic()), _WRITES_AT_ONCE):
            current = [change for change in some if self._entries.is_current(change)]
            await self._server.ask([self._command(change) for change in current])
            for change in current:
                self._entries.wrote(change, now=self._clock.monotonic())
            await self._answer()

    def _command(self, change: EntryChange) -> RedisCommand:
        if change.record is None:
            return ("DEL", key(change.company))
        return ("SET", key(change.company), encode(document(change.record, node=self._node)), "EX", LIFETIME_S)

    async def _count(self) -> None:
        """Detect lost records, which are then rewritten, and a Redis that stopped answering."""
        if self._clock.monotonic() < self._check_at:
            return
        self._check_at = self._clock.monotonic() + _CHECK_S
        await self._server.ask([("PING",)])
        written, lost = self._entries.written, 0
        for some in _batches(written, _COUNTED_AT_ONCE):
            (found,) = await self._server.ask([("EXISTS", *map(key, some))])
            if isinstance(found, int) and found < len(some):
                lost += len(some) - found
                self._entries.rewrite(some)
        self._log_loss(lost, len(written))
        await self._write()

    def _log_loss(self, lost: int, written: int) -> None:
        """Log a loss once, and again only after a count without missing records: a Redis that evicts keys loses some
        continuously.
        """
        if lost and not self._is_losing:
            words = "Connection to Redis at %s is up, but it lost %d of %d records: they are written again"
            log.warning(words, self._server.where, lost, written)
        self._is_losing = lost > 0

    # Is Redis well?

    def _suspect(self, trouble: str) -> None:
        if self._failures == 0:
            self._failing_since = self._clock.now()
        self._failures += 1
        self._is_well = False
        self._entries.rewrite_all()
        self._answer_from_memory()
        if self._failures < _FAILURES_BEFORE_WARNING:
            return
        self._status = self._describe(Availability.DOWN, trouble, since=self._failing_since)
        if self._reported is not Availability.DOWN:
            log.warning("Connection to Redis at %s is gone: %s; %s", self._server.where, trouble, OUTAGE_NOTE)
            self._report()

    def _trust(self) -> None:
        self._is_well, self._failures = True, 0
        if self._reported is Availability.UP:
            return
        now = self._clock.now()
        self._status = self._describe(Availability.UP, "it is well", since=now)
        if self._reported is None:
            log.info("Connection to Redis at %s is up", self._server.where)
        else:
            down_s = (now - self._failing_since).total_seconds()
            log.info("Connection to Redis at %s is back after %.1f s", self._server.where, down_s)
        self._report()

    def _describe(self, availability: Availability, what: str, *, since: datetime) -> LiveStatus:
        return LiveStatus(
            availability=availability,
            since=iso(since),
            sentence=f"Redis at {self._server.where}: {what}",
        )

    def _report(self) -> None:
        self._reported = self._status.availability
        self._changed(self._status)


def _resolve(question: _Question, answer: RedisReply) -> None:
    if not question.answer.done():
        question.answer.set_result(answer)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
