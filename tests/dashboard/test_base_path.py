"""Holdfast below a path of its host, with `HOLDFAST_PUBLIC_URL=https://example.com/holdfast`."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from holdfast.api.base_path import base_path_of
from tests.api.api_client import KEY
from tests.dashboard.browser import make_browser
from tests.gateway_harness import COMPANY, GatewayHarness

BASE = "/holdfast"
_ADDRESS = re.compile(r'\b(?:href|src|action|formaction|hx-get|hx-post|sse-connect|data-source|data-return)="(/[^"]*)"')


@pytest.mark.parametrize(
    ("public_url", "base_path"),
    [
        (None, ""),
        ("https://example.com", ""),
        ("https://example.com/", ""),
        ("https://example.com/holdfast", BASE),
        ("https://example.com:8443/tools/holdfast/", "/tools/holdfast"),
    ],
)
def test_the_path_of_the_public_address_is_the_base_path(public_url: str | None, base_path: str) -> None:
    """Without the trailing slash."""
    assert base_path_of(public_url) == base_path


def test_every_url_in_a_template_begins_with_the_base_path() -> None:
    """A URL that begins with / would lead to another application of the same host."""
    for template in (files("holdfast.dashboard") / "templates").iterdir():
        assert _ADDRESS.findall(template.read_text(encoding="utf-8")) == [], template.name


@pytest.mark.parametrize("base", [BASE, ""], ids=["the proxy keeps the path", "the proxy removes the path"])
async def test_links_between_pages_stay_below_the_base_path(harness: GatewayHarness, base: str) -> None:
    """Redirects, links, forms, scripts and streams, whether the proxy removes the path from requests or not."""
    async with harness.running() as gateway:
        browser = make_browser(harness, gateway, base_path=BASE)
        await harness.pair()
        refused = await browser.get(f"{base}/companies/{COMPANY}")
        assert refused.headers["location"] == f"{BASE}/login?next=/companies/{COMPANY}"
        page = f"http://testserver{BASE}/companies/{COMPANY}"
        refused = await browser.get(f"{base}/live", **{"HX-Request": "true", "HX-Current-URL": page})
        assert refused.headers["hx-redirect"] == f"{BASE}/login?next=/companies/{COMPANY}"
        answer = await browser.post(f"{base}/login", key=KEY, next=f"/companies/{COMPANY}")
        assert (answer.status, answer.headers["location"]) == (303, f"{BASE}/companies/{COMPANY}")
        for path in ("/", f"/companies/{COMPANY}", f"/companies/{COMPANY}/inbox", "/webhooks", "/docs"):
            answer = await browser.get(base + path)
            assert answer.status == 200
            addresses = _ADDRESS.findall(answer.body.decode())
            assert addresses
            assert [each for each in addresses if not each.startswith(f"{BASE}/")] == [], path
        asset = next(each for each in addresses if "/assets/" in each)
        assert (await browser.get(base + asset.removeprefix(BASE))).status == 200
        stopped = await browser.post(f"{base}/companies/{COMPANY}/action/stop")
        assert stopped.headers["location"] == f"{BASE}/companies/{COMPANY}"


async def test_the_api_is_served_below_the_base_path(harness: GatewayHarness) -> None:
    """The OpenAPI document has the URL; a path that only begins with the same characters is another one."""
    async with harness.running() as gateway:
        client = make_browser(harness, gateway, base_path=BASE).client
        assert (await client("GET", f"{BASE}/v1/sessions")).json == {"items": [], "next": None}
        assert (await client("GET", f"{BASE}/openapi.json")).json["servers"] == [{"url": BASE}]
        assert (await client("GET", BASE, key=None)).headers["location"] == f"{BASE}/login"
        assert (await client("GET", f"{BASE}-other/v1/sessions")).status == 404
