"""Webhooks of an in-process gateway: every event reaches its receiver, in the order of its chat, whatever the receiver
does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from holdfast.base.clock import iso
from holdfast.delivery.events import Event
from holdfast.delivery.webhooks import (
    OF_ALL,
    RETRY_DELAYS_S,
    Attempt,
    DeliveryState,
    Endpoint,
    EndpointState,
    Lanes,
    new_endpoint,
)
from holdfast.health.alerts import AlertKind
from holdfast.runtime.health_monitor import HealthMonitor
from holdfast.runtime.webhook_sender import WebhookSender
from holdfast.session.state import State
from holdfast.session.stores import Record
from holdfast.store.events import record
from holdfast.store.figures import FigureRows
from holdfast.store.sessions import SessionRows
from holdfast.store.webhooks import WebhookRows
from tests.gateway_harness import COMPANY, GatewayHarness, JitterFreeRandomSource
from tests.runtime.test_monitor import RecordedAlerts

OTHER = "962303"
HOUR_S, DAY_S = 3600.0, 86400.0
OK = Attempt(status=200)
BAD = Attempt(status=500, error="the receiver answered 500")
URL = "https://crm.example/hook"


class Receiver:
    """Receives webhooks, and answers as the test sets it up."""

    def __init__(self, harness: GatewayHarness) -> None:
        self._harness = harness
        self.answer: Callable[[Endpoint, Event], Attempt] = lambda endpoint, event: OK
        self.takes_s: Callable[[Event], float] = lambda event: 0.0
        self.tries: list[tuple[float, str, str]] = []
        """Time, URL and event id of each request."""
        self.taken: list[Event] = []
        self.under_way: set[tuple[str, str]] = set()
        self.max_under_way = 0

    async def __call__(self, endpoint: Endpoint, event: Event) -> Attempt:
        lane = (event.company, event.chat)
        assert lane not in self.under_way, "two of a chat are under way"
        self.under_way.add(lane)
        self.max_under_way = max(self.max_under_way, len(self.under_way))
        try:
            self.tries.append((self._harness.clock.monotonic(), endpoint.url or "", event.id))
            if seconds := self.takes_s(event):
                await self._harness.clock.sleep(seconds)
            answer = self.answer(endpoint, event)
        finally:
            self.under_way.discard(lane)
        if answer.is_accepted:
            self.taken.append(event)
        return answer

    @property
    def numbers(self) -> list[int]:
        return [json.loads(event.body)["n"] for event in self.taken]

    def by_chat(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for event in self.taken:
            found[event.chat].append(json.loads(event.body)["n"])
        return found


class Office:
    """The gateway, its webhooks and their receiver."""

    def __init__(self, harness: GatewayHarness) -> None:
        self.harness = harness
        self.receiver = Receiver(harness)
        self.rows = WebhookRows(harness.database)
        self.lanes = Lanes()
        self.companies: set[str] = set()
        """The companies whose sessions this process runs."""

    @contextlib.asynccontextmanager
    async def open(self, *companies: str) -> AsyncIterator[None]:
        """Run a sender for these companies during the block; the rows remain."""
        self.companies = set(companies or (COMPANY,))
        async with self.harness.running(), asyncio.TaskGroup() as tasks:
            sender = WebhookSender(
                self.rows,
                self.harness.events,
                companies=lambda: self.companies,
                post=self.receiver,
                clock=self.harness.clock,
                clock_watch=self.harness.services.clock_watch,
                randomness=JitterFreeRandomSource(),
                keep_days=7,
                lanes=self.lanes,
            )
            task = tasks.create_task(sender.run())
            try:
                yield
            finally:
                task.cancel()
                self.lanes = Lanes()
                self.receiver.under_way.clear()

    async def set(self, company: str = OF_ALL, url: str | None = URL, events: tuple[str, ...] | None = None) -> None:
        made = replace(new_endpoint(company, url=url, secret="whsec_x"), events=events)
        if company != OF_ALL:
            now = iso(self.harness.clock.now())
            stopped = Record(company=company, state=State.STOPPED, since=now, created_at=now)
            await self.harness.now(SessionRows(self.harness.database).create(stopped))
        await self.harness.now(self.rows.put(company, lambda before: made))

    async def happen(self, *numbers: int, chat: str = "a", company: str = COMPANY, type_: str = "message.sent") -> None:
        at = iso(self.harness.clock.now())
        for number in numbers:
            body = {"n": number}
            await self.harness.now(
                self.harness.database.write(
                    lambda connection, body=body: record(connection, company, type_, body, chat=chat, at=at)  # type: ignore[misc]
                )
            )

    async def until(self, count: int, *, within_s: float = 10 * DAY_S) -> None:
        await self.harness.until(lambda: len(self.receiver.taken) >= count, within_s=within_s)
        await self.harness.quiet()

    async def endpoint(self, company: str = OF_ALL) -> Endpoint:
        found = await self.harness.now(self.rows.endpoint(company))
        assert found is not None
        return found


@pytest.fixture
def office(harness: GatewayHarness) -> Office:
    return Office(harness)


async def test_events_arrive_once_each_in_the_order_of_their_chat(office: Office) -> None:
    """As soon as they are durable, whether the endpoint was there before the sender or came later."""
    await office.happen(0)
    await office.set()
    async with office.open():
        await office.happen(1, 2, 3)
        await office.happen(4, 5, chat="b")
        await office.until(5)
        assert office.receiver.by_chat() == {"a": [1, 2, 3], "b": [4, 5]}
        assert len(office.receiver.tries) == 5


async def test_a_delivery_is_retried_for_three_days_and_then_fails(office: Office) -> None:
    """With the delays of the schedule. Its chat waits for it and continues afterwards; other chats are delivered in the
    meantime.
    """
    await office.set()
    office.receiver.answer = lambda endpoint, event: BAD if json.loads(event.body)["n"] == 1 else OK
    async with office.open():
        await office.happen(1, 2)
        for number in range(100, 140):
            await office.harness.wait(300 if number == 100 else 2 * HOUR_S)
            await office.happen(number, chat="b")
        await office.until(41)
    first = office.receiver.tries[0][2]
    times = [at for at, _, id_ in office.receiver.tries if id_ == first]
    assert [round(later - earlier) for earlier, later in itertools.pairwise(times)] == list(RETRY_DELAYS_S)
    assert office.receiver.by_chat() == {"b": list(range(100, 140)), "a": [2]}
    [failed] = await office.harness.now(office.rows.failed(None, after=0, limit=9))
    assert (failed.state, failed.attempts, failed.last_status) == (DeliveryState.FAILED, 12, 500)


async def test_retry_after_is_respected(office: Office) -> None:
    """With 429 or 503, `Retry-After` gives the shortest delay."""
    await office.set()
    answers = [Attempt(status=503, error="busy", retry_after_s=600.0), OK]
    office.receiver.answer = lambda endpoint, event: answers.pop(0)
    async with office.open():
        await office.happen(1)
        await office.until(1)
    (first, _, id_), (second, _, again) = office.receiver.tries
    assert (second - first, id_) == (600.0, again)


async def test_an_endpoint_that_keeps_failing_is_suspended_without_delaying_others(office: Office) -> None:
    """It gets single probes; when it works again, it gets all pending deliveries at once and in order."""
    await office.set()
    await office.set(OTHER, "https://other.example/hook")
    down = True
    office.receiver.answer = lambda endpoint, event: BAD if endpoint.company == OTHER and down else OK
    async with office.open(COMPANY, OTHER):
        for chat in "abcdef":
            await office.happen(1, 2, 3, chat=chat, company=OTHER)
        await office.harness.wait(6 * HOUR_S)
        suspended = await office.endpoint(OTHER)
        assert suspended.health.state is EndpointState.SUSPENDED
        hour_tries = len(office.receiver.tries)
        await office.harness.wait(6 * HOUR_S)
        assert len(office.receiver.tries) - hour_tries <= 7
        await office.happen(7)
        await office.until(1, within_s=1)
        assert office.receiver.numbers == [7]
        down = False
        await office.until(19, within_s=2 * HOUR_S)
        assert office.receiver.by_chat() == {**{chat: [1, 2, 3] for chat in "bcdef"}, "a": [7, 1, 2, 3]}
        assert (await office.endpoint(OTHER)).health.state is EndpointState.ACTIVE
        assert await office.harness.now(office.rows.counts()) == {}


async def test_an_endpoint_that_answered_410_is_off_until_a_person_resumes_it(office: Office) -> None:
    """Its deliveries are kept in the meantime."""
    await office.set()
    office.receiver.answer = lambda endpoint, event: Attempt(status=410, error="gone")
    async with office.open():
        await office.happen(1, 2)
        await office.harness.wait(HOUR_S)
        assert len(office.receiver.tries) == 1
        assert (await office.endpoint()).health.state is EndpointState.OFF
        await office.happen(3)
        office.receiver.answer = lambda endpoint, event: OK
        await office.harness.now(office.rows.resume("default"))
        await office.until(3, within_s=1)
    assert office.receiver.numbers == [1, 2, 3]


async def test_deliveries_that_are_not_accepted_for_days_fail_and_can_be_replayed(office: Office) -> None:
    """Rows do not accumulate for a dead endpoint; a person can replay them, in order."""
    await office.set()
    office.receiver.answer = lambda endpoint, event: Attempt(status=410, error="gone")
    async with office.open():
        await office.happen(1, 2)
        await office.harness.wait(4.1 * DAY_S)
        counts = await office.harness.now(office.rows.counts())
        assert (counts[COMPANY].pending, counts[COMPANY].failed) == (0, 2)
        office.receiver.answer = lambda endpoint, event: OK
        await office.harness.now(office.rows.resume("default"))
        assert await office.harness.now(office.rows.replay_all(None, since=None)) == 2
        await office.until(2, within_s=1)
    assert office.receiver.numbers == [1, 2]


async def test_a_slow_receiver_does_not_delay_others(office: Office) -> None:
    """At most eight of its deliveries are in flight at once; those of another endpoint are not delayed."""
    await office.set()
    await office.set(OTHER, "https://other.example/hook")
    office.receiver.takes_s = lambda event: 15.0 if event.company == OTHER else 0.0
    async with office.open(COMPANY, OTHER):
        for number in range(40):
            await office.happen(number, chat=f"slow {number}", company=OTHER)
        begun = office.harness.clock.monotonic()
        await office.happen(99)
        await office.harness.until(lambda: 99 in office.receiver.numbers, within_s=1)
        await office.until(41)
        assert office.receiver.max_under_way == 9
        assert office.harness.clock.monotonic() - begun >= 4 * 15


async def test_after_a_crash_events_are_sent_again_under_the_same_ids(office: Office) -> None:
    """Deliveries that were in flight are sent again; nothing is lost, and the order of a chat is kept."""
    await office.set()
    office.receiver.takes_s = lambda event: 5.0
    async with office.open():
        await office.happen(1, 2, 3)
        await office.harness.until(lambda: len(office.receiver.tries) == 2)
    async with office.open():
        await office.until(3)
    assert office.receiver.numbers == [1, 2, 3]
    ids = [id_ for _, _, id_ in office.receiver.tries]
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3


async def test_a_failing_database_causes_a_repetition_and_loses_no_event(office: Office) -> None:
    """While the outcome of an attempt can't be stored, the delivery does not count as done."""
    await office.set()
    async with office.open():
        await office.happen(1, 2)
        await office.until(2)
        office.harness.database.failing = "disk full"
        with pytest.raises(OSError, match="disk full"):
            await office.happen(3)
        office.harness.database.failing = None
        office.receiver.takes_s = lambda event: 1.0
        await office.happen(4)
        await office.harness.until(lambda: len(office.receiver.tries) == 3)
        office.harness.database.failing = "disk full"
        await office.harness.wait(3)
        office.harness.database.failing = None
        await office.until(4)
    assert office.receiver.numbers == [1, 2, 4, 4]


