"""The health monitor: it acts on evidence, independently of the sessions, and alerts people."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest

from holdfast.delivery.stores import Backlog
from holdfast.health.alerts import Alert, AlertKind, Book
from holdfast.health.signals import Limits
from holdfast.runtime.health_monitor import HealthMonitor
from holdfast.session import events
from holdfast.session.engine import Commit, CutLink, Decrypted, Ping
from holdfast.store.figures import FigureRows
from tests.gateway_harness import COMPANY, GatewayHarness


class RecordedAlerts:
    """An alert sender that records its alerts."""

    undelivered_s: float | None = None

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.labels: Mapping[str, str] = {}

    async def begin(self) -> Book:
        return Book()

    async def send(self, book: Book, alerts: Sequence[Alert], labels: Mapping[str, str]) -> None:
        self.alerts += alerts
        self.labels = {**self.labels, **labels}

    async def run(self) -> None:
        await asyncio.Event().wait()

    @property
    def words(self) -> list[tuple[AlertKind, str]]:
        return [(alert.kind, alert.condition.cause) for alert in self.alerts]


def monitor(harness: GatewayHarness, recorded: RecordedAlerts, *, limits: Limits | None = None) -> HealthMonitor:
    figures = FigureRows(harness.database)
    return HealthMonitor(
        harness.gateway, harness.services, figures=figures, alert_sink=recorded, interval_s=30, limits=limits
    )


async def test_a_silent_link_that_answers_a_ping_is_kept(harness: GatewayHarness) -> None:
    """Silence is no reason to reconnect, but a reason to ping. The link answers and stays open."""
    harness.set_policy(keepalive_interval_s=3600)
    async with harness.running():
        link = await harness.pair()
        watching = monitor(harness, RecordedAlerts(), limits=Limits(keepalive_interval_s=30))
        await harness.wait(60)
        await harness.now(watching.check())
        assert len(harness.commands(Ping)) == 1
        await harness.wait(60)
        await harness.now(watching.check())
        await harness.quiet()
        assert len(harness.commands(Ping)) == 2
        await harness.wait(60)
        assert harness.link() == link


async def test_a_silent_link_that_does_not_answer_is_replaced(harness: GatewayHarness) -> None:
    """The probe goes unanswered: the link is cut and another opened, long before the session's own next ping."""
    harness.set_policy(keepalive_interval_s=3600)
    async with harness.running():
        link = await harness.pair()
        watching = monitor(harness, RecordedAlerts(), limits=Limits(keepalive_interval_s=30))
        await harness.wait(120)
        harness.engine.freeze(link)
        await harness.now(watching.check())
        await harness.until(lambda: harness.link() != link, within_s=10)
        await harness.until_state("connected")


async def test_old_plaintexts_are_removed_every_hour_even_if_the_clock_was_set_back(harness: GatewayHarness) -> None:
    """A month later they are gone, and not only when the clock is again where it was."""
    async with harness.running():
        await harness.pair()
        watching = monitor(harness, RecordedAlerts())
        await harness.now(watching.check())
        harness.clock.set_wall(harness.clock.now() - timedelta(days=400))
        received = Decrypted(ciphertext_sha256="a", plaintext="QQ==")
        await harness.now(harness.store.commit(COMPANY, Commit(link=1, seq=1, decrypted=[received])))
        harness.clock.advance_to(harness.clock.monotonic() + 31 * 86_400)
        await harness.now(watching.check())
        assert await harness.now(harness.store.plaintext(COMPANY, "a")) is None


async def test_a_person_is_needed_and_alerted_once_with_an_all_clear(harness: GatewayHarness) -> None:
    """A ban raises one alert however often the monitor checks; when the session has been connected for a while, it is
    cleared.
    """
    recorded = RecordedAlerts()
    async with harness.running() as gateway:
        link = await harness.pair()
        await harness.now(gateway.set_label(COMPANY, "Bakery Irbid"))
        watching = monitor(harness, recorded)
        await harness.now(watching.check())
        assert recorded.words == []
        harness.engine.drop(link, code=406)
        await harness.until_state("paused")
        for _ in range(5):
            await harness.now(watching.check())
            await harness.wait(30)
        assert recorded.words == [(AlertKind.RAISED, "banned")]
        assert recorded.labels == {COMPANY: "Bakery Irbid"}
        await harness.now(gateway.ask(COMPANY, events.StartAsked()))
        await harness.until_state("connected")
        for _ in range(10):
            await harness.wait(30)
            await harness.now(watching.check())
        assert recorded.words == [(AlertKind.RAISED, "banned"), (AlertKind.CLEARED, "banned")]


