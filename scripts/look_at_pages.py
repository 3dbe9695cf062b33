"""Take a picture of every page of the dashboard, with sixty companies in mixed states: `look_at_pages.py FOLDER`.

Each page is taken on a wide screen and on a phone, in light and dark, today and as if it were tomorrow, when times
carry their date; with `--look 390-dark-today`, only so. All of them take up to an hour. What `Visitor.check_page`
finds wrong is printed. The pictures are for looking at, and not for the repository. With `--keep`, the gateway goes on
running afterwards, until Enter is pressed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Browser, async_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import mixed_fleet  # noqa: E402 – tests are no package of ours to install
from tests.browser.visitor import Visitor, visiting  # noqa: E402
from tests.processes import running_wasim  # noqa: E402
from tests.served import Served, served  # noqa: E402

_COMPANIES = (
    mixed_fleet.COMPANIES[0],
    mixed_fleet.RECONNECTING,
    mixed_fleet.BANNED,
    mixed_fleet.BANNED_FOR_A_TIME,
    mixed_fleet.UNLINKED,
    mixed_fleet.REPLACED,
    mixed_fleet.OUTDATED,
    mixed_fleet.REACH_OUT,
    mixed_fleet.LATE,
    mixed_fleet.STOPPED,
    mixed_fleet.WEBHOOK_OFF,
    mixed_fleet.QUARANTINED,
    mixed_fleet.FLAPPING,
    mixed_fleet.PAIRING,
    mixed_fleet.PASSKEY,
)
PAGES = {
    "fleet": "/",
    "webhooks": "/webhooks",
    "keys": "/keys",
    "docs": "/docs",
    "docs-message": "/docs#post-v1-sessions-company-messages",
    "no-company": "/companies/nobody",
    "no-page": "/nothing-here",
    "inbox": f"/companies/{mixed_fleet.COMPANIES[0]}/inbox",
    "chats": f"/companies/{mixed_fleet.COMPANIES[0]}/chats",
    "groups": f"/companies/{mixed_fleet.COMPANIES[0]}/groups",
    "contacts": f"/companies/{mixed_fleet.COMPANIES[0]}/contacts",
    "inbox-nothing": f"/companies/{mixed_fleet.COMPANIES[0]}/inbox?words=nothing",
    "messages-nothing": f"/companies/{mixed_fleet.COMPANIES[0]}?words=nothing",
    **{f"company-{company}": f"/companies/{company}" for company in _COMPANIES},
}
DIALOGS = {
    "dialog-add": ("/", "#do-add"),
    "dialog-reconnect": (f"/companies/{mixed_fleet.COMPANIES[0]}", "#do-reconnect"),
    "dialog-stop": (f"/companies/{mixed_fleet.COMPANIES[0]}", "#do-stop"),
    "dialog-remove": (f"/companies/{mixed_fleet.STOPPED}", "#do-remove"),
    "dialog-log-out": (f"/companies/{mixed_fleet.COMPANIES[0]}", "#do-log-out"),
}


@dataclass(frozen=True, slots=True)
class Look:
    width: int
    dark: bool
    tomorrow: bool

    def __str__(self) -> str:
        return f"{self.width}-{'dark' if self.dark else 'light'}-{'tomorrow' if self.tomorrow else 'today'}"


LOOKS = {
    str(look): look for look in (Look(*look) for look in itertools.product((1280, 390), (False, True), (False, True)))
}
HANDOFF_S = 300
"""For so long after the scan, nobody needs to compare codes."""


async def main(pictures: Path, looks: Sequence[Look], *, keep: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    settings = {"HOLDFAST_ALLOWED_ADDRESSES": "127.0.0.1", "HOLDFAST_PUBLIC_URL": "https://holdfast.example.org"}
    async with (
        async_playwright() as playwright,
        running_wasim(folder / "wasim") as wasim,
        mixed_fleet.receivers() as hooks,
        served(folder, wasim=wasim, NODE_EXTRA_CA_CERTS=wasim.ca, **settings) as gateway,
    ):
        await mixed_fleet.make_mixed_fleet(gateway, wasim, hooks)
        print(f"The fleet is up: {gateway.settings_of_commands}", flush=True)
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for look in looks:
            await mixed_fleet.ask_for_passkey(gateway, wasim)
            await take(browser, gateway, pictures, look)
        await mixed_fleet.ask_for_passkey(gateway, wasim)
        await asyncio.sleep(HANDOFF_S + 5)
        await sign_passkey(gateway)
        for look in looks:
            if not look.tomorrow:
                await take_rare(browser, gateway, pictures, look)
        await browser.close()
        if keep:
            await asyncio.to_thread(sys.stdin.readline)
    shutil.rmtree(folder)


async def take(browser: Browser, gateway: Served, pictures: Path, look: Look) -> None:
    async with visiting(browser, gateway, width=look.width, dark=look.dark) as visitor:
        if look.tomorrow:
            await visitor.go_to_tomorrow()
        await visitor.go("/login")
        await visitor.page.screenshot(path=pictures / f"login-{look}.png")
        await visitor.sign_in()
        for name, path in PAGES.items():
            await _take(visitor, path, pictures / f"{name}-{look}.png")
        for name, link in (("chat", ".chat-row"), ("group", ".person")):
            await visitor.go(f"/companies/{mixed_fleet.COMPANIES[0]}/{name}s")
            await visitor.page.locator(link).first.click()
            await visitor.page.wait_for_url(f"**/{name}s/*")
            await _picture(visitor, pictures / f"{name}-{look}.png")
        for name, (path, button) in DIALOGS.items():
            await visitor.go(path)
            await visitor.page.locator(button).click()
            await visitor.page.screenshot(path=pictures / f"{name}-{look}.png")
        if not look.tomorrow:
            await _use_forms(visitor, gateway, pictures, look)


async def sign_passkey(gateway: Served) -> None:
    path = f"/v1/sessions/{mixed_fleet.PASSKEY}/passkey"
    options = (await gateway.client.get(path))["options"]
    await gateway.client.post(path, mixed_fleet.OWNER.sign(options))


async def take_rare(browser: Browser, gateway: Served, pictures: Path, look: Look) -> None:
    """The comparison of codes, and a page while the database fails."""
    async with visiting(browser, gateway, width=look.width, dark=look.dark) as visitor:
        await visitor.sign_in()
        await _take(visitor, f"/companies/{mixed_fleet.PASSKEY}", pictures / f"passkey-compare-{look}.png")
        with closing(sqlite3.connect(gateway.database)) as database, database:
            database.execute("ALTER TABLE inbox RENAME TO inbox_elsewhere")
        await _take(visitor, PAGES["inbox"], pictures / f"no-database-{look}.png")
        with closing(sqlite3.connect(gateway.database)) as database, database:
            database.execute("ALTER TABLE inbox_elsewhere RENAME TO inbox")


async def _take(visitor: Visitor, path: str, picture: Path) -> None:
    await visitor.go(path)
    await asyncio.sleep(0.7)  # the chart and the first changes
    if picture.name.startswith("no-"):
        visitor.complaints.clear()  # the status 404 of the page itself
    await _picture(visitor, picture)


async def _picture(visitor: Visitor, picture: Path) -> None:
    await visitor.page.screenshot(path=picture, full_page="docs" not in picture.name)
    try:
        await visitor.check_page()
    except AssertionError as error:
        print(f"{picture.name}: {error}", flush=True)
        visitor.complaints.clear()


async def _use_forms(visitor: Visitor, gateway: Served, pictures: Path, look: Look) -> None:
    """A QR code, a pairing code, a message that was sent, settings that were saved or refused."""
    page = visitor.page
    await gateway.client.post(f"/v1/sessions/{mixed_fleet.PAIRING}/start")
    await visitor.go(f"/companies/{mixed_fleet.PAIRING}")
    await page.locator("#qr-box svg").wait_for()
    await page.locator("#number").fill("962790000496")
    await page.get_by_role("button", name="Get a code").click()
    await page.locator("#pairing-code p").first.wait_for()
    await _picture(visitor, pictures / f"linking-{look}.png")
    await visitor.go(f"/companies/{mixed_fleet.PASSKEY}")
    await page.get_by_text("Without the extension").click()
    await _picture(visitor, pictures / f"passkey-snippet-{look}.png")
    await visitor.go(f"/companies/{mixed_fleet.COMPANIES[21]}")
    await page.locator("#to").fill(mixed_fleet.FRIEND)
    await page.get_by_role("button", name="Send").click()
    await page.locator("#sent .steps").wait_for()
    await page.get_by_role("button", name="Save").click()
    await page.locator("#settings-saved p").first.wait_for()
    await _picture(visitor, pictures / f"forms-{look}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--look", action="append", choices=LOOKS, help="only this one; may be repeated")
    parser.add_argument("--keep", action="store_true", help="keep the gateway running afterwards")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(asked.folder, [LOOKS[look] for look in asked.look or LOOKS], keep=asked.keep))
