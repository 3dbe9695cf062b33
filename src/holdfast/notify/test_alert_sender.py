"""Alerts are delivered to every address despite failures of addresses and store, and despite clock changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from holdfast.base.clock import iso
from holdfast.health.alerts import Alert, AlertKind, AlertPolicy, Book, dump, update
from holdfast.health.stores import PendingAlert
from holdfast.notify.addresses import AlertAddress
from holdfast.notify.alert_sender import AlertSender, RetrySchedule
from holdfast.notify.apprise_client import NotDelivered
from holdfast.notify.conftest import BANNED, alert
from tests.doubles.fake_alert_rows import FakeAlertRows
from tests.doubles.fake_clock import FakeClock

MAIL = AlertAddress(position=1, url="mailto://me:secret@mail.example")
CHAT = AlertAddress(position=2, url="slack://secret")
DAY_S = 24 * 3600


class FakeTransport:
    """Delivers, or fails for the addresses that a test names; records every attempt in order."""

    def __init__(self) -> None:
        self.failing: set[AlertAddress] = set()
        self.poison: set[str] = set()
        self.defect: Exception | None = None
        self.tries: asyncio.Queue[tuple[AlertAddress, str]] = asyncio.Queue()
        self.delivered: list[tuple[AlertAddress, PendingAlert]] = []

    async def deliver(self, address: AlertAddress, alert: PendingAlert) -> None:
        self.tries.put_nowait((address, alert.title))
        if self.defect is not None:
            raise self.defect
        if address in self.failing or alert.title in self.poison:
            raise NotDelivered("the other side said no")
        self.delivered.append((address, alert))

    @property
    def titles(self) -> list[str]:
        return [delivered.title for _, delivered in self.delivered]


class Post:
    """A sender with its dependencies; `again` is the same sender after a restart."""

    def __init__(self, *addresses: AlertAddress, before: Post | None = None) -> None:
        self.clock: FakeClock = FakeClock() if before is None else before.clock
        self.rows: FakeAlertRows = FakeAlertRows() if before is None else before.rows
        self.transport = FakeTransport()
        self.sender = AlertSender(addresses, rows=self.rows, transport=self.transport, clock=self.clock)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Book]:
        book = await self.sender.begin()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.sender.run())
            yield book
            task.cancel()

    def now(self, kind: AlertKind = AlertKind.RAISED, company: str = "962302") -> Alert:
        about = replace(BANNED, company=company)
        return alert(kind, condition=about, companies=(company,), at=self.clock.now())

    async def tried(self, times: int) -> list[AlertAddress]:
        return [(await self.transport.tries.get())[0] for _ in range(times)]

    async def wait(self, seconds: float) -> int:
        """Advance the clock, and return how many attempts were made."""
        self.clock.advance_to(self.clock.monotonic() + seconds)
        for _ in range(20):
            await asyncio.sleep(0)
        tries = self.transport.tries.qsize()
        while not self.transport.tries.empty():
            self.transport.tries.get_nowait()
        return tries


async def test_an_alert_reaches_every_address() -> None:
    """Each gets it once, and nothing is pending afterwards."""
    post = Post(MAIL, CHAT)
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        assert set(await post.tried(2)) == {MAIL, CHAT}
        assert await post.wait(DAY_S) == 0
        assert (post.sender.undelivered, await post.rows.pending()) == ([], [])
        assert (post.sender.undelivered_s, post.sender.given_up) == (None, 0)


async def test_alerts_of_a_node_that_is_gone_are_delivered(caplog: pytest.LogCaptureFixture) -> None:
    """Within a minute, once; also those stored later. One for an address that this node does not have waits for a node
    that has it, for a day."""
    post = Post(MAIL)
    orphan = PendingAlert(
        id="1", address=MAIL.fingerprint, subject="s", title="t", body="b", severity="critical",
        made_at=iso(post.clock.now()),
    )  # fmt: skip
    async with post.running():
        assert await post.wait(1) == 0
        post.rows.orphans = [orphan, replace(orphan, id="2", address="beef")]
        assert await post.wait(60) == 1
        post.rows.fails = True
        assert await post.wait(60) == 0
        post.rows.fails = False
        post.rows.orphans.append(replace(orphan, id="3", title="later"))
        assert await post.wait(60) == 1
        assert [each.id for each in post.rows.orphans] == ["2"]
        assert await post.wait(DAY_S) == 0
    assert post.transport.titles == ["t", "later"]
    assert (post.rows.orphans, await post.rows.pending()) == ([], [])
    assert "Can't look for alerts of nodes that are gone" in caplog.text


OWN = "Holdfast: own – paused (banned)"


async def test_adopted_alerts_whose_result_was_lost_are_delivered_when_the_database_is_back() -> None:
    """The adoption was committed before the connection was lost, so no later one returns them. Each comes once."""
    post = Post(MAIL)
    own, orphan = post.now(company="own"), PendingAlert(
        id="1", address=MAIL.fingerprint, subject="s", title="t", body="b", severity="critical",
        made_at=iso(post.clock.now()),
    )  # fmt: skip
    async with post.running():
        await post.wait(1)
        post.transport.failing = {MAIL}
        await post.sender.send(Book(), [own])
        post.rows.orphans, post.rows.torn = [orphan], True
        await post.wait(60)
        assert (post.rows.orphans, [each.title for each in post.sender.undelivered]) == ([], [OWN])
        post.rows.fails, post.rows.torn = True, False
        await post.wait(600)
        post.rows.fails, post.transport.failing = False, set()
        await post.wait(10)
        assert "t" in post.transport.titles
        await post.wait(DAY_S)
    assert sorted(post.transport.titles) == [OWN, "t"]
    assert await post.rows.pending() == []


async def test_an_alert_delivered_during_the_search_for_adopted_ones_is_delivered_once() -> None:
    """The rows that the search returns may be older than the delivery."""
    post = Post(MAIL)
    async with post.running():
        await post.wait(1)
        post.rows.torn = True
        await post.wait(60)
        post.rows.torn, post.transport.failing = False, {MAIL}
        await post.sender.send(Book(), [post.now()])
        await post.tried(1)
        post.transport.failing = set()
        post.rows.stale = asyncio.Event()
        await post.wait(60)
        assert len(post.transport.titles) == 1
        post.rows.stale.set()
        await post.wait(60)
    assert len(post.transport.titles) == 1


async def test_an_alert_that_another_node_took_over_is_not_retried() -> None:
    """A node that was cut off from the database counts as stopped, but still runs. While it can't query, it retries."""
    post = Post(MAIL)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        assert await post.wait(1) == 1
        post.rows.fails = True
        assert await post.wait(60) > 0
        post.rows.fails, post.transport.failing = False, set()
        for each in await post.rows.pending():
            await post.rows.settle(each.id, each.address)
        assert await post.wait(DAY_S) == 0
    assert (post.sender.undelivered, post.sender.given_up) == ([], 0)


