"""Settings of a company on its page: label, webhook, pacing; and its removal."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from holdfast.delivery.webhooks import EndpointHealth, EndpointState, new_endpoint
from tests.api.api_client import KEY_OF_ONE
from tests.dashboard.browser import Browser
from tests.gateway_harness import COMPANY, GatewayHarness

PAGE = f"/companies/{COMPANY}"
SETTINGS = f"{PAGE}/settings"
PART = {"HX-Request": "true"}


async def test_settings_are_saved_shown_and_removed_again(browser: Browser, harness: GatewayHarness) -> None:
    """A first webhook shows its secret once; empty fields return to the general settings; other pacing values
    are kept.
    """
    await harness.pair()
    await harness.now(harness.limits.set_pacing(COMPANY, {"gapMs": 500}))
    await browser.sign_in()
    given = {"label": "Bakery Irbid", "webhook_url": "https://8.8.8.8/hook", "perMinute": "2.5", "newPerDay": "40"}
    given |= {"deviceName": "Bakery Gateway"}
    saved = (await browser.post(SETTINGS, headers=PART, **given)).body.decode()
    assert "Settings saved." in saved
    assert "whsec_" in saved
    assert await harness.limits.stored_pacing(COMPANY) == {"gapMs": 500, "perMinute": 2.5, "newPerDay": 40}
    page = (await browser.get(PAGE)).body.decode()
    for value in given.values():
        assert f'value="{value}"' in page
    assert "whsec_" not in (await browser.post(SETTINGS, headers=PART, **given)).body.decode()
    await browser.post(SETTINGS, headers=PART)
    assert await harness.limits.stored_pacing(COMPANY) == {"gapMs": 500}
    assert await harness.webhooks.rows.endpoint(COMPANY) is None
    assert await harness.gateway.labels() == {}


async def test_the_page_of_a_company_shows_that_its_webhook_fails(browser: Browser, harness: GatewayHarness) -> None:
    """With the last error, and the way to the page that resumes it. A webhook that works is not mentioned."""
    await harness.pair()
    await browser.sign_in()
    made = new_endpoint(COMPANY, url="https://crm.test/hook", secret="s")
    await harness.now(harness.webhooks.rows.put(COMPANY, lambda _: made))
    assert "See webhooks" not in (await browser.get(PAGE)).body.decode()
    off = EndpointHealth(state=EndpointState.OFF, failures=1)
    failing = replace(made, health=off, last_status=410, last_error="the receiver answered 410")
    await harness.now(harness.webhooks.rows.put(COMPANY, lambda _: failing))
    page = " ".join((await browser.get(PAGE)).body.decode().split())
    assert re.search(r">Off</span> The receiver answered 410\. <a href=\"/webhooks\">See webhooks</a>", page), page


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("perMinute", "many", "Messages a minute: &#34;many&#34; can&#39;t be used; give a number from 0 to 6000"),
        ("newPerDay", "1.5", "give a whole number from 0 to 100000"),
        ("newPerDay", "100001", "give a whole number from 0 to 100000"),
        ("label", "x" * 101, "give at most 100"),
        ("deviceName", "x" * 51, "Name of the linked device: it has 51 characters"),
        ("webhook_url", "http://10.0.0.5/hook", "10.0.0.5"),
        ("webhook_url", "ftp://example.org", "http"),
    ],
)
async def test_an_invalid_value_changes_nothing(
    browser: Browser, harness: GatewayHarness, field: str, value: str, sentence: str
) -> None:
    """The error has the value and what to do, and the other fields are not stored either."""
    await harness.pair()
    await browser.sign_in()
    answer = await browser.post(SETTINGS, headers=PART, **{"label": "Bakery", "perMinute": "3", field: value})
    assert (answer.status, sentence in answer.body.decode()) == (422, True), answer.body.decode()
    assert (await harness.gateway.labels(), await harness.limits.stored_pacing(COMPANY)) == ({}, {})


async def test_ignored_kinds_of_messages_can_be_selected(browser: Browser, harness: GatewayHarness) -> None:
    """The ticked kinds are no longer stored; without a tick everything is stored again."""
    await harness.pair()
    await browser.sign_in()
    for ticked in (("status", "channels"), ()):
        await browser.post(SETTINGS, headers=PART, **{f"ignore-{kind}": "yes" for kind in ticked})
        assert harness.gateway.view(COMPANY).record.ignored == (" ".join(ticked) or None)
        page = (await browser.get(PAGE)).body.decode()
        shown = re.findall(r'name="ignore-(\w+)" value="yes" checked', page)
        assert shown == list(ticked)


async def test_saving_starts_no_session(browser: Browser, harness: GatewayHarness) -> None:
    """A stopped company stays stopped."""
    await harness.pair()
    await browser.sign_in()
    await browser.post(f"{PAGE}/action/stop", headers=PART)
    await browser.post(SETTINGS, headers=PART, deviceName="Bakery Gateway")
    assert harness.gateway.view(COMPANY).record.device_name == "Bakery Gateway"
    await harness.wait(60)
    assert harness.state() == "stopped"


async def test_a_tenant_can_only_tighten_pacing_and_not_remove_a_company(
    browser: Browser, harness: GatewayHarness
) -> None:
    """The operator's limits apply; the page has no button for removal, and the form is refused."""
    await harness.pair()
    await harness.now(harness.limits.set_pacing(COMPANY, {"perMinute": 10}))
    await browser.sign_in(KEY_OF_ONE)
    assert (await browser.post(SETTINGS, headers=PART, perMinute="20")).status == 422
    assert (await browser.post(SETTINGS, headers=PART, perMinute="5")).status == 200
    assert await harness.limits.stored_pacing(COMPANY) == {"perMinute": 10, "tenant": {"perMinute": 5}}
    assert "ask-remove" not in (await browser.get(PAGE)).body.decode()
    assert (await browser.post(f"{PAGE}/remove")).status == 403
    assert COMPANY in harness.gateway.running


async def test_a_company_is_removed_after_a_backup(browser: Browser, harness: GatewayHarness) -> None:
    """It is removed from the fleet, and there is a backup."""
    await harness.pair()
    await browser.sign_in()
    assert "ask-remove" in (await browser.get(PAGE)).body.decode()
    answer = await browser.post(f"{PAGE}/remove", headers=PART)
    assert (answer.status, answer.headers["hx-redirect"]) == (204, "/")
    assert (await browser.get(PAGE)).status == 404
    assert list((harness.spool.folder.parent / "backups").iterdir())