async def test_a_session_with_an_endpoint_of_its_own_uses_that(office: Office) -> None:
    """This includes pending deliveries, and the event types that it subscribes to."""
    await office.set()
    await office.set(OTHER, "https://other.example/hook", ("message.received",))
    async with office.open(COMPANY, OTHER):
        for company in (COMPANY, OTHER):
            for number, type_ in enumerate(("message.received", "message.sent", "message.accepted")):
                await office.happen(number, company=company, type_=type_)
        await office.until(3)
        await office.harness.wait(60)
    seen = [(event.company, event.type) for event in office.receiver.taken]
    assert sorted(seen) == [(COMPANY, "message.received"), (COMPANY, "message.sent"), (OTHER, "message.received")]


async def test_a_replay_since_a_time_includes_delivered_events(office: Office) -> None:
    """In order, under the same ids, and for one company if requested; older events are not sent."""
    await office.set()
    async with office.open(COMPANY, OTHER):
        await office.happen(1)
        await office.harness.wait(60)
        since = iso(office.harness.clock.now())
        await office.happen(2, 3)
        await office.happen(4, company=OTHER)
        await office.until(4)
        before = [event.id for event in office.receiver.taken]
        assert await office.harness.now(office.rows.replay_all([COMPANY], since=since)) == 2
        await office.until(6)
        assert office.receiver.numbers[4:] == [2, 3]
        assert {event.id for event in office.receiver.taken[4:]} < set(before)
        assert await office.harness.now(office.rows.replay(before[0]))
        await office.until(7)
        assert office.receiver.numbers[-1] == 1


