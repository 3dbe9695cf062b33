"""Carries out one session's operations: in order for each target, a few targets at a time, while the link is open.

`session/operation_states.py` decides; this reads the open rows, gives the engine one step after another, and stores
what follows before the next step. Whatever a crash interrupts is found in the rows by the next runner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import msgspec

from holdfast.base.clock import Clock, ClockWatch, iso, to_monotonic
from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import HoldfastError
from holdfast.delivery.rate_limits import Bucket, Pace
from holdfast.delivery.stores import MediaFiles
from holdfast.session import operation_states as states
from holdfast.session.engine import AnyCommand, LinkId, OperationAnswered, RunOperation
from holdfast.session.operation_states import LINK_DOWN, Answer, Operation, OperationState
from holdfast.session.operations import Arguments, Failure
from holdfast.session.stores import Operations

log = logging.getLogger(__name__)

PACE = Pace(per_minute=60, burst=20)
"""The rate of one session's attempts: WhatsApp restricts accounts that change much in a short time."""
DEADLINE_S = 90.0
"""Longer than every timeout of the engine; the next step of the operation waits in the engine for this one to end."""
_MAX_AT_ONCE = 4
_WINDOW = 200
"""Targets whose first operation is considered at a time."""

Step = Literal["run", "observe"]


class OperationRunner:
    def __init__(
        self,
        company: str,
        *,
        store: Operations,
        files: MediaFiles,
        clock: Clock,
        clock_watch: ClockWatch,
        command: Callable[[AnyCommand], None],
    ) -> None:
        self._company = company
        self._store = store
        self._files = files
        self._clock = clock
        self._clock_watch = clock_watch
        self._steps: list[ClockStep] = []
        """Steps of the wall clock that are not applied to the rows yet."""
        self._command = command
        self._link: LinkId | None = None
        self._wake = asyncio.Event()
        self._bucket = Bucket(PACE)
        self._busy: dict[str, str] = {}
        """By target: the id of the operation that is being carried out."""
        self._waiting: dict[tuple[str, Step], asyncio.Future[Answer]] = {}
        self._paused: dict[str, float] = {}
        """By kind: until when (monotonic seconds) WhatsApp accepts no operations of this kind."""

    async def run(self) -> None:
        """Carry out operations until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                wakes_at = await self._round(tasks)
                async with self._clock.until(wakes_at):
                    await self._wake.wait()

    def link_up(self, link: LinkId) -> None:
        self._link = link
        self._wake.set()

    def link_down(self) -> None:
        """The link ended: no operation that was passed to the engine will be answered."""
        self._link = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(LINK_DOWN)

    def recheck(self) -> None:
        """There may be new operations."""
        self._wake.set()

    def clock_was_set(self, step: ClockStep) -> None:
        """Stored times are of the wall clock: they move with it."""
        self._steps.append(step)
        self._wake.set()

    def answer(self, report: OperationAnswered) -> None:
        waiting = self._waiting.get((report.operation, report.step))
        if waiting is not None and not waiting.done():
            waiting.set_result(
                Answer(
                    result=report.result,
                    error=report.error,
                    whatsapp_code=report.code,
                    detail=report.detail,
                    retry_after_s=report.retry_after_s,
                )
            )

    async def _round(self, tasks: asyncio.TaskGroup) -> float | None:
        """Start the operations that are due; returns when the next one will be due (monotonic seconds)."""
        await self._follow_clock()
        busy = dict(self._busy)  # their rows may change while they are being read
        self._paused = {kind: until for kind, until in self._paused.items() if until > self._clock.monotonic()}
        now = iso(self._clock.now())
        found = await self._store.open(self._company, now=now, paused=tuple(self._paused), limit=_WINDOW)
        expired = [operation for operation in found.expired if operation.id not in busy.values()]
        for operation in expired:
            await self._save(states.expired(operation, now=self._clock.now()), before=operation)
            self._wake.set()  # the next one of its target is due
        moments = list(self._paused.values())
        if found.next_expiry is not None:
            moments.append(to_monotonic(self._clock, found.next_expiry))
        if self._link is not None:
            for operation in found.heads:
                if operation.target not in busy | self._busy and operation not in expired:
                    moments += self._begin(tasks, self._link, operation)
        return min(moments, default=None)  # one that has passed by now wakes at once

    async def _follow_clock(self) -> None:
        self._clock_watch.check()
        while self._steps:
            await self._store.follow_clock(self._company, self._steps[0])
            del self._steps[0]

    def _begin(self, tasks: asyncio.TaskGroup, link: LinkId, operation: Operation) -> list[float]:
        """Carry the operation out, or return when it may be."""
        now = self._clock.monotonic()
        due_at = now if operation.next_at is None else to_monotonic(self._clock, operation.next_at)
        is_light = states.is_light(operation)
        due_at = max(due_at, self._paused.get(operation.kind, now), now if is_light else self._bucket.ready_at(now))
        if due_at > now:
            return [due_at]
        if len(self._busy) < _MAX_AT_ONCE:
            if not is_light:
                self._bucket.spend(now)
            self._busy[operation.target] = operation.id
            tasks.create_task(self._carry_out(link, operation), name=f"operation {operation.id}")
        return []

    async def _carry_out(self, link: LinkId, operation: Operation) -> None:
        try:
            await self._attempt(link, operation)
        finally:
            del self._busy[operation.target]
            self._wake.set()

    async def _attempt(self, link: LinkId, operation: Operation) -> None:
        try:
            arguments = states.arguments_of(operation)
        except (KeyError, msgspec.ValidationError) as error:
            sentence = f"this version of Holdfast can't carry it out ({operation.kind}: {error})"
            failure = Failure(code="unknown-kind", sentence=sentence)
            await self._save(states.failed(operation, failure, now=self._clock.now()), before=operation)
            return
        current: Operation | None = operation
        if states.must_observe(operation, arguments):
            current = await self._observe(link, operation, arguments)
        if current is None:
            return
        begun = await self._save(states.began(current, now=self._clock.now()), before=current)
        if begun is None:
            return  # it was cancelled
        answer = await self._ask(link, begun, arguments, "run")
        self._note_limit(begun, answer)
        await self._save(states.answered(begun, arguments, answer, now=self._clock.now()), before=begun)

    async def _observe(self, link: LinkId, operation: Operation, arguments: Arguments) -> Operation | None:
        """Observe the state at WhatsApp; returns the operation if it is to be attempted now."""
        answer = await self._ask(link, operation, arguments, "observe")
        now = self._clock.now()
        if operation.state is OperationState.RUNNING and operation.observed is not None:
            after = states.after_observation(operation, arguments, answer, now=now)
            if after is None:
                return operation
        elif answer.error is None:
            return await self._save(replace(operation, observed=answer.result), before=operation)
        else:
            after = states.observing_failed(operation, answer, now=now)
        self._note_limit(operation, answer)
        await self._save(after, before=operation)
        return None

    async def _ask(self, link: LinkId, operation: Operation, arguments: Arguments, step: Step) -> Answer:
        if link != self._link:
            return LINK_DOWN
        try:
            file = await self._file(arguments)
        except HoldfastError as error:
            return Answer(error="bad-content", detail=error.sentence)
        except OSError as error:  # such as a full disk: it must not end the session
            return Answer(error="file-not-written", detail=error.strerror or type(error).__name__)
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[operation.id, step] = waiting
        try:
            if link != self._link:
                return LINK_DOWN
            given = msgspec.to_builtins(arguments)
            self._command(
                RunOperation(
                    link=link, operation=operation.id, step=step, name=arguments.kind, arguments=given, file=file
                )
            )
            async with self._clock.until(self._clock.monotonic() + DEADLINE_S):
                return await waiting
            return Answer(error="timeout")
        finally:
            del self._waiting[operation.id, step]

    async def _file(self, arguments: Arguments) -> str | None:
        return None if arguments.medium is None else str(await self._files.path(arguments.medium))

    def _note_limit(self, operation: Operation, answer: Answer) -> None:
        """A limit concerns the kind, not this operation: others of the kind would only prolong it."""
        if answer.error in {"rate-limited", "server-busy"}:
            after_s = answer.retry_after_s or 1.0
            self._paused[operation.kind] = self._clock.monotonic() + after_s

    async def _save(self, operation: Operation, *, before: Operation) -> Operation | None:
        saved = await self._store.save(operation, before=before.state)
        if saved is not None and saved.state is not before.state and saved.state not in states.OPEN:
            log.info(
                "Session %s: operation %s (%s) %s%s",
                self._company,
                saved.id,
                saved.kind,
                saved.state,
                _cause(saved),
            )
        return saved


def _cause(operation: Operation) -> str:
    """`: refused (403)`, with WhatsApp's code if it gave one; nothing for an operation that succeeded."""
    if operation.error_code is None:
        return ""
    number = "" if operation.whatsapp_code is None else f" ({operation.whatsapp_code})"
    return f": {operation.error_code}{number}"
