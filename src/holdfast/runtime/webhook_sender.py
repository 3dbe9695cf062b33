"""The webhook sender: delivers events to receivers, in the order of each chat, with retries.

Its deliveries in flight are only copies of rows: after a crash the same events are sent again under the same ids. It
sends for sessions that this process runs, so that of several processes one sends. It must never hold up anything else:
sessions and callers only write rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from holdfast.base.clock import Clock, ClockWatch, iso
from holdfast.base.clock_step import ClockStep
from holdfast.base.ids import RandomSource
from holdfast.delivery.events import Event, Events, NewEventsFlag
from holdfast.delivery.webhooks import (
    GIVE_UP_AFTER_DAYS,
    OF_ALL,
    Attempt,
    Endpoint,
    EndpointState,
    GivenUp,
    Head,
    Lanes,
    Settled,
    Webhooks,
)

log = logging.getLogger(__name__)

Post = Callable[[Endpoint, Event], Awaitable[Attempt]]
"""Posts one event to an endpoint. Never raises for what the receiver does."""

_WINDOW = 128
"""Deliveries that are loaded at once."""
_FAILED_PAUSE_S = 5.0
_SWEEP_S = 3600.0


class WebhookSender:
    def __init__(
        self,
        rows: Webhooks,
        events: Events,
        *,
        companies: Callable[[], Collection[str]],
        post: Post,
        clock: Clock,
        clock_watch: ClockWatch,
        randomness: RandomSource,
        keep_days: float,
        lanes: Lanes | None = None,
    ) -> None:
        """`companies`: those whose sessions this process runs now. `keep_days`: how long events are kept."""
        self._rows = rows
        self._events = events
        self._companies = companies
        self._post = post
        self._clock = clock
        self._clock_watch = clock_watch
        self._steps: list[ClockStep] = []
        """Steps of the wall clock that are not applied to the rows yet."""
        self._companies_seen: set[str] = set()
        """Companies whose deliveries were checked for times of another clock."""
        self._randomness = randomness
        self._keep = timedelta(days=keep_days)
        self._lanes = lanes or Lanes()
        self._endpoints: dict[str, Endpoint] = {}
        self._new_events: NewEventsFlag = asyncio.Event()
        clock_watch.follow(self._clock_was_set)

    async def run(self) -> None:
        """Send until cancelled. Deliveries in flight are then sent again at the next start."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="webhook sweep")
            with self._events.listening(for_deliveries=True) as self._new_events:
                while True:
                    self._new_events.clear()
                    next_at = await self._start_due(tasks)
                    async with self._clock.until(self._wakes_at(next_at)):
                        await self._new_events.wait()

    async def _start_due(self, tasks: asyncio.TaskGroup) -> datetime | None:
        """Start the deliveries that may be sent; returns when to query again."""
        self._start(tasks)
        if not self._lanes.has_room:
            return None
        now = self._clock.now()
        try:
            await self._follow_clock(now)
            due = await self._rows.find_due(
                tuple(self._companies()),
                now=now,
                limit=_WINDOW - self._lanes.waiting,
                known=tuple(self._lanes.known),
                busy=self._lanes.busy_endpoints,
            )
        except Exception:
            log.exception("Due webhook deliveries can't be read; next try in %.0f s", _FAILED_PAUSE_S)
            return now + timedelta(seconds=_FAILED_PAUSE_S)
        self._know(due.endpoints)
        used = self._lanes.used_endpoints
        self._lanes.add([head for head in due.heads if not (head.is_probe and head.endpoint in used)])
        self._start(tasks)
        return due.next_at

    def _clock_was_set(self, step: ClockStep) -> None:
        self._steps.append(step)
        self._new_events.set()

    async def _follow_clock(self, now: datetime) -> None:
        """Stored times are of the wall clock: after it was set, retries are due at once, not days later."""
        self._clock_watch.check()
        companies = frozenset(self._companies())
        while self._steps:
            await self._rows.follow_clock(companies, self._steps[0])
            del self._steps[0]
        if new := companies - self._companies_seen:
            await self._rows.retry_from_future(new, now=now)
        self._companies_seen = set(companies)

    def _know(self, endpoints: Sequence[Endpoint]) -> None:
        """Discard deliveries that were loaded for other endpoints, or for endpoints that are no longer active."""
        known = {endpoint.id: endpoint for endpoint in endpoints}
        if _urls_and_states(known) != _urls_and_states(self._endpoints):
            self._lanes.forget_waiting()
        self._endpoints = known

    def _start(self, tasks: asyncio.TaskGroup) -> None:
        for head in self._lanes.take(self._companies()):
            tasks.create_task(self._deliver(head), name=f"webhook {head.seq}")

    def _wakes_at(self, next_at: datetime | None) -> float | None:
        """When to query again, in monotonic seconds, because other processes can't set the flag here."""
        now, poll_interval_s = self._clock.monotonic(), self._events.poll_interval_s
        times = [] if poll_interval_s is None else [now + poll_interval_s]
        if next_at is not None:
            times.append(now + max((next_at - self._clock.now()).total_seconds(), 0.001))
        return min(times, default=None)

    async def _deliver(self, head: Head) -> None:
        try:
            event = await self._rows.event(head.seq)
            endpoint = self._endpoints.get(head.endpoint)
            if event is not None and endpoint is not None:
                attempt = await self._post(endpoint, event)
                now, jitter = self._clock.now(), self._randomness.jitter()
                settled = await self._rows.settle(head, attempt, now=now, jitter=jitter, to=endpoint)
                _log_outcome(head, event, attempt, settled)
                if settled.endpoint is not None and settled.endpoint.health.state is not settled.before:
                    self._lanes.forget_waiting()
        except Exception:
            log.exception("Webhook for %s: its outcome could not be stored; it is sent again", head.company)
            await self._clock.sleep(_FAILED_PAUSE_S)
        finally:
            self._lanes.end(head)
            self._new_events.set()

    async def _sweep(self) -> None:
        """Periodically give up deliveries that were not accepted for days, and delete old events."""
        while True:
            now = self._clock.now()
            try:
                old = iso(now - timedelta(days=GIVE_UP_AFTER_DAYS))
                given_up = await self._rows.give_up_old(before=old, at=iso(now))
                if given_up:
                    log.error(
                        "Webhooks: %d deliveries are given up, because their endpoint accepted none for days", given_up
                    )
                await self._events.prune(before=iso(now - self._keep), now=iso(now))
            except Exception:
                log.exception("Old webhook deliveries and events could not be removed; next try in %.0f s", _SWEEP_S)
            await self._clock.sleep(_SWEEP_S)


def _urls_and_states(endpoints: Mapping[str, Endpoint]) -> dict[str, tuple[str | None, EndpointState]]:
    return {id_: (endpoint.url, endpoint.health.state) for id_, endpoint in endpoints.items()}


def _log_outcome(head: Head, event: Event, attempt: Attempt, settled: Settled) -> None:
    """Log failures and changes of an endpoint's state; nothing for a delivery that succeeded."""
    if isinstance(settled.outcome, GivenUp):
        log.error("Webhook %s of %s is given up: %s", event.id, head.company, attempt.error)
    elif not attempt.is_accepted:
        log.info("Webhook %s of %s will be retried: %s", event.id, head.company, attempt.error)
    endpoint = settled.endpoint
    if endpoint is None or endpoint.health.state is settled.before:
        return
    whose = "all companies" if endpoint.company == OF_ALL else endpoint.company
    match endpoint.health.state:
        case EndpointState.ACTIVE:
            log.info("The webhook endpoint of %s accepts deliveries again", whose)
        case EndpointState.SUSPENDED:
            log.warning("The webhook endpoint of %s is suspended: %s", whose, attempt.error)
        case EndpointState.OFF:
            log.error("The webhook endpoint of %s is switched off: the receiver answered 410", whose)