async def test_a_failing_webhook_raises_an_alert_and_an_all_clear(office: Office) -> None:
    """There is one alert while it is suspended, and an all-clear after it has worked for a while."""
    harness, recorded = office.harness, RecordedAlerts()
    await office.set()
    office.receiver.answer = lambda endpoint, event: BAD
    async with office.open():
        watching = HealthMonitor(
            harness.gateway,
            harness.services,
            figures=FigureRows(harness.database),
            alert_sink=recorded,
            interval_s=30,
            webhooks=office.rows.endpoints,
        )
        await office.happen(1)
        await harness.wait(HOUR_S)
        for _ in range(3):
            await harness.now(watching.check())
        assert recorded.words == [(AlertKind.RAISED, "webhook-suspended")]
        office.receiver.answer = lambda endpoint, event: OK
        await office.until(1, within_s=2 * HOUR_S)
        for _ in range(10):
            await harness.wait(30)
            await harness.now(watching.check())
    assert recorded.words == [(AlertKind.RAISED, "webhook-suspended"), (AlertKind.CLEARED, "webhook-suspended")]


async def test_the_process_that_takes_over_a_session_sends_its_webhooks(office: Office) -> None:
    """One process sends at a time; deliveries that the first had in flight may be repeated, and nothing is missing or
    out of order.
    """
    await office.set()
    office.receiver.takes_s = lambda event: 1.0
    async with office.open(COMPANY):
        await office.happen(1, 2, 3)
        await office.happen(9, company=OTHER)
        await office.until(1)
        await office.harness.wait(30)
        assert {event.company for event in office.receiver.taken} == {COMPANY}
    async with office.open(OTHER):
        await office.until(4)
    assert office.receiver.numbers == [1, 2, 3, 9]