async def test_without_an_address_alerts_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The alert book is stored nevertheless."""
    post = Post()
    with caplog.at_level(logging.INFO, logger="holdfast.notify"):
        async with post.running():
            await post.sender.send(Book(), [post.now(), alert(AlertKind.CLEARED)])
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "Alert raised: 962302 – paused (banned). The session is paused because WhatsApp banned this number (406).",
        ),
        ("INFO", "Alert cleared: 962302 – paused (banned), after 5 min"),
    ]
    assert await post.rows.book() == dump(Book())


async def test_no_error_of_a_service_ends_holdfast(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it is, the alert is sent again: alerts and sessions share one process."""
    post = Post(MAIL)
    post.transport.defect = RuntimeError("can't start new thread")
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        await post.tried(1)
        post.transport.defect = None
        await post.wait(2)
        assert len(post.transport.delivered) == 1
    assert "can't start new thread" in caplog.text


async def test_failures_are_tried_again_by_the_formula() -> None:
    """After 1.5 s, 2.25 s, 3.375 s …"""
    post = Post(MAIL)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        await post.tried(1)
        for wait_s in (1.5, 2.25, 3.375):
            assert await post.wait(wait_s - 0.01) == 0
            assert await post.wait(0.01) == 1


async def test_one_address_does_not_delay_another() -> None:
    """Slack gets it while mail fails, and gets it once."""
    post = Post(MAIL, CHAT)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        await post.wait(600)
        assert [address for address, _ in post.transport.delivered] == [CHAT]
        assert [(each.address, each.error) for each in post.sender.undelivered] == [
            ("address 1 (mailto)", "the other side said no")
        ]


async def test_undelivered_alerts_are_shown() -> None:
    """It shows title, address, time, attempts and error; its age raises an alert of its own."""
    post = Post(MAIL)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        assert post.sender.undelivered_s is None
        await post.tried(1)
        await post.wait(1.5)
        (waiting,) = post.sender.undelivered
        assert (waiting.title, waiting.tries, waiting.error) == (
            "Holdfast: 962302 – paused (banned)",
            2,
            "the other side said no",
        )
        assert post.sender.undelivered_s == pytest.approx(1.5)


