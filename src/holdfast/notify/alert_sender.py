"""Sends each alert to every address, and retries for a day.

An alert is stored before it is sent and removed after it was delivered, so a crash in between delivers it twice rather
than not at all. Each address gets one alert at a time, and alerts about the same subject in order. Callers of `send`
must never wait for an address; they wait for the store only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from holdfast.base.clock import Clock, iso, to_monotonic
from holdfast.health.advice import format_duration
from holdfast.health.alerts import Alert, AlertKind, Book, UnreadableBook, dump, load
from holdfast.health.stores import AlertRows, PendingAlert, Undelivered
from holdfast.notify.addresses import AlertAddress
from holdfast.notify.alert_queue import AlertQueue
from holdfast.notify.alert_text import NO_LABELS, Labels, headline, pending_alert
from holdfast.notify.apprise_client import AlertTransport, NotDelivered

log = logging.getLogger(__name__)

_ADOPT_EVERY_S = 60.0
"""How often a node looks for undelivered alerts of nodes that have stopped."""
_CATCH_UP_EVERY_S = 5.0
"""How often work is repeated that a failing database refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """When a failed delivery is retried."""

    factor: float = 1.5
    cap_s: float = 300
    give_up_s: float = 24 * 3600

    def delay_s(self, tries: int) -> float:
        """The backoff after this many failed attempts in seconds: 1.5, 2.25, … up to the cap."""
        return min(self.factor ** min(tries, 100), self.cap_s)


