"""The messages of a company's page."""

from __future__ import annotations

from tests.dashboard.browser import Browser
from tests.gateway_harness import COMPANY, GatewayHarness

MESSAGES = f"/companies/{COMPANY}/messages"


async def test_a_queued_message_says_why_it_waits(browser: Browser, harness: GatewayHarness) -> None:
    """Because of the company's pacing, or for the connection; a sent message shows no reason."""
    await harness.pair()
    await harness.now(harness.limits.set_pacing(COMPANY, {"perMinute": 0.05, "burst": 1}))
    await harness.until_message(await harness.send("first"), "sent")
    await browser.sign_in()
    assert "Waits" not in (await browser.get(MESSAGES)).body.decode()
    await harness.send("second")
    assert "Waits in the queue: at most 0.05 messages a minute are sent." in (await browser.get(MESSAGES)).body.decode()
    await browser.post(f"/companies/{COMPANY}/action/stop")
    await harness.quiet()
    shown = (await browser.get(MESSAGES)).body.decode()
    assert shown.count("Waits until the session is connected (now: stopped).") == 1


async def test_a_first_message_says_that_new_contacts_are_locked(browser: Browser, harness: GatewayHarness) -> None:
    """Also one that was never attempted, because the lock was there before."""
    await harness.pair()
    harness.engine.lock_reach_out(harness.link(), until_s=1_767_348_060)
    await harness.quiet()
    await harness.send("hello stranger")
    await browser.sign_in()
    shown = (await browser.get(MESSAGES)).body.decode()
    assert "only to people it already knows, until <time" in shown
    assert ">10:01 UTC on 02 Jan 2026</time>." in shown