async def test_a_new_alert_does_not_wait_for_old_ones() -> None:
    """Even while older alerts wait for a retry."""
    post = Post(MAIL)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        for _ in range(40):
            await post.wait(300)
        post.transport.failing = set()
        await post.sender.send(Book(), [post.now(company="962303")])
        await post.tried(1)
        assert post.transport.titles[0] == "Holdfast: 962303 – paused (banned)"


async def test_a_success_brings_the_others_at_once() -> None:
    """An address that accepts one alert works again, so the others are due at once."""
    post = Post(MAIL)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now(), post.now(company="962303")])
        for _ in range(40):
            await post.wait(300)
        post.transport.failing = set()
        await post.sender.send(Book(), [post.now(company="962304")])
        await post.tried(3)
        assert (len(post.transport.delivered), post.sender.undelivered) == (3, [])


async def test_an_alert_that_is_never_accepted_does_not_delay_others() -> None:
    """A service may refuse one text permanently; the others are delivered, each once."""
    post = Post(MAIL)
    post.transport.poison = {"Holdfast: 962302 – paused (banned)"}
    async with post.running():
        await post.sender.send(Book(), [post.now(), *(post.now(company=f"c{n}") for n in range(5))])
        await post.wait(0)
        assert sorted(post.transport.titles) == [f"Holdfast: c{n} – paused (banned)" for n in range(5)]


async def test_one_subject_keeps_its_order() -> None:
    """An all-clear is never delivered before its alert."""
    post = Post(MAIL)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        await post.wait(100)
        await post.sender.send(Book(), [post.now(AlertKind.CLEARED)])
        await post.wait(100)
        post.transport.failing = set()
        await post.wait(300)
    assert post.transport.titles == ["Holdfast: 962302 – paused (banned)", "Holdfast, over: 962302 – paused (banned)"]


