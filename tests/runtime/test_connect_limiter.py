"""Many sessions of one gateway: they connect one after another, and a refusal of several makes the others wait."""

from __future__ import annotations

import logging

import pytest

from holdfast.session import events
from holdfast.session.connect_limiter import LimiterPolicy
from holdfast.session.engine import OpenLink
from holdfast.session.reasons import CLIENT_OUTDATED_CODE
from tests.gateway_harness import GatewayHarness

FEW = [f"96230{number}" for number in range(5)]


async def lose_all(harness: GatewayHarness, companies: list[str], code: int = 428) -> None:
    for company in companies:
        harness.engine.drop(harness.link(company), code=code)
    await harness.quiet()


def links_begun(harness: GatewayHarness, companies: list[str]) -> int:
    return sum(len(harness.commands(OpenLink, company)) for company in companies)


async def test_a_large_fleet_reconnects_staggered_and_completely(harness: GatewayHarness) -> None:
    """Thirty sessions lose their links together: no more than the burst start at once, twenty at the rate that was
    reached before, all are connected in seconds, and waiting in the queue costs no attempt.
    """
    companies = [f"company-{number:02}" for number in range(30)]
    async with harness.running():
        for company in companies:
            await harness.pair(company)
        await harness.wait(70)
        before, at = links_begun(harness, companies), harness.clock.monotonic()
        await lose_all(harness, companies)
        assert links_begun(harness, companies) - before <= 21
        await harness.until(lambda: all(harness.state(company) == "connected" for company in companies), within_s=5)
        assert harness.clock.monotonic() - at >= 0.2
        assert links_begun(harness, companies) - before == 30
        assert {harness.gateway.view(company).session.attempts for company in companies} == {1}


