"""An account that requires a passkey is linked in a real Chromium: its virtual authenticator signs on a page that this
machine serves as https://web.whatsapp.com.

The real site is never contacted: no other name resolves.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import BrowserContext, CDPSession, Page, async_playwright, expect

from tests.browser.visitor import PATIENCE_MS, Visitor
from tests.browser.whatsapp_site import tls_of
from tests.pasted import blocks, finished, running
from tests.processes import Wasim
from tests.served import KEY, Served

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

EXTENSION = Path(__file__).parents[2] / "extras" / "passkey-extension"
FRIEND = "962790000098"
_AUTHENTICATOR = {
    "protocol": "ctap2",
    "ctap2Version": "ctap2_1",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """Serve a page with a strict content policy in place of WhatsApp Web; yields its port."""
    app = web.Application()

    async def show(_: web.Request) -> web.Response:
        policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
        headers = {"Content-Security-Policy": policy, "Cross-Origin-Opener-Policy": "same-origin-allow-popups"}
        return web.Response(
            text="<!doctype html><title>WhatsApp</title><p>Log in</p>", content_type="text/html", headers=headers
        )

    app.router.add_get("/", show)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls_of(tmp_path_factory.mktemp("site"), "web.whatsapp.com"))
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The browser's profile folder."""
    return tmp_path_factory.mktemp("profile")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium(site: int, profile: Path) -> AsyncIterator[BrowserContext]:
    """A browser with the extension, in which web.whatsapp.com resolves to that site, and no other name resolves."""
    found = shutil.which("chromium")
    assert found, "there is no chromium: apt-get install chromium"
    rules = f"MAP web.whatsapp.com:443 127.0.0.1:{site}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            profile,
            executable_path=found,
            headless=False,
            ignore_default_args=["--disable-extensions"],
            args=[
                "--no-sandbox",
                "--headless=new",
                "--ignore-certificate-errors",
                "--remote-debugging-port=0",
                f"--host-resolver-rules={rules}",
                f"--disable-extensions-except={EXTENSION}",
                f"--load-extension={EXTENSION}",
                "--disable-features=DisableLoadExtensionCommandLineSwitch",
            ],
            viewport={"width": 1280, "height": 1000},
        )
        context.set_default_timeout(PATIENCE_MS)
        yield context
        await context.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def friend(whatsapp: Wasim) -> None:
    """Register the phone that all companies write to, so that each test also runs alone."""
    await whatsapp.post("/phones", {"number": FRIEND})


class Owner:
    """The account's owner: a passkey in the browser's virtual authenticator."""

    def __init__(self, context: BrowserContext, whatsapp: Wasim, number: str) -> None:
        self._context = context
        self._whatsapp = whatsapp
        self._number = number
        self._passkey: dict[str, Any] = {}

    async def attach_authenticator(self, page: Page) -> CDPSession:
        """Attach the owner's authenticator to a page: in Chromium it belongs to one page."""
        session = await self._context.new_cdp_session(page)
        await session.send("WebAuthn.enable")
        made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": _AUTHENTICATOR})
        if self._passkey:
            await session.send("WebAuthn.addCredential", {**made, "credential": self._passkey})
        else:
            self._id = made["authenticatorId"]
        return session

    async def register(self) -> None:
        """Create a passkey on WhatsApp's site, as the phone's owner did, and pass its public key to wasim."""
        await self._whatsapp.post("/phones", {"number": self._number, "name": "Layla's Flowers"})
        options = (await self._whatsapp.get(f"/phones/{self._number}/passkey/creation"))["options"]
        page = await self._context.new_page()
        session = await self.attach_authenticator(page)
        await page.goto("https://web.whatsapp.com/")
        made = await page.evaluate(_CREATE, options)
        await self._whatsapp.post(f"/phones/{self._number}/passkey", json.loads(made))
        kept = await session.send("WebAuthn.getCredentials", {"authenticatorId": self._id})
        (self._passkey,) = kept["credentials"]
        await page.close()


_CREATE = """async (options) => {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
  return JSON.stringify((await navigator.credentials.create({ publicKey })).toJSON());
}"""