class AlertSender:
    """Sends alerts. Without addresses, alerts are only logged."""

    def __init__(
        self,
        addresses: Sequence[AlertAddress],
        *,
        rows: AlertRows,
        transport: AlertTransport,
        clock: Clock,
        pace: RetrySchedule = RetrySchedule(),
        public_url: str | None = None,
    ) -> None:
        """`public_url`: the URL of the dashboard, for links in alerts."""
        self._public_url = public_url
        self._clock = clock
        self._queue = AlertQueue(rows)
        self._pace = pace
        self._address_queues = {
            address.fingerprint: _AddressQueue(address, queue=self._queue, transport=transport, clock=clock, pace=pace)
            for address in addresses
        }

    async def begin(self) -> Book:
        """Load the alerts that a restart left undelivered, and return the alert book. Raises `AlertsNotStored`."""
        text, pending = await self._queue.begin()
        await self._add(pending)
        try:
            return Book() if text is None else load(text)
        except UnreadableBook as error:
            log.error("%s; alerts about current conditions will be sent again", error)  # noqa: TRY400
            return Book()

    async def send(self, book: Book, alerts: Sequence[Alert], labels: Labels = NO_LABELS) -> None:
        """Store the alert book with its alerts, and start to deliver them.

        `labels`: the labels of the companies.
        """
        added = [
            pending_alert(alert, address=address, public_url=self._public_url, labels=labels)
            for alert in alerts
            for address in self._address_queues
        ]
        for alert in alerts:
            _log(alert)
        await self._queue.keep(dump(book), added)
        for each in added:
            self._address_queues[each.address].add(each)

    async def run(self) -> None:
        """Deliver alerts until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._catch_up(), name="alerts after database failures, and of nodes that are gone")
            for each in self._address_queues.values():
                tasks.create_task(each.run(), name=f"alerts to {each.address}")

    async def _catch_up(self) -> None:
        """Repeat what a failing database refused, and adopt alerts.

        None is adopted at the start: a node that starts at the same moment may not have shown yet that it is alive.
        """
        adopt_at = self._clock.monotonic() + _ADOPT_EVERY_S
        while True:
            await self._clock.sleep(_CATCH_UP_EVERY_S)
            await self._queue.catch_up()
            if self._queue.may_lack_adopted or self._clock.monotonic() >= adopt_at:
                adopt_at = self._clock.monotonic() + _ADOPT_EVERY_S
                await self._adopt()

    async def _adopt(self) -> None:
        before = iso(self._clock.now() - timedelta(seconds=self._pace.give_up_s))
        await self._add(await self._queue.adopt(list(self._address_queues), before=before))

    async def _add(self, stored: Sequence[PendingAlert]) -> None:
        for alert in stored:
            if alert.address in self._address_queues:
                self._address_queues[alert.address].add(alert, may_be_settled=True)
                continue
            log.warning('Alert "%s" is dropped: its address is no longer configured', alert.title)
            await self._queue.settle(alert)

    @property
    def undelivered(self) -> list[Undelivered]:
        """The undelivered alerts, oldest first for each address."""
        return [waiting for each in self._address_queues.values() for waiting in each.undelivered]

    @property
    def undelivered_s(self) -> float | None:
        """Age in seconds of the oldest alert whose delivery has failed; None if there is none."""
        failed = [datetime.fromisoformat(each.made_at) for each in self.undelivered if each.tries]
        return max((self._clock.now() - min(failed)).total_seconds(), 0) if failed else None

    @property
    def given_up(self) -> int:
        """The number of deliveries that failed for a day and were given up."""
        return sum(each.given_up for each in self._address_queues.values())


def _log(alert: Alert) -> None:
    if alert.kind is AlertKind.CLEARED:
        lasted = format_duration((alert.at - alert.since).total_seconds())
        log.info("Alert cleared: %s, after %s", headline(alert), lasted)
    else:
        log.warning("Alert %s: %s. %s", alert.kind, headline(alert), alert.condition.sentence)


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    alert: PendingAlert
    made_at: float
    """In monotonic seconds, so that changes of the wall clock do not affect its age."""
    due_at: float
    tries: int = 0
    error: str | None = None
    may_be_settled: bool = False
    """Whether it was read from the store, and may have been settled since."""


class _AddressQueue:
    """The pending deliveries to one address."""

    def __init__(
        self, address: AlertAddress, *, queue: AlertQueue, transport: AlertTransport, clock: Clock, pace: RetrySchedule
    ) -> None:
        self.address = address
        self.given_up = 0
        self._queue, self._transport, self._clock, self._pace = queue, transport, clock, pace
        self._waiting: list[_Waiting] = []
        self._added = asyncio.Event()

    @property
    def undelivered(self) -> Iterable[Undelivered]:
        for each in self._waiting:
            yield Undelivered(
                address=str(self.address),
                title=each.alert.title,
                made_at=each.alert.made_at,
                tries=each.tries,
                error=each.error,
            )

    def add(self, alert: PendingAlert, *, may_be_settled: bool = False) -> None:
        """Add an alert that is not waiting already. It is due at once, even if older alerts wait for a retry."""
        if any(each.alert.id == alert.id for each in self._waiting):
            return
        now = self._clock.monotonic()
        made_at = min(to_monotonic(self._clock, alert.made_at), now)
        self._waiting.append(_Waiting(alert=alert, made_at=made_at, due_at=now, may_be_settled=may_be_settled))
        self._added.set()

    async def run(self) -> None:
        while True:
            chosen = self._next()
            if chosen is not None and chosen.due_at <= self._clock.monotonic():
                await self._try(chosen)
                continue
            async with self._clock.until(None if chosen is None else chosen.due_at):
                await self._added.wait()
            self._added.clear()

    def _next(self) -> _Waiting | None:
        """The delivery that is due first, among the oldest of each subject."""
        oldest: dict[str, _Waiting] = {}
        for each in self._waiting:
            oldest.setdefault(each.alert.subject, each)
        return min(oldest.values(), key=lambda each: each.due_at, default=None)

    async def _try(self, waiting: _Waiting) -> None:
        if (waiting.tries or waiting.may_be_settled) and not await self._queue.is_owned(waiting.alert):
            if waiting.tries:
                # This node was cut off from the database for so long that it counted as gone.
                log.info('Alert "%s" is left to the node that took it over', waiting.alert.title)
            self._waiting.remove(waiting)
            return
        try:
            await self._transport.deliver(self.address, waiting.alert)
        except NotDelivered as error:
            await self._retry_later(waiting, error)
            return
        except Exception as error:  # such as no more threads: it must not end Holdfast
            log.exception("An alert was not delivered to %s", self.address)
            await self._retry_later(waiting, NotDelivered(f"Holdfast failed: {type(error).__name__}"))
            return
        self._waiting.remove(waiting)
        if waiting.tries:
            log.info(
                'Alert "%s" was delivered to %s at attempt %d', waiting.alert.title, self.address, waiting.tries + 1
            )
        for each in self._waiting:
            each.due_at = min(each.due_at, self._clock.monotonic())
        await self._queue.settle(waiting.alert)

    async def _retry_later(self, waiting: _Waiting, error: NotDelivered) -> None:
        waiting.tries, waiting.error = waiting.tries + 1, error.sentence
        if self._clock.monotonic() - waiting.made_at < self._pace.give_up_s:
            waiting.due_at = self._clock.monotonic() + self._pace.delay_s(waiting.tries)
            if waiting.tries == 1:
                log.warning(
                    'Alert "%s" can\'t be delivered to %s and is retried: %s', waiting.alert.title, self.address, error
                )
            return
        self._waiting.remove(waiting)
        self.given_up += 1
        log.error('Alert "%s" was not delivered to %s and is given up: %s', waiting.alert.title, self.address, error)
        await self._queue.settle(waiting.alert)