async def test_a_failing_database_is_reported_and_the_monitor_continues(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be stored: an alert and one log line; when it works again, an all-clear."""
    recorded = RecordedAlerts()
    async with harness.running():
        await harness.pair()
        watching = monitor(harness, recorded)
        harness.database.failing = "disk full"
        for _ in range(3):
            await harness.now(watching.check())
        assert recorded.words == [(AlertKind.RAISED, "database-failing")]
        assert caplog.text.count("Database failure: disk full") == 1
        harness.database.failing = None
        for _ in range(10):
            await harness.wait(30)
            await harness.now(watching.check())
        assert (AlertKind.CLEARED, "database-failing") in recorded.words


async def test_an_engine_host_that_hangs_is_replaced_and_sessions_reconnect(harness: GatewayHarness) -> None:
    """The monitor notices that it is silent, ends it once, and all sessions reconnect on the next."""
    async with harness.running():
        await harness.pair()
        engines = harness.engines
        harness.engine.silent_s = 1000
        await harness.now(monitor(harness, RecordedAlerts()).check())
        await harness.until(lambda: harness.engines == engines + 1)
        await harness.until_state("connected")


async def test_an_actor_that_hangs_is_replaced_from_its_record(harness: GatewayHarness) -> None:
    """Its pings are long overdue and it handles no event: another actor replaces it, and the session connects again."""
    async with harness.running() as gateway:
        link = await harness.pair()
        harness.saves.close()
        gateway.post(COMPANY, events.ReconnectAsked())
        await harness.wait(0)
        gateway.replace_actor(COMPANY, "the session should have acted 60 s ago and did not")
        harness.saves.open()
        await harness.until(lambda: harness.link() != link)
        await harness.until_state("connected")
        assert len(harness.commands(CutLink)) >= 1


async def test_a_hanging_host_is_replaced_once_for_all_its_sessions(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Hundreds of sessions may run on it, and one line of the log is enough."""
    async with harness.running():
        await harness.pair()
        await harness.pair("962303")
        hanging = harness.engine
        hanging.silent_s = 31
        await harness.now(monitor(harness, RecordedAlerts()).check())
        await harness.until(lambda: not hanging.alive)
        assert [line for line in caplog.messages if "it is replaced" in line] == [
            f"Engine host 0 of session {COMPANY}: the engine host has not responded for 31 s; it is replaced"
        ]


class HangingFigures(FigureRows):
    """A database that accepts queries and answers none."""

    async def backlogs(self, company: str | None = None) -> Mapping[str, Backlog]:
        await asyncio.Event().wait()
        return {}


async def test_a_database_that_hangs_raises_an_alert_and_delays_no_check(harness: GatewayHarness) -> None:
    """The sessions are judged without their backlogs meanwhile, and somebody must learn of it."""
    recorded = RecordedAlerts()
    async with harness.running():
        await harness.pair()
        hanging = HangingFigures(harness.database)
        watching = HealthMonitor(harness.gateway, harness.services, figures=hanging, alert_sink=recorded, interval_s=30)
        for _ in range(3):
            await harness.now(watching.check(), within_s=11)
            await harness.wait(30)
        assert (AlertKind.RAISED, "database-failing") in recorded.words


async def test_refused_logins_do_not_count_as_lost_links(harness: GatewayHarness) -> None:
    """One link was lost, and WhatsApp then refuses a dozen logins: there is one alert, which names WhatsApp as the
    cause.
    """
    recorded = RecordedAlerts()
    async with harness.running():
        link = await harness.pair()
        watching = monitor(harness, recorded)
        harness.engine.refuses = 503
        harness.engine.drop(link, code=503)
        for _ in range(20):
            await harness.wait(30)
            await harness.now(watching.check())
        assert recorded.words == [(AlertKind.RAISED, "not-connected")]
        assert "WhatsApp's server is restarting or overloaded (503)" in recorded.alerts[0].condition.sentence


async def test_a_lock_on_new_contacts_is_reported_at_the_next_check(harness: GatewayHarness) -> None:
    """With its end, and only once until it is over."""
    recorded = RecordedAlerts()
    async with harness.running():
        await harness.pair()
        watching = monitor(harness, recorded)
        harness.engine.ack_error = "463"
        await harness.send("stranger")
        await harness.quiet()
        await harness.wait(1)
        await harness.now(watching.check())
        assert recorded.words == [(AlertKind.RAISED, "reach-out-lock")]
        assert "UTC on 02 Jan 2026" in recorded.alerts[0].condition.sentence
        assert harness.gateway.view(COMPANY).hold is not None
