"""The page of API keys: what an operator can see and do, and that nobody else has access."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.api_client import KEY_OF_ONE
from tests.dashboard.browser import Browser
from tests.gateway_harness import COMPANY

PART = {"HX-Request": "true"}
BAKERY: dict[str, Any] = {"name": "Bakery <CRM>", "companies": f"{COMPANY}, 962303"}


async def test_a_key_is_shown_once_and_works_until_it_is_revoked(browser: Browser) -> None:
    """The list then has its name and companies; revoking the key ends its sessions."""
    await browser.sign_in()
    assert 'href="/keys"' in (await browser.get("/")).body.decode()
    made = (await browser.post("/keys", headers=PART, **BAKERY)).body.decode()
    key = re.search(r"hf_[\w-]{43}", made)
    assert key is not None
    page = (await browser.get("/keys")).body.decode()
    assert key[0] not in page
    assert "Bakery &lt;CRM&gt;" in page
    assert f"{COMPANY}, 962303" in page
    theirs = Browser(browser.client)
    await theirs.sign_in(key[0])
    assert (await theirs.get(f"/companies/{COMPANY}")).status in {200, 404}
    key_id = re.search(r'name="id" value="(key_\w+)"', page)
    assert key_id is not None
    said = (await browser.post("/keys/revoke", headers=PART, id=key_id[1])).body.decode()
    assert "is revoked." in said
    assert (await theirs.get("/")).headers["location"] == "/login"


async def test_without_scripts_the_whole_page_shows_the_key(browser: Browser) -> None:
    """The form is answered with a page, a refused one with an error page."""
    await browser.sign_in()
    made = await browser.post("/keys", **BAKERY)
    assert (made.status, made.headers["cache-control"]) == (200, "no-store")
    assert "hf_" in made.body.decode()
    assert "<h1>API keys</h1>" in made.body.decode()


async def test_a_key_limited_to_a_company_has_no_access(browser: Browser) -> None:
    """Neither to the link, nor to the page, nor to its forms."""
    await browser.sign_in(KEY_OF_ONE)
    assert 'href="/keys"' not in (await browser.get("/")).body.decode()
    for answer in (
        await browser.get("/keys"),
        await browser.post("/keys", **BAKERY),
        await browser.post("/keys/revoke", id="settings-1"),
    ):
        assert answer.status == 403
        assert "HOLDFAST_API_KEY" not in answer.body.decode()


@pytest.mark.parametrize("path", ["/keys", "/keys/revoke"])
async def test_forms_of_other_sites_and_old_forms_change_nothing(browser: Browser, path: str) -> None:
    """Every form needs our own origin and the token of the session."""
    await browser.sign_in()
    other = {"Origin": "http://evil.example"}
    assert (await browser.post(path, headers=other, **BAKERY, id="x")).status == 403
    browser.token = "0" * 64
    assert (await browser.post(path, **BAKERY, id="x")).status == 403
    assert "Bakery" not in (await browser.get("/keys")).body.decode()


async def test_invalid_input_is_refused_with_an_explanation(browser: Browser) -> None:
    """The error has the value and what to do, and nothing is stored."""
    await browser.sign_in()
    refused = await browser.post("/keys", headers=PART, name="CRM", companies="962302 ../x")
    assert refused.status == 422
    assert "&#34;../x&#34; is not a valid company id" in refused.body.decode()
    settings = await browser.post("/keys/revoke", headers=PART, id="settings-1")
    assert (settings.status, "remove it there" in settings.body.decode()) == (409, True)
