"""Problems that need a person are shown on every page: open alerts and failing webhooks, but none of other
companies.
"""

from __future__ import annotations

from dataclasses import replace

from holdfast.delivery.webhooks import Endpoint, EndpointHealth, EndpointState
from holdfast.health.advice import Remedy
from holdfast.health.conditions import Condition, Severity
from tests.api.api_client import KEY_OF_ONE, OTHER
from tests.dashboard.browser import Browser
from tests.dashboard.test_live import receives
from tests.gateway_harness import COMPANY, GatewayHarness

REDIS = Condition(
    company=None,
    cause="redis-unavailable",
    severity=Severity.WARNING,
    title="Redis is unavailable",
    sentence="Redis does not answer.",
    action=Remedy.CHECK_REDIS,
)
ENDPOINT = Endpoint(
    id="ep_1", company=OTHER, url="http://receiver.test/", secret="s", events=None, health=EndpointHealth(failures=3)
)


async def _fails(harness: GatewayHarness, company: str) -> None:
    await harness.webhooks.rows.put(company, lambda _: replace(ENDPOINT, company=company, id=f"ep_{company}"))
    await harness.now(
        harness.database.write(
            lambda connection: connection.exec_driver_sql("UPDATE webhook_endpoints SET failures = 3")
        )
    )


async def test_open_alerts_and_failing_webhooks_are_on_every_page(browser: Browser, harness: GatewayHarness) -> None:
    """The fleet page has the details; the navigation of each page has the counts, with an alert about a webhook counted
    once.
    """
    await harness.pair()
    await _fails(harness, COMPANY)
    harness.open_alerts += [REDIS, replace(REDIS, company=COMPANY, action=Remedy.CHECK_WEBHOOK)]
    await browser.sign_in()
    fleet = (await browser.get("/")).body.decode()
    assert (
        "<strong>Redis is unavailable.</strong> Redis does not answer. Check whether Redis runs and can be reached."
        in fleet
    )
    assert f"A webhook receiver is failing.</strong> Events of {COMPANY} are kept and retried." in fleet
    for page in ("/webhooks", f"/companies/{COMPANY}", f"/companies/{COMPANY}/inbox", "/companies/nobody"):
        text = (await browser.get(page)).body.decode()
        assert '<span id="badge-alerts" class="badge">1<' in text, page
        assert '<span id="badge-webhooks" class="badge">1<' in text, page


async def test_an_endpoint_that_is_off_is_not_said_to_be_retried(browser: Browser, harness: GatewayHarness) -> None:
    """Nothing is delivered to it until a person resumes it; others are retried."""
    await harness.pair()
    await harness.pair(OTHER)
    await _fails(harness, COMPANY)
    await _fails(harness, OTHER)
    off = replace(ENDPOINT, health=EndpointHealth(state=EndpointState.OFF, failures=3))
    await harness.now(harness.webhooks.rows.put(OTHER, lambda _: off))
    await browser.sign_in()
    fleet = (await browser.get("/")).body.decode()
    assert (
        f"2 webhook receivers are failing.</strong> Events of {COMPANY} are kept and retried. "
        f"Events of {OTHER} are kept until you resume the endpoint, for four days at most." in fleet
    )


async def test_a_key_of_one_company_sees_only_its_own_problems(browser: Browser, harness: GatewayHarness) -> None:
    """Neither problems of Holdfast as a whole, nor another company's endpoint."""
    await harness.pair()
    await harness.pair(OTHER)
    await _fails(harness, OTHER)
    harness.open_alerts += [REDIS, replace(REDIS, company=OTHER)]
    await browser.sign_in(KEY_OF_ONE)
    text = (await browser.get("/")).body.decode()
    assert "Redis" not in text
    assert text.count('class="badge" hidden') == 2


async def test_the_fleet_page_shows_an_alert_without_a_reload(browser: Browser, harness: GatewayHarness) -> None:
    """Notice and badge arrive by the event stream, and disappear with the alert."""
    await harness.pair()
    await browser.sign_in()
    async with browser.listening("/live") as stream:
        await receives(harness, stream, "event: ")
        harness.open_alerts.append(REDIS)
        await receives(harness, stream, "Redis is unavailable.", 'id="badge-alerts"')
        stream.forget()
        harness.open_alerts.clear()
        await receives(harness, stream, 'id="attention"', " hidden")


async def test_an_unknown_company_can_be_added_from_its_page(browser: Browser, harness: GatewayHarness) -> None:
    """The page says that it does not exist and has the button, without HTTP terms."""
    await browser.sign_in()
    answer = await browser.get("/companies/nobody")
    text = answer.body.decode()
    assert (answer.status, "There is no company “nobody”" in text, "PUT" in text) == (404, True, False)
    added = await browser.post("/companies", company="nobody")
    assert (added.status, added.headers["location"]) == (303, "/companies/nobody")
