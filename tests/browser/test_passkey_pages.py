"""The pages that guide a person through signing with a passkey, in Chromium without the extension.

The gateway behind them runs in a `GatewayHarness`: the test decides WhatsApp's part of the ceremony, and neither the
gateway nor the page waits for real time.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Error, Route, expect

from holdfast.session.assertions import snippet
from tests.api.test_passkeys import OPTIONS, OWNER, asked
from tests.browser.test_passkeys import picture
from tests.browser.visitor import AXE, PATIENCE_MS, Visitor
from tests.dashboard.browser import Browser as Dashboard
from tests.dashboard.browser import make_browser
from tests.doubles.authenticator import Authenticator
from tests.gateway_harness import COMPANY, GatewayHarness

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

URL, WHATSAPP = "http://localhost", "https://web.whatsapp.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyPageHarness:
    """A person on the page of a company that WhatsApp asks for a passkey."""

    gateway_harness: GatewayHarness
    dashboard: Dashboard
    context: BrowserContext
    visitor: Visitor

    async def answer(self, route: Route) -> None:
        """The dashboard's answer to a request of the browser."""
        request = route.request
        path = request.url.removeprefix(URL)
        if request.headers.get("accept") == "text/event-stream":
            return  # the stream of events stays silent
        received = await request.all_headers()
        headers = {name: value for name, value in received.items() if not name.startswith(":")}
        headers |= {"host": "localhost", "cookie": f"holdfast_session={self.dashboard.cookie}"}
        body = request.post_data_buffer
        response = await self.dashboard.client(
            request.method, path, key=None, headers=headers, raw=None if body is None else [body]
        )
        await route.fulfill(status=response.status, headers=dict(response.headers), body=response.body)

    async def send(self, assertion: object) -> str:
        """Paste an answer by hand; return the page's notice."""
        page = self.visitor.page
        await page.locator("#passkey-answer").fill(json.dumps(assertion))
        notice = page.locator("#notice")
        await notice.evaluate(
            "notice => notice.replaceChildren()"
        )  # so that the notice that is read below is about this answer
        await page.get_by_role("button", name="Send the answer").click()
        await expect(notice).not_to_be_empty()
        return await notice.inner_text()

    async def reason(self) -> str | None:
        await self.gateway_harness.quiet()
        return self.gateway_harness.gateway.view(COMPANY).record.reason


@asynccontextmanager
async def running_harness(
    browser: Browser, folder: Path, *, width: int = 1280, dark: bool = False
) -> AsyncIterator[PasskeyPageHarness]:
    gateway_harness = GatewayHarness(folder)
    context = await browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )
    context.set_default_timeout(PATIENCE_MS)
    await context.add_init_script(path=AXE)
    try:
        async with gateway_harness.running() as gateway:
            dashboard = make_browser(gateway_harness, gateway)
            gateway_harness.engine.passkey_answer = "compare"
            await asked(dashboard.client, gateway_harness)
            await dashboard.sign_in()
            dashboard.client.leaps = False
            harness = PasskeyPageHarness(
                gateway_harness=gateway_harness,
                dashboard=dashboard,
                context=context,
                visitor=Visitor(await context.new_page(), URL, ""),
            )
            await context.route(f"{URL}/**", lambda route: harness.answer(route))
            await context.route(
                f"{WHATSAPP}/**",
                lambda route: route.fulfill(body="<!doctype html><title>WhatsApp</title>", content_type="text/html"),
            )
            yield harness
    finally:
        await context.close()
        gateway_harness.database.close()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