async def test_the_reason_of_an_end_is_recorded_although_the_next_link_must_wait(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """WhatsApp asks thirty sessions for a new connection at once. Some have to wait, and are shown as waiting."""
    caplog.set_level(logging.INFO)
    companies = [f"company-{number:02}" for number in range(30)]
    async with harness.running():
        for company in companies:
            await harness.pair(company)
        await harness.wait(70)
        caplog.clear()
        await lose_all(harness, companies, code=515)
        waiting = [company for company in companies if harness.gateway.view(company).session.held]
        assert waiting
        assert harness.gateway.view(waiting[0]).record.reason == "connect-queued"
        ends = [line for line in caplog.messages if "connected → reconnecting" in line]
        assert len(ends) == 30
        assert all("(515)" in line for line in ends)
        history = await harness.now(harness.timeline.last(waiting[0], since="", limit=9))
        assert ("LinkClosed", "restart-required") in [(entry.event, entry.reason) for entry in history]


async def test_a_refusal_of_three_delays_the_others_until_one_connects(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """The others don't connect, show the reason and the time, and do not count as lost; the probe's login lets all
    connect.
    """
    caplog.set_level(logging.INFO)
    async with harness.running():
        for company in FEW:
            await harness.pair(company)
        await harness.wait(70)
        harness.engine.refuses = 503
        await lose_all(harness, FEW)
        await harness.wait(20)
        assert sum("several sessions were refused for the same reason" in line for line in caplog.messages) == 1
        held = [company for company in FEW if harness.gateway.view(company).record.reason == "circuit-breaker-open"]
        assert held
        view = harness.gateway.view(held[0])
        assert view.record.state == "reconnecting"
        assert view.next_attempt_at is not None
        begun = links_begun(harness, FEW)
        await harness.wait(20)
        assert links_begun(harness, FEW) - begun <= 2, "probes, and nobody else"
        harness.engine.refuses = None
        await harness.until(lambda: all(harness.state(company) == "connected" for company in FEW), within_s=70)
        assert sum("WhatsApp accepts logins again" in line for line in caplog.messages) == 1
        assert not any(harness.gateway.view(company).session.held for company in FEW)


async def test_two_sessions_never_open_the_breaker(harness: GatewayHarness) -> None:
    """However often WhatsApp refuses both, each uses its own backoff."""
    async with harness.running():
        for company in FEW[:2]:
            await harness.pair(company)
        harness.engine.refuses = 503
        await lose_all(harness, FEW[:2])
        for _ in range(30):
            await harness.wait(2)
            assert {harness.gateway.view(company).record.reason for company in FEW[:2]} <= {
                "server-unavailable", "transport-closed",
            }  # fmt: skip


async def test_a_waiting_session_that_is_stopped_stays_stopped(harness: GatewayHarness) -> None:
    """A late wake-up starts nothing, and another session gets its place."""
    async with harness.running():
        for company in FEW:
            await harness.pair(company)
        harness.engine.refuses = 500
        await lose_all(harness, FEW)
        await harness.wait(20)
        held = next(company for company in FEW if harness.gateway.view(company).session.held)
        await harness.now(harness.gateway.ask(held, events.StopAsked()))
        harness.engine.refuses = None
        others = [company for company in FEW if company != held]
        await harness.until(lambda: all(harness.state(company) == "connected" for company in others), within_s=70)
        await harness.wait(120)
        assert harness.state(held) == "stopped"


async def test_an_outdated_client_probes_once_per_cycle_until_there_is_a_newer_version(harness: GatewayHarness) -> None:
    """Fifty sessions are cut with 405: a few logins, then exactly one every five minutes, whatever each session would
    do alone. All are connected within seconds after the newer version is published.
    """
    companies = [f"company-{number:02}" for number in range(50)]
    async with harness.running() as gateway:
        for company in companies:
            await harness.pair(company)
        before, harness.engine.refuses = links_begun(harness, companies), CLIENT_OUTDATED_CODE
        await lose_all(harness, companies, code=CLIENT_OUTDATED_CODE)
        await harness.wait(60)
        refused = links_begun(harness, companies) - before
        assert refused <= 10
        for cycle in range(1, 4):
            await harness.wait(LimiterPolicy().probe_outdated_s + 1)
            assert links_begun(harness, companies) - before == refused + cycle
        harness.engine.refuses = None
        gateway.client_updated()
        await harness.until(lambda: all(harness.state(company) == "connected" for company in companies), within_s=15)
        assert links_begun(harness, companies) - before == refused + 3 + 50


async def test_after_an_outage_the_first_login_lets_all_reconnect(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Sixty sessions back off for minutes while WhatsApp can't be reached; none waits for its own next attempt."""
    caplog.set_level(logging.INFO)
    companies = [f"company-{number:02}" for number in range(60)]
    async with harness.running():
        for company in companies:
            await harness.pair(company)
        await harness.wait(70)
        harness.engine.refuses = 408
        await lose_all(harness, companies)
        for _ in range(15):
            await harness.wait(10)
        before, harness.engine.refuses = links_begun(harness, companies), None
        await harness.until(lambda: any(harness.state(company) == "connected" for company in companies), within_s=60)
        await harness.until(lambda: all(harness.state(company) == "connected" for company in companies), within_s=4)
        assert links_begun(harness, companies) - before == 60
        assert any("it can be reached again" in line for line in caplog.messages)


async def test_sessions_with_messages_connect_first(harness: GatewayHarness) -> None:
    """Of sixty sessions that lose their links together, the last one has a message: it reconnects before the rest."""
    companies = [f"company-{number:02}" for number in range(60)]
    async with harness.running():
        for company in companies:
            await harness.pair(company)
        await harness.wait(70)
        await lose_all(harness, companies)
        waiting = next(company for company in reversed(companies) if harness.gateway.view(company).session.held)
        await harness.now(harness.gateway.ask(waiting, events.StopAsked()))
        await harness.send("text", company=waiting)
        await harness.now(harness.gateway.ask(waiting, events.StartAsked()))
        await harness.until(lambda: harness.state(waiting) == "connected", within_s=5)
        assert sum(harness.state(company) != "connected" for company in companies) > 10


async def test_a_share_of_a_cluster_bounds_the_rate(harness: GatewayHarness) -> None:
    """With a hundred nodes, each starts one link per second."""
    companies = [f"company-{number:02}" for number in range(20)]
    async with harness.running():
        for company in companies:
            await harness.pair(company)
        await harness.wait(70)
        harness.services.connect_limiter.share(100)
        before = links_begun(harness, companies)
        await lose_all(harness, companies)
        await harness.wait(10)
        assert 10 <= links_begun(harness, companies) - before <= 12