async def test_loaded_deliveries_of_a_session_that_moved_are_not_sent(office: Office) -> None:
    """Another process sends for it now: only deliveries in flight are completed."""
    await office.set()
    office.receiver.takes_s = lambda event: 5.0
    for number in range(30):
        await office.happen(number, chat=f"chat {number}", company=OTHER)
    async with office.open(COMPANY, OTHER):
        await office.harness.until(lambda: len(office.receiver.under_way) == 8)
        office.companies.discard(OTHER)
        await office.harness.wait(60)
    assert len(office.receiver.taken) == 8


# A repaired endpoint.

NEW_URL = "https://crm.example/corrected"


async def test_a_corrected_url_gets_pending_deliveries_at_once(office: Office) -> None:
    """In the order of each chat, however far away the next retry was, whichever endpoint the events go to."""
    for company in (OF_ALL, COMPANY):
        await office.set(company)
        office.receiver.taken.clear()
        office.receiver.answer = lambda endpoint, event: OK if endpoint.url == NEW_URL else BAD
        async with office.open():
            await office.happen(1, 2, chat=f"a{company}")
            await office.happen(3, chat=f"b{company}")
            await office.harness.wait(700)
            await office.set(company, NEW_URL)
            await office.until(3, within_s=5)
            assert sorted(office.receiver.numbers) == [1, 2, 3]
            assert office.receiver.by_chat()[f"a{company}"] == [1, 2]


async def test_a_corrected_url_is_used_at_once_although_the_old_one_was_suspended(office: Office) -> None:
    """For an endpoint that was suspended or off, and one that a company removed in favour of the default endpoint."""
    await office.set()
    await office.set(COMPANY, "https://wrong.example")
    gone = Attempt(status=410, error="the receiver answered 410")
    office.receiver.answer = lambda endpoint, event: BAD
    async with office.open():
        await office.happen(1, 2)
        await office.harness.wait(3 * HOUR_S)
        assert (await office.endpoint(COMPANY)).health.state is EndpointState.SUSPENDED
        office.receiver.answer = lambda endpoint, event: OK if endpoint.url == NEW_URL else gone
        await office.set(COMPANY, NEW_URL)
        await office.until(2, within_s=5)
        await office.set(COMPANY)
        await office.happen(3)
        await office.harness.wait(60)
        assert (await office.endpoint(COMPANY)).health.state is EndpointState.OFF
        office.receiver.answer = lambda endpoint, event: OK
        await office.harness.now(office.rows.put(COMPANY, lambda before: None))
        await office.until(3, within_s=5)
        assert office.receiver.numbers == [1, 2, 3]


async def test_a_failure_at_the_old_url_does_not_count_for_the_new_one(office: Office) -> None:
    """An attempt that was in flight when the URL changed is repeated at once, and does not affect the endpoint's
    health.
    """
    await office.set()
    office.receiver.answer = lambda endpoint, event: OK if endpoint.url == NEW_URL else BAD
    office.receiver.takes_s = lambda event: 14.0
    async with office.open():
        await office.happen(1)
        await office.harness.wait(700)
        await office.harness.until(lambda: bool(office.receiver.under_way), within_s=HOUR_S)
        await office.set(OF_ALL, NEW_URL)
        office.receiver.takes_s = lambda event: 0.0
        await office.until(1, within_s=20)
        assert (await office.endpoint()).last_failure_at is None


