"""Take the pictures of docs/screenshots: a gateway with simulated phones, looked at in Chromium. Run it by hand."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.visitor import Visitor, visiting  # noqa: E402 – tests are no package of ours to install
from tests.processes import Wasim, running_wasim  # noqa: E402
from tests.served import Served, served  # noqa: E402

PICTURES = ROOT / "docs" / "screenshots"
COMPANIES = {f"9623{n:02}": f"9627900000{n:02}" for n in range(2, 9)}
FRIEND = "962790000099"


async def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp())
    async with async_playwright() as playwright, running_wasim(folder / "wasim") as wasim:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        async with served(folder, wasim=wasim) as gateway:
            await _live(gateway, wasim)
            async with visiting(browser, gateway, width=1280) as visitor:
                await visitor.sign_in()
                await _take(visitor, "fleet", "/")
                await _take(visitor, "link", "/companies/962320")
                await _take(visitor, "company", "/companies/962302")
            async with visiting(browser, gateway, width=390, dark=True) as visitor:
                await visitor.sign_in()
                await _take(visitor, "fleet-phone", "/")
                await _take(visitor, "company-phone", "/companies/962302")
        await browser.close()
    shutil.rmtree(folder)


async def _live(gateway: Served, wasim: Wasim) -> None:
    """Some companies, some of them in trouble, and a little traffic."""
    await wasim.post("/phones", {"number": FRIEND})
    for company, number in COMPANIES.items():
        await gateway.pair(company, number, wasim)
    for text in ("Your order 1042 is on its way.", "It arrives tomorrow between 9 and 11.", "Thank you!"):
        message = await gateway.send("962302", FRIEND, text)
        await gateway.until_message(message["id"], "read", within_s=20)
    await wasim.fault("cut", number=COMPANIES["962302"])
    await wasim.post(f"/phones/{COMPANIES['962305']}/unlink", {"device": 1})
    await gateway.client.post("/v1/sessions/962308/stop")
    await gateway.client.put("/v1/sessions/962320")
    await asyncio.sleep(65)  # delivery counts messages that are a minute old


async def _take(visitor: Visitor, name: str, path: str) -> None:
    await visitor.go(path)
    await asyncio.sleep(3)  # the chart and the first news
    await visitor.page.screenshot(path=PICTURES / f"{name}.png")


if __name__ == "__main__":
    asyncio.run(main())