async def test_codes_are_compared_on_any_screen(browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    """The code is readable, nothing is wider than the screen and axe finds nothing; each button does what its label
    says.
    """
    async with running_harness(browser, tmp_path, width=width, dark=dark) as harness:
        page = harness.visitor.page
        await harness.gateway_harness.now(
            (await harness.gateway_harness.gateway.actor(COMPANY)).passkeys.answer(OWNER.sign(OPTIONS))
        )
        await harness.visitor.go(f"/companies/{COMPANY}")
        await expect(page.get_by_role("heading", name="Compare the codes")).to_be_visible()
        await expect(page.locator(".pairing-code")).to_have_text("G7R3-N352")
        await harness.visitor.check_page()
        await picture(page, f"passkey-compare-{width}")
        await page.get_by_role("button", name="different" if dark else "the same").click()
        await expect(page.locator("#notice")).to_contain_text("othing was linked" if dark else "being linked")
        await harness.visitor.check_page()
        await harness.gateway_harness.until(
            lambda: harness.gateway_harness.state() == ("unpaired" if dark else "connected")
        )
        assert await harness.reason() == ("passkey-code-mismatch" if dark else None)


BROUGHT_BACK = (
    ("declined", "passkey-declined", "You chose not to link"),
    ("NotAllowedError", "passkey-not-here", "no passkey of this account"),
    ("SecurityError", "passkey-wrong-site", "https://web.whatsapp.com only"),
    ("InvalidStateError", "passkey-failed", "(InvalidStateError)"),
)


async def test_each_result_of_the_extension_has_its_own_message(browser: Browser, tmp_path: Path) -> None:
    """The challenge stays open after each: the same page accepts a good answer afterwards."""
    async with running_harness(browser, tmp_path, width=390) as harness:
        page, tab = harness.visitor.page, await harness.context.new_page()
        await harness.visitor.go(f"/companies/{COMPANY}")
        for error, code, words in BROUGHT_BACK:
            await tab.goto(f"{URL}/passkey/return?{error}#company={COMPANY}&error={error}")
            await expect(page.locator("#passkey-error")).to_have_attribute("data-code", code)
            await expect(page.locator("#passkey-error")).to_contain_text(words)
        await harness.visitor.check_page()
        await page.get_by_text("Without the extension").click()
        assert "compare the codes" in await harness.send(OWNER.sign(OPTIONS))


async def test_a_missing_extension_shows_after_a_quarter_of_a_minute(browser: Browser, tmp_path: Path) -> None:
    """WhatsApp Web opens and no answer arrives: the page names the extension and the way without it."""
    async with running_harness(browser, tmp_path) as harness:
        page = harness.visitor.page
        await page.clock.install()
        await harness.visitor.go(f"/companies/{COMPANY}")
        async with harness.context.expect_page() as opened:
            await page.get_by_role("button", name="Sign on WhatsApp Web").click()
        assert (await opened.value).url.startswith(f"{WHATSAPP}/#holdfast=")
        await page.clock.fast_forward(15_000)
        await expect(page.locator("#passkey-error")).to_have_attribute("data-code", "extension-missing")
        await harness.visitor.check_page()
        await picture(page, "passkey-extension-missing")
        assert await harness.reason() == "passkey-required"


async def test_a_live_update_keeps_typed_text(browser: Browser, tmp_path: Path) -> None:
    """The section is replaced whenever the stream of events connects again: the way without the extension stays open,
    with the answer that was pasted."""
    async with running_harness(browser, tmp_path) as harness:
        page = harness.visitor.page
        await harness.visitor.go(f"/companies/{COMPANY}")
        section = await page.locator("#link").evaluate("(link) => link.outerHTML")
        await page.get_by_text("Without the extension").click()
        await page.locator("#passkey-answer").fill("pasted")
        await page.locator("#passkey-error").evaluate(
            "(notice) => { notice.hidden = false; notice.textContent = 'old'; }"
        )
        swapped = section.replace(" data-part", ' data-part hx-swap-oob="true"', 1)
        await page.evaluate("(html) => htmx.swap('#notice', html, { swapStyle: 'none' })", swapped)
        await expect(page.locator("#passkey-error")).to_be_hidden()
        await expect(page.locator("#passkey-answer")).to_be_visible()
        await expect(page.locator("#passkey-answer")).to_have_value("pasted")


async def test_unusable_answers_are_refused_with_an_explanation(browser: Browser, tmp_path: Path) -> None:
    """Not JSON, of another site, refused by WhatsApp, unanswered, too old: the page explains each."""
    async with running_harness(browser, tmp_path) as harness:
        page = harness.visitor.page
        await harness.visitor.go(f"/companies/{COMPANY}")
        await page.get_by_text("Without the extension").click()
        assert "not a JSON object" in await harness.send(["a"])
        elsewhere = Authenticator(key=OWNER.key, id=OWNER.id, origin="https://web.whatsapp.example")
        assert "sign on https://web.whatsapp.com" in await harness.send(elsewhere.sign(OPTIONS))
        harness.gateway_harness.engine.passkey_answer = "refused"
        assert "did not accept this signature" in await harness.send(OWNER.sign(OPTIONS))
        assert await harness.reason() == "passkey-refused"
        assert "does not ask" in await harness.send(OWNER.sign(OPTIONS))
        await harness.visitor.go(f"/companies/{COMPANY}")
        await expect(page.locator("#qr-box")).to_contain_text("Show a QR code")
        await expect(page.get_by_text("did not accept the passkey").first).to_be_visible()


async def test_the_snippet_explains_a_missing_signature(browser: Browser, tmp_path: Path) -> None:
    """In the console of WhatsApp Web; on another site it refuses to run."""
    async with running_harness(browser, tmp_path) as harness:
        page, said = harness.visitor.page, list[str]()
        page.on("console", lambda message: said.append(message.text))
        await page.goto(WHATSAPP)
        for error, words in (("NotAllowedError", "the dialog was closed"), ("TypeError", "a current version")):
            await page.evaluate(_FAIL, error)
            assert await page.evaluate(snippet(OPTIONS)) is None
            assert words in said[-1]
        await page.goto(f"{URL}/passkey/return")
        with pytest.raises(Error, match="Paste this on"):
            await page.evaluate(snippet(OPTIONS))


_FAIL = """(name) => {
  navigator.credentials.get = () => Promise.reject(Object.assign(new Error(), { name }));
}"""