async def picture(page: Page, name: str) -> None:
    """Store a screenshot, if a folder for them is set."""
    if folder := os.environ.get("HOLDFAST_SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


async def company_page(context: BrowserContext, gateway: Served, company: str) -> Page:
    await gateway.client.put(f"/v1/sessions/{company}")
    page = await context.new_page()
    keys = gateway.settings_of_commands
    visitor = Visitor(page, keys["HOLDFAST_URL"], keys["HOLDFAST_API_KEY"])
    await visitor.go("/")
    if await page.get_by_label("API key").count():
        await visitor.sign_in()
    await visitor.go(f"/companies/{company}")
    return page


async def check_works(gateway: Served, whatsapp: Wasim, company: str, number: str) -> None:
    """Check that the company is connected, sends and receives."""
    await gateway.until_state(company, "connected", within_s=30)
    sent = await gateway.send(company, FRIEND, "hello")
    await gateway.until_message(sent["id"], "delivered", "read", within_s=20)
    await whatsapp.post(f"/phones/{FRIEND}/send", {"to": number, "text": "good morning"})
    async with asyncio.timeout(20):
        while "good morning" not in [item["text"] for item in await gateway.inbox(company)]:  # noqa: ASYNC110 – by HTTP
            await asyncio.sleep(0.1)


async def scan(gateway: Served, whatsapp: Wasim, company: str, number: str) -> None:
    code = (await gateway.client.get(f"/v1/sessions/{company}/qr"))["qr"]
    assert await whatsapp.post(f"/phones/{number}/scan", {"qr": code}) == {"passkey": "required"}


async def sign(page: Page, owner: Owner, name: str) -> None:
    """Press the button on the page, and then the one in Holdfast's dialog on WhatsApp's site."""
    async with page.context.expect_page() as opened:
        await page.get_by_role("button", name="Sign on WhatsApp Web").click()
    site = await opened.value
    await site.wait_for_url("https://web.whatsapp.com/**")
    await owner.attach_authenticator(site)
    await expect(site.locator("#holdfast-passkey")).to_be_attached()
    assert "holdfast" not in site.url, "the challenge is still in the address"
    await picture(site, name)
    await site.keyboard.press("Enter")


async def test_linked_by_qr_code_with_the_extension(chromium: BrowserContext, gateway: Served, whatsapp: Wasim) -> None:
    """The page asks for the passkey, WhatsApp's site shows who requests it, the owner signs, and the company works."""
    company, number = "passkey-qr", "962790000011"
    owner = Owner(chromium, whatsapp, number)
    await owner.register()
    page = await company_page(chromium, gateway, company)
    await scan(gateway, whatsapp, company, number)
    await expect(page.get_by_role("heading", name="Sign with a passkey")).to_be_visible()
    await picture(page, "passkey-page")
    await sign(page, owner, "passkey-extension")
    await expect(page.locator("#head")).to_contain_text("Connected")
    await picture(page, "passkey-linked")
    await check_works(gateway, whatsapp, company, number)
    await page.close()


async def test_linked_by_pairing_code_with_the_extension(
    chromium: BrowserContext, gateway: Served, whatsapp: Wasim
) -> None:
    """The same challenge after a code was typed on the phone; the owner declines once, and signs the second time."""
    company, number = "passkey-code", "962790000012"
    owner = Owner(chromium, whatsapp, number)
    await owner.register()
    page = await company_page(chromium, gateway, company)
    code = (await gateway.client.post(f"/v1/sessions/{company}/pairing-code", {"phoneNumber": number}))["code"]
    assert await whatsapp.post(f"/phones/{number}/code", {"code": code}) == {"passkey": "required"}
    async with page.context.expect_page() as opened:
        await page.get_by_role("button", name="Sign on WhatsApp Web").click()
    site = await opened.value
    await expect(site.locator("#holdfast-passkey")).to_be_attached()
    await site.keyboard.press("Tab")
    await site.keyboard.press("Enter")
    await expect(page.locator("#passkey-error")).to_have_attribute("data-code", "passkey-declined")
    await picture(page, "passkey-declined")
    await sign(page, owner, "passkey-extension-again")
    await expect(page.locator("#head")).to_contain_text("Connected")
    await check_works(gateway, whatsapp, company, number)
    await page.close()


async def test_linked_with_the_snippet(chromium: BrowserContext, gateway: Served, whatsapp: Wasim) -> None:
    """The snippet is pasted into the console of WhatsApp's site, and its answer into the page."""
    company, number = "passkey-snippet", "962790000013"
    owner = Owner(chromium, whatsapp, number)
    await owner.register()
    page = await company_page(chromium, gateway, company)
    await scan(gateway, whatsapp, company, number)
    await page.get_by_text("Without the extension").click()
    snippet = await page.get_by_label("Snippet for the console").input_value()
    site = await chromium.new_page()
    await owner.attach_authenticator(site)
    await site.goto("https://web.whatsapp.com/")
    answer = await site.evaluate(snippet)
    await page.get_by_label("The answer").fill(answer)
    await picture(page, "passkey-snippet")
    await page.get_by_role("button", name="Send the answer").click()
    await expect(page.locator("#head")).to_contain_text("Connected")
    await check_works(gateway, whatsapp, company, number)
    await site.close()
    await page.close()


async def test_linked_by_the_requests_and_the_script_of_the_document(
    chromium: BrowserContext, profile: Path, gateway: Served, whatsapp: Wasim, tmp_path: Path
) -> None:
    """docs/passkeys.md as it is pasted, with free ports: requests by curl, and a script for the owner's browser."""
    company, number = "962302", "962790000015"
    owner = Owner(chromium, whatsapp, number)
    await owner.register()
    create, wait, finish = blocks("docs/passkeys.md", "sh", heading="With curl and a script")
    (script,) = blocks("docs/passkeys.md", "python", heading="With curl and a script")
    (tmp_path / "sign.py").write_text(script, "utf-8")
    python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"PATH": python, "URL": gateway.url, "KEY": KEY}

    async def typed(block: str) -> str:
        async with running("bash", "-ec", block, folder=tmp_path, settings=settings) as person:
            return await finished(person)

    await typed(create)
    assert (tmp_path / "qr.png").read_bytes().startswith(b"\x89PNG")
    await scan(gateway, whatsapp, company, number)
    await typed(wait)
    await owner.attach_authenticator(chromium.pages[0])
    port = (profile / "DevToolsActivePort").read_text().split()[0]
    assert '{"step":"finishing"}' in await typed(finish.replace("9222", port))
    await check_works(gateway, whatsapp, company, number)


async def test_a_computer_without_the_passkey_is_distinguished(
    chromium: BrowserContext, gateway: Served, whatsapp: Wasim
) -> None:
    """The browser reports only that it is not allowed; the page explains what that means and what to do."""
    company, number = "passkey-absent", "962790000014"
    await Owner(chromium, whatsapp, number).register()
    page = await company_page(chromium, gateway, company)
    await scan(gateway, whatsapp, company, number)
    stranger = Owner(chromium, whatsapp, number)
    await sign(page, stranger, "passkey-absent-site")
    await expect(page.locator("#passkey-error")).to_have_attribute("data-code", "passkey-not-here")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#qr-box")).to_contain_text("Show a QR code")
    assert (await gateway.session(company))["reason"]["code"] == "passkey-declined"
    await picture(page, "passkey-given-up")
    await page.close()
