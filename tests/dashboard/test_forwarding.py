"""The dashboard behind a proxy: pages of a company come from the node that runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.api.two_nodes import OWNER, Nodes, two_nodes
from tests.dashboard.browser import Browser, make_browser
from tests.gateway_harness import COMPANY, GatewayHarness

PAGE = f"/companies/{COMPANY}"


@pytest.fixture
async def nodes(harness: GatewayHarness) -> AsyncIterator[Nodes]:
    """The owner runs one connected session."""
    async with harness.running():
        await harness.pair()
        make = lambda harness, gateway, forwarder: make_browser(harness, gateway, forwarder=forwarder).client  # noqa: E731
        async with two_nodes(harness, make) as made:
            yield made


async def test_pages_and_actions_of_a_company_are_forwarded_to_its_owner(nodes: Nodes, harness: GatewayHarness) -> None:
    """With one sign-in for all nodes, and the headers that protect every page."""
    browser = Browser(nodes.other)
    await browser.sign_in()
    page = await browser.get(PAGE)
    assert page.status == 200
    assert 'id="do-reconnect"' in page.body.decode()
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    done = await browser.post(f"{PAGE}/action/reconnect")
    assert (done.status, done.headers["location"]) == (303, PAGE)
    assert COMPANY in (await browser.get("/")).body.decode()


async def test_the_stored_record_is_shown_while_the_owner_cant_be_reached(nodes: Nodes) -> None:
    """Without buttons; an action says why it can't be done."""
    browser = Browser(nodes.other)
    await browser.sign_in()
    nodes.known[OWNER] = replace(nodes.known[OWNER], url="http://127.0.0.1:9")
    nodes.other.leaps = True
    page = await browser.get(PAGE)
    html = page.body.decode()
    assert (page.status, 'id="do-' in html) == (200, False)
    assert "This session runs on a, which does not respond" in html
    refused = await browser.post(f"{PAGE}/action/reconnect")
    assert refused.status == 503
    assert "runs on node a, which does not answer" in refused.body.decode()