async def test_an_endpoint_that_answers_again_gets_deliveries_delayed_by_its_outage(office: Office) -> None:
    """Also before it was suspended; a delivery that it refused for another reason waits for its regular retry."""
    away, poison = Attempt(status=None, error="there was no answer"), Attempt(status=422, error="it answered 422")
    await office.set()
    office.receiver.answer = lambda endpoint, event: poison if event.chat == "p" else away
    async with office.open():
        await office.happen(1, chat="a")
        await office.happen(9, chat="p")
        await office.harness.wait(40)
        office.receiver.answer = lambda endpoint, event: poison if event.chat == "p" else OK
        tries = len(office.receiver.tries)
        await office.happen(2, chat="b")
        await office.until(2, within_s=5)
        assert office.receiver.numbers == [2, 1]
        assert len(office.receiver.tries) == tries + 2


async def test_a_replay_includes_deliveries_that_wait_for_a_retry(office: Office) -> None:
    """The response has their number; an endpoint that is suspended is probed at once."""
    await office.set()
    office.receiver.answer = lambda endpoint, event: BAD
    async with office.open():
        await office.happen(1, 2)
        await office.happen(3, chat="b")
        await office.harness.wait(700)
        office.receiver.answer = lambda endpoint, event: OK
        assert await office.harness.now(office.rows.replay_all(None, since=None)) == 2
        await office.until(3, within_s=5)
        office.receiver.answer = lambda endpoint, event: BAD
        await office.happen(4)
        await office.harness.wait(5 * HOUR_S)
        assert (await office.endpoint()).health.state is EndpointState.SUSPENDED
        office.receiver.answer = lambda endpoint, event: OK
        assert await office.harness.now(office.rows.replay_all([COMPANY], since=None)) == 1
        await office.until(4, within_s=5)


@pytest.mark.parametrize("days", [-3, 3])
async def test_a_retry_is_made_in_time_whatever_the_wall_clock_is_set_to(office: Office, days: int) -> None:
    """The sender detects the change of the clock without a restart."""
    async with office.open():
        await office.set()
        office.receiver.answer = lambda endpoint, event: BAD
        await office.happen(1)
        await office.harness.wait(RETRY_DELAYS_S[0] + 1)
        office.receiver.answer = lambda endpoint, event: OK
        office.harness.clock.set_wall(office.harness.clock.now() + timedelta(days=days))
        await office.until(1, within_s=RETRY_DELAYS_S[1] + 5)


@pytest.mark.parametrize("days", [-3, 3])
async def test_a_suspended_endpoint_is_probed_whatever_the_wall_clock_is_set_to(office: Office, days: int) -> None:
    """Its pending deliveries neither wait for days nor count as days old."""
    async with office.open():
        await office.set()
        office.receiver.answer = lambda endpoint, event: BAD
        await office.happen(1)
        await office.happen(2, chat="b")
        await office.harness.wait(HOUR_S / 2)
        assert (await office.endpoint()).health.state is EndpointState.SUSPENDED
        office.harness.clock.set_wall(office.harness.clock.now() + timedelta(days=2 * days))
        await office.harness.wait(2 * HOUR_S)
        office.receiver.answer = lambda endpoint, event: OK
        await office.until(2, within_s=HOUR_S * 1.2)


async def test_a_clock_set_back_between_two_runs_delays_no_webhook(office: Office) -> None:
    """An attempt in the future was made with another clock."""
    async with office.open():
        await office.set()
        office.receiver.answer = lambda endpoint, event: BAD
        await office.happen(1)
        await office.harness.wait(RETRY_DELAYS_S[0] + 1)
    office.receiver.answer = lambda endpoint, event: OK
    office.harness.clock.set_wall(office.harness.clock.now() - timedelta(days=3))
    async with office.open():
        await office.until(1, within_s=5)


async def test_an_endpoint_is_suspended_in_time_after_the_clock_was_set_back(office: Office) -> None:
    """The time of its first failure is then in the future."""
    async with office.open():
        await office.set()
        office.receiver.answer = lambda endpoint, event: BAD
        await office.happen(1)
        await office.harness.wait(1)
        office.harness.clock.set_wall(office.harness.clock.now() - timedelta(days=3))
        await office.harness.wait(HOUR_S)
        assert (await office.endpoint()).health.state is EndpointState.SUSPENDED