async def test_an_undelivered_alert_is_given_up_after_a_day(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged as an error, counted and removed; the next alert is sent as usual."""
    post = Post(MAIL)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        await post.wait(0)
        for _ in range(DAY_S // 300):
            assert await post.wait(300) >= 1
        assert (post.sender.given_up, post.sender.undelivered, await post.rows.pending()) == (1, [], [])
        assert await post.wait(DAY_S) == 0
        await post.sender.send(Book(), [post.now()])
        await post.tried(1)
    assert (
        'Alert "Holdfast: 962302 – paused (banned)" was not delivered to address 1 (mailto) and is given up'
        in caplog.text
    )


@pytest.mark.parametrize("days", [-3, 3])
async def test_a_clock_that_was_set_makes_no_alert_older_or_younger(days: int) -> None:
    """Its delivery is retried for a day, whatever happens to the wall clock."""
    post = Post(MAIL)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        await post.wait(0)
        post.clock.set_wall(post.clock.now() + timedelta(days=days))
        for _ in range(DAY_S // 300 - 1):
            assert await post.wait(300) >= 1
        assert post.sender.given_up == 0
        await post.wait(600)
        assert post.sender.given_up == 1


async def test_failures_are_logged_once_and_success_after_them(caplog: pytest.LogCaptureFixture) -> None:
    """Many failed attempts cause one log line, and the delivery another; neither shows the URL."""
    caplog.set_level(logging.INFO, logger="holdfast.notify")
    post = Post(MAIL)
    post.transport.failing = {MAIL}
    async with post.running():
        await post.sender.send(Book(), [post.now()])
        await post.wait(0)
        for _ in range(50):
            await post.wait(300)
        post.transport.failing = set()
        await post.wait(300)
    lines = [record.getMessage() for record in caplog.records][1:]
    about = 'Alert "Holdfast: 962302 – paused (banned)"'
    assert lines == [
        f"{about} can't be delivered to address 1 (mailto) and is retried: the other side said no",
        f"{about} was delivered to address 1 (mailto) at attempt 52",
    ]
    assert "secret" not in caplog.text


# Restarts.


async def test_a_restart_continues_with_pending_alerts() -> None:
    """The next process delivers the pending alerts, and loads the same alert book."""
    post = Post(MAIL, CHAT)
    post.transport.failing = {MAIL}
    book, alerts = update(Book(), [BANNED], now=post.clock.now(), policy=AlertPolicy())
    async with post.running():
        await post.sender.send(book, alerts)
        await post.tried(2)
    again = Post(MAIL, CHAT, before=post)
    async with again.running() as restored:
        assert restored == book
        assert await again.tried(1) == [MAIL]
        await again.wait(0)
        assert (again.sender.undelivered, await again.rows.pending()) == ([], [])


async def test_an_address_that_is_gone_gets_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Alerts for an address that was removed from the setting are dropped, with a log line."""
    post = Post(MAIL)
    await post.sender.begin()
    await post.sender.send(Book(), [post.now()])
    again = Post(CHAT, before=post)
    async with again.running():
        assert await again.wait(0) == 0
        assert await again.rows.pending() == []
    assert "is dropped: its address is no longer configured" in caplog.text


async def test_an_unreadable_book_is_replaced_by_an_empty_one(caplog: pytest.LogCaptureFixture) -> None:
    """A repeated alert is better than a missing one."""
    post = Post(MAIL)
    await post.rows.keep("{", [])
    async with post.running() as book:
        assert book == Book()
    assert "alerts about current conditions will be sent again" in caplog.text


# A store that fails.


async def test_a_failing_store_delays_no_alert(caplog: pytest.LogCaptureFixture) -> None:
    """The alert about a failing database must be sent while the database fails."""
    post = Post(MAIL)
    async with post.running():
        post.rows.fails = True
        await post.sender.send(Book(), [post.now()])
        assert await post.tried(1) == [MAIL]
        assert post.sender.undelivered == []
    assert "Alerts can't be stored, and a restart may repeat them" in caplog.text


async def test_pending_alerts_are_stored_when_the_store_works_again() -> None:
    """It stores the alerts that are still pending, and not those that were delivered in the meantime."""
    post = Post(MAIL)
    async with post.running():
        post.rows.fails = True
        await post.sender.send(Book(), [post.now(company="arrived")])
        await post.tried(1)
        post.transport.failing = {MAIL}
        await post.sender.send(Book(), [post.now(company="waiting")])
        await post.tried(1)
        post.rows.fails = False
        await post.sender.send(Book(), [])
        assert [kept.title for kept in await post.rows.pending()] == ["Holdfast: waiting – paused (banned)"]
        assert await post.rows.book() == dump(Book())


async def test_alerts_delivered_while_the_store_failed_are_settled_later(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise the next start would deliver it again."""
    post = Post(MAIL)
    async with post.running():
        post.transport.failing = {MAIL}
        await post.sender.send(Book(), [post.now()])
        await post.tried(1)
        post.transport.failing, post.rows.fails = set(), True
        await post.wait(1.5)
        post.rows.fails = False
        assert len(await post.rows.pending()) == 1
        book, _ = update(Book(), [BANNED], now=post.clock.now(), policy=AlertPolicy())
        await post.sender.send(book, [])
        assert await post.rows.pending() == []
    assert "Can't record that an alert was delivered, so a restart may send it again" in caplog.text


async def test_what_a_failing_store_refused_is_stored_when_it_works_again() -> None:
    """Without waiting for the next alert: a restart until then would repeat the delivered one and lose the other."""
    post = Post(MAIL)
    async with post.running():
        post.transport.failing = {MAIL}
        await post.sender.send(Book(), [post.now(company="arrived")])
        await post.tried(1)
        post.transport.failing, post.rows.fails = set(), True
        await post.wait(1.5)
        post.transport.failing = {MAIL}
        book, _ = update(Book(), [BANNED], now=post.clock.now(), policy=AlertPolicy())
        await post.sender.send(book, [post.now(company="waiting")])
        await post.wait(60)
        post.rows.fails = False
        await post.wait(5)
        assert [kept.title for kept in await post.rows.pending()] == ["Holdfast: waiting – paused (banned)"]
        assert await post.rows.book() == dump(book)
        writes = post.rows.writes
        await post.wait(600)
        assert post.rows.writes == writes


async def test_nothing_new_writes_nothing() -> None:
    """The book is checked every 30 s and written only when it changed."""
    post = Post(MAIL)
    async with post.running():
        await post.sender.send(Book(), [])
        assert post.rows.writes == 1
        await post.sender.send(Book(), [])
        assert post.rows.writes == 1


def test_the_pace_is_the_formula_up_to_its_cap() -> None:
    """1.5 ** attempts seconds, at most five minutes."""
    assert [RetrySchedule().delay_s(tries) for tries in (1, 2, 14, 15, 100_000)] == [1.5, 2.25, 1.5**14, 300, 300]


def test_a_day_is_the_clocks() -> None:
    """The fake clock's record time moves with its monotonic time, which the tests above rely on."""
    clock = FakeClock()
    before = clock.now()
    clock.advance_to(clock.monotonic() + DAY_S)
    assert clock.now() - before == timedelta(days=1)
