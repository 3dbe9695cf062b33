"""The health monitor: it acts on evidence, independently of the sessions, and alerts people."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from holdfast.health.alerts import Alert, AlertKind, Book
from holdfast.health.signals import Limits
from holdfast.runtime.health_monitor import HealthMonitor
from holdfast.session import events
from holdfast.session.engine import CutLink, Ping
from holdfast.store.figures import FigureRows
from tests.world import COMPANY, World


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


def monitor(world: World, told: RecordedAlerts, *, limits: Limits | None = None) -> HealthMonitor:
    figures = FigureRows(world.database)
    return HealthMonitor(world.gateway, world.parts, figures=figures, alert_sink=told, interval_s=30, limits=limits)


async def test_a_silent_link_that_answers_a_ping_is_kept(world: World) -> None:
    """Silence is no reason to reconnect, but a reason to ping. The link answers and stays open."""
    world.set_policy(keepalive_interval_s=3600)
    async with world.running():
        link = await world.pair()
        watching = monitor(world, RecordedAlerts(), limits=Limits(keepalive_interval_s=30))
        await world.wait(60)
        await world.now(watching.check())
        assert len(world.commands(Ping)) == 1
        await world.wait(60)
        await world.now(watching.check())
        await world.quiet()
        assert len(world.commands(Ping)) == 2
        await world.wait(60)
        assert world.link() == link


async def test_a_silent_link_that_does_not_answer_is_replaced(world: World) -> None:
    """The probe goes unanswered: the link is cut and another opened, long before the session's own next ping."""
    world.set_policy(keepalive_interval_s=3600)
    async with world.running():
        link = await world.pair()
        watching = monitor(world, RecordedAlerts(), limits=Limits(keepalive_interval_s=30))
        await world.wait(120)
        world.engine.freeze(link)
        await world.now(watching.check())
        await world.until(lambda: world.link() != link, within_s=10)
        await world.until_state("connected")


async def test_a_person_is_needed_and_alerted_once_with_an_all_clear(world: World) -> None:
    """A ban raises one alert however often the monitor checks; when the session has been connected for a while, it is
    cleared.
    """
    told = RecordedAlerts()
    async with world.running() as gateway:
        link = await world.pair()
        await world.now(gateway.set_label(COMPANY, "Bakery Irbid"))
        watching = monitor(world, told)
        await world.now(watching.check())
        assert told.words == []
        world.engine.drop(link, code=406)
        await world.until_state("paused")
        for _ in range(5):
            await world.now(watching.check())
            await world.wait(30)
        assert told.words == [(AlertKind.RAISED, "banned")]
        assert told.labels == {COMPANY: "Bakery Irbid"}
        await world.now(gateway.ask(COMPANY, events.StartAsked()))
        await world.until_state("connected")
        for _ in range(10):
            await world.wait(30)
            await world.now(watching.check())
        assert told.words == [(AlertKind.RAISED, "banned"), (AlertKind.CLEARED, "banned")]


async def test_a_failing_database_is_reported_and_the_monitor_continues(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be stored: an alert and one log line; when it works again, an all-clear."""
    told = RecordedAlerts()
    async with world.running():
        await world.pair()
        watching = monitor(world, told)
        world.database.failing = "disk full"
        for _ in range(3):
            await world.now(watching.check())
        assert told.words == [(AlertKind.RAISED, "database-failing")]
        assert caplog.text.count("Database failure: disk full") == 1
        world.database.failing = None
        for _ in range(10):
            await world.wait(30)
            await world.now(watching.check())
        assert (AlertKind.CLEARED, "database-failing") in told.words


async def test_an_engine_host_that_hangs_is_replaced_and_sessions_reconnect(world: World) -> None:
    """The monitor notices that it is silent, ends it once, and all sessions reconnect on the next."""
    async with world.running():
        await world.pair()
        engines = world.engines
        world.engine.silent_s = 1000
        await world.now(monitor(world, RecordedAlerts()).check())
        await world.until(lambda: world.engines == engines + 1)
        await world.until_state("connected")


async def test_an_actor_that_hangs_is_replaced_from_its_record(world: World) -> None:
    """Its pings are long overdue and it handles no event: another actor replaces it, and the session connects again."""
    async with world.running() as gateway:
        link = await world.pair()
        world.saves.close()
        gateway.post(COMPANY, events.ReconnectAsked())
        await world.wait(0)
        gateway.replace_actor(COMPANY, "the session should have acted 60 s ago and did not")
        world.saves.open()
        await world.until(lambda: world.link() != link)
        await world.until_state("connected")
        assert len(world.commands(CutLink)) >= 1


async def test_refused_logins_do_not_count_as_lost_links(world: World) -> None:
    """One link was lost, and WhatsApp then refuses a dozen logins: there is one alert, which names WhatsApp as the
    cause.
    """
    told = RecordedAlerts()
    async with world.running():
        link = await world.pair()
        watching = monitor(world, told)
        world.engine.refuses = 503
        world.engine.drop(link, code=503)
        for _ in range(20):
            await world.wait(30)
            await world.now(watching.check())
        assert told.words == [(AlertKind.RAISED, "not-connected")]
        assert "WhatsApp's server is restarting or overloaded (503)" in told.alerts[0].condition.sentence


async def test_a_lock_on_new_contacts_is_reported_at_the_next_check(world: World) -> None:
    """With its end, and only once until it is over."""
    told = RecordedAlerts()
    async with world.running():
        await world.pair()
        watching = monitor(world, told)
        world.engine.ack_error = "463"
        await world.send("stranger")
        await world.quiet()
        await world.wait(1)
        await world.now(watching.check())
        assert told.words == [(AlertKind.RAISED, "reach-out-lock")]
        assert "UTC on 02 Jan 2026" in told.alerts[0].condition.sentence
        assert world.gateway.view(COMPANY).hold is not None
