"""The messages of a company's page."""

from __future__ import annotations

from tests.dashboard.browser import Browser
from tests.world import COMPANY, World

MESSAGES = f"/companies/{COMPANY}/messages"


async def test_a_queued_message_says_why_it_waits(browser: Browser, world: World) -> None:
    """Because of the company's pacing, or for the connection; a sent message shows no reason."""
    await world.pair()
    await world.now(world.limits.set_pacing(COMPANY, {"perMinute": 0.05, "burst": 1}))
    await world.until_message(await world.send("first"), "sent")
    await browser.sign_in()
    assert "Waits" not in (await browser.get(MESSAGES)).body.decode()
    await world.send("second")
    assert "Waits in the queue: at most 0.05 messages a minute are sent." in (await browser.get(MESSAGES)).body.decode()
    await browser.post(f"/companies/{COMPANY}/action/stop")
    await world.quiet()
    shown = (await browser.get(MESSAGES)).body.decode()
    assert shown.count("Waits until the session is connected (now: stopped).") == 1


async def test_a_first_message_says_that_new_contacts_are_locked(browser: Browser, world: World) -> None:
    """Also one that was never attempted, because the lock was there before."""
    await world.pair()
    world.engine.lock_reach_out(world.link(), until_s=1_767_348_060)
    await world.quiet()
    await world.send("hello stranger")
    await browser.sign_in()
    shown = (await browser.get(MESSAGES)).body.decode()
    assert "only to people it already knows, until <time" in shown
    assert ">10:01 UTC on 02 Jan 2026</time>." in shown
